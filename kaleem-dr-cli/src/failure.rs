//! Errors as the operator reads them: what failed, why, and what to do next. All advice is here.

use std::{error::Error, fmt, path::Path};

use kaleem_dr_core::{
    SiteError,
    engine::{
        ledger::LedgerError,
        repository::{
            Remedy, RepositoryError, SaveError,
            store::{StoreError, StoreErrorKind},
        },
    },
    ground::{Exit, SourceError, error_chain},
    operate::{
        migrate::MigrateError, report::ReportError, schedule::ScheduleError, tripwire::AlarmError,
    },
    recovery::drill::DrillError,
};

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub advice: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), advice: None }
    }

    /// The command line, the config or the environment is wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message.to_string())
    }

    /// The operator cancelled.
    pub fn cancelled() -> Self {
        Self::new(Exit::Cancelled, "cancelled")
    }

    /// The failure of a migration's first run, with the advice of its cause.
    fn unproven(self, config: &Path) -> Self {
        let first = self.advice.map(|first| format!("{first}. ")).unwrap_or_default();
        let advice = format!(
            "{first}The old jobs continue unchanged. Fix {} or what it refers to, then run `kaleem-dr migrate --apply` again; --undo removes it",
            config.display()
        );
        Self { advice: Some(advice), ..self }
    }

    fn of(error: &(dyn Error + 'static), exit: Exit, advice: Option<&str>) -> Self {
        Self { exit, message: error_chain(error), advice: advice.map(str::to_owned) }
    }
}

/// Advice after a check that found damage.
pub fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::FromMirror => {
            "with a mirror: `kaleem-dr repair --from MIRROR --missing` restores damaged and missing objects"
        }
        Remedy::RepairIndex => "`kaleem-dr repair index` makes the index match the existing packs",
        Remedy::RepairSnapshots => {
            "without a mirror: `kaleem-dr backup` stores data again that their sources still have; then \
             `kaleem-dr repair snapshots --forget` rewrites old snapshots without the lost data"
        }
    }
}

impl From<&RepositoryError> for Failure {
    fn from(error: &RepositoryError) -> Self {
        let advice = match error {
            RepositoryError::NotFound { .. } => Some(
                "check that the disk is mounted and the path is right; `kaleem-dr init` creates a repository",
            ),
            RepositoryError::WrongPassword { .. } => {
                Some("check `password` of the repository in the config, or RESTIC_PASSWORD_FILE")
            }
            RepositoryError::Locked { .. } => Some(
                "wait for it, for example with --retry-lock 30m; `kaleem-dr unlock` shows the locks and removes stale ones",
            ),
            RepositoryError::AlreadyExists { .. } => Some("use the existing repository"),
            RepositoryError::Damaged { .. } => Some(
                "`kaleem-dr check --read-data` shows the extent of the damage and how to repair it",
            ),
            error if error.is_full() => Some(
                "`kaleem-dr forget` and `kaleem-dr prune` work on a full disk and free up space",
            ),
            RepositoryError::Ambiguous { .. } => Some("give more digits of the id"),
            RepositoryError::NoPath { .. } => Some(
                "`kaleem-dr ls SNAPSHOT` and `kaleem-dr find PATTERN` list the paths that exist",
            ),
            RepositoryError::NoSnapshot { .. } => {
                Some("`kaleem-dr points` and `kaleem-dr snapshots` list those that exist")
            }
            RepositoryError::NoPoint { others, .. } if !others.is_empty() => Some(
                "--host NAME selects another host's points; to continue as a lost host, set `host = \"NAME\"` in the config",
            ),
            RepositoryError::NoPoint { .. } => Some("`kaleem-dr snapshots` lists those that exist"),
            RepositoryError::Store(_) | RepositoryError::Engine { .. } => {
                error.store_error_kind().and_then(StoreErrorKind::advice)
            }
            RepositoryError::LockLost { .. } => Some(
                "check other jobs for `restic unlock --remove-all`, then run this command again",
            ),
            _ => None,
        };
        Self::of(error, Exit::from(error), advice)
    }
}

