//! Errors of schedules.

use std::{io, path::PathBuf};

use crate::ground::Exit;

/// Why a schedule could not be made, installed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The config cannot be scheduled.
    #[error("{0}")]
    Settings(String),
    /// A file exists that kaleem-dr did not make.
    #[error("{} exists and was not made by kaleem-dr; nothing was written", path.display())]
    NotOurs {
        /// Path of the file.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The attempted action.
        action: &'static str,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// A command of `systemctl` failed or could not be started.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status and output.
        said: String,
    },
}

impl From<&ScheduleError> for Exit {
    fn from(error: &ScheduleError) -> Self {
        match error {
            ScheduleError::Settings(_) => Self::Usage,
            ScheduleError::NotOurs { .. } => Self::Refused,
            ScheduleError::File { .. } | ScheduleError::Command { .. } => Self::Failed,
        }
    }
}
