//! The nightly run: every source into a snapshot of its own, copies of them, a look at whether they are normal, then retention.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tracing::Instrument as _;

use super::{
    CopyOutcome, FurtherRepository, StagedFile, Staging,
    further::Further,
    history::note,
    queue::queue,
    report::{RunReport, SourceReport},
    retain::{Retaining, retain},
    watch::{Fresh, Watched, watch},
};
use crate::{
    CancellationToken,
    engine::repository::{
        Lock, LockKind, Repository, RepositoryError, Retention, SaveError, SaveOptions, Saved,
        SnapshotId, select, tags_for,
    },
    ground::{
        Exit, RunId, SourceError, error_chain,
        host::{HostName, HostScope},
        progress::ProgressSink,
    },
    operate::{
        tripwire,
        tripwire::{Alarms, Tripwire},
    },
    recovery::{
        point::PointReader,
        source::{Restorable, Unavailable},
    },
};

/// What a run does.
#[derive(Clone)]
pub struct BackupJob {
    /// Id of the run; `None` makes a new one.
    pub run: Option<RunId>,
    /// The host that snapshots are of, and whose snapshots may be forgotten.
    pub host: HostName,
    /// Where to.
    pub repository: Repository,
    /// What, in this order.
    pub sources: Vec<Arc<dyn Restorable>>,
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
    /// What `/RESTORE.md` says in each snapshot, as [`crate::operate::runbook::Runbook::restore_md`] makes it; `None` for what holds anywhere.
    pub restore_text: Option<Arc<str>>,
    /// Read everything, write nothing.
    pub dry_run: bool,
    /// Where this host's runs queue for the repository, and where alarms stand; `None` lets runs race and raises none.
    pub state_directory: Option<PathBuf>,
    /// Repositories that get a copy of what is saved, in this order.
    pub also: Vec<FurtherRepository>,
    /// When a snapshot is suspicious. Retention does not run while an alarm stands, also where this is `None`.
    pub tripwire: Option<Tripwire>,
    /// How long to wait for another tool's lock.
    pub patience: Duration,
}

impl BackupJob {
    /// A run of these sources that forgets nothing, queues nowhere and waits for no lock.
    #[must_use]
    pub fn new(repository: Repository, sources: Vec<Arc<dyn Restorable>>) -> Self {
        Self {
            run: None,
            host: HostName::of_machine(),
            repository,
            sources,
            unavailable: Vec::new(),
            retention: None,
            prune: false,
            staging: None,
            tags: Vec::new(),
            restore_text: None,
            dry_run: false,
            state_directory: None,
            also: Vec::new(),
            tripwire: None,
            patience: Duration::ZERO,
        }
    }
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
    let (run, started) = (job.run.unwrap_or_default(), Timestamp::now());
    // Every line that is logged below bears the run's id.
    let result = run_backup(job, run, progress, cancel)
        .instrument(tracing::info_span!("run", id = %run))
        .await;
    if let (Some(directory), false) = (&job.state_directory, job.dry_run) {
        note(directory, job.repository.location(), run, started, &result)?;
    }
    result
}

/// The report of a run that begins now.
fn begin(job: &BackupJob, run: RunId, started: Timestamp) -> RunReport {
    RunReport {
        run,
        host: job.host.to_string(),
        repository: job.repository.location(),
        started,
        finished: started,
        dry_run: job.dry_run,
        sources: job.unavailable.iter().map(SourceReport::unavailable).collect(),
        forgotten: None,
        prune: None,
        retention_error: None,
        further: Vec::new(),
        alarms: Vec::new(),
        withheld: None,
        repository_error: None,
        exit: Exit::Done,
    }
}

