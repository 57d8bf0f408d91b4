//! Why jobs cannot be scheduled.

use std::{io, path::PathBuf};

/// Why a schedule could not be made, put in place or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The config cannot be scheduled.
    #[error("{0}")]
    Settings(String),
    /// Something is there that we did not make.
    #[error("{} is there and was not made by kaleem-dr; nothing was written", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command.
        command: String,
        /// How it ended, and what it said.
        said: String,
    },
}
