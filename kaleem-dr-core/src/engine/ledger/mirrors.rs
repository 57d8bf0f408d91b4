//! The recorded content of each mirror, and the progress of its passes.
//!
//! A pass records objects before it transfers them and deletes the records after they have arrived, a few at a time: after a
//! kill, only those few are unproven. Snapshots, index files and keys are recorded by name, so that a later pass can distinguish
//! those deleted here from those that another program wrote there. Objects are named by their keys: `snapshots/ab…`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Ledger, LedgerError, conversion};
use crate::ground::SnapshotId;

/// Additions to the tables of version 1. An older program ignores them.
pub(super) const TABLES: &str = "
    create table if not exists mirror_object (
        mirror text not null,
        object text not null,
        primary key (mirror, object)
    ) without rowid;
    create table if not exists mirror (
        mirror text not null primary key,
        filled text,
        postponed_since text,
        postponed_passes integer not null default 0
    ) without rowid;
    create table if not exists removed_key (
        repository text not null,
        object text not null,
        primary key (repository, object)
    ) without rowid;
";

/// The recorded state of a mirror as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorRecord {
    /// Time at which it was first known to be a repository; `None` before that.
    pub filled: Option<Timestamp>,
    /// The passes in a row that postponed deletions.
    pub postponed: Option<Postponed>,
}

/// Deletions that have waited for more than one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Postponed {
    /// Time since which this has been the case.
    pub since: Timestamp,
    /// Number of passes in a row.
    pub passes: u32,
}

