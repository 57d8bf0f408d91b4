//! Why a site cannot do what it was asked for.

use crate::{
    engine::{
        ledger::LedgerError,
        repository::{RepositoryError, store::StoreError},
    },
    ground::{Exit, SourceError},
    operate::{
        metrics::MetricsError, report::ReportError, schedule::ScheduleError, tripwire::AlarmError,
    },
    recovery::drill::DrillError,
};

/// Why a verb of a [`Site`](super::Site) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// The config does not have what was asked for, or cannot be used. The message names the config and the key.
    #[error("{0}")]
    Config(String),
    /// No repository of the config is a mirror: there is nothing to replicate.
    #[error("{0}")]
    NoMirror(String),
    /// A guard refused: something would be lost that was not asked for.
    #[error("{0}")]
    Refused(String),
    /// Nothing matches what was asked for.
    #[error("{0}")]
    NothingMatches(String),
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
    /// A drill could not begin.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// There is no such proof report, or it cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The schedules of the config cannot be used.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The metrics cannot be read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl From<StoreError> for SiteError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl From<&SiteError> for Exit {
    fn from(error: &SiteError) -> Self {
        match error {
            SiteError::Config(_)
            | SiteError::NoMirror(_)
            | SiteError::Schedule(ScheduleError::Settings(_)) => Self::Usage,
            SiteError::Schedule(ScheduleError::NotOurs { .. }) => Self::Refused,
            SiteError::Refused(_) => Self::Refused,
            SiteError::Repository(error) | SiteError::Drill(DrillError::Repository(error)) => {
                error.into()
            }
            SiteError::Source(error) => error.into(),
            SiteError::NothingMatches(_)
            | SiteError::Ledger(_)
            | SiteError::Alarms(_)
            | SiteError::Drill(_)
            | SiteError::Report(_)
            | SiteError::Schedule(_)
            | SiteError::Metrics(_) => Self::Failed,
        }
    }
}
