//! The guards against deletions in a mirror. Every refusal includes advice.

use std::collections::BTreeSet;

use super::inventory::{Inventory, Named, ObjectKind};
use crate::engine::repository::IndexedPacks;

/// Limit for the names listed in a message; the rest is counted.
const LISTED: usize = 3;

/// The conditions for deletions on the far side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletions<'a> {
    /// Names of snapshots that we copied to the far side, or found on both.
    pub(crate) known: BTreeSet<String>,
    /// Keys of index files and key files that we copied to the far side, or found on both.
    pub(crate) brought: BTreeSet<String>,
    /// Also delete what other programs wrote there.
    pub(crate) foreign: bool,
    /// Limit for the deleted share of snapshots, and of bytes in packs, in percent.
    pub(crate) max_percent: u8,
    pub(crate) alarm: Option<&'a str>,
}

/// The part of index files that concerns deletions.
#[derive(Clone, Debug)]
pub(crate) struct Indexes {
    /// All index files of the near side.
    pub(crate) near: IndexedPacks,
    /// Index files that only the far side has, by name; `None` for one that is damaged there.
    pub(crate) only_far: Vec<(String, Option<IndexedPacks>)>,
}

impl Deletions<'_> {
    /// Returns the reason, as far as listings show, why nothing may be deleted; `None` if deletions are allowed. `surplus` is
    /// what would be deleted.
    pub(crate) fn refusal(
        &self,
        near: &Inventory,
        far: &Inventory,
        surplus: &[Named],
    ) -> Option<String> {
        if surplus.is_empty() {
            return None;
        }
        if let Some(emptied) = emptied(near, far) {
            return Some(emptied);
        }
        if let Some(alarm) = self.alarm {
            return Some(format!(
                "an alarm is not acknowledged: {alarm}. Look into it, then `kaleem-dr alarm acknowledge`"
            ));
        }
        let gone = |kind| surplus.iter().filter(move |object| object.kind == kind);
        let snapshots: Vec<&str> =
            gone(ObjectKind::Snapshot).map(|object| object.name.as_str()).collect();
        let foreign: Vec<&str> =
            snapshots.iter().copied().filter(|&name| !self.known.contains(name)).collect();
        if let (false, Some(first)) = (self.foreign, foreign.first()) {
            return Some(format!(
                "the mirror holds {} snapshot(s) that did not come from here ({}…): another program writes to it, or the record of \
                 earlier passes was lost. Copy them back with `kaleem-dr replicate --from MIRROR --to HOME --no-delete`, or use \
                 --delete-foreign to delete them",
                foreign.len(),
                &first[..8]
            ));
        }
        let share = |gone: u64, all: u64| {
            u128::from(gone) * 100 > u128::from(all) * u128::from(self.max_percent)
        };
        let far_count = far.kind(ObjectKind::Snapshot).len();
        if share(snapshots.len() as u64, far_count as u64) {
            return Some(format!(
                "{} of {far_count} snapshots would be deleted from the mirror, more than {} %. If this is intended, use --max-delete 100",
                snapshots.len(),
                self.max_percent
            ));
        }
        let gone: u64 = gone(ObjectKind::Pack).map(|object| object.size_bytes).sum();
        let all: u64 = far.kind(ObjectKind::Pack).values().sum();
        if share(gone, all) {
            return Some(format!(
                "{gone} of {all} bytes in packs would be deleted from the mirror, more than {} %. After a large prune this can be right; \
                 then use --max-delete 100",
                self.max_percent
            ));
        }
        None
    }

    /// Returns the reason, according to index files, why nothing may be deleted. A prune leaves the near side with an index of
    /// exactly the packs that it has; any other pack missing there was lost.
    pub(crate) fn refusal_by_index(
        &self,
        near: &Inventory,
        surplus: &[Named],
        indexes: &Indexes,
    ) -> Option<String> {
        const BACK: &str = "`kaleem-dr repair --from MIRROR --missing` brings back what was lost";
        let packs = near.kind(ObjectKind::Pack);
        let lost: Vec<&str> = (surplus.iter())
            .filter(|object| {
                object.kind == ObjectKind::Pack && indexes.near.live.contains(&object.name)
            })
            .map(|object| object.name.as_str())
            .collect();
        if !lost.is_empty() {
            return Some(format!(
                "{} pack(s) that the repository's own index names are gone from it ({}); the mirror still has them. {BACK}",
                lost.len(),
                listed(&lost)
            ));
        }
        for (index, named) in &indexes.only_far {
            let Some(named) = named else {
                let is_known = self.foreign || self.brought.contains(&ObjectKind::Index.key(index));
                if let Some(why) = refusal_of_damaged(index, is_known, packs.keys(), &indexes.near)
                {
                    return Some(why);
                }
                continue;
            };
            let unnamed = |pack: &&String| packs.contains_key(*pack) && !indexes.near.names(pack);
            let orphans: Vec<&str> =
                named.live.iter().filter(unnamed).map(String::as_str).collect();
            if !orphans.is_empty() {
                return Some(format!(
                    "index file {}… is gone from the repository, and {} of the packs that it names are in no other index there ({}): it \
                     was lost, or a prune was cut short. {BACK}; `kaleem-dr repair index` makes a new index of what is there; after a prune that \
                     was cut short, `kaleem-dr prune` finishes it",
                    &index[..8],
                    orphans.len(),
                    listed(&orphans)
                ));
            }
            let is_known = self.foreign || self.brought.contains(&ObjectKind::Index.key(index));
            let others = |pack: &&String| !packs.contains_key(*pack);
            let others: Vec<&str> = named.live.iter().filter(others).map(String::as_str).collect();
            if !is_known && !others.is_empty() {
                return Some(format!(
                    "index file {}… on the mirror did not come from here and names {} pack(s) that are not here ({}): another host or \
                     program writes to the mirror. If another host replicates there too, its next pass deletes what it pruned; \
                     --delete-foreign deletes it now",
                    &index[..8],
                    others.len(),
                    listed(&others)
                ));
            }
        }
        None
    }
}