impl Ledger {
    /// The snapshots in a mirror that we brought there, by the names of their objects.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn mirrored(&self, mirror: &str) -> Result<BTreeSet<String>, LedgerError> {
        self.names("select snapshot from mirrored where mirror = ?1", mirror)
    }

    /// The index files and keys in a mirror that we brought there, or found on both sides.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn brought(&self, mirror: &str) -> Result<BTreeSet<String>, LedgerError> {
        self.names("select object from mirror_object where mirror = ?1", mirror)
    }

    /// Ids of the snapshots that a mirror contains completely: each of their objects was compared with its name on arrival.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn held(&self, mirror: &str) -> Result<BTreeSet<SnapshotId>, LedgerError> {
        // A name that is not an id belongs to no snapshot.
        let id = |object: &String| object.rsplit('/').next().unwrap_or_default().parse().ok();
        let begun: BTreeSet<SnapshotId> = self.begun(mirror)?.iter().filter_map(id).collect();
        let mirrored: BTreeSet<SnapshotId> = self.mirrored(mirror)?.iter().filter_map(id).collect();
        Ok(&mirrored - &begun)
    }

    /// Objects in transfer to a mirror when a pass was interrupted: what the mirror stores of them is unproven.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn begun(&self, mirror: &str) -> Result<BTreeSet<String>, LedgerError> {
        self.names("select object from begun where mirror = ?1", mirror)
    }

    /// Records objects before their transfer to a mirror: from now on they count as ours, and are unproven until
    /// [`Ledger::arrived`].
    ///
    /// # Errors
    /// If it cannot be written; then nothing is.
    pub fn begin(&self, mirror: &str, objects: &[String]) -> Result<(), LedgerError> {
        self.change(|change| {
            remember(change, mirror, objects)?;
            each(change, "insert or ignore into begun values (?1, ?2)", mirror, objects)
        })
    }

    /// Deletes the records of transfers that succeeded, or whose objects were found correct.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is.
    pub fn arrived(&self, mirror: &str, objects: &[String]) -> Result<(), LedgerError> {
        self.change(|change| {
            each(change, "delete from begun where mirror = ?1 and object = ?2", mirror, objects)
        })
    }

    /// Records objects found on both sides.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is.
    pub fn saw(&self, mirror: &str, objects: &[String]) -> Result<(), LedgerError> {
        self.change(|change| remember(change, mirror, objects))
    }

    /// Deletes the records of objects that are no longer on a mirror.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is.
    pub fn gone(&self, mirror: &str, objects: &[String]) -> Result<(), LedgerError> {
        let snapshots: Vec<String> =
            objects.iter().filter_map(|object| snapshot(object)).map(str::to_owned).collect();
        self.change(|change| {
            each(
                change,
                "delete from mirrored where mirror = ?1 and snapshot = ?2",
                mirror,
                &snapshots,
            )?;
            each(
                change,
                "delete from mirror_object where mirror = ?1 and object = ?2",
                mirror,
                objects,
            )?;
            each(change, "delete from begun where mirror = ?1 and object = ?2", mirror, objects)
        })
    }

    /// Returns the recorded state of a mirror as a whole.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn mirror_record(&self, mirror: &str) -> Result<MirrorRecord, LedgerError> {
        let record = self
            .connection()
            .query_row(
                "select filled, postponed_since, postponed_passes from mirror where mirror = ?1",
                [mirror],
                |row| {
                    let since = super::maybe_typed(row, 1)?;
                    let passes: i64 = row.get(2)?;
                    let passes = u32::try_from(passes).map_err(|error| conversion(2, error))?;
                    Ok(MirrorRecord {
                        filled: super::maybe_typed(row, 0)?,
                        postponed: since.map(|since| Postponed { since, passes }),
                    })
                },
            )
            .optional();
        Ok(record.map_err(self.failed("read"))?.unwrap_or_default())
    }

    /// Records that a mirror is a repository as of now. Only the first time counts.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_filled(&self, mirror: &str) -> Result<(), LedgerError> {
        let now = Timestamp::now().to_string();
        self.change(|change| {
            change
                .execute(
                    "insert into mirror (mirror, filled) values (?1, ?2)
                     on conflict (mirror) do update set filled = coalesce(filled, excluded.filled)",
                    params![mirror, now],
                )
                .map(drop)
        })
    }

    /// Counts a pass whose deletions were postponed, and returns for how long this has lasted.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn postpone(&self, mirror: &str) -> Result<Postponed, LedgerError> {
        let now = Timestamp::now();
        self.change(|change| {
            change
                .execute(
                    "insert into mirror (mirror, postponed_since, postponed_passes) values (?1, ?2, 1)
                     on conflict (mirror) do update set postponed_since = coalesce(postponed_since, excluded.postponed_since),
                     postponed_passes = postponed_passes + 1",
                    params![mirror, now.to_string()],
                )
                .map(drop)
        })?;
        Ok(self.mirror_record(mirror)?.postponed.unwrap_or(Postponed { since: now, passes: 1 }))
    }

    /// Records that no deletion is pending.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_not_postponed(&self, mirror: &str) -> Result<(), LedgerError> {
        self.change(|change| {
            change.execute("update mirror set postponed_since = null, postponed_passes = 0 where mirror = ?1", [mirror]).map(drop)
        })
    }

    /// Deletes all records of a mirror: the next pass is its first.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is.
    pub fn forget_mirror(&self, mirror: &str) -> Result<(), LedgerError> {
        self.change(|change| {
            for table in ["mirrored", "mirror_object", "begun", "mirror"] {
                change.execute(&format!("delete from {table} where mirror = ?1"), [mirror])?;
            }
            Ok(())
        })
    }

    /// Records that a key was removed from a repository on purpose: mirrors may delete it too.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note_removed_key(&self, repository: &str, key: &str) -> Result<(), LedgerError> {
        let object = [format!("keys/{key}")];
        self.change(|change| {
            each(change, "insert or ignore into removed_key values (?1, ?2)", repository, &object)
        })
    }

    /// The keys removed from a repository on purpose.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn removed_keys(&self, repository: &str) -> Result<BTreeSet<String>, LedgerError> {
        self.names("select object from removed_key where repository = ?1", repository)
    }

    fn names(&self, query: &str, of: &str) -> Result<BTreeSet<String>, LedgerError> {
        let connection = self.connection();
        let mut query = connection.prepare(query).map_err(self.failed("read"))?;
        let rows = query.query_map([of], |row| row.get(0)).map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    fn change(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), LedgerError> {
        let mut connection = self.connection();
        let changed = connection.transaction().and_then(|change| {
            work(&change)?;
            change.commit()
        });
        changed.map_err(self.failed("written"))
    }
}

