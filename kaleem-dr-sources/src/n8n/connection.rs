//! Opens SQLite databases, and converts errors.

use std::{path::Path, time::Duration};

use kaleem_dr_core::ground::SourceError;
use rusqlite::{Connection, OpenFlags};

/// Time limit for waiting for a lock.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, SourceError> {
    let database = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(failed(path, "be opened"))?;
    database.busy_timeout(PATIENCE).map_err(failed(path, "be opened"))?;
    Ok(database)
}

pub(super) fn failed(path: &Path, action: &str) -> impl FnOnce(rusqlite::Error) -> SourceError {
    let (server, action) = (path.display().to_string(), action.to_owned());
    move |error| SourceError::Server { server, action, cause: error.into() }
}