/// Returns the reason why an index file that is damaged on the far side, and no longer exists on the near one, is not deleted.
/// The packs that it named cannot be determined. It is unused if we brought it there and the near side's index names every
/// existing pack.
fn refusal_of_damaged<'a>(
    index: &str,
    is_known: bool,
    mut near_packs: impl Iterator<Item = &'a String>,
    near: &IndexedPacks,
) -> Option<String> {
    let index = &index[..8];
    if !is_known {
        return Some(format!(
            "index file {index}… on the mirror is damaged and did not come from here: check the mirror with `kaleem-dr check`, or use \
             --delete-foreign to delete it"
        ));
    }
    near_packs.any(|pack| !near.names(pack)).then(|| {
        format!(
            "index file {index}… is gone from the repository and damaged on the mirror, and the repository holds packs that no index names: \
             they may be lost data. `kaleem-dr repair index` takes them in, `kaleem-dr prune` removes what nothing needs"
        )
    })
}

/// Reports whether the near side has lost a whole kind of objects. No flag makes that a reason to delete.
fn emptied(near: &Inventory, far: &Inventory) -> Option<String> {
    let count = |of: &Inventory, kind| of.kind(kind).len();
    let is_emptied = |kind| count(near, kind) == 0 && count(far, kind) > 0;
    if is_emptied(ObjectKind::Snapshot) {
        return Some(format!(
            "the repository to replicate holds no snapshot, the mirror holds {}: is it the right one, is its disk mounted? \
             If it was lost, bring it back from the mirror: `kaleem-dr replicate --from MIRROR --to NEW`",
            count(far, ObjectKind::Snapshot)
        ));
    }
    if is_emptied(ObjectKind::Key) {
        return Some(
            "the repository to replicate has no keys; `kaleem-dr repair --from MIRROR --missing` brings them back".to_owned(),
        );
    }
    if is_emptied(ObjectKind::Pack) {
        return Some(format!(
            "the repository to replicate holds snapshots and no pack, the mirror holds {} packs: they were lost. `kaleem-dr repair --from \
             MIRROR --missing` brings them back",
            count(far, ObjectKind::Pack)
        ));
    }
    is_emptied(ObjectKind::Index).then(|| {
        format!(
            "the repository to replicate has no index file, the mirror has {}: they were lost. `kaleem-dr repair --from MIRROR --missing` \
             brings them back, `kaleem-dr repair index` makes new ones",
            count(far, ObjectKind::Index)
        )
    })
}

fn listed(names: &[&str]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    let listed: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("{}…", name.get(..8).unwrap_or(name)))
        .collect();
    format!("{}{more}", listed.join(", "))
}
