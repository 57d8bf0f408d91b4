//! The local history of this host: the runs and their results, the proofs, and the recorded content of each mirror.
//!
//! SQLite in the state directory, written in synced transactions, so that a crash loses at most the event being written. The
//! repositories remain authoritative: without a ledger, history is short and guards are stricter, but nothing else changes. The
//! ledger names repositories by their location as text, in the form of [`crate::engine::repository::Location`].

mod error;
mod event;
mod mirrors;
mod notified;
mod proofs;
mod refill;
mod select;
mod slices;
mod trim;

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub use self::{
    error::LedgerError,
    event::{Event, EventKind, Part, PastEvent, PastPart},
    mirrors::{MirrorRecord, Postponed},
    proofs::{ChainedReport, Proof},
    select::{ListedEvent, Selection},
    trim::LedgerLimits,
};
use crate::ground::RunId;

/// The file in the state directory.
const FILE: &str = "ledger.sqlite";
/// Time to wait while another process of ours holds the file.
const BUSY: Duration = Duration::from_secs(20);
/// Version of the tables below, in SQLite's `user_version`.
const VERSION: i64 = 4;
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
/// The additions of version 2.
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

/// The additions of version 3: the host of each proof, and the start of the chain of reports. A drill's report is stored only in
/// the chain.
const HOSTS: &str = "
    alter table proof add column host text not null default '';
    update proof set report = 'null';
    update event set report = 'null' where kind = 'drill' and run in (select run from report);
    create table chain_start (previous text not null);
";

/// The ledger of a state directory. Clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Ledger {
    /// Opens the ledger of a state directory, and creates it if it does not exist. Blocks for a moment.
    ///
    /// # Errors
    /// If the directory or the file cannot be used, or a newer program wrote it.
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
        // Two processes may create it at once: the second one finds the tables of the first.
        let making = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(failed)?;
        let found: i64 =
            making.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        match found {
            0..=VERSION => {
                let steps = [EVENTS, PROOFS, HOSTS, slices::SLICES];
                for step in steps.iter().skip(usize::try_from(found).unwrap_or_default()) {
                    making.execute_batch(step).map_err(failed)?;
                }
            }
            found => return Err(LedgerError::Newer { path, found }),
        }
        if found != VERSION {
            making.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        }
        making.execute_batch(mirrors::TABLES).map_err(failed)?;
        making.execute_batch(notified::TABLES).map_err(failed)?;
        making.commit().map_err(failed)?;
        Ok(Self { path, connection: Arc::new(Mutex::new(connection)) })
    }

    /// Opens the ledger of a state directory if it exists; never creates it.
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

    /// Adds an event with its parts, atomically.
    ///
    /// # Errors
    /// If it cannot be written.
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
                        part.source.as_str(),
                        part.repository,
                        part.snapshot.map(|id| id.to_string()),
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

    /// Reports whether the ledger has an event of this run.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn has(&self, run: RunId) -> Result<bool, LedgerError> {
        self.connection()
            .query_row(
                "select exists (select 1 from event where run = ?1)",
                [run.to_string()],
                |row| row.get(0),
            )
            .map_err(self.failed("read"))
    }

    /// For each kind, source and repository, the newest part; with `good`, the newest with exit status 0.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn newest_parts(&self, good: bool) -> Result<Vec<PastPart>, LedgerError> {
        let connection = self.connection();
        // Early releases recorded an empty source for a snapshot that does not name it.
        let mut query = connection
            .prepare(
                "select e.kind, p.source, p.repository, p.snapshot, p.exit, p.finished, p.seconds, p.size_bytes, p.added_bytes,
                        p.consistent_at, max(p.rowid)
                 from part p join event e on e.id = p.event where p.source <> '' and (p.exit = 0 or not ?1)
                 group by e.kind, p.source, p.repository order by e.kind, p.source, p.repository",
            )
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map([good], |row| {
                let part = Part {
                    source: typed(row, 1)?,
                    repository: row.get(2)?,
                    snapshot: maybe_typed(row, 3)?,
                    exit: row.get(4)?,
                    finished: typed(row, 5)?,
                    seconds: row.get(6)?,
                    size_bytes: size(row, 7)?,
                    added_bytes: size(row, 8)?,
                    consistent_at: maybe_typed(row, 9)?,
                };
                Ok(PastPart { kind: row.get(0)?, part })
            })
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// For each kind and repository, the newest event, without its report; with `good`, the newest with exit status 0.
    ///
    /// # Errors
    /// If they cannot be read.
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
    /// If they cannot be read.
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
    /// If they cannot be read.
    pub fn runs(&self, kind: EventKind, repository: &str) -> Result<BTreeSet<RunId>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare(
                "select run from event e where kind = ?1
                 and (repository = ?2 or exists (select 1 from part p where p.event = e.id and p.repository = ?2))",
            )
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map([kind.word(), repository], |row| typed(row, 0))
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// The events that ended at or after a moment, oldest first, without their reports.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn events_since(&self, since: Timestamp) -> Result<Vec<PastEvent>, LedgerError> {
        // Times are text here, and those within one second do not sort, so we compare them ourselves.
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
                    run: typed(row, 0)?,
                    kind: row.get(1)?,
                    repository: row.get(2)?,
                    started: typed(row, 3)?,
                    finished: typed(row, 4)?,
                    exit: row.get(5)?,
                    report: serde_json::from_str(&report).map_err(|error| conversion(6, error))?,
                })
            })
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// Time at which work of a kind last ended with exit status 0, for a repository.
    ///
    /// # Errors
    /// If it cannot be read.
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

/// Parses the text in a column.
fn typed<T: FromStr<Err: Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    at: usize,
) -> rusqlite::Result<T> {
    row.get::<_, String>(at)?.parse().map_err(|error| conversion(at, error))
}

/// Parses the text in a column that may be null.
fn maybe_typed<T: FromStr<Err: Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    at: usize,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(at)?;
    text.map(|text| text.parse().map_err(|error| conversion(at, error))).transpose()
}

fn size(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0))
}

/// `SQLite` has no unsigned numbers.
fn stored(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn conversion(at: usize, error: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests;
