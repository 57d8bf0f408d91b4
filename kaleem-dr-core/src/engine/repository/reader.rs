//! Reads a snapshot with constant memory.
//!
//! rustic_core's own restore holds 1.5–2.2 GB for 1 GiB and panics on I/O errors. Here, neighbouring blobs of a pack are read as
//! a run with one ranged read of a few MiB, a few runs are read at once, and each blob is decrypted, decompressed and compared
//! with its id before it is returned.

use std::{
    collections::HashMap,
    error::Error as _,
    ffi::OsString,
    iter,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt as _;
use rustic_core::{
    DataId, FileType, IndexedFullStatus, TreeId,
    repofile::{Node, Tree},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Repository, RepositoryError,
    backend::Gate,
    blocking,
    crypto::RepositoryKey,
    object_key::key_of,
    silent,
    snapshot::Snapshot,
    store::{ObjectStore, StoreError},
};
use crate::{
    engine::manifest::{MANIFEST_PATH, Manifest, OWN_DIRECTORY},
    ground::{Cause, digest::ByteDigest, error_chain},
};

/// Longest ranged read.
const RUN_BYTES: u32 = 2 << 20;
/// Unwanted bytes worth reading to save a request.
const GAP_BYTES: u32 = 128 << 10;
/// Number of runs read at once when reading in order.
const READ_AHEAD: usize = 3;
/// Limit for their memory, encrypted and plain; a larger run, which is one blob of up to 8 MiB, is read alone.
const READ_AHEAD_KIB: u32 = 16 << 10;
/// Limit for a manifest, in bytes.
const MANIFEST_LIMIT_BYTES: u64 = 256 << 20;
/// Limit for an enclosure, in bytes.
const ENCLOSURE_LIMIT_BYTES: u64 = 64 << 20;

/// A snapshot opened for reading. The repository's index is in memory (48 bytes a blob).
#[derive(Clone)]
pub struct SnapshotReader {
    engine: Arc<rustic_core::Repository<IndexedFullStatus>>,
    blobs: BlobReader,
    snapshot: Snapshot,
    last_directory: Arc<Mutex<Option<Directory>>>,
}

/// A directory of a snapshot.
struct Directory {
    path: PathBuf,
    entries: HashMap<OsString, Node>,
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("snapshot", &self.snapshot.id())
            .finish_non_exhaustive()
    }
}

/// Reads blobs by ranges of packs.
#[derive(Clone, Debug)]
pub(crate) struct BlobReader {
    store: Arc<dyn ObjectStore>,
    key: RepositoryKey,
}

/// The location of a blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobPlace {
    pub(crate) id: DataId,
    pack: rustic_core::Id,
    offset: u32,
    length: u32,
    plain_length: u32,
    compressed: bool,
}

impl BlobPlace {
    pub(crate) fn plain_length(&self) -> u64 {
        u64::from(self.plain_length)
    }

    pub(crate) fn pack(&self) -> rustic_core::Id {
        self.pack
    }
}

/// Blobs read with one request. `wanted` are indexes into the caller's list.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) wanted: Vec<usize>,
    pack: rustic_core::Id,
    start: u32,
    end: u32,
}

impl Run {
    fn held_kib(&self, places: &[BlobPlace]) -> u32 {
        let plain: u64 = self.wanted.iter().map(|&at| places[at].plain_length()).sum();
        let kib = (plain + u64::from(self.end - self.start)).div_ceil(1 << 10);
        u32::try_from(kib).unwrap_or(u32::MAX).min(READ_AHEAD_KIB)
    }
}

impl Repository {
    /// Opens a snapshot for reading.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn read(&self, snapshot: &Snapshot) -> Result<SnapshotReader, RepositoryError> {
        let repository = self.clone();
        let engine =
            blocking(move || repository.indexed(Gate::open(CancellationToken::new()), &silent()))
                .await?;
        let blobs = BlobReader { store: self.0.store.clone(), key: self.0.key.clone() };
        Ok(SnapshotReader {
            engine: Arc::new(engine),
            blobs,
            snapshot: snapshot.clone(),
            last_directory: Arc::default(),
        })
    }
}

impl SnapshotReader {
    /// The snapshot that this reader reads.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Another snapshot of the same repository, without reading the index again.
    #[must_use]
    pub fn at(&self, snapshot: &Snapshot) -> Self {
        Self { snapshot: snapshot.clone(), last_directory: Arc::default(), ..self.clone() }
    }

    /// The manifest of the snapshot; `None` if another tool made it.
    ///
    /// # Errors
    /// If it cannot be read, or has a newer format than ours.
    pub async fn manifest(&self) -> Result<Option<Manifest>, RepositoryError> {
        let damaged = |why: String| RepositoryError::Damaged {
            object: format!("manifest of {:?}", self.snapshot.id()),
            why,
        };
        let json = self.small_file(MANIFEST_PATH, MANIFEST_LIMIT_BYTES).await?;
        let Some(json) = json else { return Ok(None) };
        let manifest: Manifest =
            serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if manifest.format > crate::engine::manifest::MANIFEST_FORMAT {
            return Err(damaged(format!(
                "format {} is newer than this program; use a newer one",
                manifest.format
            )));
        }
        Ok(Some(manifest))
    }

