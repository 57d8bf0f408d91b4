//! The objects and files behind a snapshot: determines which it needs, and checks that they match their names.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use rustic_core::{
    FileType, Id, TreeId,
    repofile::{Node, NodeType},
};
use tokio::sync::mpsc;

use super::{
    RepositoryError, SnapshotReader, blocking, names, object_key::key_of, store::ObjectStore,
};
use crate::{
    CancellationToken,
    ground::{digest::ByteDigest, progress::StageProgress},
};

/// Size of the ranges in which an object is read, in bytes.
const RANGE_BYTES: u64 = 4 << 20;
/// Objects read at once.
const AT_ONCE: usize = 4;
/// Limit for the files that wait for the receiver.
const FILES_IN_FLIGHT: usize = 256;

/// The result of checking a snapshot's objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct VerifiedObjects {
    pub(crate) objects: u64,
    pub(crate) size_bytes: u64,
    /// One sentence for each damaged object.
    pub(crate) wrong: Vec<String>,
}

/// A regular file of a snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeFile {
    /// Its absolute path in the snapshot.
    pub path: PathBuf,
    /// Size of the file's content, in bytes.
    pub size_bytes: u64,
    pub(crate) node: Node,
}

/// The files of a snapshot, one after the other.
#[derive(Debug)]
pub struct FileWalk(mpsc::Receiver<Result<TreeFile, RepositoryError>>);

impl FileWalk {
    /// The next file, or the error of a directory that could not be read; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<TreeFile, RepositoryError>> {
        self.0.recv().await
    }
}

impl SnapshotReader {
    /// All regular files of the snapshot, in the order of the tree.
    #[must_use]
    pub fn files(&self) -> FileWalk {
        let (sender, receiver) = mpsc::channel(FILES_IN_FLIGHT);
        let reader = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut pending = vec![(PathBuf::from("/"), reader.snapshot().file.tree)];
            while let Some((directory, id)) = pending.pop() {
                let tree = match reader.tree(&id) {
                    Ok(tree) => tree,
                    Err(error) => {
                        // If the receiver is gone, the rest is not needed.
                        if sender.blocking_send(Err(error)).is_err() {
                            return;
                        }
                        continue;
                    }
                };
                for node in tree.nodes {
                    let path = directory.join(node.name());
                    if let Some(subtree) = node.subtree {
                        pending.push((path, subtree));
                    } else if matches!(node.node_type, NodeType::File) {
                        let file = TreeFile { path, size_bytes: node.meta.size, node };
                        if sender.blocking_send(Ok(file)).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        FileWalk(receiver)
    }

    /// The bytes of a file; each blob is decrypted and compared with its id.
    ///
    /// # Errors
    /// If one of its blobs is in no index.
    pub fn stream_file(
        &self,
        file: &TreeFile,
    ) -> Result<mpsc::Receiver<Result<Bytes, RepositoryError>>, RepositoryError> {
        Ok(self.stream_places(self.places(&file.node)?))
    }

    /// Reads every object that this snapshot needs: its own file, the index, and each pack with one of its blobs.
    pub(crate) async fn verify_objects(
        &self,
        bar: &dyn StageProgress,
        cancel: &CancellationToken,
    ) -> Result<VerifiedObjects, RepositoryError> {
        let reader = self.clone();
        let stop = cancel.clone();
        let (mut needed, mut wrong) = blocking(move || reader.needed(&stop)).await?;
        let store = self.store();
        let mut sizes = HashMap::new();
        for directory in ["snapshots", "index", "data"] {
            for object in names::objects(store, directory).await? {
                if directory == "index" {
                    needed.insert(object.key.clone());
                }
                sizes.insert(object.key, object.size_bytes);
            }
        }
        bar.set_total(needed.iter().filter_map(|key| sizes.get(key)).sum());
        let mut found = VerifiedObjects::default();
        let mut checks = futures::stream::iter(needed)
            .map(|key| {
                let size = sizes.get(&key).copied();
                async move {
                    let Some(size) = size else {
                        return Ok((key, Err("it does not exist".to_owned())));
                    };
                    let verified = hashes_to_name(store, &key, size, bar, cancel).await?;
                    Ok::<_, RepositoryError>((key, verified.map(|()| size)))
                }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((key, verified)) = checks.try_next().await? {
            match verified {
                Ok(size_bytes) => {
                    found.objects += 1;
                    found.size_bytes += size_bytes;
                }
                Err(why) => wrong.push(format!("{key}: {why}")),
            }
        }
        found.wrong = wrong;
        Ok(found)
    }

    /// Keys of the packs and the snapshot file, and the blobs missing from the index. Blocking.
    fn needed(
        &self,
        cancel: &CancellationToken,
    ) -> Result<(HashSet<String>, Vec<String>), RepositoryError> {
        let (mut packs, mut wrong) = (HashSet::<Id>::new(), Vec::new());
        let mut seen = HashSet::<TreeId>::new();
        let mut pending = vec![self.snapshot().file.tree];
        while let Some(id) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            match self.pack_of_tree(&id) {
                Ok(pack) => packs.insert(pack),
                Err(error) => {
                    wrong.push(error.to_string());
                    continue;
                }
            };
            let tree = match self.tree(&id) {
                Ok(tree) => tree,
                Err(error @ RepositoryError::Damaged { .. }) => {
                    wrong.push(crate::ground::error_chain(&error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for node in tree.nodes {
                pending.extend(node.subtree);
                match self.places(&node) {
                    Ok(places) => packs.extend(places.iter().map(super::reader::BlobPlace::pack)),
                    Err(error) => wrong.push(crate::ground::error_chain(&error)),
                }
            }
        }
        let mut keys: HashSet<String> =
            packs.iter().map(|pack| key_of(FileType::Pack, pack)).collect();
        keys.insert(format!("snapshots/{}", self.snapshot().id()));
        Ok((keys, wrong))
    }
}

/// Reads an object range by range. The inner error describes a defect of the object; the outer one ends the verification.
pub(crate) async fn hashes_to_name(
    store: &dyn ObjectStore,
    key: &str,
    size_bytes: u64,
    bar: &dyn StageProgress,
    cancel: &CancellationToken,
) -> Result<Result<(), String>, RepositoryError> {
    let mut digest = ByteDigest::default();
    let mut at = 0;
    while at < size_bytes {
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        let end = size_bytes.min(at + RANGE_BYTES);
        match store.read(key, Some(at..end)).await {
            Ok(bytes) => digest.update(&bytes),
            // Only an error that concerns the object itself shows damage; otherwise its state is unknown.
            Err(error) if error.kind().is_loss() => {
                return Ok(Err(crate::ground::error_chain(&error)));
            }
            Err(error) => return Err(error.into()),
        }
        bar.advance(end - at);
        at = end;
    }
    let found = digest.finish();
    let name = key.rsplit('/').next().unwrap_or_default();
    Ok(if found == name {
        Ok(())
    } else {
        Err(format!("it hashes to {found} and not to its name"))
    })
}
