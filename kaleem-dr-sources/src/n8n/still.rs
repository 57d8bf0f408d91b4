//! Copies a database that no process has open, file by file: SQLite itself would create files next to it.
//!
//! To read a database in WAL mode, SQLite needs its shared memory (`-shm`). If there is none, it creates it next to the database,
//! which fails on a read-only file system and otherwise leaves two files behind. As long as no process has the database open, its
//! files do not change, and a copy of them is consistent. So they are copied, and compared with what they were before.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use kaleem_dr_core::{CancellationToken, ground::SourceError};
use rusqlite::OpenFlags;

use super::{
    connection::{failed, open},
    path_error,
};

/// Attempts to copy files that change meanwhile.
const ATTEMPTS: usize = 3;
/// Bytes copied between two checks for cancellation.
const PIECE_BYTES: usize = 1 << 20;
/// The write-ahead log and the rollback journal, which belong to the database's content.
const LOGS: [&str; 2] = ["-wal", "-journal"];
/// The positions of the format's versions in a database file, and their value in WAL mode (SQLite's file format, 1.3.3).
const VERSIONS: std::ops::Range<usize> = 18..20;
const WAL: u8 = 2;

/// Reports whether a database is in WAL mode and no process has it open: an open one has shared memory.
pub(super) fn is_still(database: &Path) -> io::Result<bool> {
    let mut header = [0; VERSIONS.end];
    match File::open(database)?.read_exact(&mut header) {
        Ok(()) => {}
        // An empty file is an empty database.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    Ok(header[VERSIONS] == [WAL, WAL] && !with_suffix(database, "-shm").try_exists()?)
}

/// Copies a database and its logs, and applies the logs to the copy. Blocking.
///
/// # Errors
/// [`SourceError::Unsupported`] if its files changed during each attempt.
pub(super) fn copy(from: &Path, to: &Path, cancel: &CancellationToken) -> Result<(), SourceError> {
    let failed_read = |cause| path_error(from, "read")(cause);
    for _ in 0..ATTEMPTS {
        let before = state(from).map_err(failed_read)?;
        copy_file(from, to, cancel)?;
        for log in LOGS {
            let (from, to) = (with_suffix(from, log), with_suffix(to, log));
            if from.try_exists().map_err(path_error(&from, "find"))? {
                copy_file(&from, &to, cancel)?;
            }
        }
        if state(from).map_err(failed_read)? == before {
            return apply_logs(to);
        }
        for log in LOGS {
            match fs::remove_file(with_suffix(to, log)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(path_error(to, "remove the logs of")(error));
                }
                _ => {}
            }
        }
    }
    Err(SourceError::Unsupported(format!(
        "{} changed while its files were copied: SQLite cannot open it where it is, because its directory cannot be written",
        from.display()
    )))
}

fn copy_file(from: &Path, to: &Path, cancel: &CancellationToken) -> Result<(), SourceError> {
    let mut input = File::open(from).map_err(path_error(from, "read"))?;
    let mut output = File::create(to).map_err(path_error(to, "create a copy of the database"))?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        let read = input.read(&mut piece).map_err(path_error(from, "read"))?;
        if read == 0 {
            return Ok(());
        }
        output.write_all(&piece[..read]).map_err(path_error(to, "write"))?;
    }
}

/// Opens the copy for writing, so that SQLite applies the logs and removes them.
fn apply_logs(copy: &Path) -> Result<(), SourceError> {
    let database = open(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .and_then(|()| database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
        .map_err(failed(copy, "apply its logs"))
}

/// A file, as far as a change of its content shows in it.
#[derive(PartialEq, Eq)]
struct FileState {
    inode: u64,
    size_bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

/// The properties of its files that change when a process opens or writes the database.
fn state(database: &Path) -> io::Result<Vec<Option<FileState>>> {
    let of = |meta: Metadata| FileState {
        inode: meta.ino(),
        size_bytes: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    };
    let names = [database.to_path_buf()]
        .into_iter()
        .chain(["-wal", "-journal", "-shm"].map(|suffix| with_suffix(database, suffix)));
    names
        .map(|path| match fs::metadata(path) {
            Ok(meta) => Ok(Some(of(meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .collect()
}

fn with_suffix(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn only_a_wal_database_without_shared_memory_is_still() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.sqlite");
        let live = Connection::open(&path).unwrap();
        live.execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(!is_still(&path).unwrap(), "a rollback journal needs no shared memory");
        live.execute_batch("PRAGMA journal_mode = WAL; INSERT INTO t VALUES (1)").unwrap();
        assert!(!is_still(&path).unwrap(), "it is open");
        drop(live);
        assert!(is_still(&path).unwrap());
    }

    #[test]
    fn a_log_that_a_crash_left_is_in_the_copy_and_stays_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (live_path, path) = (directory.path().join("live"), directory.path().join("crashed"));
        let live = Connection::open(&live_path).unwrap();
        live.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)",
        )
        .unwrap();
        for suffix in ["", "-wal"] {
            fs::copy(with_suffix(&live_path, suffix), with_suffix(&path, suffix)).unwrap();
        }
        let copied = directory.path().join("copy");
        copy(&path, &copied, &CancellationToken::new()).unwrap();
        let rows: i64 = Connection::open(&copied)
            .unwrap()
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 2);
        assert!(with_suffix(&path, "-wal").exists() && !with_suffix(&path, "-shm").exists());
        assert!(!with_suffix(&copied, "-wal").exists());
    }
}
