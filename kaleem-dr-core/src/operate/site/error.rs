//! Why a site cannot do what it was asked for.

use crate::{
    engine::{ledger::LedgerError, repository::RepositoryError},
    ground::{Exit, SourceError},
    operate::tripwire::AlarmError,
    recovery::drill::DrillError,
};

/// Why a verb of a [`Site`](super::Site) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// The config does not have what was asked for, or cannot be used. The message names the config and the key.
    #[error("{0}")]
    Config(String),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The history in the state directory.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The alarms in the state directory.
    #[error(transparent)]
    Alarms(#[from] AlarmError),
    /// A drill could not begin, or its report could not be kept.
    #[error(transparent)]
    Drill(#[from] DrillError),
}

impl From<&SiteError> for Exit {
    fn from(error: &SiteError) -> Self {
        match error {
            SiteError::Config(_) => Self::Usage,
            SiteError::Repository(error) | SiteError::Drill(DrillError::Repository(error)) => {
                error.into()
            }
            SiteError::Source(error) => error.into(),
            SiteError::Ledger(_) | SiteError::Alarms(_) | SiteError::Drill(_) => Self::Failed,
        }
    }
}