impl From<&SiteError> for Failure {
    fn from(error: &SiteError) -> Self {
        match error {
            SiteError::Repository(error) => error.into(),
            SiteError::Source(error) => error.into(),
            SiteError::Ledger(error) => error.into(),
            SiteError::Alarms(error) => error.into(),
            SiteError::Drill(error) => error.into(),
            SiteError::Report(error) => error.into(),
            SiteError::Schedule(error) => error.into(),
            SiteError::Migrate(error) => error.into(),
            SiteError::Unproven { config, cause } => Self::from(&**cause).unproven(config),
            error => {
                let advice = match error {
                    SiteError::NoRecipient(_) => Some(
                        "add [monitoring.healthchecks], [[monitoring.email]], [[monitoring.chat]], [[monitoring.webhook]] or another one of [monitoring]",
                    ),
                    SiteError::NoMirror(_) => Some(
                        "set `mirror_of = \"local\"` in the mirror's table, or use --from and --to",
                    ),
                    SiteError::NothingMatches(_) => Some(
                        "`kaleem-dr snapshots` lists the existing ones; name one with --snapshot",
                    ),
                    SiteError::Sealed(_) => Some(
                        "without a passphrase, secrets are asked for, or read from the files that --secret names",
                    ),
                    _ => None,
                };
                Self::of(error, Exit::from(error), advice)
            }
        }
    }
}

impl From<&AlarmError> for Failure {
    fn from(error: &AlarmError) -> Self {
        Self::of(error, Exit::Failed, None)
    }
}

impl From<&LedgerError> for Failure {
    fn from(error: &LedgerError) -> Self {
        Self::of(
            error,
            Exit::Failed,
            Some("check that `state_directory` in the config belongs to this user"),
        )
    }
}

impl From<&DrillError> for Failure {
    fn from(error: &DrillError) -> Self {
        match error {
            DrillError::Repository(error) => error.into(),
            DrillError::Ledger(error) => error.into(),
            error => Self::of(error, Exit::Failed, None),
        }
    }
}

impl From<&ReportError> for Failure {
    fn from(error: &ReportError) -> Self {
        match error {
            ReportError::Ledger(error) => error.into(),
            error => Self::of(error, Exit::Failed, None),
        }
    }
}

impl From<&ScheduleError> for Failure {
    fn from(error: &ScheduleError) -> Self {
        let advice = match error {
            ScheduleError::Settings(_) => None,
            ScheduleError::NotOurs { .. } => {
                Some("move it away; `schedule print` shows what would replace it")
            }
            ScheduleError::File { .. } => Some(
                "only root can write the machine's schedules; `kaleem-dr schedule install --user` installs them for your own systemd",
            ),
            _ => Some("the files are written; run the commands by hand, or run this command again"),
        };
        Self::of(error, Exit::from(error), advice)
    }
}

impl From<&MigrateError> for Failure {
    fn from(error: &MigrateError) -> Self {
        let advice = match error {
            MigrateError::Schedule(error) => return error.into(),
            MigrateError::Refused(_) => None,
            MigrateError::Nothing(_) => Some("--root is the root directory of another system"),
            _ => Some("earlier changes are in migration.json; --undo reverts them"),
        };
        Self::of(error, Exit::from(error), advice)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        RepositoryError::from(error).into()
    }
}

impl From<&SourceError> for Failure {
    fn from(error: &SourceError) -> Self {
        let advice = match error {
            SourceError::Unreachable { .. } => {
                Some("check that the server is running and the address in the config is right")
            }
            SourceError::Unauthorised { .. } => {
                Some("check the user's roles and its secret in the config")
            }
            _ => None,
        };
        Self::of(error, Exit::from(error), advice)
    }
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Source(error) => error.into(),
            SaveError::Repository(error) => error.into(),
            error => Self::of(&error, Exit::Failed, None),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::of(&error, Exit::Failed, None)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::of(&error, Exit::Failed, None)
    }
}

/// The reports of verbs may keep their errors, so errors are read by reference; an error that ends
/// a command is passed by value.
macro_rules! by_value {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::from(&error)
            }
        }
    )*};
}

by_value!(
    RepositoryError,
    SiteError,
    AlarmError,
    LedgerError,
    DrillError,
    MigrateError,
    ReportError,
    ScheduleError,
    SourceError,
);
