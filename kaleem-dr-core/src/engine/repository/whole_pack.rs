//! Reads a pack completely: it must hash to its name, and each of its blobs must decrypt to content that matches its id.

use rustic_core::{
    Id,
    repofile::{IndexBlob, IndexPack},
};

use super::{
    RepositoryError, blocking, crypto::RepositoryKey, store::ObjectStore, survey::pack_key,
};
use crate::{
    CancellationToken,
    ground::{digest::ByteDigest, error_chain, progress::StageProgress},
};

/// Target size of the ranges in which a pack is read, in bytes; each ends at the end of a blob.
const RANGE_BYTES: u32 = 4 << 20;

/// The damage of a pack.
#[derive(Debug)]
pub(crate) struct PackDamage {
    /// The damage, as one sentence.
    pub(crate) why: String,
    /// The blobs that cannot be read.
    pub(crate) blobs: Vec<Id>,
}

/// Reads a pack; `None` if it is intact. Errors that do not concern the pack itself end the read.
pub(crate) async fn damage_of(
    store: &dyn ObjectStore,
    key: &RepositoryKey,
    pack: IndexPack,
    bar: &dyn StageProgress,
    cancel: &CancellationToken,
) -> Result<Option<PackDamage>, RepositoryError> {
    let id = pack.id.into_inner();
    let name = pack_key(&id);
    let size_bytes = pack.pack_size();
    let mut blobs = pack.blobs;
    blobs.sort_unstable_by_key(|blob| blob.location.offset);
    let all: Vec<Id> = blobs.iter().map(|blob| blob.id.into_inner()).collect();
    let (mut wrong, mut at, mut digest) = (Vec::new(), 0_u32, ByteDigest::default());
    let mut opener = Opener::new(key)?;
    let mut blobs = blobs.into_iter().peekable();
    while at < size_bytes {
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        let (end, piece) = next_range(&mut blobs, at, size_bytes);
        let bytes = match store.read(&name, Some(u64::from(at)..u64::from(end))).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind().is_loss() => {
                return Ok(Some(PackDamage { why: error_chain(&error), blobs: all }));
            }
            Err(error) => return Err(error.into()),
        };
        bar.advance(u64::from(end - at));
        let start = at;
        let found = blocking(move || {
            digest.update(&bytes);
            let mut encrypted = bytes.try_into_mut().unwrap_or_else(|shared| shared[..].into());
            let mut bad = Vec::new();
            for blob in &piece {
                if !opener.is_right(blob, start, &mut encrypted) {
                    bad.push(blob.id.into_inner());
                }
            }
            Ok((digest, opener, bad))
        });
        let bad;
        (digest, opener, bad) = found.await?;
        wrong.extend(bad);
        at = end;
    }
    let hashes = digest.finish() == *id.to_hex();
    let why = match (hashes, wrong.len()) {
        (true, 0) => return Ok(None),
        (false, 0) => {
            format!("it does not hash to its name, but all of its {} blobs are right", all.len())
        }
        (_, wrong) => {
            format!("{wrong} of its {} blobs do not decrypt to what they should be", all.len())
        }
    };
    Ok(Some(PackDamage { why, blobs: wrong }))
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

/// Opens blobs in place, with memory that is reused from blob to blob.
struct Opener {
    key: RepositoryKey,
    decompressor: zstd::bulk::Decompressor<'static>,
    plain: Vec<u8>,
}

impl Opener {
    fn new(key: &RepositoryKey) -> Result<Self, RepositoryError> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(|cause| {
            RepositoryError::Engine { action: "decompress blobs of", cause: cause.into() }
        })?;
        Ok(Self { key: key.clone(), decompressor, plain: Vec::new() })
    }

    /// Decrypts a blob of a range that begins at `start` of its pack. Blobs that overlap, which no writer makes, are wrong.
    fn is_right(&mut self, blob: &IndexBlob, start: u32, range: &mut [u8]) -> bool {
        let place = blob.location.offset.checked_sub(start).and_then(|from| {
            let from = from as usize;
            range.get_mut(from..from.checked_add(blob.location.length as usize)?)
        });
        let Some(Ok(decrypted)) = place.map(|place| self.key.decrypt_in_place(place)) else {
            return false;
        };
        let plain = match blob.location.uncompressed_length {
            None => decrypted,
            Some(length) => {
                self.plain.clear();
                self.plain.reserve(length.get() as usize);
                match self.decompressor.decompress_to_buffer(decrypted, &mut self.plain) {
                    Ok(_) => &self.plain[..],
                    Err(_) => return false,
                }
            }
        };
        ByteDigest::of(plain) == *blob.id.to_hex()
    }
}
