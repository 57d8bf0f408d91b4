//! Why a source failed: one error for all sources, so that a job can tell what to do next.

use std::path::PathBuf;

use super::{ArtifactPath, Cause};

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No connection to the server.
    #[error("cannot reach {server}")]
    Unreachable {
        /// Address, without credentials.
        server: String,
        /// What the connection said.
        #[source]
        cause: Cause,
    },
    /// The server refused the login, or the login may not do this.
    #[error("{server} does not allow us to {action}")]
    Unauthorised {
        /// Address, without credentials.
        server: String,
        /// What was asked of it: `list collections of kaleem`.
        action: String,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// The server answered with an error.
    #[error("{server} failed to {action}")]
    Server {
        /// Address, without credentials.
        server: String,
        /// What was asked of it.
        action: String,
        /// What the server said.
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
        /// What was tried: `open`, `create the directory`.
        action: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// This cannot be done, and trying again will not help.
    #[error("{0}")]
    Unsupported(String),
    /// This is not done unless the operator says so; the sentence says how.
    #[error("{0}")]
    Refused(String),
    /// The repository stopped taking data; its own error says why.
    #[error("the repository stopped taking data")]
    Aborted,
    /// The operator cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The recovery point could not be read.
    #[error("cannot read the recovery point")]
    Point(#[source] Cause),
    /// A staged file is not what it should be.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it breaks, and what can still be read of it.
        why: String,
    },
    /// What was to be written out could not be.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

impl SourceError {
    /// Wraps the cause of an artifact's failure.
    pub fn artifact(path: &ArtifactPath, cause: impl Into<Cause>) -> Self {
        Self::Artifact { path: path.clone(), cause: cause.into() }
    }
}
