//! The interface between the library and the systems that it backs up.
//!
//! A source connects to a server (or reads file trees) and emits artifacts into a [`Capture`]. It knows nothing of repositories,
//! snapshots or other sources, and the library knows nothing of the kind of a source.
//! [`Restorable`](crate::recovery::source::Restorable) covers the way back.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::Serialize;

use super::{artifact::Capture, manifest::ServerInfo};
use crate::ground::{SourceError, SourceName};

/// A system that can be captured.
#[async_trait]
pub trait Source: Send + Sync {
    /// The source's name, from the config.
    fn name(&self) -> &SourceName;

    /// The kind of the source as one word, for manifests and people.
    fn kind(&self) -> &'static str;

    /// The path in the snapshot that contains everything of this source, such as `/mongo`; several paths for file trees.
    /// Retention and parent search group snapshots by host, source and these paths, as stock restic does.
    fn roots(&self) -> Vec<PathBuf>;

    /// Reports whether a capture emits file-system entries only, and no artifacts. They are archived faster.
    fn has_only_files(&self) -> bool {
        false
    }

    /// Connects to the server, and reads versions, permissions and sizes. Writes nothing.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`] and [`SourceError::Unauthorised`] name the server and the cause.
    async fn probe(&self) -> Result<Probe, SourceError>;

    /// Emits every artifact, in path order. An error, or a writer that is dropped before its `finish`, leaves no snapshot.
    ///
    /// # Errors
    /// Any failure of the source. [`SourceError::Artifact`] names the stream that failed.
    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError>;
}

/// The result of a probe.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Probe {
    /// Product and version of the server.
    pub server: Option<ServerInfo>,
    /// Size of the data that a capture would read, in bytes, as far as the server reports it.
    pub size_bytes: Option<u64>,
    /// Warnings to consider before relying on this source, as one sentence each.
    pub warnings: Vec<String>,
}

impl Probe {
    /// The result of a probe. `size_bytes` is the size of the data that a capture would read, if the server reports it.
    #[must_use]
    pub fn new(server: Option<ServerInfo>, size_bytes: Option<u64>, warnings: Vec<String>) -> Self {
        Self { server, size_bytes, warnings }
    }
}
