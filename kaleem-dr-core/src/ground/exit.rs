//! What a run means to whoever called it. restic's numbers where restic has one.

use serde::{Deserialize, Serialize};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// The command line or the config is wrong.
    Usage,
    /// Done in part: some source, or some file, could not be saved or restored.
    Partial,
    /// What was restored or checked is not what it should be.
    NotVerified,
    /// A guard refused.
    Refused,
    /// An RPO or freshness limit is broken.
    Stale,
    /// A source or a bucket cannot be reached, or does not let us in.
    Unreachable,
    /// There is no repository.
    NoRepository,
    /// Somebody else holds the lock.
    Locked,
    /// The password opens nothing.
    WrongPassword,
    /// Try again later.
    Temporary,
    /// The operator cancelled.
    Cancelled,
}

impl Exit {
    /// The process's exit status.
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
