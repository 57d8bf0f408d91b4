//! The local history of this host: what ran, how it ended, and what each mirror is known to hold.
//!
//! SQLite in the state directory, written in transactions that are synced, so that a crash loses at most the event that was
//! being written. The repositories stay the truth: without a ledger, history is short and guards are stricter, nothing else.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use serde_json::Value;

use crate::{exit::Exit, job::RunId};

/// The file in the state directory.
const FILE: &str = "ledger.sqlite";
/// How long another process of ours may hold the file.
const BUSY: Duration = Duration::from_secs(20);
/// Version of the tables below, in SQLite's `user_version`.
const VERSION: i64 = 1;
const TABLES: &str = "
    create table event (
        id integer primary key,
        run text not null,
        kind text not null,
        repository text not null,
        started text not null,
        finished text not null,
        exit integer not null,
        report text not null
    );
    create index event_by_kind on event (kind, finished);
    create table mirrored (
        mirror text not null,
        snapshot text not null,
        primary key (mirror, snapshot)
    ) without rowid;
";

/// What kind of work an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// A run of captures.
    Backup,
    /// A pass of a mirror.
    Replicate,
    /// Objects put back from a replica.
    Repair,
}

impl EventKind {
    fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Replicate => "replicate",
            Self::Repair => "repair",
        }
    }
}

/// One piece of work that ended, well or not.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub run: RunId,
    /// What it was.
    pub kind: EventKind,
    /// Repository it wrote to, in words.
    pub repository: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How it ended.
    pub exit: Exit,
    /// Its report, as `--json` prints it.
    pub report: Value,
}

/// An event as the ledger holds it.
#[derive(Clone, Debug, Serialize)]
pub struct PastEvent {
    /// Id of the run.
    pub run: String,
    /// `backup`, `replicate`, …
    pub kind: String,
    /// Repository it wrote to, in words.
    pub repository: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Exit status.
    pub exit: u8,
    /// Its report.
    pub report: Value,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The state directory cannot be used.
    #[error("{}: cannot make the directory of the ledger", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// SQLite failed.
    #[error("{}: the ledger cannot be {action}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// `opened`, `read`, `written`.
        action: &'static str,
        /// What SQLite said.
        #[source]
        cause: rusqlite::Error,
    },
    /// A newer program wrote it.
    #[error("{}: this ledger is of a newer version ({found}); use that program, or move the file away: it is rebuilt", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
}

