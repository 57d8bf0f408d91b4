//! Copies snapshots into a repository with its own id and password.
//!
//! rustic_core transfers the blobs, but silently skips those that the source's index lacks. So the snapshot file is withheld,
//! every tree is read back through the destination, and a snapshot is released only if all of its blobs exist.

use std::{collections::HashSet, fmt, sync::Arc};

use rustic_core::{
    IndexedFullStatus, TreeId,
    repofile::{ConfigFile, SnapshotFile},
};
use serde::Serialize;

use super::{
    Repository, RepositoryError,
    backend::Gate,
    blocking, commit,
    lock::Lock,
    proof::Depth,
    snapshot::{Snapshot, SnapshotId},
};
use crate::{
    CancellationToken,
    ground::{
        Exit, RunId, SourceName, error_chain,
        progress::{ProgressSink, Silent},
    },
};

type Engine = rustic_core::Repository<IndexedFullStatus>;

/// The placeholder for the host's name in a tag.
const HOST_MARK: &str = "{host}";

/// Options for copying snapshots. The default adds no tags and writes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Additional tags for the copies. `{host}` is replaced by the host of the snapshot.
    pub tags: Vec<String>,
    /// Report what would be copied, and write nothing.
    pub dry_run: bool,
}

/// The result of copying, or of its plan.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CopyReport {
    /// The copied snapshots, oldest first.
    pub copied: Vec<CopiedSnapshot>,
    /// Snapshots that existed in the destination.
    pub skipped: Vec<SnapshotId>,
    /// Snapshots that could not be copied. Nothing of them is visible in the destination.
    pub failed: Vec<CopyFailure>,
    /// Bytes added to the destination.
    pub added_bytes: u64,
    /// The two repositories cut files in different places: copies share no blobs with direct saves.
    pub chunkers_differ: bool,
    /// True if nothing was written.
    pub dry_run: bool,
}

/// A snapshot that was copied.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CopiedSnapshot {
    /// Id in the original repository.
    pub from: SnapshotId,
    /// Id in the destination; `None` in a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The source it is of, where we made it.
    pub source: Option<SourceName>,
    /// Data added to the destination, in bytes.
    pub added_bytes: u64,
}

/// A snapshot that was not copied.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CopyFailure {
    /// Id in the original repository.
    pub snapshot: SnapshotId,
    /// The source it is of, where we made it.
    pub source: Option<SourceName>,
    /// The error, with its causes, as one line.
    pub error: String,
    /// Kind of the failure, as the exit status that it would cause alone.
    pub exit: Exit,
}

impl CopyReport {
    /// The exit status: damage takes precedence, because the source then needs attention.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let worst = [Exit::Cancelled, Exit::NotVerified];
        match &self.failed[..] {
            [] => Exit::Done,
            failed => match worst
                .into_iter()
                .find(|exit| failed.iter().any(|failure| failure.exit == *exit))
            {
                Some(exit) => exit,
                None if self.copied.is_empty() => failed[0].exit,
                None => Exit::Partial,
            },
        }
    }
}

/// The parameters by which a repository cuts files into blobs. Two repositories with equal parameters share blobs between copies
/// and direct saves.
#[derive(Clone)]
pub struct ChunkerParams(ConfigFile);

/// The positions of the cuts reveal something of the content to anyone who can see the sizes of blobs, so they are not printed.
impl fmt::Debug for ChunkerParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkerParams([redacted])")
    }
}

impl PartialEq for ChunkerParams {
    fn eq(&self, other: &Self) -> bool {
        let Self(a) = self;
        let Self(b) = other;
        a.chunker == b.chunker
            && a.chunker_polynomial == b.chunker_polynomial
            && (a.chunk_size, a.chunk_min_size, a.chunk_max_size)
                == (b.chunk_size, b.chunk_min_size, b.chunk_max_size)
    }
}

impl ChunkerParams {
    pub(super) fn of(config: &ConfigFile) -> Self {
        Self(config.clone())
    }

    /// A config for a new repository with these parameters and nothing else from the old one.
    pub(super) fn config(self, version: u32) -> Result<ConfigFile, RepositoryError> {
        let id: [u8; 32] = rand::random();
        let id: rustic_core::Id =
            hex::encode(id).parse().map_err(RepositoryError::engine("name"))?;
        let Self(like) = self;
        Ok(ConfigFile {
            version,
            id: id.into(),
            chunker: like.chunker,
            chunker_polynomial: like.chunker_polynomial,
            chunk_size: like.chunk_size,
            chunk_min_size: like.chunk_min_size,
            chunk_max_size: like.chunk_max_size,
            ..ConfigFile::default()
        })
    }
}

/// The fields that identify the same snapshot in two repositories. Ids differ, because a snapshot is encrypted with its
/// repository's key.
type Identity = (TreeId, jiff::Timestamp, String, Vec<std::path::PathBuf>, Option<RunId>);

