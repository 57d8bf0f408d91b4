//! The slices of change logs that were read back from their repository and found equal to what was captured, and the moments to
//! which they extend recovery points.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::params;

use super::{Ledger, LedgerError, typed};
use crate::ground::SnapshotId;

/// The additions of version 4.
pub(super) const SLICES: &str = "
    create table slice (
        repository text not null,
        snapshot text not null,
        at text not null,
        primary key (repository, snapshot)
    ) without rowid;
    create table reach (
        repository text not null,
        snapshot text not null,
        time text not null,
        primary key (repository, snapshot)
    ) without rowid;
";

impl Ledger {
    /// Records that a slice was read back from a repository and is proven.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record_slice(
        &self,
        repository: &str,
        snapshot: SnapshotId,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.connection()
            .execute(
                "insert or replace into slice values (?1, ?2, ?3)",
                params![repository, snapshot.to_string(), at.to_string()],
            )
            .map(drop)
            .map_err(self.failed("written"))
    }

    /// The ids of the proven slices of a repository.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn proven_slices(&self, repository: &str) -> Result<BTreeSet<SnapshotId>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare("select snapshot from slice where repository = ?1")
            .map_err(self.failed("read"))?;
        let rows =
            query.query_map([repository], |row| typed(row, 0)).map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    /// Replaces what is known of a repository's recovery points: the moment to which proven slices extend each of these.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_reach(
        &self,
        repository: &str,
        reach: &BTreeMap<SnapshotId, Timestamp>,
    ) -> Result<(), LedgerError> {
        let mut connection = self.connection();
        let failed = || self.failed("written");
        let change = connection.transaction().map_err(failed())?;
        change.execute("delete from reach where repository = ?1", [repository]).map_err(failed())?;
        for (snapshot, time) in reach {
            change
                .execute(
                    "insert into reach values (?1, ?2, ?3)",
                    params![repository, snapshot.to_string(), time.to_string()],
                )
                .map_err(failed())?;
        }
        change.commit().map_err(failed())
    }

    /// For each recovery point of a repository that proven slices extend, by snapshot id, the moment that they reach.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn reach(&self, repository: &str) -> Result<BTreeMap<SnapshotId, Timestamp>, LedgerError> {
        let connection = self.connection();
        let mut query = connection
            .prepare("select snapshot, time from reach where repository = ?1")
            .map_err(self.failed("read"))?;
        let rows = query
            .query_map([repository], |row| Ok((typed(row, 0)?, typed(row, 1)?)))
            .map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_proven_in_the_repository_that_it_was_read_from() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let id: SnapshotId = "ab".repeat(32).parse().unwrap();
        ledger.record_slice("/local", id, Timestamp::now()).unwrap();
        ledger.record_slice("/local", id, Timestamp::now()).unwrap();
        assert_eq!(ledger.proven_slices("/local").unwrap(), BTreeSet::from([id]));
        assert!(ledger.proven_slices("s3:b").unwrap().is_empty());
        let now = Timestamp::now();
        ledger.set_reach("/local", &BTreeMap::from([(id, now)])).unwrap();
        assert_eq!(ledger.reach("/local").unwrap(), BTreeMap::from([(id, now)]));
        ledger.set_reach("/local", &BTreeMap::new()).unwrap();
        assert!(ledger.reach("/local").unwrap().is_empty());
    }
}
