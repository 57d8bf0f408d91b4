//! The last step of the commit gate: writes the actual sizes, the manifest and RESTORE.md into the trees, then the one snapshot
//! file.
//!
//! rustic_core stores streams of unknown length with size 0, which stock restic restores as empty files. So its trees are
//! rewritten with the lengths counted by the pipe. The order is: packs, index, and only then the snapshot, which is read back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::{
    DataId, IndexedFullStatus, OpenStatus, TreeId,
    repofile::{Metadata, Node, NodeType, SnapshotFile, Tree},
};
use serde_json::json;

use super::{
    Repository, RepositoryError, blocking,
    crypto::RepositoryKey,
    lock::Lock,
    pack::{BlobKind, Object, PackWriter},
    reach::{Lost, Reach},
    snapshot::SnapshotId,
    tree_entry::{follower_path, go_mode},
};
use crate::{
    CancellationToken,
    engine::{
        artifact::CaptureOutcome,
        manifest::{Enclosure, Manifest},
    },
    ground::{digest::ByteDigest, failpoint, failpoint::Step},
};

/// Instructions for restoring the data with standard tools only: in every snapshot, for a reader who has nothing else. If there
/// is a config, its runbook takes their place.
const RESTORE_TEXT: &str = include_str!("RESTORE.md");
/// Name of the manifest in our own directory.
const MANIFEST_NAME: &str = "manifest.json";
/// Blob size for the files that we add, in bytes; far above any manifest, far below restic's largest chunk.
const BLOB_BYTES: usize = 1 << 20;

/// A successful capture that is about to become a snapshot.
pub(crate) struct Release {
    pub(crate) engine: rustic_core::Repository<OpenStatus>,
    pub(crate) file: SnapshotFile,
    pub(crate) outcome: CaptureOutcome,
    /// Content of `/RESTORE.md`; `None` for the general instructions.
    pub(crate) restore_text: Option<Arc<str>>,
    /// Further files for the directory of the manifest.
    pub(crate) enclosures: Vec<Enclosure>,
    /// Trees known to be whole.
    pub(crate) reach: Reach,
    pub(crate) stop: CancellationToken,
}

impl Release {
    /// Checks that the repository has everything, completes the trees and writes the snapshot file. Returns its id and the number
    /// of bytes added.
    pub(crate) async fn run(
        self,
        repository: &Repository,
        manifest: &Manifest,
        lock: &Lock,
    ) -> Result<(SnapshotId, u64), RepositoryError> {
        let manifest = serde_json::to_vec_pretty(manifest).map_err(|cause| {
            RepositoryError::Engine { action: "write a manifest to", cause: cause.into() }
        })?;
        let (key, version) = (repository.0.key.clone(), repository.0.version);
        let (file, packs) = blocking(move || {
            let Self { engine, file, outcome, restore_text, enclosures, mut reach, stop } = self;
            let engine =
                engine.to_indexed().map_err(RepositoryError::engine("read the index of"))?;
            whole(&reach.walk(&engine, file.tree, &|_| false, &stop)?)?;
            let documents = Documents {
                manifest: &manifest,
                restore: restore_text.as_deref().unwrap_or(RESTORE_TEXT),
                enclosures: &enclosures,
            };
            complete(&engine, &key, version, file, &documents, &outcome)
        })
        .await?;
        write(repository, &file, packs, lock).await
    }
}

/// Refuses to release a snapshot that could not be restored.
fn whole(lost: &Lost) -> Result<(), RepositoryError> {
    match lost.damaged.first() {
        _ if lost.is_empty() => Ok(()),
        Some(damaged) => Err(RepositoryError::Damaged {
            object: damaged.clone(),
            why: "the new snapshot needs it, and it does not decrypt; so the snapshot is not released".into(),
        }),
        None => Err(RepositoryError::NotCommitted(format!("the repository lacks a part of it: {lost}"))),
    }
}

async fn write(
    repository: &Repository,
    file: &SnapshotFile,
    packs: Vec<Object>,
    lock: &Lock,
) -> Result<(SnapshotId, u64), RepositoryError> {
    let store = &repository.0.store;
    let mut added = 0;
    for object in &packs {
        store.write(&object.key, vec![object.bytes.clone()]).await?;
        added += object.bytes.len() as u64;
    }
    let (id, snapshot_bytes) = publish(repository, file, lock).await?;
    Ok((id, added + snapshot_bytes))
}