#[expect(clippy::too_many_lines, reason = "the order of a run, told in one place")]
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
    let options = SaveOptions {
        run,
        host: job.host.clone(),
        tags: tags_for(&job.tags, job.host.as_str()),
        dry_run: job.dry_run,
        restore_text: job.restore_text.clone(),
    };
    let mut further: Vec<Further<'_>> = job.also.iter().map(Further::new).collect();
    let mut report = begin(job, run, started);
    let lock = match job.repository.lock(LockKind::Shared, job.patience).await {
        Ok(lock) => Some(lock),
        Err(error) if job.also.is_empty() || job.dry_run || !is_broken(&error) => {
            return Err(error);
        }
        Err(error) => {
            tracing::error!(error = %error_chain(&error), "the repository cannot be used; the next one stands in for it");
            report.repository_error = Some(error_chain(&error));
            None
        }
    };
    let mut fresh: Vec<(usize, Fresh)> = Vec::new();
    for source in &job.sources {
        tracing::info!(source = %source.name(), "capturing");
        let began = Timestamp::now();
        let mut result = match &lock {
            Some(lock) => job.repository.save(&**source, &options, lock, progress, cancel).await,
            None => {
                Err(RepositoryError::Unusable(report.repository_error.clone().unwrap_or_default())
                    .into())
            }
        };
        let stop = matches!(
            &result,
            Err(SaveError::Repository(
                RepositoryError::LockLost { .. } | RepositoryError::Cancelled
            ))
        ) || cancel.is_cancelled();
        let mut held_by = OWN;
        let mut stand_in = None;
        if let Err(SaveError::Repository(error)) = &result
            && is_broken(error)
            && !job.dry_run
            && let Some((by, saved)) =
                save_instead(job, &mut further, &**source, &options, progress, cancel).await
        {
            let failed = error_chain(error);
            let outcome = CopyOutcome {
                repository: further[by].of.name.clone(),
                snapshot: saved.snapshot,
                error: None,
                added_bytes: saved.added_bytes,
            };
            (held_by, stand_in, result) = (by, Some((failed, outcome)), Ok(saved));
        }
        let mut line = report_of(&**source, &result, began);
        if let Ok(saved) = &result
            && let Some(snapshot) = saved.snapshot
        {
            let (source, manifest) = (source.name().clone(), saved.manifest.clone());
            fresh.push((
                held_by,
                Fresh { source, snapshot, manifest, new_blob_bytes: saved.new_blob_bytes },
            ));
        }
        if let Some((failed, outcome)) = stand_in {
            line.snapshot = None;
            line.added_bytes = 0;
            line.error =
                Some(format!("source {}: {failed}; {} has it", source.name(), outcome.repository));
            line.exit = Exit::Partial;
            line.copies.push(outcome);
        }
        if let (Some(staging), Some(snapshot)) = (&job.staging, line.snapshot)
            && staging.wants(source.name())
        {
            match stage(job, staging, &**source, snapshot, progress, cancel).await {
                Ok(staged) => line.staged = staged,
                Err(error) => {
                    line.staged_error = Some(error_chain(&error));
                    line.exit = Exit::Partial;
                }
            }
            line.seconds = Timestamp::now().duration_since(began).as_secs_f64();
        }
        if let Some(error) = &line.error {
            tracing::error!(source = %source.name(), %error, "source failed");
        } else {
            tracing::info!(source = %source.name(), bytes = line.size_bytes, added = line.added_bytes, "saved");
        }
        if let Some(error) = &line.staged_error {
            tracing::error!(source = %source.name(), %error, "no staged file was made");
        }
        let stop = stop || matches!(line.exit, Exit::Cancelled);
        report.sources.push(line);
        if stop {
            break;
        }
    }
    if !job.dry_run {
        copy_everywhere(job, lock.as_ref(), &mut further, &fresh, &mut report, progress, cancel)
            .await;
    }
    for repository in &mut further {
        repository.release().await;
    }
    if let Some(lock) = lock
        && let Err(error) = lock.release().await
    {
        if job.also.is_empty() {
            return Err(error);
        }
        report.repository_error = Some(error_chain(&error));
    }
    if !job.dry_run {
        watch_all(job, &further, &fresh, &mut report).await;
    }
    if let Some(retention) = &job.retention
        && !job.dry_run
        && !cancel.is_cancelled()
        && report.withheld.is_none()
    {
        let retaining = Retaining {
            retention,
            prune: job.prune,
            host: &job.host,
            state_directory: job.state_directory.as_deref(),
            patience: job.patience,
        };
        if report.repository_error.is_none() {
            match retain(&job.repository, &retaining, progress, cancel).await {
                Ok(retained) => {
                    (report.forgotten, report.prune) = (Some(retained.forgotten), retained.prune);
                    report.withheld = retained.withheld;
                }
                Err(error) => {
                    tracing::error!(error = %error_chain(&error), "retention failed");
                    report.retention_error = Some(error_chain(&error));
                }
            }
        }
        for repository in &mut further {
            repository.retain(&retaining, progress, cancel).await;
        }
    }
    report.further = further.into_iter().map(|repository| repository.report).collect();
    report.finished = Timestamp::now();
    report.exit = exit(&report, job.sources.len() + job.unavailable.len(), cancel);
    Ok(report)
}

