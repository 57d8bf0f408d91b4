//! The errors of the ledger.

use std::path::PathBuf;

/// The reason why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The state directory cannot be created or opened.
    #[error("{}: cannot make the directory of the ledger", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        cause: std::io::Error,
    },
    /// SQLite could not open, read or write the file.
    #[error("{}: the ledger cannot be {action}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// `opened`, `read`, `written`.
        action: &'static str,
        /// The error of SQLite.
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
