//! Rewrites snapshots without their lost parts.
//!
//! A file with a lost blob is left out, never truncated; a lost directory becomes an empty one. The manifest lists each of them
//! as incomplete, and the new snapshot has the tag for that. As with restic's `repair snapshots`, the original is kept unless it
//! is to be forgotten, and the new snapshot refers to it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustic_core::{
    DataId, IndexedFullStatus, TreeId,
    repofile::{IndexFile, IndexPack, NodeType, SnapshotFile, Tree},
};
use serde::Serialize;

use super::super::{
    Repository, RepositoryError, UnreadableSnapshot,
    backend::Gate,
    commit,
    lock::Lock,
    pack::{BlobKind, Object, PackWriter},
    reach::Reach,
    silent,
    snapshot::{INCOMPLETE_TAG, Snapshot, SnapshotId, select},
};
use crate::{
    CancellationToken,
    engine::manifest::{Incomplete, MANIFEST_PATH, Manifest, is_own_path},
    ground::{
        SourceName,
        host::HostScope,
        progress::{ProgressSink, Unit},
    },
};

type Engine = rustic_core::Repository<IndexedFullStatus>;

/// The reason for an incomplete part in a manifest.
const WHY: &str = "lost in the repository; left out by `repair snapshots`";
/// Blobs of a manifest.
const BLOB_BYTES: usize = 1 << 20;
/// Size at which a pack of rewritten trees is complete, in bytes.
const PACK_BYTES: usize = 8 << 20;

/// The damage of the snapshots.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct SnapshotRepair {
    /// Number of snapshots without a lost part.
    pub whole: usize,
    /// Snapshots with lost parts, which can be rewritten without them.
    pub lost: Vec<LostSnapshot>,
    /// Snapshots whose own file is damaged: nothing of them can be rewritten.
    pub unreadable: Vec<UnreadableSnapshot>,
}

/// A snapshot with lost parts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LostSnapshot {
    /// Id of the damaged snapshot.
    pub snapshot: SnapshotId,
    /// The source of the snapshot, if kaleem-dr made it.
    pub source: Option<SourceName>,
    /// Time of the snapshot, as its maker recorded it.
    pub time: jiff::Timestamp,
    /// Number of directories whose listing is lost.
    pub directories: u64,
    /// Number of files with lost parts.
    pub files: u64,
    /// The loss in this snapshot, as one sentence.
    pub what: String,
    /// True if its root is lost, so that nothing remains.
    pub is_gone: bool,
    #[serde(skip)]
    file: Box<SnapshotFile>,
}

/// The repair of a damaged snapshot.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RepairedSnapshot {
    /// Id of the damaged snapshot.
    pub from: SnapshotId,
    /// The new snapshot with the remaining data; `None` if nothing remains.
    pub snapshot: Option<SnapshotId>,
    /// True if the damaged snapshot was forgotten.
    pub forgotten: bool,
}

impl SnapshotRepair {
    /// Reports whether anything needs to be repaired.
    #[must_use]
    pub fn is_needed(&self, forget: bool) -> bool {
        self.lost.iter().any(|lost| forget || !lost.is_gone)
            || (forget && !self.unreadable.is_empty())
    }
}

