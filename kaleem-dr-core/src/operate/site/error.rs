//! Errors of a site's verbs.

use std::path::PathBuf;

use crate::{
    engine::{
        ledger::LedgerError,
        repository::{RepositoryError, store::StoreError},
    },
    ground::{Exit, SourceError},
    operate::{
        installation::{InvalidInstallation, SealError},
        metrics::MetricsError,
        migrate::{MigrateError, NotProven},
        recover::JournalError,
        report::ReportError,
        schedule::ScheduleError,
        tripwire::AlarmError,
    },
    recovery::drill::DrillError,
};

/// Why a verb of a [`Site`](super::Site) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// The config lacks what was requested, or is unusable. The message names the config and the
    /// key.
    #[error("{0}")]
    Config(String),
    /// A command of `backup.hooks.before` failed, so that nothing was backed up.
    #[error("nothing was backed up: {0}")]
    Hook(String),
    /// No repository of the config is a mirror, so there is nothing to replicate.
    #[error("{0}")]
    NoMirror(String),
    /// The config has no recipient of notifications.
    #[error("{0}")]
    NoRecipient(String),
    /// A guard refused because data would be lost.
    #[error("{0}")]
    Refused(String),
    /// No snapshot, source or key matches the request.
    #[error("{0}")]
    NothingMatches(String),
    /// The repository, its store or its locks failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A source could not be reached, read or written.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The history in the state directory is unusable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The alarms in the state directory are unusable.
    #[error(transparent)]
    Alarms(#[from] AlarmError),
    /// The description of an installation in a snapshot is unusable.
    #[error(transparent)]
    Installation(#[from] InvalidInstallation),
    /// Sealed secrets cannot be opened.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// A file of the installation could not be written.
    #[error("{}: cannot {action}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The attempted action: `write the config`.
        action: &'static str,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// The journal of a recovery is unusable, or another recovery runs.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A drill could not begin.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// The proof report does not exist or cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The schedules of the config are unusable.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The page cannot be served.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Serve(#[from] crate::operate::serve::ServeError),
    /// The metrics cannot be read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The first run of a migration ended well, but proves too little.
    #[error(transparent)]
    NotProven(#[from] NotProven),
    /// The first run of a migration failed or proves too little: the old jobs continue unchanged.
    #[error("{cause}")]
    Unproven {
        /// The config that the migration wrote.
        config: PathBuf,
        /// The error of the first run.
        cause: Box<SiteError>,
    },
    /// The switch of a migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

impl From<StoreError> for SiteError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl From<&SiteError> for Exit {
    fn from(error: &SiteError) -> Self {
        match error {
            SiteError::Config(_) | SiteError::NoMirror(_) | SiteError::NoRecipient(_) => {
                Self::Usage
            }
            SiteError::Schedule(error) => error.into(),
            #[cfg(feature = "serve")]
            SiteError::Serve(error) => error.into(),
            SiteError::Refused(_) => Self::Refused,
            SiteError::Repository(error) | SiteError::Drill(DrillError::Repository(error)) => {
                error.into()
            }
            SiteError::Source(error) => error.into(),
            SiteError::NotProven(not) => not.exit,
            SiteError::Unproven { cause, .. } => Self::from(&**cause),
            SiteError::Migrate(error) => error.into(),
            SiteError::Sealed(SealError::Passphrase) => Self::WrongPassword,
            SiteError::Journal(JournalError::Held) => Self::Locked,
            SiteError::NothingMatches(_)
            | SiteError::Hook(_)
            | SiteError::Journal(_)
            | SiteError::Installation(_)
            | SiteError::Sealed(_)
            | SiteError::File { .. }
            | SiteError::Ledger(_)
            | SiteError::Alarms(_)
            | SiteError::Drill(_)
            | SiteError::Report(_)
            | SiteError::Metrics(_) => Self::Failed,
        }
    }
}
