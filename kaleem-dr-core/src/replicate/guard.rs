//! What a mirror refuses to delete, and why. Every sentence says what to do.

use std::collections::BTreeSet;

use super::inventory::{Inventory, ObjectKind};

/// What stands against deletions on the far side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletions<'a> {
    /// Snapshots that we brought to the far side, or saw on both.
    pub(crate) known: BTreeSet<String>,
    /// Delete what somebody else put there too.
    pub(crate) foreign: bool,
    /// Largest share of snapshots, and of bytes in packs, that may go.
    pub(crate) max_percent: u8,
    /// An alarm that stands.
    pub(crate) alarm: Option<&'a str>,
}

impl Deletions<'_> {
    /// Why nothing may be deleted; `None` when it may.
    pub(crate) fn refusal(&self, near: &Inventory, far: &Inventory) -> Option<String> {
        let surplus = far.surplus(near, ObjectKind::Snapshot);
        let anything = ObjectKind::DELETED.iter().any(|&kind| !far.surplus(near, kind).is_empty());
        if !anything {
            return None;
        }
        let (near_count, far_count) = (near.kind(ObjectKind::Snapshot).len(), far.kind(ObjectKind::Snapshot).len());
        if near_count == 0 && far_count > 0 {
            return Some(format!(
                "the repository to replicate holds no snapshot, the mirror holds {far_count}: is it the right one, is its disk mounted? \
                 If it was lost, bring it back from the mirror: `kaleem-dr replicate --from MIRROR --to NEW`"
            ));
        }
        if near.kind(ObjectKind::Key).is_empty() {
            return Some("the repository to replicate has no keys; look at it with `kaleem-dr check` first".to_owned());
        }
        if let Some(alarm) = self.alarm {
            return Some(format!("an alarm stands: {alarm}. Look into it, then `kaleem-dr alarm acknowledge`"));
        }
        let foreign: Vec<&str> =
            surplus.iter().map(|object| object.name.as_str()).filter(|&name| !self.known.contains(name)).collect();
        if let (false, Some(first)) = (self.foreign, foreign.first()) {
            return Some(format!(
                "the mirror holds {} snapshot(s) that did not come from here ({}…): another program writes to it, or the record of \
                 earlier passes was lost. Bring them home with `kaleem-dr replicate --from MIRROR --to HOME --no-delete`, or say \
                 --delete-foreign to give them up",
                foreign.len(),
                &first[..8]
            ));
        }
        let share = |gone: u64, all: u64| u128::from(gone) * 100 > u128::from(all) * u128::from(self.max_percent);
        if share(surplus.len() as u64, far_count as u64) {
            return Some(format!(
                "{} of {far_count} snapshots would go from the mirror, more than {} %. If that is meant, say so: --max-delete 100",
                surplus.len(),
                self.max_percent
            ));
        }
        let gone: u64 = far.surplus(near, ObjectKind::Pack).iter().map(|object| object.size_bytes).sum();
        let all: u64 = far.kind(ObjectKind::Pack).values().sum();
        if share(gone, all) {
            return Some(format!(
                "{gone} of {all} bytes in packs would go from the mirror, more than {} %. After a large prune that can be right; \
                 then say --max-delete 100",
                self.max_percent
            ));
        }
        None
    }
}
