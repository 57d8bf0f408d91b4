//! A repository as a capture finds it, and the two ways to archive: files of this host, and the streams of a source.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use jiff::Zoned;
use nix::unistd::{getgid, getuid};
use rustic_core::{
    BackupOptions, OpenStatus, ParentOptions, SnapshotGroupCriterion, SnapshotOptions, TreeId,
    repofile::SnapshotFile,
};
use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::{
    Repository, RepositoryError,
    archive::{self, Archive, ArchivedFiles},
    backend::{Backend, Gate},
    crypto::RepositoryKey,
    feed::Feed,
    reach::Reach,
    snapshot::{Snapshot, SnapshotId},
};
use crate::{
    CancellationToken,
    engine::artifact::{CaptureState, Entry},
    ground::{
        SourceName, host,
        host::HostName,
        progress::{ProgressSink, StageProgress, Unit},
    },
};

/// Program name and version, as snapshots and manifests record it.
pub(crate) const PROGRAM: &str = concat!("kaleem-dr ", env!("CARGO_PKG_VERSION"));

/// The name of rustic_core's progress bar for a capture.
const ARCHIVING: &str = "backing up";

/// A repository with its index in memory, and the snapshot from which unchanged files are reused.
pub(super) struct Prepared {
    engine: rustic_core::Repository<rustic_core::IndexedFullStatus>,
    pub(super) way: Way,
    backend: Backend,
    key: RepositoryKey,
    bar: Arc<CaptureBar>,
    /// Total size of the packs, in bytes; 0 if unknown.
    pub(super) repository_bytes: u64,
    parent: Option<(SnapshotId, TreeId)>,
    /// The parent's trees that are known to be whole.
    reach: Reach,
    /// The reason why the last snapshot is not used as parent.
    healed: Option<String>,
}

/// The two ways to archive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Files of this host, by our own archiver. It checks what it reuses.
    Files,
    /// Streams, by rustic_core's, which does not.
    Streams,
}

/// Shows rustic_core's progress bar of a capture under the source's name. It also counts unchanged files, and its total is the
/// size of the last snapshot, so that rate and end can be estimated.
#[derive(Debug)]
pub(super) struct CaptureBar {
    sink: Arc<dyn ProgressSink>,
    title: String,
    expected: OnceLock<u64>,
}

impl CaptureBar {
    pub(super) fn of(source: &SourceName, sink: &Arc<dyn ProgressSink>) -> Arc<Self> {
        Arc::new(Self {
            sink: sink.clone(),
            title: format!("capturing {source}"),
            expected: OnceLock::new(),
        })
    }
}

impl ProgressSink for CaptureBar {
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress> {
        if title == ARCHIVING {
            self.sink.begin(&self.title, unit, self.expected.get().copied())
        } else {
            self.sink.begin(title, unit, total)
        }
    }
}

pub(super) struct Archived {
    pub(super) engine: rustic_core::Repository<OpenStatus>,
    pub(super) file: SnapshotFile,
    /// Trees that are known to be whole.
    pub(super) reach: Reach,
    /// Damage of the last snapshot because of which data were read again.
    pub(super) healed: Option<String>,
}

impl Prepared {
    pub(super) fn new(
        repository: &Repository,
        gate: Arc<Gate>,
        bar: &Arc<CaptureBar>,
        snapshots: &[Snapshot],
        (host, source): (&HostName, &SourceName),
        (roots, has_only_files): (&[PathBuf], bool),
        stop: &CancellationToken,
    ) -> Result<Self, RepositoryError> {
        let progress: Arc<dyn ProgressSink> = bar.clone();
        let now = jiff::Timestamp::now();
        let newest = |matches: &dyn Fn(&Snapshot) -> bool, snapshots: &[Snapshot]| {
            snapshots
                .iter()
                .filter(|snapshot| {
                    snapshot.host() == host.as_str()
                        && !snapshot.is_of_the_future(now)
                        && matches(snapshot)
                })
                .max_by_key(|snapshot| snapshot.time().timestamp())
                .map(Snapshot::id)
        };
        // In a repository taken over from restic, the first run starts from its last snapshot of the same paths.
        let parent = newest(&|snapshot| snapshot.source().as_ref() == Some(source), snapshots)
            .or_else(|| newest(&|snapshot| snapshot.paths() == roots, snapshots));
        let parent = snapshots.iter().find(|snapshot| Some(snapshot.id()) == parent);
        if let Some(size_bytes) = parent.and_then(Snapshot::size_bytes) {
            // Set once, before anything is captured.
            let _ = bar.expected.set(size_bytes);
        }
        let inner = &repository.0;
        let backend = Backend::new(inner.store.clone(), inner.runtime.clone(), gate.clone());
        let engine = repository.indexed(gate, &progress)?;
        let is_supported = archive::is_supported(engine.config());
        let way = if has_only_files && is_supported { Way::Files } else { Way::Streams };
        // The engine reuses data of a parent without checking them. So the parent must be whole; otherwise everything is read and
        // stored again.
        let mut reach = Reach::default();
        let lost = parent
            .filter(|_| way == Way::Streams)
            .map(|parent| reach.walk(&engine, parent.file.tree, &|_| false, stop))
            .transpose()?;
        let (parent, healed) = match (parent, lost) {
            (Some(parent), Some(lost)) if !lost.is_empty() => {
                let id = parent.id().short();
                (
                    None,
                    Some(format!(
                        "of the last snapshot, {id}, {lost}; so everything was read, and what was lost is stored again"
                    )),
                )
            }
            (parent, _) => (parent.map(|parent| (parent.id(), parent.file.tree)), None),
        };
        let (key, bar, repository_bytes) = (inner.key.clone(), bar.clone(), 0);
        Ok(Self { engine, way, backend, key, bar, repository_bytes, parent, reach, healed })
    }

