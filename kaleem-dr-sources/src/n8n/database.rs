//! Copies a live SQLite database, and checks a copy.

use std::{collections::BTreeMap, path::Path, time::Duration};

use kaleem_dr_core::{CancellationToken, ground::SourceError};
use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use super::{
    connection::{PATIENCE, failed, open},
    path_error, still,
};

/// Pages copied between two checks for cancellation.
const PAGES: i32 = 2048;
/// Limit for the number of violations listed one by one.
const VIOLATIONS_LISTED: usize = 10;

/// Version of the SQLite library that is compiled in.
#[must_use]
pub fn version() -> &'static str {
    rusqlite::version()
}

/// Copies a database that may be in use: its last committed state, including its write-ahead log.
/// Blocking.
///
/// The database is opened read-only, so that closing it does not checkpoint the log of a live
/// database. If no process has it open, or SQLite cannot open it where it is, its files are copied instead.
/// One read transaction keeps that state for the whole copy: without it, SQLite restarts
/// with every write by another process, and never finishes under load. In WAL mode writers do not
/// wait for us; with a rollback journal, they wait until the copy is complete. Pages keep their
/// positions, so that the next copy deduplicates against this one.
///
/// # Errors
/// If the database cannot be read or the copy cannot be written.
pub fn copy(from: &Path, to: &Path, cancel: &CancellationToken) -> Result<(), SourceError> {
    if still::is_still(from).map_err(path_error(from, "read"))? {
        return still::copy(from, to, cancel);
    }
    let live = open(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match live.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema") {
        // A log that nothing can be applied to or shared memory that nothing can be written to: n8n was killed.
        Err(error) if needs_writing(&error) => {
            drop(live);
            return still::copy(from, to, cancel);
        }
        begun => begun.map_err(failed(from, "begin a read transaction"))?,
    }
    let mut copy = Connection::open(to).map_err(failed(to, "create a copy of the database"))?;
    // An incomplete copy is discarded, so it needs no journal.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(failed(to, "take a copy"))?;
    let backup = Backup::new(&live, &mut copy).map_err(failed(from, "begin a copy"))?;
    loop {
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        match backup.step(PAGES).map_err(failed(from, "be copied"))? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // The read transaction already provides everything a step needs; only the copy can be
            // locked, and no other process uses it.
            _ => {
                return Err(SourceError::Unsupported(format!(
                    "{} was locked for longer than {PATIENCE:?}",
                    from.display()
                )));
            }
        }
    }
}

/// Reports whether SQLite cannot read a database without writing next to it.
fn needs_writing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
    )
}

/// The result of checking a database.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Number of rows by table.
    pub tables: BTreeMap<String, u64>,
    /// Messages of SQLite's integrity check, if it is not `ok`.
    pub broken: Vec<String>,
    /// Number of foreign keys without a target, if they were checked.
    pub dangling: u64,
    /// Number of credentials whose data do not look encrypted.
    pub unsealed: u64,
}

impl Health {
    /// Number of rows of a table, which may have a prefix set by the operator.
    #[must_use]
    pub fn rows(&self, table: &str) -> Option<u64> {
        self.tables.iter().find(|(name, _)| name.ends_with(table)).map(|(_, rows)| *rows)
    }
}

/// Counts the rows of a copy that no process writes to. Creates no files. Blocking.
///
/// # Errors
/// If it cannot be read.
pub fn count(path: &Path) -> Result<BTreeMap<String, u64>, SourceError> {
    tables(&quiet(path)?).map_err(failed(path, "be read"))
}

/// Checks a copy that no process writes to: SQLite's integrity check, foreign keys, row counts, and
/// whether credentials are encrypted. Blocking.
///
/// # Errors
/// If it cannot be opened at all. Defects are in the result.
pub fn check(path: &Path) -> Result<Health, SourceError> {
    let copy = quiet(path)?;
    let mut health = Health::default();
    match integrity(&copy) {
        Ok(broken) => health.broken = broken,
        Err(error) => health.broken.push(error.to_string()),
    }
    if health.broken.is_empty() {
        health.tables = tables(&copy).map_err(failed(path, "be read"))?;
        health.dangling = dangling(&copy).map_err(failed(path, "be read"))?;
        if let Some(name) = health.tables.keys().find(|name| name.ends_with("credentials_entity")) {
            // CryptoJS writes base64 of `Salted__`, a salt and the ciphertext.
            let query =
                format!("SELECT count(*) FROM {} WHERE data NOT LIKE 'U2FsdGVkX1%'", quoted(name));
            health.unsealed = number(&copy, &query).map_err(failed(path, "be read"))?;
        }
    }
    Ok(health)
}

/// Checkpoints the write-ahead log of a copy that was made file by file. Blocking.
///
/// # Errors
/// If SQLite fails.
pub fn fold(path: &Path) -> Result<(), SourceError> {
    let copy = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .map_err(failed(path, "checkpoint its write-ahead log"))
}

/// Makes sure that no other connection to a database is open, and closes it as the last connection,
/// which checkpoints its log. Blocking.
///
/// # Errors
/// [`SourceError::Refused`] if it is in use.
pub fn take_over(path: &Path) -> Result<(), SourceError> {
    let database = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(Duration::from_secs(1)).map_err(failed(path, "be opened"))?;
    let exclusive = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT";
    match database.execute_batch(exclusive) {
        Ok(()) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Err(SourceError::Refused(format!(
                "{} is in use: stop n8n before you restore in place, or restore to another directory with --to DIRECTORY",
                path.display()
            )))
        }
        // A damaged database may be replaced.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the database to be replaced cannot be read");
            Ok(())
        }
    }
}

/// Opens a file that does not change: without locks, and without creating files.
pub(super) fn quiet(path: &Path) -> Result<Connection, SourceError> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            other => uri.extend(["%".to_owned(), format!("{other:02X}")]),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags).map_err(failed(path, "be opened"))
}

fn tables(database: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let names: Vec<String> = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let count = |name: &String| number(database, &format!("SELECT count(*) FROM {}", quoted(name)));
    names.into_iter().map(|name| Ok((name.clone(), count(&name)?))).collect()
}

fn integrity(database: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut said: Vec<String> = database
        .prepare(&format!("PRAGMA integrity_check({VIOLATIONS_LISTED})"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    said.retain(|line| line != "ok");
    Ok(said)
}

fn dangling(database: &Connection) -> rusqlite::Result<u64> {
    number(database, "SELECT count(*) FROM pragma_foreign_key_check")
}

/// Runs a query for a count, which is never negative.
fn number(database: &Connection, query: &str) -> rusqlite::Result<u64> {
    database.query_row(query, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
