//! What the operator reads when something fails: what, why, and what to do next. The one place of all advice.

use std::{error::Error, fmt};

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

    fn of(error: &(dyn Error + 'static), exit: Exit, advice: Option<&str>) -> Self {
        Self { exit, message: error_chain(error), advice: advice.map(str::to_owned) }
    }
}

/// What to run after a check that found damage.
pub fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::FromMirror => {
            "with a mirror: `kaleem-dr repair --from MIRROR --missing` puts damaged and missing objects back"
        }
        Remedy::RepairIndex => {
            "`kaleem-dr repair index` makes the index fit the packs that are there"
        }
        Remedy::RepairSnapshots => {
            "without a mirror: `kaleem-dr backup` stores again what is still at its source; then \
             `kaleem-dr repair snapshots --forget` rewrites old snapshots without what is lost"
        }
    }
}

impl From<&RepositoryError> for Failure {
    fn from(error: &RepositoryError) -> Self {
        let advice = match error {
            RepositoryError::NotFound { .. } => {
                Some("`kaleem-dr init` makes one; is the disk mounted, the path right?")
            }
            RepositoryError::WrongPassword { .. } => Some(
                "look at `password` of the repository in the config, or at RESTIC_PASSWORD_FILE",
            ),
            RepositoryError::Locked { .. } => Some(
                "wait for it, or say --retry-lock 30m; `kaleem-dr unlock` shows the locks and removes those that are left over",
            ),
            RepositoryError::AlreadyExists { .. } => Some("it can be used as it is"),
            RepositoryError::Damaged { .. } => Some(
                "`kaleem-dr check --read-data` shows how far the damage goes, and what mends it",
            ),
            error if error.is_full() => {
                Some("`kaleem-dr forget` and `kaleem-dr prune` work on a full disk and make room")
            }
            RepositoryError::NoSnapshot { .. } => {
                Some("`kaleem-dr points` and `kaleem-dr snapshots` list what there is")
            }
            RepositoryError::NoPoint { others, .. } if !others.is_empty() => Some(
                "--host NAME takes another host's points; to carry on as a host that was lost, set `host = \"NAME\"` in the config",
            ),
            RepositoryError::NoPoint { .. } => Some("`kaleem-dr snapshots` lists what there is"),
            RepositoryError::Store(_) | RepositoryError::Engine { .. } => {
                error.store_error_kind().and_then(StoreErrorKind::advice)
            }
            RepositoryError::LockLost { .. } => {
                Some("look for `restic unlock --remove-all` in other jobs, then run this again")
            }
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
            error => {
                let advice = match error {
                    SiteError::NoMirror(_) => Some(
                        "write `mirror_of = \"local\"` into the mirror's table, or say --from and --to",
                    ),
                    SiteError::NothingMatches(_) => {
                        Some("`kaleem-dr snapshots` lists what there is; name one with --snapshot")
                    }
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
            Some("look at `state_directory` in the config: does it belong to this user?"),
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
        let (exit, advice) = match error {
            ScheduleError::Settings(_) => (Exit::Usage, None),
            ScheduleError::NotOurs { .. } => (
                Exit::Refused,
                Some("move it away; `schedule print` shows what would take its place"),
            ),
            ScheduleError::File { .. } => (Exit::Failed, Some("schedules are written by root")),
            _ => (
                Exit::Failed,
                Some("the files are in place; run the commands by hand, or this again"),
            ),
        };
        Self::of(error, exit, advice)
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Schedule(error) => error.into(),
            MigrateError::Refused(_) => Self::of(&error, Exit::Refused, None),
            MigrateError::Nothing(_) => {
                Self::of(&error, Exit::Usage, Some("--root names another system's `/`"))
            }
            error => Self::of(
                &error,
                Exit::Failed,
                Some("what was changed before is in migration.json; --undo puts it back"),
            ),
        }
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
                Some("is the server up, and the address in the config right?")
            }
            SourceError::Unauthorised { .. } => {
                Some("look at the user's roles and at its secret in the config")
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

/// A verb's report may keep its errors, so they are read by reference; those that end a command come by value.
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
    ReportError,
    ScheduleError,
    SourceError,
);