/// Splits snapshots, oldest first, into those that the destination lacks and those that are `there`.
fn split<'a>(
    snapshots: &'a [Snapshot],
    there: &[Snapshot],
) -> (Vec<&'a Snapshot>, Vec<&'a Snapshot>) {
    let mut there: HashSet<Identity> = there.iter().map(identity).collect();
    let mut wanted: Vec<&Snapshot> = snapshots.iter().collect();
    wanted.sort_by_key(|snapshot| snapshot.time().timestamp());
    wanted.into_iter().partition(|snapshot| there.insert(identity(snapshot)))
}

fn identity(snapshot: &Snapshot) -> Identity {
    let mut paths = snapshot.paths();
    paths.sort();
    (
        snapshot.file.tree,
        snapshot.time().timestamp(),
        snapshot.host().to_owned(),
        paths,
        snapshot.run(),
    )
}

impl Repository {
    /// Copies snapshots of this repository into another one. Both locks must be held; shared ones are sufficient.
    ///
    /// A snapshot that is damaged here only fails itself. If the destination fails, the rest is not attempted.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] if both are one repository or mirrors of one; other errors if either cannot be read at all.
    pub async fn copy_to(
        &self,
        destination: &Self,
        snapshots: &[Snapshot],
        options: &CopyOptions,
        (source_lock, destination_lock): (&Lock, &Lock),
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<CopyReport, RepositoryError> {
        if self.id() == destination.id() {
            return Err(RepositoryError::Guarded(format!(
                "{} and {} are the same repository, or mirrors of one; a copy needs another one",
                self.location(),
                destination.location()
            )));
        }
        let mut report = CopyReport {
            chunkers_differ: self.0.chunker != destination.0.chunker,
            dry_run: options.dry_run,
            ..CopyReport::default()
        };
        let (new, old) = split(snapshots, &destination.snapshots().await?);
        report.skipped = old.into_iter().map(Snapshot::id).collect();
        if options.dry_run || new.is_empty() {
            report.copied = new.into_iter().map(|from| copied_as(from, None, 0)).collect();
            return Ok(report);
        }

        // Data that the destination has lost are copied again.
        destination.mended(destination_lock, cancel).await?;
        let stop = cancel.child_token();
        let gate = Gate::withholding(stop.clone());
        let carrying = {
            let (source, destination) = (self.clone(), destination.clone());
            let (stop, gate, progress) = (stop.clone(), gate.clone(), progress.clone());
            blocking(move || Carrier::open(&source, &destination, stop, gate, &progress)).await?
        };
        let mut carrier = Some(carrying);
        let mut broken: Option<(String, Exit)> = None;
        for snapshot in new {
            let Some(mut carrying) = carrier.take().filter(|_| broken.is_none()) else {
                let (error, exit) =
                    broken.clone().unwrap_or(("the copy broke off".into(), Exit::Failed));
                report.failed.push(failure(snapshot, format!("not tried: {error}"), exit));
                continue;
            };
            let before = gate.written_bytes();
            let work = blocking({
                let file = snapshot.file.clone();
                move || {
                    let carried = carrying.carry(&file);
                    Ok((carrying, carried))
                }
            });
            let (carrying, carried) =
                under_locks(work, (source_lock, destination_lock), &stop).await?;
            carrier = Some(carrying);
            let copied = match carried {
                Ok(()) => {
                    source_lock.confirm().await?;
                    let file = as_copied(&snapshot.file, &options.tags);
                    commit::publish(destination, &file, destination_lock).await
                }
                Err(error) => Err(self.diagnosed(destination, snapshot, error, cancel).await),
            };
            match copied {
                Ok((id, bytes)) => {
                    let added_bytes = bytes + gate.written_bytes() - before;
                    report.copied.push(copied_as(snapshot, Some(id), added_bytes));
                    report.added_bytes += bytes;
                }
                Err(error) => {
                    let exit = Exit::from(&error);
                    if exit != Exit::NotVerified {
                        broken = Some((error_chain(&error), exit));
                    }
                    report.failed.push(failure(snapshot, error_chain(&error), exit));
                }
            }
        }
        report.added_bytes += gate.written_bytes();
        Ok(report)
    }

    /// Distinguishes damage of the source from other failures, which rustic_core's errors do not.
    async fn diagnosed(
        &self,
        destination: &Self,
        snapshot: &Snapshot,
        error: RepositoryError,
        cancel: &CancellationToken,
    ) -> RepositoryError {
        if cancel.is_cancelled() {
            return RepositoryError::Cancelled;
        }
        if matches!(error, RepositoryError::Damaged { .. })
            || !matches!(destination.0.store.size("config").await, Ok(Some(_)))
        {
            return error;
        }
        let look = async {
            let bar = Silent.begin("", crate::ground::progress::Unit::Bytes, None);
            self.read(snapshot).await?.prove(&[], Depth::Objects, &*bar, cancel).await
        };
        match look.await {
            Ok(found) if !found.wrong.is_empty() => RepositoryError::Damaged {
                object: format!("snapshot {} at {}", snapshot.id().short(), self.location()),
                why: found.wrong.join("; "),
            },
            _ => error,
        }
    }
}

/// Waits for work that needs both locks. If one is lost, the work is stopped, and the error says which.
async fn under_locks<T>(
    work: impl Future<Output = Result<T, RepositoryError>>,
    (here, there): (&Lock, &Lock),
    stop: &CancellationToken,
) -> Result<T, RepositoryError> {
    let (lost_here, lost_there) = (here.lost(), there.lost());
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = async { tokio::select! { () = lost_here.cancelled() => {}, () = lost_there.cancelled() => {} } } => {
            stop.cancel();
            // Its result no longer matters: one of the locks below has the reason.
            let _ = work.await;
            here.confirm().await?;
            there.confirm().await?;
            Err(RepositoryError::Cancelled)
        }
    }
}

