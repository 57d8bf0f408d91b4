//! Reads packs completely: each must hash to its name, and each of its blobs must decrypt to content that matches its id.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use rand::seq::SliceRandom as _;
use rustic_core::{
    Id,
    repofile::{IndexBlob, IndexPack},
};

use super::{
    super::{
        Repository, RepositoryError, blocking,
        crypto::RepositoryKey,
        lock::Lock,
        survey::{Survey, pack_key},
    },
    ReadData,
};
use crate::{
    CancellationToken,
    ground::{
        digest::ByteDigest,
        error_chain,
        progress::{ProgressSink, StageProgress, Unit},
    },
};

/// Number of packs read in parallel.
const AT_ONCE: usize = 3;
/// Target size of the ranges in which a pack is read, in bytes; each ends at the end of a blob.
const RANGE_BYTES: u32 = 4 << 20;

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
        let id = pack.id.into_inner();
        let key = pack_key(&id);
        let size_bytes = pack.pack_size();
        let mut blobs = pack.blobs;
        blobs.sort_unstable_by_key(|blob| blob.location.offset);
        let (count, mut wrong, mut at, mut digest) =
            (blobs.len(), 0_usize, 0_u32, ByteDigest::default());
        let mut blobs = blobs.into_iter().peekable();
        while at < size_bytes {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            let (end, piece) = next_range(&mut blobs, at, size_bytes);
            let bytes = match self.0.store.read(&key, Some(u64::from(at)..u64::from(end))).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind().is_loss() => {
                    return Ok(Some(format!("pack {key} is damaged: {}", error_chain(&error))));
                }
                Err(error) => return Err(error.into()),
            };
            bar.advance(u64::from(end - at));
            let (key, start) = (self.0.key.clone(), at);
            let (seen, bad) = blocking(move || {
                digest.update(&bytes);
                let bad = piece.iter().filter(|blob| !is_right(&key, blob, start, &bytes)).count();
                Ok((digest, bad))
            })
            .await?;
            (digest, wrong, at) = (seen, wrong + bad, end);
        }
        let hashes = digest.finish() == *id.to_hex();
        Ok(match (hashes, wrong) {
            (true, 0) => None,
            (false, 0) => Some(format!(
                "pack {key} is damaged: it does not hash to its name, but all of its {count} blobs are right"
            )),
            (_, wrong) => Some(format!(
                "pack {key} is damaged: {wrong} of its {count} blobs do not decrypt to what they should be"
            )),
        })
    }
}

/// The blobs from `at` on that are read together, and the end of the range. The header follows the last one.
fn next_range(
    blobs: &mut std::iter::Peekable<impl Iterator<Item = IndexBlob>>,
    at: u32,
    size_bytes: u32,
) -> (u32, Vec<IndexBlob>) {
    let mut piece = Vec::new();
    let mut end = at;
    while let Some(blob) = blobs.peek() {
        let blob_end = blob.location.offset.saturating_add(blob.location.length);
        if !piece.is_empty() && blob_end.saturating_sub(at) > RANGE_BYTES {
            break;
        }
        end = end.max(blob_end.min(size_bytes));
        piece.extend(blobs.next());
    }
    if blobs.peek().is_none() && size_bytes - end <= RANGE_BYTES {
        end = size_bytes;
    }
    // Without further blobs, the rest is read in ranges.
    (if end == at { size_bytes.min(at.saturating_add(RANGE_BYTES)) } else { end }, piece)
}

fn is_right(key: &RepositoryKey, blob: &IndexBlob, start: u32, bytes: &[u8]) -> bool {
    let place = || {
        let from = blob.location.offset.checked_sub(start)? as usize;
        bytes.get(from..from.checked_add(blob.location.length as usize)?)
    };
    let plain = || {
        let encrypted = key.decrypt(place()?).ok()?;
        match blob.location.uncompressed_length {
            Some(length) => zstd::bulk::decompress(&encrypted, length.get() as usize).ok(),
            None => Some(encrypted),
        }
    };
    plain().is_some_and(|plain| ByteDigest::of(&plain) == *blob.id.to_hex())
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