    /// The content of an [enclosure](crate::engine::manifest::Enclosure); `None` if the snapshot has no
    /// file of this name in its own directory.
    ///
    /// # Errors
    /// If it cannot be read, or is longer than any enclosure.
    pub async fn enclosure(&self, name: &str) -> Result<Option<Vec<u8>>, RepositoryError> {
        self.small_file(&format!("{OWN_DIRECTORY}/{name}"), ENCLOSURE_LIMIT_BYTES).await
    }

    /// The content of a file that fits into memory; `None` if it does not exist.
    async fn small_file(
        &self,
        path: &str,
        limit_bytes: u64,
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        let (reader, wanted) = (self.clone(), PathBuf::from(path));
        let node = blocking(move || reader.find(&wanted)).await?;
        let Some(node) = node else { return Ok(None) };
        if node.meta.size > limit_bytes {
            return Err(RepositoryError::Damaged {
                object: format!("{path} of {:?}", self.snapshot.id()),
                why: format!("it is {} bytes long", node.meta.size),
            });
        }
        let mut content = Vec::new();
        let mut pieces = self.stream_places(self.places(&node)?);
        while let Some(piece) = pieces.recv().await {
            content.extend_from_slice(&piece?);
        }
        Ok(Some(content))
    }

    /// Streams blobs in order, reading a few runs ahead of the receiver.
    pub(crate) fn stream_places(
        &self,
        places: Vec<BlobPlace>,
    ) -> mpsc::Receiver<Result<Bytes, RepositoryError>> {
        let blobs = self.blobs.clone();
        let (sender, receiver) = mpsc::channel(1);
        let runs = runs(&places, false);
        tokio::spawn(async move {
            let budget = Arc::new(Semaphore::new(READ_AHEAD_KIB as usize));
            let reads = futures::stream::iter(runs)
                .then(|run| {
                    let share = budget.clone().acquire_many_owned(run.held_kib(&places));
                    async move { (run, share.await) }
                })
                .map(|(run, share)| {
                    let (blobs, places) = (blobs.clone(), pick(&places, &run));
                    async move { (blobs.read(&run, &places).await, share) }
                })
                .buffered(READ_AHEAD);
            let mut reads = pin!(reads);
            // A run's share is kept until its last piece has been sent.
            while let Some((read, _share)) = reads.next().await {
                let (pieces, failed) = match read {
                    Ok(pieces) => (pieces, None),
                    Err(error) => (Vec::new(), Some(error)),
                };
                for piece in pieces.into_iter().map(Ok).chain(failed.map(Err)) {
                    // The receiver is gone, so nothing is left to do.
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            }
        });
        receiver
    }

    /// The node at an absolute path. Blocking. The entries of the last directory are kept: a manifest names many files in one.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<Node>, RepositoryError> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let mut last = self.last_directory.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|last| last.path != directory) {
            let Some(tree) = self.directory(directory)? else { return Ok(None) };
            let entries =
                tree.nodes.into_iter().map(|node| (node.name().into_owned(), node)).collect();
            *last = Some(Directory { path: directory.to_path_buf(), entries });
        }
        Ok(last.as_ref().and_then(|last| last.entries.get(name)).cloned())
    }

    /// The tree of the directory at an absolute path.
    fn directory(&self, path: &Path) -> Result<Option<Tree>, RepositoryError> {
        let mut tree = self.root()?;
        for component in path.components() {
            let std::path::Component::Normal(wanted) = component else { continue };
            let node = tree.nodes.into_iter().find(|node| node.name() == wanted);
            match node.and_then(|node| node.subtree) {
                Some(subtree) => tree = self.tree(&subtree)?,
                None => return Ok(None),
            }
        }
        Ok(Some(tree))
    }

    /// Reads the root tree. Blocking.
    pub(crate) fn root(&self) -> Result<Tree, RepositoryError> {
        self.tree(&self.snapshot.file.tree)
    }

    pub(crate) fn tree(&self, id: &TreeId) -> Result<Tree, RepositoryError> {
        self.engine.get_tree(id).map_err(|error| {
            let from_store = iter::successors(error.source(), |&cause| cause.source())
                .find_map(|cause| cause.downcast_ref::<StoreError>());
            match from_store {
                Some(store) if !store.kind().is_loss() => {
                    RepositoryError::engine("read a tree of")(error)
                }
                lost => RepositoryError::Damaged {
                    object: self.pack_of_tree(id).map_or_else(
                        |_| format!("tree {}", id.into_inner().to_hex().as_str()),
                        |pack| {
                            format!(
                                "tree {} in pack {}",
                                id.into_inner().to_hex().as_str(),
                                key_of(FileType::Pack, &pack)
                            )
                        },
                    ),
                    why: lost.map_or_else(
                        || "it does not decrypt, or is not a tree".into(),
                        |store| error_chain(store),
                    ),
                },
            }
        })
    }

    /// The locations of a file's blobs, in the order of the file.
    pub(crate) fn places(&self, node: &Node) -> Result<Vec<BlobPlace>, RepositoryError> {
        node.content
            .iter()
            .flatten()
            .map(|id| {
                let entry =
                    self.engine.get_index_entry(id).map_err(|_| RepositoryError::Damaged {
                        object: format!("file {}", node.name),
                        why: format!("blob {} is in no index", id.into_inner().to_hex().as_str()),
                    })?;
                Ok(BlobPlace {
                    id: *id,
                    pack: entry.pack.into_inner(),
                    offset: entry.location.offset,
                    length: entry.location.length,
                    plain_length: entry.location.data_length(),
                    compressed: entry.location.uncompressed_length.is_some(),
                })
            })
            .collect()
    }

    /// The pack that contains a tree. Blocking.
    pub(crate) fn pack_of_tree(&self, id: &TreeId) -> Result<rustic_core::Id, RepositoryError> {
        let entry = self.engine.get_index_entry(id).map_err(|_| RepositoryError::Damaged {
            object: format!("tree {}", id.into_inner().to_hex().as_str()),
            why: "it is in no index".into(),
        })?;
        Ok(entry.pack.into_inner())
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        &*self.blobs.store
    }

    pub(crate) fn blobs(&self) -> &BlobReader {
        &self.blobs
    }
}

