//! Records the progress of a pass for one mirror, so that the next one distinguishes forgotten snapshots from those of other
//! programs, and knows which objects an interrupted pass began. Without the feature `ledger`, nothing is recorded.

#[cfg(feature = "ledger")]
mod recorded;
#[cfg(not(feature = "ledger"))]
mod unrecorded;

#[cfg(feature = "ledger")]
pub(super) use self::recorded::Journal;
#[cfg(not(feature = "ledger"))]
pub(super) use self::unrecorded::Journal;
use super::inventory::Named;
use crate::engine::repository::RepositoryError;

/// Number of objects recorded with one synced write. After a kill, at most about twice as many must be proven again.
pub(super) const AT_ONCE: usize = 64;

/// Objects that have arrived and whose records are not deleted yet.
pub(super) struct Arrivals<'a> {
    journal: Journal<'a>,
    keys: Vec<String>,
}

impl<'a> Arrivals<'a> {
    pub(super) fn new(journal: Journal<'a>) -> Self {
        Self { journal, keys: Vec::new() }
    }

    pub(super) fn note(&mut self, object: &Named) -> Result<(), RepositoryError> {
        self.keys.push(object.key());
        if self.keys.len() < AT_ONCE { Ok(()) } else { self.flush() }
    }

    pub(super) fn flush(&mut self) -> Result<(), RepositoryError> {
        self.journal.arrived(&self.keys)?;
        self.keys.clear();
        Ok(())
    }
}
