//! The failures that recipients were notified of.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::{Ledger, LedgerError, typed};

/// Additions to the tables of version 1. An older program ignores them.
pub(super) const TABLES: &str = "
    create table if not exists notified (
        recipient text not null,
        job text not null,
        failure text not null,
        at text not null,
        primary key (recipient, job)
    ) without rowid;
";

impl Ledger {
    /// The failure of a kind of job that a recipient was last notified of, and the time; `None` if the job has ended well since.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn notified(
        &self,
        recipient: &str,
        job: &str,
    ) -> Result<Option<(String, Timestamp)>, LedgerError> {
        self.connection()
            .query_row(
                "select failure, at from notified where recipient = ?1 and job = ?2",
                params![recipient, job],
                |row| Ok((row.get(0)?, typed(row, 1)?)),
            )
            .optional()
            .map_err(self.failed("read"))
    }

    /// Records that a recipient was notified of a failure.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record_notified(
        &self,
        recipient: &str,
        (job, failure): (&str, &str),
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.connection()
            .execute(
                "insert or replace into notified (recipient, job, failure, at) values (?1, ?2, ?3, ?4)",
                params![recipient, job, failure, at.to_string()],
            )
            .map(drop)
            .map_err(self.failed("written"))
    }

    /// Forgets the failures of a kind of job: it ended well.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn clear_notified(&self, job: &str) -> Result<(), LedgerError> {
        self.connection()
            .execute("delete from notified where job = ?1", [job])
            .map(drop)
            .map_err(self.failed("written"))
    }
}
