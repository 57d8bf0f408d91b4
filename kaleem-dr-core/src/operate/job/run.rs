//! A run, phase by phase: [`begin`](Run::begin), [`capture`](Run::capture), [`copy`](Run::copy), [`release`](Run::release),
//! [`watch`](Run::watch), [`retain`](Run::retain), [`end`](Run::end), in this order.
//!
//! Locks are released before snapshots are judged, and before retention, which takes an exclusive
//! lock. The report records a phase that fails, and later phases still do what is safe: nothing is
//! forgotten if the snapshots could not be judged.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use tracing::Instrument as _;

use super::{
    BackupJob,
    queue::queue,
    report::{RunReport, SourceReport},
    retain::{Retaining, retain},
    secondary::{Secondary, is_broken},
    watch::{Fresh, Watched, watch},
};
use crate::{
    CancellationToken,
    engine::repository::{
        Lock, LockKind, Repository, RepositoryError, SaveOptions, SnapshotId, tags_for,
    },
    ground::{Exit, RunId, error_chain, progress::ProgressSink},
    operate::tripwire::{Alarms, Tripwire, refusal},
};

/// Runs a backup. A source that fails leaves no snapshot, and the others are still saved. The
/// caller records the history, as [`Site::backup`](crate::Site::backup) does.
///
/// # Errors
/// If the run cannot begin, for example without a lock. All other errors are in the report.
pub async fn backup(
    job: &BackupJob,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<RunReport, RepositoryError> {
    let (run, started) = (job.run.unwrap_or_default(), Timestamp::now());
    // Every log line of the run carries its id.
    run_backup(job, (run, started), progress, cancel)
        .instrument(tracing::info_span!("run", id = %run))
        .await
}

/// The phases of a run, in order. Runs of this host queue for a repository, so they never race.
async fn run_backup(
    job: &BackupJob,
    (run, started): (RunId, Timestamp),
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<RunReport, RepositoryError> {
    let _queue = match &job.state_directory {
        Some(directory) => Some(queue(directory, job.repository.id(), cancel).await?),
        None => None,
    };
    let mut run = Run::begin(job, (run, started), progress, cancel).await?;
    run.capture().await;
    run.copy().await;
    run.release().await?;
    run.watch().await;
    run.retain().await;
    Ok(run.end())
}

/// The repository of a run that a snapshot was saved to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Own,
    /// A secondary one, by its index in [`Run::secondaries`].
    Secondary(usize),
}

pub(super) struct Run<'a> {
    pub(super) job: &'a BackupJob,
    pub(super) progress: &'a Arc<dyn ProgressSink>,
    pub(super) cancel: &'a CancellationToken,
    pub(super) options: SaveOptions,
    /// Lock on the run's own repository; `None` if that is unusable and a secondary one takes the
    /// snapshots.
    pub(super) lock: Option<Lock>,
    pub(super) secondaries: Vec<Secondary<'a>>,
    /// The snapshots that this run saved, each with the repository that holds it.
    pub(super) fresh: Vec<(Holder, Fresh)>,
    pub(super) report: RunReport,
}

impl<'a> Run<'a> {
    /// Locks the run's repository. If it is broken and there is a secondary repository, the report
    /// records the error.
    pub(super) async fn begin(
        job: &'a BackupJob,
        (run, started): (RunId, Timestamp),
        progress: &'a Arc<dyn ProgressSink>,
        cancel: &'a CancellationToken,
    ) -> Result<Self, RepositoryError> {
        let options = SaveOptions {
            tags: tags_for(&job.tags, job.host.as_str()),
            dry_run: job.dry_run,
            restore_text: job.restore_text.clone(),
            enclosures: job.enclosures.clone(),
            ..SaveOptions::new(run, job.host.clone())
        };
        let mut report = empty_report(job, run, started);
        let lock = match job.repository.lock(LockKind::Shared, job.patience).await {
            Ok(lock) => Some(lock),
            Err(error) if job.secondaries.is_empty() || job.dry_run || !is_broken(&error) => {
                return Err(error);
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(%error, "the repository is unusable; the next one takes its place");
                report.repository_error = Some(error);
                None
            }
        };
        let secondaries = job.secondaries.iter().map(Secondary::new).collect();
        Ok(Self { job, progress, cancel, options, lock, secondaries, fresh: Vec::new(), report })
    }

