//! Reads a part of the packs, or all of them, completely.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use rand::seq::SliceRandom as _;
use rustic_core::{Id, repofile::IndexPack};

use super::{
    super::{
        Repository, RepositoryError,
        lock::Lock,
        survey::{Survey, pack_key},
        whole_pack::damage_of,
    },
    ReadData,
};
use crate::{
    CancellationToken,
    ground::progress::{ProgressSink, StageProgress, Unit},
};

/// Number of packs read in parallel.
const AT_ONCE: usize = 3;

impl Repository {
    /// Reads packs, and returns one sentence for each damaged one.
    pub(super) async fn damaged_packs(
        &self,
        read: ReadData,
        survey: &Survey,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, RepositoryError> {
        let wanted = chosen(read, survey);
        let total = wanted.iter().map(|id| u64::from(survey.packs[id].size_bytes)).sum();
        let bar = progress.begin("reading packs", Unit::Bytes, Some(total));
        let mut seen = HashSet::new();
        let mut damaged = Vec::new();
        // Only one index file at a time is in memory: it locates the blobs of its packs.
        for (key, packs) in &survey.files {
            if !packs.iter().any(|pack| wanted.contains(pack)) {
                continue;
            }
            let Some(Ok(file)) = self.read_index(key).await? else { continue };
            let packs = file.packs.into_iter().chain(file.packs_to_delete);
            let packs: Vec<IndexPack> = packs
                .filter(|pack| {
                    wanted.contains(&pack.id.into_inner()) && seen.insert(pack.id.into_inner())
                })
                .collect();
            let mut reads = futures::stream::iter(packs)
                .map(|pack| self.damage_of(pack, &*bar, cancel))
                .buffer_unordered(AT_ONCE);
            while let Some(found) = reads.try_next().await? {
                damaged.extend(found);
                if lock.lost().is_cancelled() {
                    lock.confirm().await?;
                }
            }
        }
        bar.finish();
        damaged.sort();
        Ok(damaged)
    }

    /// Describes the damage of a pack; `None` if it is intact.
    async fn damage_of(
        &self,
        pack: IndexPack,
        bar: &dyn StageProgress,
        cancel: &CancellationToken,
    ) -> Result<Option<String>, RepositoryError> {
        let key = pack_key(&pack.id.into_inner());
        let damage = damage_of(&*self.0.store, &self.0.key, pack, bar, cancel).await?;
        Ok(damage.map(|damage| format!("pack {key} is damaged: {}", damage.why)))
    }
}

/// The packs to read. Lost ones were reported before.
fn chosen(read: ReadData, survey: &Survey) -> HashSet<Id> {
    let mut packs: Vec<(Id, u64)> = survey
        .packs
        .iter()
        .filter(|(id, _)| !survey.lost.contains_key(*id))
        .map(|(id, pack)| (*id, u64::from(pack.size_bytes)))
        .collect();
    let total: u64 = packs.iter().map(|(_, size)| size).sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the bytes need not be exact, and is not negative"
    )]
    let share = |percent: f64| (total as f64 * percent / 100.0) as u64;
    let budget = match read {
        ReadData::Nothing => return HashSet::new(),
        ReadData::All => return packs.into_iter().map(|(id, _)| id).collect(),
        ReadData::Part { n, of } => {
            let first = |id: &Id| u32::from_str_radix(&id.to_hex()[..8], 16).unwrap_or_default();
            return packs
                .into_iter()
                .map(|(id, _)| id)
                .filter(|id| first(id) % of == n % of)
                .collect();
        }
        ReadData::Percent(percent) => share(percent),
        ReadData::Bytes(bytes) => bytes,
    };
    packs.shuffle(&mut rand::rng());
    let mut left = budget;
    // Never nothing: a share of a small repository is one pack.
    let mut taken = HashSet::new();
    for (id, size) in packs {
        if size <= left || taken.is_empty() {
            left = left.saturating_sub(size);
            taken.insert(id);
        }
    }
    taken
}