    /// Archives files of this host.
    pub(super) fn archive_files(
        self,
        entries: Receiver<Vec<Entry>>,
        state: &Arc<CaptureState>,
        (roots, mut file): (&[PathBuf], SnapshotFile),
        is_dry_run: bool,
    ) -> Result<Archived, RepositoryError> {
        let paths = roots.iter().map(|root| root.to_str()).collect::<Option<Vec<&str>>>();
        file.paths =
            paths.and_then(|paths| serde_json::from_value(json!(paths)).ok()).ok_or_else(|| {
                RepositoryError::NotCommitted("a path of the source is not UTF-8".into())
            })?;
        if let Some((parent, _)) = self.parent {
            file.parent = Some(parent.0);
            file.parents = vec![parent.0];
        }
        let progress = self.bar.begin(ARCHIVING, Unit::Bytes, None);
        let archive = Archive {
            engine: &self.engine,
            backend: &self.backend,
            key: &self.key,
            parent: self.parent.map(|(_, tree)| tree),
            repository_bytes: self.repository_bytes,
            state,
            progress: &*progress,
            is_dry_run,
        };
        let ArchivedFiles { tree, summary, whole, lost } = archive.run(entries)?;
        (file.tree, file.summary) = (tree, Some(summary));
        let healed = self.parent.filter(|_| !lost.is_empty()).map(|(parent, _)| {
            let id = parent.short();
            format!("of the last snapshot, {id}, {lost}; so this was read, and what was lost is stored again")
        });
        let (engine, reach) = (self.engine.drop_index(), Reach::knowing(whole));
        Ok(Archived { engine, file, reach, healed })
    }

    /// Archives the streams of a source, and its files.
    pub(super) fn archive(
        self,
        feed: &Feed,
        (roots, file): (&[PathBuf], SnapshotFile),
        dry_run: bool,
    ) -> Result<Archived, RepositoryError> {
        let failed = || RepositoryError::engine("write to");
        let parents = match self.parent {
            Some((id, _)) => ParentOptions::default()
                .parents(vec![id.to_string()])
                .group_by(SnapshotGroupCriterion::new()),
            None => ParentOptions::default().force(true),
        };
        let options = BackupOptions::default().parent_opts(parents).dry_run(dry_run).no_scan(true);
        let file = self.engine.archive(&options, feed, file, roots).map_err(failed())?;
        let (engine, reach, healed) = (self.engine.drop_index(), self.reach, self.healed);
        Ok(Archived { engine, file, reach, healed })
    }
}

/// The snapshot file, without its tree.
pub(super) fn snapshot_file(
    (host, label): (&HostName, String),
    tags: &str,
) -> Result<SnapshotFile, RepositoryError> {
    let failed = || RepositoryError::engine("write to");
    let mut file = SnapshotOptions::default()
        .host(Some(host.to_string()))
        .label(label)
        .time(Zoned::now())
        .add_tags(tags)
        .and_then(|options| options.to_snapshot())
        .map_err(failed())?;
    PROGRAM.clone_into(&mut file.program_version);
    file.username = host::user();
    (file.uid, file.gid) = (getuid().as_raw(), getgid().as_raw());
    Ok(file)
}
