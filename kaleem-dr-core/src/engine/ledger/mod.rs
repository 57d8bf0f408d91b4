//! The local history of this host: what ran, how it ended, what was proven, and what each mirror is known to hold.
//!
//! SQLite in the state directory, written in transactions that are synced, so that a crash loses at most the event that was
//! being written. The repositories stay the truth: without a ledger, history is short and guards are stricter, nothing else.
//! Repositories are named here by their location in words, as [`crate::engine::repository::Location`] prints it.

mod mirrors;
mod proofs;
mod trim;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use serde_json::Value;

pub use self::{
    mirrors::{MirrorRecord, Postponed},
    proofs::{ChainedReport, Proof},
    trim::LedgerLimits,
};
use crate::ground::{Exit, RunId};

/// The file in the state directory.
const FILE: &str = "ledger.sqlite";
/// How long another process of ours may hold the file.
const BUSY: Duration = Duration::from_secs(20);
/// Version of the tables below, in SQLite's `user_version`.
const VERSION: i64 = 3;
/// Tables of version 1.
const EVENTS: &str = "
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
    create table begun (
        mirror text not null,
        object text not null,
        primary key (mirror, object)
    ) without rowid;
";
/// What version 2 adds.
const PROOFS: &str = "
    create table part (
        event integer not null references event (id),
        source text not null,
        repository text not null,
        snapshot text,
        exit integer not null,
        finished text not null,
        seconds real not null,
        size_bytes integer not null,
        added_bytes integer not null,
        consistent_at text
    );
    create index part_by_source on part (source, repository);
    create table proof (
        id integer primary key,
        run text not null,
        source text not null,
        repository text not null,
        snapshot text not null,
        consistent_at text not null,
        at text not null,
        wanted text not null,
        proven text,
        size_bytes integer not null,
        restore_seconds real,
        report text not null
    );
    create index proof_by_source on proof (source, repository, at);
    create table report (
        id integer primary key,
        run text not null unique,
        previous text,
        hash text not null,
        body text not null
    );
";

/// What version 3 adds: the host of each proof, and where the chain of reports begins. A drill's report is kept in the chain alone.
const HOSTS: &str = "
    alter table proof add column host text not null default '';
    update proof set report = 'null';
    update event set report = 'null' where kind = 'drill' and run in (select run from report);
    create table chain_start (previous text not null);
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
    /// Snapshots copied into a repository of another id.
    Copy,
    /// Points proven, short of a drill.
    Verify,
    /// Points restored into scratch targets and compared, with their negative controls.
    Drill,
    /// A look at a repository's structure or bytes.
    Check,
    /// Snapshots forgotten by retention, outside of a backup.
    Forget,
    /// Space given back, outside of a backup.
    Prune,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Backup,
        Self::Replicate,
        Self::Repair,
        Self::Copy,
        Self::Verify,
        Self::Drill,
        Self::Check,
        Self::Forget,
        Self::Prune,
    ];

    /// Its word, which is also the command's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Replicate => "replicate",
            Self::Repair => "repair",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Drill => "drill",
            Self::Check => "check",
            Self::Forget => "forget",
            Self::Prune => "prune",
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
    /// What became of each source in each repository; empty for work on a repository as a whole.
    pub parts: Vec<Part>,
}

/// What became of one source in one repository.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The source.
    pub source: String,
    /// The repository, in words.
    pub repository: String,
    /// The snapshot that was made or looked at.
    pub snapshot: Option<String>,
    /// How it ended, as an exit status.
    pub exit: u8,
    /// When it ended.
    pub finished: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Bytes of the source.
    pub size_bytes: u64,
    /// Bytes that were new to the repository.
    pub added_bytes: u64,
    /// The moment its data stand for.
    pub consistent_at: Option<Timestamp>,
}