impl Repository {
    /// Determines the losses of the snapshots: of all, or of those given by the beginnings of their ids. Changes nothing.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] while an index file is damaged or a pack is in no index: repairing the index first may bring
    /// back data that seem lost. Also if the store fails, or on cancellation.
    pub async fn plan_snapshot_repair(
        &self,
        wanted: &[String],
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<SnapshotRepair, RepositoryError> {
        let survey = self.survey(cancel).await?;
        survey.guard(&self.location())?;
        let listing = self.snapshot_listing().await?;
        let snapshots = if wanted.is_empty() {
            listing.snapshots
        } else {
            let chosen = wanted
                .iter()
                .map(|wanted| select(&listing.snapshots, wanted, &HostScope::Any).cloned());
            chosen.collect::<Result<_, _>>()?
        };
        let unreadable = if wanted.is_empty() { listing.unreadable } else { Vec::new() };
        let mut plan = SnapshotRepair { unreadable, ..SnapshotRepair::default() };
        let is_repairable = survey.damaged.is_empty() && survey.unindexed.is_empty();
        let bar = progress.begin("reading trees", Unit::Items, Some(snapshots.len() as u64));
        let stop = cancel.clone();
        let (whole, lost) = self
            .guarded(lock, cancel, move |repository, _| {
                let engine =
                    repository.without_cache().indexed(Gate::open(stop.clone()), &silent())?;
                let (mut reach, mut whole, mut lost) = (Reach::default(), 0, Vec::new());
                for snapshot in snapshots {
                    let is_lost = |pack: &rustic_core::Id| survey.lost.contains_key(pack);
                    let what = reach.walk(&engine, snapshot.file.tree, &is_lost, &stop)?;
                    bar.advance(1);
                    if what.is_empty() {
                        whole += 1;
                        continue;
                    }
                    lost.push(LostSnapshot {
                        snapshot: snapshot.id(),
                        source: snapshot.source(),
                        time: snapshot.time().timestamp(),
                        directories: what.directories,
                        files: what.files,
                        what: what.to_string(),
                        is_gone: what.first.first().is_some_and(|path| path == Path::new("/")),
                        file: Box::new(snapshot.file),
                    });
                }
                bar.finish();
                Ok((whole, lost))
            })
            .await?;
        (plan.whole, plan.lost) = (whole, lost);
        if !plan.lost.is_empty() && !is_repairable {
            return Err(RepositoryError::Guarded(format!(
                "{} snapshots have lost something, but the index does not fit the packs: run `kaleem-dr repair index` first, which may \
                 bring it back",
                plan.lost.len()
            )));
        }
        Ok(plan)
    }

    /// Rewrites the snapshots of a plan; with `forget`, the damaged ones are removed once their replacements exist. The lock must
    /// be exclusive, and held since the plan was made.
    ///
    /// # Errors
    /// If something cannot be written or removed.
    pub async fn repair_snapshots(
        &self,
        plan: &SnapshotRepair,
        forget: bool,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<Vec<RepairedSnapshot>, RepositoryError> {
        // Otherwise the index would name a blob twice, once in a lost pack, and it would be undefined which one a reader uses.
        self.mended(lock, cancel).await?;
        let bar = progress.begin("rewriting snapshots", Unit::Items, Some(plan.lost.len() as u64));
        let mut done = Vec::new();
        for lost in &plan.lost {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            let snapshot =
                if lost.is_gone { None } else { Some(self.rewrite(lost, lock, cancel).await?) };
            if forget {
                lock.confirm().await?;
                self.0.store.delete(&format!("snapshots/{}", lost.snapshot)).await?;
            }
            done.push(RepairedSnapshot { from: lost.snapshot, snapshot, forgotten: forget });
            bar.advance(1);
        }
        if forget {
            for unreadable in &plan.unreadable {
                lock.confirm().await?;
                self.0.store.delete(&unreadable.object).await?;
            }
        }
        bar.finish();
        Ok(done)
    }

    async fn rewrite(
        &self,
        lost: &LostSnapshot,
        lock: &Lock,
        cancel: &CancellationToken,
    ) -> Result<SnapshotId, RepositoryError> {
        let manifest = match self.read(&Snapshot::new((*lost.file).clone())).await?.manifest().await
        {
            Ok(manifest) => manifest,
            // The new snapshot has no manifest either, and is no longer one of our points.
            Err(RepositoryError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let (file, objects) = {
            let (file, stop) = (lost.file.clone(), cancel.clone());
            self.guarded(lock, cancel, move |repository, _| {
                let engine =
                    repository.without_cache().indexed(Gate::open(stop.clone()), &silent())?;
                Rewriting::new(&repository, &engine, &stop).snapshot(*file, manifest)
            })
            .await?
        };
        for object in objects {
            self.0.store.write(&object.key, vec![object.bytes]).await?;
        }
        Ok(commit::publish(self, &file, lock).await?.0)
    }
}

/// The rewriting of one snapshot.
struct Rewriting<'a> {
    engine: &'a Engine,
    stop: &'a CancellationToken,
    repository: &'a Repository,
    trees: PackWriter<'a>,
    objects: Vec<Object>,
    packs: Vec<IndexPack>,
    /// The replacement of each rewritten tree.
    known: HashMap<TreeId, TreeId>,
    /// Trees that the repository does not have yet.
    new: HashMap<TreeId, Tree>,
    left_out: Vec<PathBuf>,
}

impl<'a> Rewriting<'a> {
    fn new(repository: &'a Repository, engine: &'a Engine, stop: &'a CancellationToken) -> Self {
        let trees = PackWriter::new(&repository.0.key, repository.0.version, BlobKind::Tree);
        Self {
            engine,
            stop,
            repository,
            trees,
            objects: Vec::new(),
            packs: Vec::new(),
            known: HashMap::new(),
            new: HashMap::new(),
            left_out: Vec::new(),
        }
    }

    fn snapshot(
        mut self,
        mut file: SnapshotFile,
        manifest: Option<Manifest>,
    ) -> Result<(SnapshotFile, Vec<Object>), RepositoryError> {
        let mut tree = self.tree(&file.tree, Path::new("/"))?;
        let mut data =
            PackWriter::new(&self.repository.0.key, self.repository.0.version, BlobKind::Data);
        if let Some(manifest) = manifest {
            let manifest = self.manifest(manifest, &tree)?;
            self.put_manifest(&mut tree, &manifest, &mut data)?;
        }
        let root = self.trees.tree(&tree)?;
        self.flush()?;
        let (object, index) = data.finish();
        let index: IndexPack = serde_json::from_value(index).map_err(failed)?;
        if !index.blobs.is_empty() {
            self.objects.push(object);
            self.packs.push(index);
        }
        let index = IndexFile { packs: self.packs, ..IndexFile::default() };
        let (key, bytes) = self.repository.encrypted_index(&index)?;
        self.objects.push(Object { key, bytes });
        file.original.get_or_insert(file.id);
        file.id = rustic_core::repofile::SnapshotId::default();
        file.tree = root;
        file.tags.add(INCOMPLETE_TAG.to_owned());
        Ok((file, self.objects))
    }

    /// A tree without its lost parts.
    fn tree(&mut self, id: &TreeId, path: &Path) -> Result<Tree, RepositoryError> {
        if self.stop.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        let Some(mut tree) = self.read(id)? else {
            self.left_out.push(path.to_owned());
            return Ok(Tree::default());
        };
        let mut kept = Vec::with_capacity(tree.nodes.len());
        for mut node in tree.nodes {
            let path = path.join(node.name());
            if let Some(subtree) = node.subtree {
                let rewritten = if let Some(known) = self.known.get(&subtree) {
                    *known
                } else {
                    let below = self.tree(&subtree, &path)?;
                    let rewritten = self.put(&below)?;
                    self.known.insert(subtree, rewritten);
                    rewritten
                };
                node.subtree = Some(rewritten);
            } else if !node
                .content
                .iter()
                .flatten()
                .all(|blob| self.engine.get_index_entry(blob).is_ok())
            {
                self.left_out.push(path);
                continue;
            }
            kept.push(node);
        }
        tree.nodes = kept;
        Ok(tree)
    }

    /// `None` if it is lost.
    fn read(&self, id: &TreeId) -> Result<Option<Tree>, RepositoryError> {
        if let Some(new) = self.new.get(id) {
            return Ok(Some(new.clone()));
        }
        if self.engine.get_index_entry(id).is_err() {
            return Ok(None);
        }
        match self.engine.get_tree(id) {
            Ok(tree) => Ok(Some(tree)),
            Err(error)
                if super::super::engine_error::store_error_kind(&error)
                    .is_some_and(|kind| !kind.is_loss()) =>
            {
                Err(RepositoryError::engine("read a tree of")(error))
            }
            Err(_) => Ok(None),
        }
    }

    /// Adds a tree to the pack. An existing one is not stored again.
    fn put(&mut self, tree: &Tree) -> Result<TreeId, RepositoryError> {
        let (_, id) = tree.serialize().map_err(|error| failed(error.to_string()))?;
        if self.engine.get_index_entry(&id).is_ok() {
            return Ok(id);
        }
        let id = self.trees.tree(tree)?;
        self.new.insert(id, tree.clone());
        if self.trees.len() >= PACK_BYTES {
            self.flush()?;
        }
        Ok(id)
    }

    fn flush(&mut self) -> Result<(), RepositoryError> {
        let empty =
            PackWriter::new(&self.repository.0.key, self.repository.0.version, BlobKind::Tree);
        let full = std::mem::replace(&mut self.trees, empty);
        if full.len() == 0 {
            return Ok(());
        }
        let (object, index) = full.finish();
        self.objects.push(object);
        self.packs.push(serde_json::from_value(index).map_err(failed)?);
        Ok(())
    }

    /// The manifest, extended by the parts left out, with the counts of the remaining data.
    fn manifest(&self, mut manifest: Manifest, root: &Tree) -> Result<Manifest, RepositoryError> {
        let lost = |path: &str| self.left_out.iter().any(|lost| Path::new(path).starts_with(lost));
        manifest.artifacts.retain(|artifact| !lost(&artifact.path));
        let (mut files, mut size_bytes) = (0, 0);
        let mut pending = vec![(PathBuf::from("/"), root.clone())];
        while let Some((directory, tree)) = pending.pop() {
            for node in tree.nodes {
                let path = directory.join(node.name());
                if let Some(subtree) = node.subtree {
                    pending.extend(self.read(&subtree)?.map(|tree| (path, tree)));
                } else if matches!(node.node_type, NodeType::File) && !is_own_path(&path) {
                    let is_artifact = manifest.artifact(&path.to_string_lossy()).is_some();
                    files += u64::from(!is_artifact);
                    size_bytes += if is_artifact { 0 } else { node.meta.size };
                }
            }
        }
        if manifest.tree.files > 0 {
            (manifest.tree.files, manifest.tree.size_bytes) = (files, size_bytes);
        }
        let incomplete = self
            .left_out
            .iter()
            .map(|path| Incomplete { what: path.display().to_string(), why: WHY.to_owned() });
        manifest.incomplete.extend(incomplete);
        Ok(manifest)
    }

    fn put_manifest(
        &mut self,
        root: &mut Tree,
        manifest: &Manifest,
        data: &mut PackWriter<'_>,
    ) -> Result<(), RepositoryError> {
        let json = serde_json::to_vec_pretty(manifest).map_err(failed)?;
        let path = Path::new(MANIFEST_PATH);
        let (directory, name) = (path.parent().and_then(Path::file_name), path.file_name());
        let Some(at) = root.nodes.iter().position(|node| Some(&*node.name()) == directory) else {
            return Ok(());
        };
        let Some(subtree) = root.nodes[at].subtree else { return Ok(()) };
        let Some(mut inner) = self.read(&subtree)? else { return Ok(()) };
        for node in inner.nodes.iter_mut().filter(|node| Some(&*node.name()) == name) {
            node.meta.size = json.len() as u64;
            node.content =
                Some(json.chunks(BLOB_BYTES).map(|chunk| DataId::from(data.blob(chunk))).collect());
        }
        root.nodes[at].subtree = Some(self.put(&inner)?);
        Ok(())
    }
}

fn failed(cause: impl Into<crate::ground::Cause>) -> RepositoryError {
    RepositoryError::Engine { action: "rewrite a snapshot of", cause: cause.into() }
}