    /// Copies the saved snapshots to every secondary repository that does not hold them yet.
    pub(super) async fn copy(&mut self) {
        if self.job.dry_run {
            return;
        }
        let secondary = (0..self.secondaries.len()).map(Holder::Secondary);
        for holder in std::iter::once(Holder::Own).chain(secondary) {
            let ids: HashSet<SnapshotId> =
                self.held_by(holder).map(|fresh| fresh.snapshot).collect();
            if ids.is_empty() {
                continue;
            }
            for to in (0..self.secondaries.len()).filter(|to| holder != Holder::Secondary(*to)) {
                if self.cancel.is_cancelled() {
                    return;
                }
                self.copy_to(holder, to, &ids).await;
            }
        }
    }

    /// Copies snapshots from the repository that holds them to a secondary one.
    async fn copy_to(&mut self, holder: Holder, to: usize, ids: &HashSet<SnapshotId>) {
        let patience = self.job.patience;
        let (before, rest) = self.secondaries.split_at_mut(to);
        let Some((destination, after)) = rest.split_first_mut() else { return };
        let from = match holder {
            Holder::Own => self.lock.as_ref().map(|lock| (&self.job.repository, lock)),
            Holder::Secondary(at) => {
                let secondary =
                    if at < to { before.get_mut(at) } else { after.get_mut(at - to - 1) };
                match secondary {
                    Some(secondary) => secondary.locked(patience).await,
                    None => None,
                }
            }
        };
        if let Some(from) = from {
            let (reports, progress) = (&mut self.report.sources, self.progress);
            destination.copy_from(from, ids, reports, patience, progress, self.cancel).await;
        }
    }

    /// Releases all locks.
    ///
    /// # Errors
    /// If the lock of the run's own repository cannot be released and no secondary one holds the
    /// snapshots.
    pub(super) async fn release(&mut self) -> Result<(), RepositoryError> {
        for secondary in &mut self.secondaries {
            secondary.release().await;
        }
        if let Some(lock) = self.lock.take()
            && let Err(error) = lock.release().await
        {
            if self.job.secondaries.is_empty() {
                return Err(error);
            }
            self.report.repository_error = Some(error_chain(&error));
        }
        Ok(())
    }

    /// Judges whether the saved snapshots are normal, and lists unacknowledged alarms. If the
    /// snapshots cannot be judged, retention is withheld.
    pub(super) async fn watch(&mut self) {
        let (Some(state_directory), false) = (&self.job.state_directory, self.job.dry_run) else {
            return;
        };
        if let Some(tripwire) = &self.job.tripwire {
            self.judge(tripwire, state_directory).await;
        }
        match Alarms::load(state_directory) {
            Ok(alarms) => self.report.alarms = alarms.standing().to_vec(),
            Err(error) => self.report.withheld = Some(error_chain(&error)),
        }
        if !self.report.alarms.is_empty() {
            let seen: Vec<String> = self.report.alarms.iter().map(ToString::to_string).collect();
            let why = refusal(&seen.join("; "));
            tracing::error!(%why, "nothing is forgotten or pruned");
            self.report.withheld = Some(why);
        }
    }