/// Stands for the run's own repository where a further one is named by its place.
const OWN: usize = usize::MAX;

/// Whether it is the repository that failed, so that another one may do better.
fn is_broken(error: &RepositoryError) -> bool {
    !matches!(
        error,
        RepositoryError::Cancelled
            | RepositoryError::NotCommitted(_)
            | RepositoryError::Locked { .. }
            | RepositoryError::Guarded(_)
    )
}

/// Captures a source into the first further repository that takes it. Gives its place among them.
async fn save_instead(
    job: &BackupJob,
    further: &mut [Further<'_>],
    source: &dyn Restorable,
    options: &SaveOptions,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Option<(usize, Saved)> {
    for (at, next) in further.iter_mut().enumerate() {
        let mut options = options.clone();
        options.tags.extend(tags_for(&next.of.tags, job.host.as_str()));
        let Some((repository, lock)) = next.locked(job.patience).await else { continue };
        tracing::warn!(source = %source.name(), repository = %repository.location(), "capturing straight into the next repository");
        match repository.save(source, &options, lock, progress, cancel).await {
            Ok(saved) => return Some((at, saved)),
            Err(SaveError::Repository(error)) if is_broken(&error) => next.fail(&error),
            Err(_) => return None,
        }
    }
    None
}

/// Copies what was saved into every further repository that does not hold it yet.
async fn copy_everywhere(
    job: &BackupJob,
    lock: Option<&Lock>,
    further: &mut [Further<'_>],
    fresh: &[(usize, Fresh)],
    report: &mut RunReport,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) {
    for holder in std::iter::once(OWN).chain(0..further.len()) {
        let ids: HashSet<SnapshotId> =
            fresh.iter().filter(|(by, _)| *by == holder).map(|(_, fresh)| fresh.snapshot).collect();
        if ids.is_empty() {
            continue;
        }
        for at in (0..further.len()).filter(|at| *at != holder) {
            if cancel.is_cancelled() {
                return;
            }
            let (before, rest) = further.split_at_mut(at);
            let Some((next, after)) = rest.split_first_mut() else { continue };
            let from = if holder == OWN {
                lock.map(|lock| (&job.repository, lock))
            } else {
                let holder = if holder < at {
                    before.get_mut(holder)
                } else {
                    after.get_mut(holder - at - 1)
                };
                match holder {
                    Some(holder) => holder.locked(job.patience).await,
                    None => None,
                }
            };
            let Some(from) = from else { continue };
            next.copy_from(from, &ids, &mut report.sources, job.patience, progress, cancel).await;
        }
    }
}

/// Looks whether what was saved is normal, and what alarms stand now. When nobody can tell, nothing is to be forgotten.
async fn watch_all(
    job: &BackupJob,
    further: &[Further<'_>],
    fresh: &[(usize, Fresh)],
    report: &mut RunReport,
) {
    let Some(state_directory) = &job.state_directory else { return };
    if let Some(tripwire) = &job.tripwire {
        let others = further
            .iter()
            .enumerate()
            .filter_map(|(at, next)| Some((at, next.of.repository.as_ref().ok()?)));
        for (at, repository) in std::iter::once((OWN, &job.repository)).chain(others) {
            let saved: Vec<Fresh> =
                fresh.iter().filter(|(by, _)| *by == at).map(|(_, fresh)| fresh.clone()).collect();
            let watched =
                Watched { repository, host: &job.host, state_directory, patience: job.patience };
            if let Err(error) = watch(&watched, tripwire, report.run, &saved).await {
                let error = format!(
                    "nobody can tell whether the snapshots are normal: {}",
                    error_chain(&error)
                );
                tracing::error!(%error, "nothing is forgotten or pruned");
                report.withheld = Some(error);
            }
        }
    }
    match Alarms::load(state_directory) {
        Ok(alarms) => report.alarms = alarms.standing().to_vec(),
        Err(error) => report.withheld = Some(error_chain(&error)),
    }
    if !report.alarms.is_empty() {
        let seen: Vec<String> = report.alarms.iter().map(ToString::to_string).collect();
        let why = tripwire::refusal(&seen.join("; "));
        tracing::error!(%why, "nothing is forgotten or pruned");
        report.withheld = Some(why);
    }
}

/// The staged file of a snapshot that this run has just made.
async fn stage(
    job: &BackupJob,
    staging: &Staging,
    source: &dyn Restorable,
    snapshot: SnapshotId,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<Option<StagedFile>, SourceError> {
    if source.staged().is_none() {
        return Ok(None);
    }
    let point = async {
        let snapshots = job.repository.snapshots().await?;
        let reader = job
            .repository
            .read(select(&snapshots, &snapshot.to_string(), &HostScope::Any)?)
            .await?;
        PointReader::open(reader, progress.clone(), cancel.clone()).await
    };
    staging.stage(source, &point.await.map_err(|error| SourceError::Point(error.into()))?).await
}

/// The worst of what happened, so that no failure hides behind a success.
fn exit(report: &RunReport, wanted: usize, cancel: &CancellationToken) -> Exit {
    if cancel.is_cancelled() {
        return Exit::Cancelled;
    }
    let failed: Vec<Exit> =
        report.sources.iter().filter(|source| source.is_lost()).map(|source| source.exit).collect();
    if !failed.is_empty() && failed.len() == wanted {
        // Nothing was saved. One reason for all is the run's; else it just failed.
        return if failed.iter().all(|exit| *exit == failed[0]) { failed[0] } else { Exit::Failed };
    }
    let partial = report.sources.iter().any(|source| source.exit != Exit::Done);
    let further = report
        .further
        .iter()
        .any(|further| further.error.is_some() || further.retention_error.is_some());
    let own = report.retention_error.is_some()
        || report.repository_error.is_some()
        || report.withheld.is_some();
    if partial || further || own { Exit::Partial } else { Exit::Done }
}

fn report_of(
    source: &dyn Restorable,
    result: &Result<Saved, SaveError>,
    began: Timestamp,
) -> SourceReport {
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
            report.healed.clone_from(&saved.healed);
            report.consistency = Some(manifest.consistency.grade);
            report.consistent_at = Some(manifest.consistency.at);
            report.incomplete.clone_from(&manifest.incomplete);
            if !report.incomplete.is_empty() {
                report.exit = Exit::Partial;
            }
        }
        Err(error) => {
            report.error = Some(format!("source {}: {}", source.name(), error_chain(error)));
            report.exit = error.into();
        }
    }
    report
}
