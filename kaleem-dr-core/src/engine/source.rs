//! The seam between the library and the things it backs up.
//!
//! A source reaches a server (or a file tree) and emits artifacts into a [`Capture`]. It knows nothing of repositories, snapshots or
//! other sources; the library knows nothing of what kind of thing a source is. How it is put back says
//! [`Restorable`](crate::recovery::source::Restorable).

use std::path::PathBuf;

use async_trait::async_trait;
use serde::Serialize;

use super::{artifact::Capture, manifest::ServerInfo};
use crate::ground::{SourceError, SourceName};

/// A thing that can be captured.
#[async_trait]
pub trait Source: Send + Sync {
    /// The source's name, from the config.
    fn name(&self) -> &SourceName;

    /// The source's kind, one word: what a manifest records and a person reads.
    fn kind(&self) -> &'static str;

    /// The path in the snapshot under which everything of this source lies, such as `/mongo`. Several for file trees.
    /// Retention and parent search group snapshots by host, source and these paths, as stock restic does.
    fn roots(&self) -> Vec<PathBuf>;

    /// Reaches the server, reads versions, rights and sizes. Never writes.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`] and [`SourceError::Unauthorised`] name the server and the cause.
    async fn probe(&self) -> Result<Probe, SourceError>;

    /// Emits every artifact, in path order. An error, or a writer that is dropped before its `finish`, leaves no snapshot.
    ///
    /// # Errors
    /// Any failure of the source. [`SourceError::Artifact`] says which stream failed.
    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError>;
}

/// What a probe found.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// Product and version.
    pub server: Option<ServerInfo>,
    /// Bytes a capture would read, as far as the server tells.
    pub size_bytes: Option<u64>,
    /// What the operator should know before relying on this source, one sentence each.
    pub warnings: Vec<String>,
}
