//! The nightly run: every source into a snapshot of its own, then retention.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use tracing::Instrument as _;

use super::{RunId, StagedFile, Staging};
use crate::{
    CancellationToken,
    exit::Exit,
    host,
    manifest::{ConsistencyGrade, Incomplete},
    point::PointReader,
    progress::ProgressSink,
    repository::{
        LockKind, PruneOptions, PruneReport, Repository, RepositoryError, Retention, SaveError, SaveOptions, Saved, SnapshotId,
        select,
    },
    sentence,
    source::{Source, SourceError, SourceName},
};

/// What a run does.
#[derive(Clone)]
pub struct BackupJob {
    /// Where to.
    pub repository: Repository,
    /// What, in this order.
    pub sources: Vec<Arc<dyn Source>>,
    /// Sources that are wanted but could not be made (a secret is missing, say): they count as failed.
    pub unavailable: Vec<Unavailable>,
    /// What to forget afterwards; `None` forgets nothing.
    pub retention: Option<Retention>,
    /// Whether to prune after forgetting.
    pub prune: bool,
    /// Where each source's staged file goes; `None` makes none.
    pub staging: Option<Staging>,
    /// More tags for every snapshot.
    pub tags: Vec<String>,
    /// Read everything, write nothing.
    pub dry_run: bool,
    /// Where this host's runs queue for the repository; `None` lets them race.
    pub state_directory: Option<PathBuf>,
    /// How long to wait for another tool's lock.
    pub patience: Duration,
}

impl BackupJob {
    /// A run of these sources that forgets nothing, queues nowhere and waits for no lock.
    #[must_use]
    pub fn new(repository: Repository, sources: Vec<Arc<dyn Source>>) -> Self {
        Self {
            repository,
            sources,
            unavailable: Vec::new(),
            retention: None,
            prune: false,
            staging: None,
            tags: Vec::new(),
            dry_run: false,
            state_directory: None,
            patience: Duration::ZERO,
        }
    }
}

/// A source that could not be made.
#[derive(Clone, Debug)]
pub struct Unavailable {
    /// Its name.
    pub source: SourceName,
    /// Its kind.
    pub kind: String,
    /// Why.
    pub why: String,
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Its id.
    pub run: RunId,
    /// Host it ran on.
    pub host: String,
    /// Repository, in words.
    pub repository: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// One line a source, in order.
    pub sources: Vec<SourceReport>,
    /// Snapshots forgotten; `None` when none was to be.
    pub forgotten: Option<usize>,
    /// What prune did; `None` when it was not to run.
    pub prune: Option<PruneReport>,
    /// Why retention failed, where it did.
    pub retention_error: Option<String>,
    /// How it all ended.
    pub exit: Exit,
}

/// What became of one source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// Its name.
    pub source: SourceName,
    /// Its kind.
    pub kind: String,
    /// Its snapshot; `None` when it failed, or in a dry run.
    pub snapshot: Option<SnapshotId>,
    /// Why it failed.
    pub error: Option<String>,
    /// Bytes captured.
    pub size_bytes: u64,
    /// Bytes added to the repository.
    pub added_bytes: u64,
    /// Artifacts captured.
    pub artifacts: usize,
    /// Items (documents, definitions) in those, where they are counted.
    pub items: u64,
    /// Files captured from trees.
    pub files: u64,
    /// Files that were new, changed, unchanged.
    pub files_new: u64,
    /// See `files_new`.
    pub files_changed: u64,
    /// See `files_new`.
    pub files_unmodified: u64,
    /// Plain bytes that were new to the repository.
    pub new_blob_bytes: u64,
    /// How far the data belong to one moment.
    pub consistency: Option<ConsistencyGrade>,
    /// Which moment.
    pub consistent_at: Option<Timestamp>,
    /// What had to be left out.
    pub incomplete: Vec<Incomplete>,
    /// Its staged file.
    pub staged: Option<StagedFile>,
    /// Why there is no staged file although there should be.
    pub staged_error: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub exit: Exit,
}