    /// Judges the snapshots of each repository separately, because each has its own history.
    async fn judge(&mut self, tripwire: &Tripwire, state_directory: &std::path::Path) {
        let job = self.job;
        let others = job.secondaries.iter().enumerate().filter_map(|(at, secondary)| {
            Some((Holder::Secondary(at), secondary.repository.as_ref().ok()?))
        });
        for (holder, repository) in std::iter::once((Holder::Own, &job.repository)).chain(others) {
            let saved: Vec<Fresh> = self.held_by(holder).cloned().collect();
            let watched =
                Watched { repository, host: &job.host, state_directory, patience: job.patience };
            if let Err(error) = watch(&watched, tripwire, self.report.run, &saved).await {
                let error = format!(
                    "cannot judge whether the snapshots are normal: {}",
                    error_chain(&error)
                );
                tracing::error!(%error, "nothing is forgotten or pruned");
                self.report.withheld = Some(error);
            }
        }
    }

    /// Forgets and prunes in every repository, unless retention is withheld.
    pub(super) async fn retain(&mut self) {
        let Some(retention) = &self.job.retention else { return };
        if self.job.dry_run || self.cancel.is_cancelled() || self.report.withheld.is_some() {
            return;
        }
        let retaining = Retaining {
            retention,
            prune: self.job.prune,
            prune_every: self.job.prune_every,
            host: &self.job.host,
            state_directory: self.job.state_directory.as_deref(),
            patience: self.job.patience,
        };
        if self.report.repository_error.is_none() {
            self.retain_own(&self.job.repository, &retaining).await;
        }
        for secondary in &mut self.secondaries {
            secondary.retain(&retaining, self.progress, self.cancel).await;
        }
    }

    async fn retain_own(&mut self, repository: &Repository, retaining: &Retaining<'_>) {
        if repository.is_append_only() {
            tracing::info!(
                "this host only adds to its repository, so another one forgets and prunes"
            );
            return;
        }
        match retain(repository, retaining, self.progress, self.cancel).await {
            Ok(retained) => {
                self.report.forgotten = Some(retained.forgotten);
                self.report.prune = retained.prune;
                self.report.withheld = retained.withheld;
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(%error, "retention failed");
                self.report.retention_error = Some(error);
            }
        }
    }

    pub(super) fn end(self) -> RunReport {
        let wanted = self.job.sources.len() + self.job.unavailable.len();
        let mut report = self.report;
        report.secondaries =
            self.secondaries.into_iter().map(|secondary| secondary.report).collect();
        report.finished = Timestamp::now();
        report.exit = exit(&report, wanted, self.cancel);
        report
    }

    fn held_by(&self, holder: Holder) -> impl Iterator<Item = &Fresh> {
        self.fresh.iter().filter(move |(by, _)| *by == holder).map(|(_, fresh)| fresh)
    }
}

/// The report of a run that begins.
fn empty_report(job: &BackupJob, run: RunId, started: Timestamp) -> RunReport {
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
        secondaries: Vec::new(),
        alarms: Vec::new(),
        withheld: None,
        repository_error: None,
        unsealed: job.unsealed.clone(),
        hook_error: None,
        exit: Exit::Done,
    }
}

/// The worst result of all parts, so that no failure hides behind a success.
fn exit(report: &RunReport, wanted: usize, cancel: &CancellationToken) -> Exit {
    if cancel.is_cancelled() {
        return Exit::Cancelled;
    }
    let failed: Vec<Exit> =
        report.sources.iter().filter(|source| source.is_lost()).map(|source| source.exit).collect();
    if !failed.is_empty() && failed.len() == wanted {
        // Nothing was saved. If all sources failed for one reason, the run has its exit status;
        // otherwise it failed.
        return if failed.iter().all(|exit| *exit == failed[0]) { failed[0] } else { Exit::Failed };
    }
    let partial = report.sources.iter().any(|source| source.exit != Exit::Done);
    let secondary = report
        .secondaries
        .iter()
        .any(|secondary| secondary.error.is_some() || secondary.retention_error.is_some());
    let own = report.retention_error.is_some()
        || report.repository_error.is_some()
        || report.withheld.is_some()
        || report.unsealed.is_some();
    if partial || secondary || own { Exit::Partial } else { Exit::Done }
}
