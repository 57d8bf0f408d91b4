//! The failure of a source: one error type for all sources, so that a job can decide what to do next.

use std::path::PathBuf;

use super::{ArtifactPath, Cause};

/// The reason why a source failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No connection to the server.
    #[error("cannot reach {server}")]
    Unreachable {
        /// Address, without credentials.
        server: String,
        /// The error of the connection.
        #[source]
        cause: Cause,
    },
    /// The server refused the login, or the user lacks a permission.
    #[error("{server} does not allow us to {action}")]
    Unauthorised {
        /// Address, without credentials.
        server: String,
        /// The operation that the server does not permit: `list collections of kaleem`.
        action: String,
        /// The error of the server.
        #[source]
        cause: Cause,
    },
    /// The server answered with an error.
    #[error("{server} failed to {action}")]
    Server {
        /// Address, without credentials.
        server: String,
        /// The operation that failed.
        action: String,
        /// The error of the server.
        #[source]
        cause: Cause,
    },
    /// One artifact could not be captured or read back.
    #[error("artifact {path} failed")]
    Artifact {
        /// Its path in the snapshot.
        path: ArtifactPath,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A local path could not be read or written.
    #[error("{}: cannot {action}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The operation that failed: `open`, `create the directory`.
        action: String,
        /// The error of the operating system.
        #[source]
        cause: std::io::Error,
    },
    /// The operation is not supported; a retry will not help.
    #[error("{0}")]
    Unsupported(String),
    /// The operation needs the operator's consent; the text explains how to give it.
    #[error("{0}")]
    Refused(String),
    /// The repository stopped accepting data; its own error gives the reason.
    #[error("the repository stopped taking data")]
    Aborted,
    /// The operator cancelled before the source was done.
    #[error("cancelled")]
    Cancelled,
    /// The recovery point could not be read.
    #[error("cannot read the recovery point")]
    Point(#[source] Cause),
    /// A staged file is damaged.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The position of the damage, and what can still be read.
        why: String,
    },
    /// The output could not be written.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

impl SourceError {
    /// Wraps the cause of an artifact's failure.
    pub fn artifact(path: &ArtifactPath, cause: impl Into<Cause>) -> Self {
        Self::Artifact { path: path.clone(), cause: cause.into() }
    }
}
