//! The errors of a repository.

use std::path::PathBuf;

use jiff::Timestamp;
use rustic_core::RusticError;

use super::{
    engine_error::{EngineCause, engine_cause},
    store::{StoreError, StoreErrorKind},
};
use crate::ground::{Cause, Exit, SourceError};

/// The reason why a repository operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// The repository does not exist.
    #[error("there is no repository at {location}")]
    NotFound {
        /// Location of the repository, without credentials.
        location: String,
    },
    /// A repository already exists there.
    #[error("there is a repository at {location} already")]
    AlreadyExists {
        /// Location of the repository, without credentials.
        location: String,
    },
    /// No key of the repository opens with this password.
    #[error("the password does not open the repository at {location}")]
    WrongPassword {
        /// Location of the repository, without credentials.
        location: String,
    },
    /// Another program holds a lock.
    #[error("the repository is locked by {holder}")]
    Locked {
        /// Process, host, age and kind of the lock.
        holder: String,
    },
    /// Our own lock no longer exists: another program removed it, or this process was frozen for so long that it became stale.
    #[error("our lock on the repository was lost ({why}); nothing was committed")]
    LockLost {
        /// The reason for the loss.
        why: String,
    },
    /// An error of the object store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// rustic_core failed. The cause is its message, or the store's error behind it.
    #[error("cannot {action} the repository")]
    Engine {
        /// The operation that failed: `open`, `read the index of`.
        action: &'static str,
        /// The error of rustic_core.
        #[source]
        cause: Cause,
    },
    /// An object does not match its name, or cannot be decrypted or parsed.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// The object's key or id.
        object: String,
        /// Description of the damage.
        why: String,
    },
    /// No snapshot begins with this id, or none exists.
    #[error("no snapshot matches {wanted}")]
    NoSnapshot {
        /// The requested snapshot.
        wanted: String,
    },
    /// The selected hosts have no point.
    #[error("{hosts} has no point of {of}{}{}", listed(others), future.as_ref().map(|why| format!("; {why}")).unwrap_or_default())]
    NoPoint {
        /// The owner without a point: `source mongo`, or `any source`.
        of: String,
        /// The selected hosts, as text.
        hosts: String,
        /// The hosts that have one, by name.
        others: Vec<HostNewest>,
        /// Describes a snapshot that was skipped because it is dated in the future.
        future: Option<String>,
    },
    /// Several snapshots begin with this id.
    #[error("{wanted} matches {count} snapshots: {}", matches.join(", "))]
    Ambiguous {
        /// The requested snapshot.
        wanted: String,
        /// Number of matches.
        count: usize,
        /// The first matches: id, source or program, host and time.
        matches: Vec<String>,
    },
    /// The selection of a point cannot be parsed.
    #[error("`{wanted}` does not select a point: {why}")]
    InvalidPoint {
        /// The requested point.
        wanted: String,
        /// The expected form.
        why: String,
    },
    /// A pattern cannot be parsed.
    #[error("the pattern `{pattern}` is invalid: {why}")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// The defect, as the parser reports it.
        why: String,
    },
    /// A snapshot does not contain this path.
    #[error("snapshot {snapshot} does not contain {}", path.display())]
    NoPath {
        /// Short id of the snapshot, or several.
        snapshot: String,
        /// The requested path.
        path: PathBuf,
    },
    /// None, or several, of a repository's keys match.
    #[error("{count} keys match {wanted:?}; name one")]
    NoKey {
        /// The requested snapshot.
        wanted: String,
        /// Number of matches.
        count: usize,
    },
    /// A capture ended without an error of its own, but must not be committed.
    #[error("the capture cannot be committed: {0}")]
    NotCommitted(String),
    /// The operation would destroy data; the text includes advice.
    #[error("{0}")]
    Guarded(String),
    /// The repository failed earlier in this run and is not tried again.
    #[error("the repository cannot be used: {0}")]
    Unusable(String),
    /// A local path could not be used.
    #[error("{}: cannot {action}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// The error of the operating system.
        #[source]
        cause: std::io::Error,
    },
    /// It keeps changing for too long.
    #[error(
        "{location} changes while it is read: something prunes it or writes to it; run this again later"
    )]
    Changing {
        /// Location of the repository, without credentials.
        location: String,
    },
    /// An error of the ledger.
    #[cfg(feature = "ledger")]
    #[error(transparent)]
    Ledger(#[from] crate::engine::ledger::LedgerError),
    /// The operator cancelled before the work was done.
    #[error("cancelled")]
    Cancelled,
}

/// A host with points, and the time of its newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostNewest {
    /// Name of the host, as in its snapshots.
    pub host: String,
    /// Time of its newest snapshot.
    pub newest: Timestamp,
}

fn listed(hosts: &[HostNewest]) -> String {
    if hosts.is_empty() {
        return "; neither has any other host".to_owned();
    }
    let each: Vec<String> = hosts
        .iter()
        .map(|of| format!("{} (newest {})", of.host, of.newest.strftime("%Y-%m-%d %H:%M UTC")))
        .collect();
    format!("; hosts that have: {}", each.join(", "))
}

impl RepositoryError {
    /// The kind of the store's error, if a store error is the cause.
    #[must_use]
    pub fn store_error_kind(&self) -> Option<StoreErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            Self::Engine { cause, .. } => cause.downcast_ref::<EngineCause>()?.kind,
            _ => None,
        }
    }

    /// Reports whether the repository's disk or bucket is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_full(),
            Self::Engine { cause, .. } => {
                cause.downcast_ref::<EngineCause>().is_some_and(|cause| cause.is_full)
            }
            _ => false,
        }
    }

    /// Wraps an error of rustic_core.
    pub(crate) fn engine(action: &'static str) -> impl FnOnce(Box<RusticError>) -> Self {
        move |error| Self::Engine { action, cause: engine_cause(&error) }
    }
}

impl From<&RepositoryError> for Exit {
    fn from(error: &RepositoryError) -> Self {
        match error {
            RepositoryError::NotFound { .. } => Self::NoRepository,
            RepositoryError::WrongPassword { .. } => Self::WrongPassword,
            RepositoryError::Locked { .. } => Self::Locked,
            RepositoryError::Guarded(_) => Self::Refused,
            RepositoryError::InvalidPoint { .. } | RepositoryError::InvalidPattern { .. } => {
                Self::Usage
            }
            RepositoryError::Damaged { .. } => Self::NotVerified,
            RepositoryError::Changing { .. } => Self::Temporary,
            RepositoryError::Cancelled => Self::Cancelled,
            error
                if error
                    .store_error_kind()
                    .is_some_and(super::store::StoreErrorKind::keeps_out) =>
            {
                Self::Unreachable
            }
            _ => Self::Failed,
        }
    }
}

impl From<&SourceError> for Exit {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Unreachable { .. } | SourceError::Unauthorised { .. } => Self::Unreachable,
            SourceError::Refused(_) => Self::Refused,
            SourceError::Damaged { .. } => Self::NotVerified,
            SourceError::Cancelled => Self::Cancelled,
            SourceError::Point(cause) => {
                cause.downcast_ref::<RepositoryError>().map_or(Self::Failed, Self::from)
            }
            _ => Self::Failed,
        }
    }
}