/// Runs a backup. A source that fails leaves no snapshot and does not keep the others from being saved.
///
/// # Errors
/// Only what keeps the run from beginning: no lock, say. Everything else is in the report.
pub async fn backup(
    job: &BackupJob,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<RunReport, RepositoryError> {
    let run = RunId::new();
    // Every line that is logged below bears the run's id.
    run_backup(job, run, progress, cancel).instrument(tracing::info_span!("run", id = %run)).await
}

async fn run_backup(
    job: &BackupJob,
    run: RunId,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<RunReport, RepositoryError> {
    let started = Timestamp::now();
    let _queue = match &job.state_directory {
        Some(directory) => Some(queue(directory, job.repository.id(), cancel).await?),
        None => None,
    };
    let options = SaveOptions { run, tags: job.tags.clone(), dry_run: job.dry_run };
    let lock = job.repository.lock(LockKind::Shared, job.patience).await?;
    let mut sources: Vec<SourceReport> = job.unavailable.iter().map(SourceReport::unavailable).collect();
    for source in &job.sources {
        tracing::info!(source = %source.name(), "capturing");
        let began = Timestamp::now();
        let result = job.repository.save(&**source, &options, &lock, progress, cancel).await;
        let mut report = report(&**source, &result, began);
        if let (Some(staging), Some(snapshot)) = (&job.staging, report.snapshot)
            && staging.wants(source.name())
        {
            match stage(job, staging, &**source, snapshot, progress, cancel).await {
                Ok(staged) => report.staged = staged,
                Err(error) => {
                    report.staged_error = Some(sentence(&error));
                    report.exit = Exit::Partial;
                }
            }
            report.seconds = Timestamp::now().duration_since(began).as_secs_f64();
        }
        if let Some(error) = &report.error {
            tracing::error!(source = %source.name(), %error, "source failed");
        } else {
            tracing::info!(source = %source.name(), bytes = report.size_bytes, added = report.added_bytes, "saved");
        }
        if let Some(error) = &report.staged_error {
            tracing::error!(source = %source.name(), %error, "no staged file was made");
        }
        let stop = matches!(report.exit, Exit::Cancelled)
            || matches!(result, Err(SaveError::Repository(RepositoryError::LockLost { .. })));
        sources.push(report);
        if stop {
            break;
        }
    }
    lock.release().await?;

    let mut report = RunReport {
        run,
        host: host::name(),
        repository: job.repository.location(),
        started,
        finished: started,
        dry_run: job.dry_run,
        sources,
        forgotten: None,
        prune: None,
        retention_error: None,
        exit: Exit::Done,
    };
    if let Some(retention) = job.retention
        && !job.dry_run
        && !cancel.is_cancelled()
        && let Err(error) = retain(job, retention, &mut report, progress, cancel).await
    {
        tracing::error!(error = %sentence(&error), "retention failed");
        report.retention_error = Some(sentence(&error));
    }
    report.finished = Timestamp::now();
    report.exit = exit(&report, job.sources.len() + job.unavailable.len(), cancel);
    Ok(report)
}

/// The staged file of a snapshot that this run has just made.
async fn stage(
    job: &BackupJob,
    staging: &Staging,
    source: &dyn Source,
    snapshot: SnapshotId,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<Option<StagedFile>, SourceError> {
    if source.staged().is_none() {
        return Ok(None);
    }
    let point = async {
        let snapshots = job.repository.snapshots().await?;
        let reader = job.repository.read(select(&snapshots, &snapshot.to_string())?).await?;
        PointReader::open(reader, progress.clone(), cancel.clone()).await
    };
    staging.stage(source, &point.await.map_err(|error| SourceError::Point(error.into()))?).await
}

async fn retain(
    job: &BackupJob,
    retention: Retention,
    report: &mut RunReport,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    let lock = job.repository.lock(LockKind::Exclusive, job.patience).await?;
    let result = async {
        let forgotten = job.repository.forget(retention, false, &lock, progress, cancel).await?;
        report.forgotten = Some(forgotten.removed());
        if job.prune {
            report.prune = Some(job.repository.prune(PruneOptions::default(), &lock, progress, cancel).await?);
        }
        Ok(())
    }
    .await;
    lock.release().await.and(result)
}

/// The worst of what happened, so that no failure hides behind a success.
fn exit(report: &RunReport, wanted: usize, cancel: &CancellationToken) -> Exit {
    if cancel.is_cancelled() {
        return Exit::Cancelled;
    }
    let failed: Vec<Exit> = report.sources.iter().filter(|source| source.error.is_some()).map(|source| source.exit).collect();
    if !failed.is_empty() && failed.len() == wanted {
        // Nothing was saved. One reason for all is the run's; else it just failed.
        return if failed.iter().all(|exit| *exit == failed[0]) { failed[0] } else { Exit::Failed };
    }
    let partial = report.sources.iter().any(|source| source.exit != Exit::Done);
    if partial || report.retention_error.is_some() { Exit::Partial } else { Exit::Done }
}

impl SourceReport {
    fn empty(source: SourceName, kind: String) -> Self {
        Self {
            source,
            kind,
            snapshot: None,
            error: None,
            size_bytes: 0,
            added_bytes: 0,
            artifacts: 0,
            items: 0,
            files: 0,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            new_blob_bytes: 0,
            consistency: None,
            consistent_at: None,
            incomplete: Vec::new(),
            staged: None,
            staged_error: None,
            seconds: 0.0,
            exit: Exit::Done,
        }
    }

    fn unavailable(source: &Unavailable) -> Self {
        let mut report = Self::empty(source.source.clone(), source.kind.clone());
        report.error = Some(format!("source {}: {}", source.source, source.why));
        report.exit = Exit::Usage;
        report
    }
}

fn report(source: &dyn Source, result: &Result<Saved, SaveError>, began: Timestamp) -> SourceReport {
    let mut report = SourceReport::empty(source.name().clone(), source.kind().to_owned());
    report.seconds = Timestamp::now().duration_since(began).as_secs_f64();
    match result {
        Ok(saved) => {
            let manifest = &saved.manifest;
            report.snapshot = saved.snapshot;
            report.size_bytes = manifest.size_bytes();
            report.added_bytes = saved.added_bytes;
            report.artifacts = manifest.artifacts.len();
            report.items = manifest.artifacts.iter().filter_map(|artifact| artifact.items).sum();
            report.files = manifest.tree.files;
            report.files_new = saved.files_new;
            report.files_changed = saved.files_changed;
            report.files_unmodified = saved.files_unmodified;
            report.new_blob_bytes = saved.new_blob_bytes;
            report.consistency = Some(manifest.consistency.grade);
            report.consistent_at = Some(manifest.consistency.at);
            report.incomplete.clone_from(&manifest.incomplete);
            if !report.incomplete.is_empty() {
                report.exit = Exit::Partial;
            }
        }
        Err(error) => {
            report.error = Some(format!("source {}: {}", source.name(), sentence(error)));
            report.exit = error.into();
        }
    }
    report
}

/// Waits for this host's turn at a repository. The queue ends with the file's handle, however the process ends.
async fn queue(directory: &Path, repository: &str, cancel: &CancellationToken) -> Result<Flock<File>, RepositoryError> {
    let path = directory.join(format!("writer-{}.lock", &repository[..16.min(repository.len())]));
    let failed = |action| {
        let path = path.clone();
        move |cause| RepositoryError::Path { path, action, cause }
    };
    fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
    let mut told = false;
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed("open"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                if !told {
                    tracing::info!("another run of this host is using the repository; waiting for it");
                    told = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                    () = cancel.cancelled() => return Err(RepositoryError::Cancelled),
                }
            }
            Err((_, errno)) => return Err(failed("lock")(errno.into())),
        }
    }
}