/// Writes a snapshot file whose every blob is in the repository, and reads it back. Returns its id and its length.
pub(crate) async fn publish(
    repository: &Repository,
    file: &SnapshotFile,
    lock: &Lock,
) -> Result<(SnapshotId, u64), RepositoryError> {
    let store = &repository.0.store;
    failpoint::pass(Step::BeforeRelease);
    lock.confirm().await?;
    let json = serde_json::to_vec(file).map_err(|cause| RepositoryError::Engine {
        action: "write a snapshot to",
        cause: cause.into(),
    })?;
    let encrypted = Bytes::from(repository.0.key.encrypt(&json));
    let id = ByteDigest::of(&encrypted);
    let key = format!("snapshots/{id}");
    store.write(&key, vec![encrypted.clone()]).await?;
    failpoint::pass(Step::AfterRelease);
    if store.read(&key, None).await? != encrypted {
        return Err(RepositoryError::Damaged {
            object: key,
            why: "it reads back otherwise than it was written".into(),
        });
    }
    let id = id
        .parse()
        .map(|id: rustic_core::Id| SnapshotId(id.into()))
        .map_err(RepositoryError::engine("name a snapshot of"))?;
    Ok((id, encrypted.len() as u64))
}

/// The files that we add to a snapshot.
struct Documents<'a> {
    manifest: &'a [u8],
    restore: &'a str,
    enclosures: &'a [Enclosure],
}

impl Documents<'_> {
    /// The files of our own directory, sorted by name, as restic sorts a tree.
    fn inner(&self) -> BTreeMap<&str, &[u8]> {
        let enclosed = self.enclosures.iter().map(|file| (file.name, &*file.content));
        enclosed.chain([(MANIFEST_NAME, self.manifest)]).collect()
    }

    /// The number and total size of all files.
    fn totals(&self) -> (u64, u64) {
        let inner = self.inner();
        let size_bytes = inner.values().map(|content| content.len() as u64).sum::<u64>();
        (inner.len() as u64 + 1, size_bytes + self.restore.len() as u64)
    }
}

fn complete(
    engine: &rustic_core::Repository<IndexedFullStatus>,
    key: &RepositoryKey,
    version: u32,
    mut file: SnapshotFile,
    documents: &Documents<'_>,
    outcome: &CaptureOutcome,
) -> Result<(SnapshotFile, Vec<Object>), RepositoryError> {
    let mut data = PackWriter::new(key, version, BlobKind::Data);
    let mut trees = PackWriter::new(key, version, BlobKind::Tree);
    let now = Timestamp::now();

    let followers: BTreeSet<PathBuf> =
        outcome.artifacts.iter().map(|artifact| follower_path(Path::new(&artifact.path))).collect();
    let dirty = ancestors(outcome.sizes.keys().chain(&followers));
    let mut root = Trees {
        engine,
        pack: &mut trees,
        sizes: &outcome.sizes,
        followers: &followers,
        dirty,
        fixed: 0,
        removed: 0,
    };
    let mut tree = root.corrected(&file.tree, Path::new("/"))?;
    if root.fixed != outcome.sizes.len() {
        return Err(RepositoryError::NotCommitted(format!(
            "{} entries need their true size but {} were found in the snapshot",
            outcome.sizes.len(),
            root.fixed
        )));
    }
    if root.removed != followers.len() {
        return Err(RepositoryError::NotCommitted(
            "an artifact is not where it belongs in the snapshot".into(),
        ));
    }
    let mut inner = Tree::default();
    // What did not change since an earlier snapshot is stored already.
    let stored = |id: &DataId| engine.get_index_entry(id).is_ok();
    for (name, content) in documents.inner() {
        inner.nodes.push(document(name, content, &mut data, now, &stored));
    }
    let inner = trees.tree(&inner)?;
    let meta = Metadata {
        mode: Some(0o700 | go_mode::DIRECTORY),
        mtime: Some(now),
        ..Metadata::default()
    };
    let mut directory = Node::new_node(".kaleem-dr".as_ref(), NodeType::Dir, meta);
    directory.subtree = Some(inner);
    let restore = documents.restore.as_bytes();
    for node in [directory, document("RESTORE.md", restore, &mut data, now, &stored)] {
        // A tree restored from one of our snapshots to `/` and captured again has these files itself.
        tree.nodes.retain(|other| other.name != node.name);
        let at = tree.nodes.partition_point(|other| other.name() < node.name());
        tree.nodes.insert(at, node);
    }
    file.tree = trees.tree(&tree)?;
    if let Some(summary) = &mut file.summary {
        let (files, size_bytes) = documents.totals();
        summary.total_bytes_processed += size_bytes;
        let followers = followers.len() as u64;
        summary.total_files_processed =
            (summary.total_files_processed + files).saturating_sub(followers);
        summary.files_new = (summary.files_new + files).saturating_sub(followers);
    }

    Ok((file, encrypted_objects(key, [data, trees])?))
}

