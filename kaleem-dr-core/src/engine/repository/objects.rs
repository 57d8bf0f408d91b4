//! The files of a snapshot one by one, and single objects compared with their names.

use std::path::PathBuf;

use bytes::Bytes;
use rustic_core::repofile::{Node, NodeType};
use tokio::sync::mpsc;

use super::{RepositoryError, SnapshotReader, store::ObjectStore};
use crate::{
    CancellationToken,
    ground::{digest::ByteDigest, progress::StageProgress},
};

/// Size of the ranges in which an object is read, in bytes.
const RANGE_BYTES: u64 = 4 << 20;
/// Limit for the files that wait for the receiver.
const FILES_IN_FLIGHT: usize = 256;

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