fn snapshot(object: &str) -> Option<&str> {
    object.strip_prefix("snapshots/")
}

/// Packs are too numerous to record, and guards do not need their names.
fn remember(change: &Transaction<'_>, mirror: &str, objects: &[String]) -> rusqlite::Result<()> {
    let snapshots: Vec<String> =
        objects.iter().filter_map(|object| snapshot(object)).map(str::to_owned).collect();
    each(change, "insert or ignore into mirrored values (?1, ?2)", mirror, &snapshots)?;
    let others = |object: &&String| object.starts_with("index/") || object.starts_with("keys/");
    let others: Vec<String> = objects.iter().filter(others).cloned().collect();
    each(change, "insert or ignore into mirror_object values (?1, ?2)", mirror, &others)
}

fn each(
    change: &Transaction<'_>,
    statement: &str,
    of: &str,
    names: &[String],
) -> rusqlite::Result<()> {
    let mut statement = change.prepare(statement)?;
    names.iter().try_for_each(|name| statement.execute([of, name]).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        (home, ledger)
    }

    fn objects(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        objects(names).into_iter().collect()
    }

    #[test]
    fn each_mirror_has_a_record_of_its_own_and_packs_are_not_remembered() {
        let (_home, ledger) = ledger();
        let (ef, other) = (SnapshotId::of_test("ef"), SnapshotId::of_test("01"));
        let snapshot = format!("snapshots/{ef}");
        let all = objects(&["data/12/1234", "index/ab", "keys/cd", &snapshot]);
        ledger.begin("a", &all).unwrap();
        ledger.saw("b", &[format!("snapshots/{other}")]).unwrap();
        assert_eq!(ledger.mirrored("a").unwrap(), set(&[&ef.to_string()]));
        assert_eq!(ledger.brought("a").unwrap(), set(&["index/ab", "keys/cd"]));
        assert_eq!(ledger.begun("a").unwrap().len(), 4);
        assert!(ledger.held("a").unwrap().is_empty(), "it is on its way");
        ledger.arrived("a", &all).unwrap();
        assert!(ledger.begun("a").unwrap().is_empty());
        assert_eq!(ledger.held("a").unwrap(), BTreeSet::from([ef]));
        ledger.gone("a", &objects(&["index/ab", &snapshot])).unwrap();
        assert_eq!(
            (ledger.mirrored("a").unwrap(), ledger.brought("a").unwrap()),
            (set(&[]), set(&["keys/cd"]))
        );
        assert_eq!(ledger.held("b").unwrap(), BTreeSet::from([other]));
    }

    #[test]
    fn passes_whose_deletions_wait_are_counted_until_none_waits() {
        let (_home, ledger) = ledger();
        assert_eq!(ledger.mirror_record("a").unwrap(), MirrorRecord::default());
        ledger.set_filled("a").unwrap();
        let filled = ledger.mirror_record("a").unwrap().filled;
        ledger.set_filled("a").unwrap();
        assert!(
            filled.is_some() && ledger.mirror_record("a").unwrap().filled == filled,
            "the first time counts"
        );
        let first = ledger.postpone("a").unwrap();
        assert_eq!(
            (first.passes, ledger.postpone("a").unwrap()),
            (1, Postponed { passes: 2, ..first })
        );
        ledger.set_not_postponed("a").unwrap();
        assert_eq!(ledger.mirror_record("a").unwrap().postponed, None);
        ledger.forget_mirror("a").unwrap();
        assert_eq!(ledger.mirror_record("a").unwrap(), MirrorRecord::default());
    }

    #[test]
    fn a_key_is_removed_from_one_repository() {
        let (_home, ledger) = ledger();
        ledger.note_removed_key("/a", "12").unwrap();
        ledger.note_removed_key("/a", "12").unwrap();
        assert_eq!(ledger.removed_keys("/a").unwrap(), set(&["keys/12"]));
        assert!(ledger.removed_keys("/b").unwrap().is_empty());
    }
}
