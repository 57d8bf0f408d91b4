//! The result of a run for its caller. Uses restic's numbers where restic has one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The exit status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Exit {
    /// Everything that was requested succeeded (0).
    Done,
    /// The command failed; other statuses are more specific.
    Failed,
    /// The command line or the config is wrong.
    Usage,
    /// Partly done: a source or a file could not be saved or restored.
    Partial,
    /// The result of a restore or check differs from what it should be.
    NotVerified,
    /// A guard refused an operation that could lose data.
    Refused,
    /// An RPO or freshness limit is broken.
    Stale,
    /// A source or a bucket cannot be reached, or denies access.
    Unreachable,
    /// The repository does not exist.
    NoRepository,
    /// Another process holds the lock.
    Locked,
    /// The password does not open any key of the repository.
    WrongPassword,
    /// A temporary failure: the same command may succeed later.
    Temporary,
    /// The operator cancelled, or a signal arrived (130).
    Cancelled,
}

impl Exit {
    /// The exit status of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::NotVerified => 4,
            Self::Refused => 5,
            Self::Stale => 6,
            Self::Unreachable => 7,
            Self::NoRepository => 10,
            Self::Locked => 11,
            Self::WrongPassword => 12,
            Self::Temporary => 75,
            Self::Cancelled => 130,
        }
    }
}