/// The places that a run covers.
pub(crate) fn pick(places: &[BlobPlace], run: &Run) -> Vec<BlobPlace> {
    run.wanted.iter().map(|&at| places[at]).collect()
}

/// Groups blobs into runs. With `reorder`, neighbours in a pack are joined whatever their positions in the list; otherwise only
/// those that are adjacent in the list too, which preserves its order.
pub(crate) fn runs(places: &[BlobPlace], reorder: bool) -> Vec<Run> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    if reorder {
        order.sort_by_key(|&at| (places[at].pack, places[at].offset));
    }
    let mut runs: Vec<Run> = Vec::new();
    for at in order {
        let place = &places[at];
        let end = place.offset + place.length;
        match runs.last_mut() {
            Some(run)
                if run.pack == place.pack
                    && place.offset >= run.start
                    && (place.offset <= run.end || place.offset - run.end <= GAP_BYTES)
                    && end.max(run.end) - run.start <= RUN_BYTES =>
            {
                run.end = run.end.max(end);
                run.wanted.push(at);
            }
            _ => runs.push(Run { wanted: vec![at], pack: place.pack, start: place.offset, end }),
        }
    }
    runs
}

impl BlobReader {
    pub(crate) fn key(&self) -> &RepositoryKey {
        &self.key
    }

    /// Reads one run: the plain bytes of each place, in the run's order.
    pub(crate) async fn read(
        &self,
        run: &Run,
        places: &[BlobPlace],
    ) -> Result<Vec<Bytes>, RepositoryError> {
        let key = key_of(FileType::Pack, &run.pack);
        let bytes =
            match self.store.read(&key, Some(u64::from(run.start)..u64::from(run.end))).await {
                Err(error) if error.kind().is_loss() => {
                    return Err(RepositoryError::Damaged {
                        object: format!("pack {key}"),
                        why: error_chain(&error),
                    });
                }
                read => read?,
            };
        let (repository_key, start, places) = (self.key.clone(), run.start, places.to_vec());
        blocking(move || {
            let opened = |place: &BlobPlace, encrypted: Vec<u8>| {
                open(&repository_key, place, encrypted).map_err(|why| RepositoryError::Damaged {
                    object: format!(
                        "blob {} in pack {key}",
                        place.id.into_inner().to_hex().as_str()
                    ),
                    why: error_chain(&*why),
                })
            };
            match &places[..] {
                // Large blobs are read alone, and are not copied.
                [place] => Ok(vec![opened(place, bytes.into())?]),
                places => places
                    .iter()
                    .map(|place| {
                        let at = (place.offset - start) as usize;
                        opened(place, bytes[at..at + place.length as usize].to_vec())
                    })
                    .collect(),
            }
        })
        .await
    }
}

fn open(key: &RepositoryKey, place: &BlobPlace, encrypted: Vec<u8>) -> Result<Bytes, Cause> {
    let mut plain = key.decrypt_owned(encrypted)?;
    if place.compressed {
        plain = zstd::bulk::decompress(&plain, place.plain_length as usize)?;
    }
    if ByteDigest::of(&plain) != place.id.into_inner().to_hex().as_str() {
        return Err("its content does not hash to its id".into());
    }
    Ok(Bytes::from(plain))
}