/// A part as the ledger holds it, with the kind of its event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PastPart {
    /// `backup`, `drill`, …
    pub kind: String,
    /// What became of it.
    #[serde(flatten)]
    pub part: Part,
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
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_directory).map_err(
            |cause| LedgerError::Directory { path: state_directory.to_path_buf(), cause },
        )?;
        let path = state_directory.join(FILE);
        let failed = |cause| LedgerError::Database { path: path.clone(), action: "opened", cause };
        let mut connection = Connection::open(&path).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
        // Two processes may find it new at once: whoever comes second sees the first one's tables.
        let making = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(failed)?;
        let found: i64 =
            making.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        match found {
            0..=VERSION => {
                for step in
                    [EVENTS, PROOFS, HOSTS].iter().skip(usize::try_from(found).unwrap_or_default())
                {
                    making.execute_batch(step).map_err(failed)?;
                }
            }
            found => return Err(LedgerError::Newer { path, found }),
        }
        if found != VERSION {
            making.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        }
        making.execute_batch(mirrors::TABLES).map_err(failed)?;
        making.commit().map_err(failed)?;
        Ok(Self { path, connection: Arc::new(Mutex::new(connection)) })
    }

    /// Opens the ledger of a state directory, where there is one. Nothing is made where there is none.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn find(state_directory: &Path) -> Result<Option<Self>, LedgerError> {
        if state_directory.join(FILE).exists() {
            Self::open(state_directory).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Adds an event with its parts: all of it, or nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, event: &Event) -> Result<(), LedgerError> {
        let mut connection = self.connection();
        let failed = || self.failed("written");
        let change = connection.transaction().map_err(failed())?;
        change
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
            .map_err(failed())?;
        let id = change.last_insert_rowid();
        for part in &event.parts {
            change
                .execute(
                    "insert into part values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    params![
                        id,
                        part.source,
                        part.repository,
                        part.snapshot,
                        part.exit,
                        part.finished.to_string(),
                        part.seconds,
                        stored(part.size_bytes),
                        stored(part.added_bytes),
                        part.consistent_at.map(|time| time.to_string()),
                    ],
                )
                .map_err(failed())?;
        }
        crate::ground::failpoint::pass(crate::ground::failpoint::Step::Ledger);
        change.commit().map_err(failed())
    }

    /// Whether an event of this run was added.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn has(&self, run: RunId) -> Result<bool, LedgerError> {
        self.connection()
            .query_row(
                "select exists (select 1 from event where run = ?1)",
                [run.to_string()],
                |row| row.get(0),
            )
            .map_err(self.failed("read"))
    }

    /// For each kind, source and repository, the newest part; with `good`, the newest that ended with 0.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn newest_parts(&self, good: bool) -> Result<Vec<PastPart>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare(
                "select e.kind, p.source, p.repository, p.snapshot, p.exit, p.finished, p.seconds, p.size_bytes, p.added_bytes,
                        p.consistent_at, max(p.rowid)
                 from part p join event e on e.id = p.event where p.exit = 0 or not ?1
                 group by e.kind, p.source, p.repository order by e.kind, p.source, p.repository",
            )
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map([good], |row| {
                let part = Part {
                    source: row.get(1)?,
                    repository: row.get(2)?,
                    snapshot: row.get(3)?,
                    exit: row.get(4)?,
                    finished: time(row, 5)?,
                    seconds: row.get(6)?,
                    size_bytes: size(row, 7)?,
                    added_bytes: size(row, 8)?,
                    consistent_at: maybe_time(row, 9)?,
                };
                Ok(PastPart { kind: row.get(0)?, part })
            })
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// For each kind and repository, the newest event, without its report; with `good`, the newest that ended with 0.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn newest_events(&self, good: bool) -> Result<Vec<PastEvent>, LedgerError> {
        self.events(
            "select run, kind, repository, started, finished, exit, 'null', max(id) from event where exit = 0 or not ?1
             group by kind, repository order by kind, repository",
            params![good],
        )
    }

    /// The newest events, newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn history(&self, most: usize) -> Result<Vec<PastEvent>, LedgerError> {
        self.events(
            "select run, kind, repository, started, finished, exit,
                    coalesce((select body from report r where event.kind = 'drill' and r.run = event.run), report)
             from event order by id desc limit ?1",
            params![i64::try_from(most).unwrap_or(i64::MAX)],
        )
    }

    /// The runs of a kind that have an event or a part in a repository.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn runs(&self, kind: EventKind, repository: &str) -> Result<BTreeSet<String>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare(
                "select run from event e where kind = ?1
                 and (repository = ?2 or exists (select 1 from part p where p.event = e.id and p.repository = ?2))",
            )
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map([kind.word(), repository], |row| row.get(0))
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// The events that ended at or after a moment, oldest first, without their reports.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn events_since(&self, since: Timestamp) -> Result<Vec<PastEvent>, LedgerError> {
        // Times are text here, and those within one second do not sort: the last word is ours.
        let earlier = since - SignedDuration::from_secs(1);
        let mut events = self.events(
            "select run, kind, repository, started, finished, exit, 'null' from event where finished >= ?1 order by id",
            params![earlier.to_string()],
        )?;
        events.retain(|event| event.finished >= since);
        Ok(events)
    }

    fn events(
        &self,
        query: &str,
        with: impl rusqlite::Params,
    ) -> Result<Vec<PastEvent>, LedgerError> {
        let connection = self.connection();
        let mut query = connection.prepare(query).map_err(self.failed("read"))?;
        let rows = query
            .query_map(with, |row| {
                let report: String = row.get(6)?;
                Ok(PastEvent {
                    run: row.get(0)?,
                    kind: row.get(1)?,
                    repository: row.get(2)?,
                    started: time(row, 3)?,
                    finished: time(row, 4)?,
                    exit: row.get(5)?,
                    report: serde_json::from_str(&report).map_err(|error| conversion(6, error))?,
                })
            })
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// When work of a kind last ended with exit 0, for a repository.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_success(
        &self,
        kind: EventKind,
        repository: &str,
    ) -> Result<Option<Timestamp>, LedgerError> {
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

fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Timestamp> {
    row.get::<_, String>(at)?.parse().map_err(|error: jiff::Error| conversion(at, error))
}

fn maybe_time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(at)?;
    text.map(|text| text.parse().map_err(|error: jiff::Error| conversion(at, error))).transpose()
}