/// The outcome for a snapshot: the new one, or `None` if it would be created.
fn copied_as(from: &Snapshot, snapshot: Option<SnapshotId>, added_bytes: u64) -> CopiedSnapshot {
    CopiedSnapshot { from: from.id(), snapshot, source: from.source(), added_bytes }
}

fn failure(snapshot: &Snapshot, error: String, exit: Exit) -> CopyFailure {
    CopyFailure { snapshot: snapshot.id(), source: snapshot.source(), error, exit }
}

/// Tags of a repository for a snapshot of this host.
pub(crate) fn tags_for(tags: &[String], host: &str) -> Vec<String> {
    tags.iter().map(|tag| tag.replace(HOST_MARK, host)).collect()
}

/// A snapshot file as it is written to the destination: without a parent, which may not exist there.
fn as_copied(file: &SnapshotFile, tags: &[String]) -> SnapshotFile {
    let mut copied = file.clone();
    copied.original = file.original.or(Some(file.id));
    copied.id = rustic_core::repofile::SnapshotId::default();
    copied.parent = None;
    copied.parents = Vec::new();
    for tag in tags_for(tags, &file.hostname) {
        copied.tags.add(tag);
    }
    copied
}

/// Both repositories with their indexes in memory. Blocking.
struct Carrier {
    source: Engine,
    /// `None` only while its index is read again.
    destination: Option<Engine>,
    gate: Arc<Gate>,
    /// Trees that are whole in the destination, with all below them.
    whole: HashSet<TreeId>,
}

impl Carrier {
    fn open(
        source: &Repository,
        destination: &Repository,
        stop: CancellationToken,
        gate: Arc<Gate>,
        progress: &Arc<dyn ProgressSink>,
    ) -> Result<Self, RepositoryError> {
        let silent: Arc<dyn ProgressSink> = Arc::new(Silent);
        let source = source.indexed(Gate::open(stop), &silent)?;
        let destination = destination.indexed(gate.clone(), progress)?;
        Ok(Self { source, destination: Some(destination), gate, whole: HashSet::new() })
    }

    /// Copies a snapshot's blobs, and checks that all of them exist.
    fn carry(&mut self, file: &SnapshotFile) -> Result<(), RepositoryError> {
        let before = self.gate.written_bytes();
        let carried =
            self.source.copy(self.engine()?, [file]).map_err(RepositoryError::engine("copy to"));
        // Blobs stored before a failure are in the index too, and need not be copied again.
        if self.gate.written_bytes() != before {
            let engine = self.destination.take().map(rustic_core::Repository::drop_index);
            let engine = engine.map(rustic_core::Repository::to_indexed).transpose();
            self.destination =
                engine.map_err(RepositoryError::engine("read the destination's index of"))?;
        }
        carried?;
        self.complete(&file.tree)
    }

    fn engine(&self) -> Result<&Engine, RepositoryError> {
        let gone = || RepositoryError::Engine {
            action: "copy to",
            cause: "its index could not be read before".into(),
        };
        self.destination.as_ref().ok_or_else(gone)
    }

    /// Checks that every blob below a tree is in the destination's index.
    fn complete(&mut self, root: &TreeId) -> Result<(), RepositoryError> {
        let engine = self.engine()?;
        let lacks = |what: &str, id: &rustic_core::Id| RepositoryError::Damaged {
            object: format!("{what} {}", id.to_hex().as_str()),
            why:
                "it is not in the source's index, or was lost on the way; run `check` on the source"
                    .into(),
        };
        let mut seen = HashSet::new();
        let mut pending = vec![*root];
        while let Some(id) = pending.pop() {
            if self.whole.contains(&id) || !seen.insert(id) {
                continue;
            }
            engine.get_index_entry(&id).map_err(|_| lacks("tree", &id.into_inner()))?;
            let tree =
                engine.get_tree(&id).map_err(RepositoryError::engine("read back a tree of"))?;
            for node in tree.nodes {
                pending.extend(node.subtree);
                for blob in node.content.iter().flatten() {
                    engine.get_index_entry(blob).map_err(|_| lacks("blob", &blob.into_inner()))?;
                }
            }
        }
        self.whole.extend(seen);
        Ok(())
    }
}