/// The ledger of a state directory. Clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Ledger {
    /// Opens the ledger of a state directory, and makes it where there is none. Blocks for a moment.
    ///
    /// # Errors
    /// When the directory or the file cannot be used, or a newer program wrote it.
    pub fn open(state_directory: &Path) -> Result<Self, LedgerError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_directory)
            .map_err(|cause| LedgerError::Directory { path: state_directory.to_path_buf(), cause })?;
        let path = state_directory.join(FILE);
        let failed = |cause| LedgerError::Database { path: path.clone(), action: "opened", cause };
        let mut connection = Connection::open(&path).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
        // Two processes may find it new at once: whoever comes second sees the first one's tables.
        let making = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        let found: i64 = making.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        match found {
            0 => {
                making.execute_batch(TABLES).map_err(failed)?;
                making.pragma_update(None, "user_version", VERSION).map_err(failed)?;
            }
            VERSION => {}
            found => return Err(LedgerError::Newer { path, found }),
        }
        making.commit().map_err(failed)?;
        Ok(Self { path, connection: Arc::new(Mutex::new(connection)) })
    }

    /// Adds an event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, event: &Event) -> Result<(), LedgerError> {
        self.connection()
            .execute(
                "insert into event (run, kind, repository, started, finished, exit, report) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    event.run.to_string(),
                    event.kind.word(),
                    event.repository,
                    event.started.to_string(),
                    event.finished.to_string(),
                    event.exit.code(),
                    event.report.to_string(),
                ],
            )
            .map(drop)
            .map_err(self.failed("written"))
    }

    /// The newest events, newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn history(&self, most: usize) -> Result<Vec<PastEvent>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare("select run, kind, repository, started, finished, exit, report from event order by id desc limit ?1")
            .map_err(self.failed("read"))?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = query
            .query_map([most], |row| {
                let time = |at: usize| {
                    let text: String = row.get(at)?;
                    text.parse::<Timestamp>().map_err(|error| conversion(at, error))
                };
                let report: String = row.get(6)?;
                Ok(PastEvent {
                    run: row.get(0)?,
                    kind: row.get(1)?,
                    repository: row.get(2)?,
                    started: time(3)?,
                    finished: time(4)?,
                    exit: row.get(5)?,
                    report: serde_json::from_str(&report).map_err(|error| conversion(6, error))?,
                })
            })
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// The snapshots a mirror is known to hold because we brought them there, by the names of their objects.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn mirrored(&self, mirror: &str) -> Result<BTreeSet<String>, LedgerError> {
        let connection = self.connection();
        let mut query = connection.prepare("select snapshot from mirrored where mirror = ?1").map_err(self.failed("read"))?;
        let rows = query.query_map([mirror], |row| row.get(0)).map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// Says what a mirror holds from now on.
    ///
    /// # Errors
    /// When it cannot be written; then what was known stays.
    pub fn set_mirrored(&self, mirror: &str, snapshots: &BTreeSet<String>) -> Result<(), LedgerError> {
        let mut connection = self.connection();
        let failed = || self.failed("written");
        let change = connection.transaction().map_err(failed())?;
        change.execute("delete from mirrored where mirror = ?1", [mirror]).map_err(failed())?;
        for snapshot in snapshots {
            change.execute("insert into mirrored values (?1, ?2)", params![mirror, snapshot]).map_err(failed())?;
        }
        change.commit().map_err(failed())
    }

    /// When work of a kind last ended with exit 0, for a repository.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_success(&self, kind: EventKind, repository: &str) -> Result<Option<Timestamp>, LedgerError> {
        let found: Option<String> = self
            .connection()
            .query_row(
                "select finished from event where kind = ?1 and repository = ?2 and exit = 0 order by id desc limit 1",
                params![kind.word(), repository],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.failed("read"))?;
        Ok(found.and_then(|text| text.parse().ok()))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> LedgerError {
        let path = self.path.clone();
        move |cause| LedgerError::Database { path, action, cause }
    }
}

fn conversion(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(exit: Exit) -> Event {
        let now = Timestamp::now();
        Event {
            run: RunId::new(),
            kind: EventKind::Replicate,
            repository: "r2".into(),
            started: now,
            finished: now,
            exit,
            report: serde_json::json!({ "copied": 3 }),
        }
    }

    #[test]
    fn history_is_newest_first_and_survives_a_reopening() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let (good, bad) = (event(Exit::Done), event(Exit::Failed));
        ledger.record(&good).unwrap();
        ledger.record(&bad).unwrap();
        drop(ledger);
        let ledger = Ledger::open(home.path()).unwrap();
        let history = ledger.history(10).unwrap();
        assert_eq!(history.iter().map(|event| event.exit).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(history[1].report["copied"], 3);
        assert_eq!(ledger.last_success(EventKind::Replicate, "r2").unwrap(), Some(good.finished));
        assert_eq!(ledger.last_success(EventKind::Backup, "r2").unwrap(), None);
    }

    #[test]
    fn each_mirror_has_its_own_snapshots() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        ledger.set_mirrored("a", &set(&["1", "2"])).unwrap();
        ledger.set_mirrored("b", &set(&["3"])).unwrap();
        ledger.set_mirrored("a", &set(&["2"])).unwrap();
        assert_eq!(ledger.mirrored("a").unwrap(), set(&["2"]));
        assert_eq!(ledger.mirrored("b").unwrap(), set(&["3"]));
    }

    #[test]
    fn a_ledger_of_a_newer_program_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        drop(Ledger::open(home.path()).unwrap());
        let connection = Connection::open(home.path().join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        assert!(matches!(Ledger::open(home.path()), Err(LedgerError::Newer { found: 99, .. })));
    }
}
