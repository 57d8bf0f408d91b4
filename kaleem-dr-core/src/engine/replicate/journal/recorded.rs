//! The journal in the ledger. Does nothing if the job has no ledger.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::{
    MirrorJob,
    inventory::{Inventory, Named, ObjectKind},
};
use crate::engine::{
    ledger::{EventKind, Ledger, LedgerError, Postponed},
    repository::RepositoryError,
};

/// The kinds whose objects are recorded by name.
const REMEMBERED: [ObjectKind; 3] = [ObjectKind::Key, ObjectKind::Index, ObjectKind::Snapshot];

#[derive(Clone, Copy)]
pub(in super::super) struct Journal<'a> {
    ledger: Option<&'a Ledger>,
    mirror: &'a str,
}

impl<'a> Journal<'a> {
    /// The journal of a job's mirror, by the mirror's name without credentials.
    pub(in super::super) fn of(job: &'a MirrorJob, mirror: &'a str) -> Self {
        Self { ledger: job.ledger.as_ref(), mirror }
    }

    /// The journal of a mirror in a ledger.
    pub(in super::super) fn in_ledger(ledger: &'a Ledger, mirror: &'a str) -> Self {
        Self { ledger: Some(ledger), mirror }
    }

    /// Queries the ledger, if there is one.
    fn ask<T: Default>(
        &self,
        question: impl FnOnce(&Ledger, &str) -> Result<T, LedgerError>,
    ) -> Result<T, RepositoryError> {
        let Some(ledger) = self.ledger else { return Ok(T::default()) };
        Ok(question(ledger, self.mirror)?)
    }

    /// The keys that were removed from a repository on purpose.
    pub(in super::super) fn removed_keys(
        &self,
        repository: &str,
    ) -> Result<BTreeSet<String>, RepositoryError> {
        self.ask(|ledger, _| ledger.removed_keys(repository))
    }

    pub(in super::super) fn mirrored(&self) -> Result<BTreeSet<String>, RepositoryError> {
        self.ask(Ledger::mirrored)
    }

    pub(in super::super) fn brought(&self) -> Result<BTreeSet<String>, RepositoryError> {
        self.ask(Ledger::brought)
    }

    pub(in super::super) fn begun(&self) -> Result<BTreeSet<String>, RepositoryError> {
        self.ask(Ledger::begun)
    }

    /// Number of snapshots that the mirror contains completely.
    pub(in super::super) fn held(&self) -> Result<usize, RepositoryError> {
        self.ask(|ledger, mirror| Ok(ledger.held(mirror)?.len()))
    }

    /// Time at which the mirror first was a repository, or was last completed by a program that did not record that.
    pub(in super::super) fn was_filled(&self) -> Result<Option<Timestamp>, RepositoryError> {
        self.ask(|ledger, mirror| match ledger.mirror_record(mirror)?.filled {
            Some(filled) => Ok(Some(filled)),
            None => ledger.last_success(EventKind::Replicate, mirror),
        })
    }

    pub(in super::super) fn filled(&self) -> Result<(), RepositoryError> {
        self.ask(Ledger::set_filled)
    }

    pub(in super::super) fn forget(&self) -> Result<(), RepositoryError> {
        self.ask(Ledger::forget_mirror)
    }

    /// Counts a pass whose deletions wait. Returns the start of the first such pass in a row, and their number.
    pub(in super::super) fn postpone(&self) -> Result<Option<(Timestamp, u32)>, RepositoryError> {
        let counted = self.ask(|ledger, mirror| ledger.postpone(mirror).map(Some))?;
        Ok(counted.map(|Postponed { since, passes, .. }| (since, passes)))
    }

    pub(in super::super) fn not_postponed(&self) -> Result<(), RepositoryError> {
        self.ask(|ledger, mirror| match ledger.mirror_record(mirror)?.postponed {
            Some(_) => ledger.set_not_postponed(mirror),
            None => Ok(()),
        })
    }

    /// Records objects that are on both sides and were not recorded yet. Each record is a synced write, so one without a change
    /// is skipped.
    pub(in super::super) fn saw(
        &self,
        near: &Inventory,
        far: &Inventory,
    ) -> Result<(), RepositoryError> {
        self.ask(|ledger, mirror| {
            let known = Self::known(ledger, mirror)?;
            let both =
                REMEMBERED.into_iter().flat_map(|kind| near.keys(kind)).filter(|key| far.has(key));
            let new: Vec<String> = both.filter(|key| !known.contains(key)).collect();
            if new.is_empty() { Ok(()) } else { ledger.saw(mirror, &new) }
        })
    }

    pub(in super::super) fn begin(&self, objects: &[Named]) -> Result<(), RepositoryError> {
        let keys: Vec<String> = objects.iter().map(Named::key).collect();
        self.ask(|ledger, mirror| ledger.begin(mirror, &keys))
    }

    pub(in super::super) fn arrived(&self, keys: &[String]) -> Result<(), RepositoryError> {
        if keys.is_empty() {
            Ok(())
        } else {
            self.ask(|ledger, mirror| ledger.arrived(mirror, keys))
        }
    }

    pub(in super::super) fn gone(&self, objects: &[Named]) -> Result<(), RepositoryError> {
        let keys: Vec<String> = objects.iter().map(Named::key).collect();
        if keys.is_empty() { Ok(()) } else { self.ask(|ledger, mirror| ledger.gone(mirror, &keys)) }
    }

    /// Deletes the records of objects that neither side had when they were listed: another host may have deleted them there.
    pub(in super::super) fn forget_beyond(
        &self,
        near: &Inventory,
        far: &Inventory,
    ) -> Result<(), RepositoryError> {
        self.ask(|ledger, mirror| {
            let known = Self::known(ledger, mirror)?.into_iter().chain(ledger.begun(mirror)?);
            let stale: Vec<String> = known.filter(|key| !near.has(key) && !far.has(key)).collect();
            if stale.is_empty() { Ok(()) } else { ledger.gone(mirror, &stale) }
        })
    }

    fn known(ledger: &Ledger, mirror: &str) -> Result<BTreeSet<String>, LedgerError> {
        let mut known = ledger.brought(mirror)?;
        let snapshots = ledger.mirrored(mirror)?;
        known.extend(snapshots.iter().map(|name| ObjectKind::Snapshot.key(name)));
        Ok(known)
    }
}