fn size(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0))
}

/// `SQLite` has no unsigned numbers.
fn stored(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn conversion(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::ProofLevel;

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
            parts: Vec::new(),
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
        assert!(ledger.has(bad.run).unwrap() && !ledger.has(RunId::new()).unwrap());
    }

    #[test]
    fn parts_and_proofs_are_found_by_what_they_are_of() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let part = |source: &str, exit: u8, size_bytes| Part {
            source: source.into(),
            repository: "/r".into(),
            snapshot: None,
            exit,
            finished: Timestamp::now(),
            seconds: 1.5,
            size_bytes,
            added_bytes: 1,
            consistent_at: Some(Timestamp::UNIX_EPOCH),
        };
        for (exit, size) in [(0, 10), (7, 0)] {
            let parts = vec![part("mongo", exit, size), part("n8n", 0, size + 1)];
            ledger
                .record(&Event { kind: EventKind::Backup, parts, ..event(Exit::Partial) })
                .unwrap();
        }
        let of = |good| -> Vec<_> {
            let parts = ledger.newest_parts(good).unwrap();
            parts
                .into_iter()
                .map(|past| (past.kind, past.part.source, past.part.exit, past.part.size_bytes))
                .collect()
        };
        let line = |source: &str, exit, size| ("backup".to_owned(), source.to_owned(), exit, size);
        assert_eq!(of(false), [line("mongo", 7, 0), line("n8n", 0, 1)]);
        assert_eq!(of(true), [line("mongo", 0, 10), line("n8n", 0, 1)]);
        assert_eq!(ledger.newest_events(false).unwrap().len(), 1);
        assert_eq!(ledger.newest_events(true).unwrap().len(), 0);
        let proof = Proof {
            run: "r".into(),
            source: "mongo".into(),
            host: "db1".into(),
            repository: "/r".into(),
            snapshot: "a".repeat(64),
            consistent_at: Timestamp::UNIX_EPOCH,
            at: Timestamp::now(),
            wanted: ProofLevel::Restored,
            proven: Some(ProofLevel::Parsed),
            size_bytes: 7,
            restore_seconds: Some(0.5),
        };
        ledger.record_proof(&proof).unwrap();
        assert_eq!(ledger.proofs(9).unwrap(), std::slice::from_ref(&proof));
        assert!(!proof.is_good());
    }

    #[test]
    fn each_report_bears_the_hash_of_the_one_before() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let body = |previous: Option<&str>| format!("after {}", previous.unwrap_or("nothing"));
        let first = ledger.append_report("1", body).unwrap();
        let second = ledger.append_report("2", body).unwrap();
        assert_eq!((first.body.as_str(), first.previous.as_ref()), ("after nothing", None));
        assert_eq!(second.body, format!("after {}", first.hash));
        assert_eq!(ledger.reports().unwrap(), [first, second]);
    }

    #[test]
    fn a_ledger_of_version_1_is_taken_on() {
        let home = tempfile::tempdir().unwrap();
        let connection = Connection::open(home.path().join(FILE)).unwrap();
        connection.execute_batch(EVENTS).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute(
                "insert into event values (1, '01J9', 'backup', '/r', '2026-01-01T00:00:00Z', '2026-01-01T00:00:01Z', 0, '{}')",
                [],
            )
            .unwrap();
        drop(connection);
        let ledger = Ledger::open(home.path()).unwrap();
        assert_eq!(ledger.history(9).unwrap()[0].run, "01J9");
        assert!(ledger.proofs(9).unwrap().is_empty());
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
