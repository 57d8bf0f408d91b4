//! Finds what only a replica has and a repair must not bring back.
//!
//! An index file of the replica may refer to packs that were pruned from the repository and later lost on the replica. In the
//! repository it would make other programs look for blobs in packs that do not exist, even if another pack has them too.
//! Likewise, a snapshot whose data the replica has lost cannot be restored anywhere.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    ObjectKind,
    inventory::{Inventory, Named},
    lost::Lost,
};
use crate::{
    CancellationToken,
    engine::repository::{Access, Repository, RepositoryError, SnapshotRepair, store::ObjectStore},
    ground::progress::ProgressSink,
};

/// A repository and its replica, as listed.
pub(super) struct Sides<'a> {
    pub(super) repository: &'a Arc<dyn ObjectStore>,
    pub(super) near: &'a Inventory,
    pub(super) replica: &'a Arc<dyn ObjectStore>,
    pub(super) far: &'a Inventory,
    /// Password of both; without it, no index can be read, and nothing is withheld.
    pub(super) access: Option<&'a Access>,
}

/// Objects of the replica that are not brought back.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    indexes: BTreeSet<String>,
    snapshots: BTreeSet<String>,
    /// Packs that were written to the replica after it was listed.
    pub(super) written_since: Vec<Named>,
    /// Number of index files that were not examined, because the password is missing or wrong.
    pub(super) unexamined: usize,
    /// The reasons, with what to do, as sentences. An index file that is superseded needs none.
    pub(super) why: Vec<String>,
}

impl Withheld {
    /// Examines what only the replica has. `damaged` are objects of the repository that do not match their names.
    ///
    /// # Errors
    /// If an index or a tree cannot be read, or the replica changes meanwhile.
    pub(super) async fn among(
        missing: &[Named],
        damaged: &[Named],
        sides: &Sides<'_>,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<Self, RepositoryError> {
        let of_kind = |kind| missing.iter().filter(move |object| object.kind == kind);
        let indexes: Vec<Named> = of_kind(ObjectKind::Index).cloned().collect();
        let listed = (sides.far, sides.near);
        let lost = Lost::search(sides.replica, sides.access, listed, &indexes).await?;
        let mut withheld = Self {
            written_since: lost.written_since.clone(),
            unexamined: lost.unread,
            ..Self::default()
        };
        let (Some(access), false) = (sides.access, lost.is_empty()) else { return Ok(withheld) };
        let reader = Repository::open_in(sides.replica.clone(), access).await?.without_locks();
        withheld.indexes.clone_from(lost.indexes());
        let snapshots: Vec<&Named> = of_kind(ObjectKind::Snapshot).collect();
        if !is_superseded(&reader, &lost, (&indexes, damaged), sides).await? {
            withheld.snapshots = snapshots.iter().map(|object| object.name.clone()).collect();
            withheld.why.push(format!(
                "{} index file(s) of {} refer to {} that neither repository has; they were not restored, nor were {} snapshot(s) that only {} has. \
                 Run `kaleem-dr repair index`, which indexes the restored packs, then this repair again",
                lost.indexes().len(),
                sides.replica.location(),
                lost.packs_in_words(),
                snapshots.len(),
                sides.replica.location()
            ));
        } else if !snapshots.is_empty() {
            withheld.examine(&reader, &snapshots, progress, cancel).await?;
        }
        Ok(withheld)
    }

    /// Withholds the snapshots of which the replica has lost data.
    async fn examine(
        &mut self,
        reader: &Repository,
        snapshots: &[&Named],
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<(), RepositoryError> {
        let lock = reader.lock_to_read(Duration::ZERO).await?;
        let readable: BTreeSet<String> =
            reader.snapshots().await?.iter().map(|snapshot| snapshot.id().to_string()).collect();
        // A damaged snapshot file is refused when it is brought.
        let wanted: Vec<String> = snapshots
            .iter()
            .map(|object| object.name.clone())
            .filter(|name| readable.contains(name))
            .collect();
        let plan = if wanted.is_empty() {
            Ok(SnapshotRepair::default())
        } else {
            reader.plan_snapshot_repair(&wanted, &lock, progress, cancel).await
        };
        lock.release().await?;
        match plan {
            Ok(plan) => {
                for lost in plan.lost {
                    self.snapshots.insert(lost.snapshot.to_string());
                    self.why.push(format!(
                        "snapshot {} was not restored, because {} has lost data of it: {}",
                        lost.snapshot.short(),
                        reader.location(),
                        lost.what
                    ));
                }
            }
            // Its index does not fit its packs, so some of what seems lost may exist.
            Err(RepositoryError::Guarded(why)) => {
                self.snapshots.extend(wanted);
                self.why.push(format!(
                    "the snapshots that only {} has were not restored: {why}",
                    reader.location()
                ));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reports whether an object is not to be brought back.
    pub(super) fn has(&self, object: &Named) -> bool {
        match object.kind {
            ObjectKind::Index => self.indexes.contains(&object.name),
            ObjectKind::Snapshot => self.snapshots.contains(&object.name),
            ObjectKind::Key | ObjectKind::Pack => false,
        }
    }
}

/// Reports whether other index files name every existing pack that the withheld ones name.
async fn is_superseded(
    reader: &Repository,
    lost: &Lost,
    (indexes, damaged): (&[Named], &[Named]),
    sides: &Sides<'_>,
) -> Result<bool, RepositoryError> {
    let is_held = |object: &&Named| lost.indexes().contains(&object.name);
    let keys = |held: bool| {
        indexes.iter().filter(move |object| is_held(object) == held).map(Named::key).collect()
    };
    let replica = &**sides.replica;
    let named = reader.indexed_packs(replica, keys(true)).await?.live;
    let mut known = reader.indexed_packs(replica, keys(false)).await?.live;
    let near: Vec<String> = sides
        .near
        .kind(ObjectKind::Index)
        .keys()
        .filter(|name| !damaged.iter().any(|object| object.name == **name))
        .map(|name| ObjectKind::Index.key(name))
        .collect();
    known.extend(reader.indexed_packs(&**sides.repository, near).await?.live);
    Ok(named.iter().all(|pack| known.contains(pack) || lost.has(pack)))
}