/// The packs and the index file that names their blobs, in the order in which they must be written.
pub(super) fn encrypted_objects(
    key: &RepositoryKey,
    writers: [PackWriter<'_>; 2],
) -> Result<Vec<Object>, RepositoryError> {
    let mut objects = Vec::new();
    let mut packs = Vec::new();
    for writer in writers {
        let (object, index) = writer.finish();
        objects.push(object);
        packs.push(index);
    }
    let index = serde_json::to_vec(&json!({ "packs": packs })).map_err(|cause| {
        RepositoryError::Engine { action: "write an index to", cause: cause.into() }
    })?;
    let encrypted = Bytes::from(key.encrypt(&index));
    objects.push(Object { key: format!("index/{}", ByteDigest::of(&encrypted)), bytes: encrypted });
    Ok(objects)
}

/// The node of a small file, whose blobs go into `data` unless they are stored already.
pub(super) fn document(
    name: &str,
    content: &[u8],
    data: &mut PackWriter<'_>,
    now: Timestamp,
    stored: &dyn Fn(&DataId) -> bool,
) -> Node {
    let meta = Metadata {
        mode: Some(0o600),
        mtime: Some(now),
        size: content.len() as u64,
        links: 1,
        ..Metadata::default()
    };
    let mut node = Node::new_node(name.as_ref(), NodeType::File, meta);
    let mut blob = |chunk: &[u8]| {
        let id = blob_id(chunk);
        if stored(&id) { id } else { DataId::from(data.blob(chunk)) }
    };
    node.content = Some(content.chunks(BLOB_BYTES).map(&mut blob).collect());
    node
}

fn blob_id(plain: &[u8]) -> DataId {
    let id: rustic_core::Id = ByteDigest::of(plain).parse().expect("64 hex digits are an id");
    DataId::from(rustic_core::BlobId::from(id))
}

fn ancestors<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    paths.flat_map(|path| path.ancestors().skip(1).map(Path::to_path_buf)).collect()
}

/// Rewrites the trees that contain a wrong size or a stream's follower, and those above them.
struct Trees<'a, 'k> {
    engine: &'a rustic_core::Repository<IndexedFullStatus>,
    pack: &'a mut PackWriter<'k>,
    sizes: &'a HashMap<PathBuf, u64>,
    followers: &'a BTreeSet<PathBuf>,
    dirty: BTreeSet<PathBuf>,
    fixed: usize,
    removed: usize,
}

impl Trees<'_, '_> {
    fn corrected(&mut self, id: &TreeId, path: &Path) -> Result<Tree, RepositoryError> {
        let mut tree =
            self.engine.get_tree(id).map_err(RepositoryError::engine("read back a tree of"))?;
        let all = tree.nodes.len();
        tree.nodes.retain(|node| !self.followers.contains(&path.join(node.name())));
        self.removed += all - tree.nodes.len();
        for node in &mut tree.nodes {
            let path = path.join(node.name());
            if let Some(size) = self.sizes.get(&path) {
                node.meta.size = *size;
                self.fixed += 1;
            } else if self.dirty.contains(&path)
                && let Some(subtree) = node.subtree
            {
                let corrected = self.corrected(&subtree, &path)?;
                node.subtree = Some(self.pack.tree(&corrected)?);
            }
        }
        Ok(tree)
    }
}
