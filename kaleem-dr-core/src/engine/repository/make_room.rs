//! Frees space on a full disk, where not even a new index file can be written.
//!
//! Works in this order, each step only if there is space for it: first packs that no index names, then index files that name only
//! garbage, with their packs, and last the garbage in the other index files, which are rewritten. Only if that write fails for
//! lack of space are the packs removed before it; an interrupted run then leaves an index that names packs that no snapshot
//! needs, which the next backup or `repair index` corrects.

use std::{collections::HashSet, sync::Arc};

use rustic_core::{Id, repofile::IndexPack};

use super::{
    Repository, RepositoryError,
    backend::Gate,
    lock::Lock,
    reach::Reach,
    silent,
    survey::{Survey, pack_key},
};
use crate::{
    CancellationToken,
    ground::progress::{ProgressSink, Unit},
};

/// The packs removed to free space.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Freed {
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
}

impl Repository {
    /// Removes packs of which no snapshot needs any blob. The lock must be exclusive, or the disk so full that no program can
    /// write.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] if a snapshot has lost data; other errors if something cannot be removed.
    pub(crate) async fn make_room(
        &self,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<Freed, RepositoryError> {
        let survey = self.survey(cancel).await?;
        survey.guard(&self.location())?;
        let used = self.used_packs(lock, progress, cancel).await?;
        let mut freed = Freed::default();
        for (id, size) in &survey.unindexed {
            self.free(id, *size, lock, &mut freed).await?;
        }
        let is_garbage = |id: &Id| !used.contains(id);
        let (only, partly): (Vec<_>, Vec<_>) = survey
            .files
            .iter()
            .filter(|(_, packs)| packs.iter().any(is_garbage))
            .partition(|(_, packs)| packs.iter().all(is_garbage));
        for (key, packs) in only {
            self.replace_index(None, std::slice::from_ref(key), lock).await?;
            self.free_all(packs, &survey, lock, &mut freed).await?;
        }
        for (key, packs) in partly {
            let garbage: Vec<Id> = packs.iter().filter(|id| is_garbage(id)).copied().collect();
            match self.without(key, &used, lock).await {
                Ok(()) => self.free_all(&garbage, &survey, lock, &mut freed).await?,
                Err(error) if error.is_full() => {
                    self.free_all(&garbage, &survey, lock, &mut freed).await?;
                    self.without(key, &used, lock).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(freed)
    }

    /// Rewrites an index file with the used packs only.
    async fn without(
        &self,
        key: &String,
        used: &HashSet<Id>,
        lock: &Lock,
    ) -> Result<(), RepositoryError> {
        let Some(Ok(mut file)) = self.read_index(key).await? else { return Ok(()) };
        let is_used = |pack: &IndexPack| used.contains(&pack.id.into_inner());
        file.packs.retain(is_used);
        file.packs_to_delete.retain(is_used);
        file.supersedes = None;
        self.replace_index(Some(file), std::slice::from_ref(key), lock).await
    }

    async fn free_all(
        &self,
        packs: &[Id],
        survey: &Survey,
        lock: &Lock,
        freed: &mut Freed,
    ) -> Result<(), RepositoryError> {
        for id in packs.iter().filter(|id| !survey.lost.contains_key(*id)) {
            let size = survey.packs.get(id).map_or(0, |pack| u64::from(pack.size_bytes));
            self.free(id, size, lock, freed).await?;
        }
        Ok(())
    }

    async fn free(
        &self,
        id: &Id,
        size: u64,
        lock: &Lock,
        freed: &mut Freed,
    ) -> Result<(), RepositoryError> {
        lock.confirm().await?;
        self.0.store.delete(&pack_key(id)).await?;
        freed.packs += 1;
        freed.bytes += size;
        Ok(())
    }

    /// The packs that snapshots need.
    async fn used_packs(
        &self,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<HashSet<Id>, RepositoryError> {
        let snapshots = self.snapshot_listing().await?.snapshots;
        let bar =
            progress.begin("finding what is in use", Unit::Items, Some(snapshots.len() as u64));
        let stop = cancel.clone();
        self.guarded(lock, cancel, move |repository, _| {
            let engine = repository.without_cache().indexed(Gate::open(stop.clone()), &silent())?;
            let mut reach = Reach::collecting();
            for snapshot in snapshots {
                let lost = reach.walk(&engine, snapshot.file.tree, &|_| false, &stop)?;
                if !lost.is_empty() {
                    return Err(RepositoryError::Guarded(format!(
                        "snapshot {} has lost data ({lost}), so it is unknown what is in use; run `kaleem-dr check`",
                        snapshot.id().short()
                    )));
                }
                bar.advance(1);
            }
            bar.finish();
            Ok(reach.into_packs())
        })
        .await
    }
}
