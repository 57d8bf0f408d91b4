//! Records the progress of a pass for one mirror in the ledger. Does nothing without a ledger.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::inventory::{Inventory, Named, ObjectKind};
use crate::engine::ledger::{EventKind, Ledger, LedgerError, Postponed};

/// Number of objects recorded with one synced write. After a kill, at most about twice as many must be proven again.
pub(super) const AT_ONCE: usize = 64;

/// The kinds whose objects are recorded by name.
const REMEMBERED: [ObjectKind; 3] = [ObjectKind::Key, ObjectKind::Index, ObjectKind::Snapshot];

#[derive(Clone, Copy)]
pub(super) struct Journal<'a> {
    ledger: Option<&'a Ledger>,
    mirror: &'a str,
}

impl<'a> Journal<'a> {
    pub(super) fn new(ledger: Option<&'a Ledger>, mirror: &'a str) -> Self {
        Self { ledger, mirror }
    }

    /// Queries the ledger, if there is one.
    fn ask<T: Default>(
        &self,
        question: impl FnOnce(&Ledger, &str) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.ledger.map_or_else(|| Ok(T::default()), |ledger| question(ledger, self.mirror))
    }

    pub(super) fn mirrored(&self) -> Result<BTreeSet<String>, LedgerError> {
        self.ask(Ledger::mirrored)
    }

    pub(super) fn brought(&self) -> Result<BTreeSet<String>, LedgerError> {
        self.ask(Ledger::brought)
    }

    pub(super) fn begun(&self) -> Result<BTreeSet<String>, LedgerError> {
        self.ask(Ledger::begun)
    }

    /// Number of snapshots that the mirror contains completely.
    pub(super) fn held(&self) -> Result<usize, LedgerError> {
        self.ask(|ledger, mirror| Ok(ledger.held(mirror)?.len()))
    }

    /// Time at which the mirror first was a repository, or was last completed by a program that did not record that.
    pub(super) fn was_filled(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.ask(|ledger, mirror| match ledger.mirror_record(mirror)?.filled {
            Some(filled) => Ok(Some(filled)),
            None => ledger.last_success(EventKind::Replicate, mirror),
        })
    }

    pub(super) fn filled(&self) -> Result<(), LedgerError> {
        self.ask(Ledger::set_filled)
    }

    pub(super) fn forget(&self) -> Result<(), LedgerError> {
        self.ask(Ledger::forget_mirror)
    }

    pub(super) fn postpone(&self) -> Result<Option<Postponed>, LedgerError> {
        self.ask(|ledger, mirror| ledger.postpone(mirror).map(Some))
    }

    pub(super) fn not_postponed(&self) -> Result<(), LedgerError> {
        self.ask(|ledger, mirror| match ledger.mirror_record(mirror)?.postponed {
            Some(_) => ledger.set_not_postponed(mirror),
            None => Ok(()),
        })
    }

    /// Records objects that are on both sides and were not recorded yet. Each record is a synced write, so one without a change
    /// is skipped.
    pub(super) fn saw(&self, near: &Inventory, far: &Inventory) -> Result<(), LedgerError> {
        self.ask(|ledger, mirror| {
            let known = Self::known(ledger, mirror)?;
            let both =
                REMEMBERED.into_iter().flat_map(|kind| near.keys(kind)).filter(|key| far.has(key));
            let new: Vec<String> = both.filter(|key| !known.contains(key)).collect();
            if new.is_empty() { Ok(()) } else { ledger.saw(mirror, &new) }
        })
    }

    pub(super) fn begin(&self, objects: &[Named]) -> Result<(), LedgerError> {
        let keys: Vec<String> = objects.iter().map(Named::key).collect();
        self.ask(|ledger, mirror| ledger.begin(mirror, &keys))
    }

    pub(super) fn arrived(&self, keys: &[String]) -> Result<(), LedgerError> {
        if keys.is_empty() {
            Ok(())
        } else {
            self.ask(|ledger, mirror| ledger.arrived(mirror, keys))
        }
    }

    pub(super) fn gone(&self, objects: &[Named]) -> Result<(), LedgerError> {
        let keys: Vec<String> = objects.iter().map(Named::key).collect();
        if keys.is_empty() { Ok(()) } else { self.ask(|ledger, mirror| ledger.gone(mirror, &keys)) }
    }

    /// Deletes the records of objects that neither side had when they were listed: another host may have deleted them there.
    pub(super) fn forget_beyond(
        &self,
        near: &Inventory,
        far: &Inventory,
    ) -> Result<(), LedgerError> {
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

    pub(super) fn arrivals(&self) -> Arrivals<'a> {
        Arrivals { journal: *self, keys: Vec::new() }
    }
}

/// Objects that have arrived and whose records are not deleted yet.
pub(super) struct Arrivals<'a> {
    journal: Journal<'a>,
    keys: Vec<String>,
}

impl Arrivals<'_> {
    pub(super) fn note(&mut self, object: &Named) -> Result<(), LedgerError> {
        self.keys.push(object.key());
        if self.keys.len() < AT_ONCE { Ok(()) } else { self.flush() }
    }

    pub(super) fn flush(&mut self) -> Result<(), LedgerError> {
        self.journal.arrived(&self.keys)?;
        self.keys.clear();
        Ok(())
    }
}
