//! The first phase of a run: captures every source into a snapshot of its own, and writes its
//! staged file from that snapshot. If the run's repository fails, a secondary one takes the
//! snapshot.

use jiff::Timestamp;

use super::{
    CopyOutcome, StagedFile, Staging,
    report::SourceReport,
    run::{Holder, Run},
    secondary::is_broken,
    watch::Fresh,
};
use crate::{
    engine::repository::{RepositoryError, SaveError, Saved, SnapshotId, select, tags_for},
    ground::{Exit, SourceError, error_chain, host::HostScope},
    recovery::{point::PointReader, source::Restorable},
};

/// A saved source, with the repository that holds it.
struct Placed {
    holder: Holder,
    result: Result<Saved, SaveError>,
    /// Why the run's own repository did not take the snapshot; `None` if it did.
    own_failure: Option<String>,
}

impl Run<'_> {
    /// Saves every source. A source that fails leaves no snapshot, and the next one is still saved;
    /// a lost lock or a cancellation ends the run.
    pub(super) async fn capture(&mut self) {
        for source in &self.job.sources {
            let source = &**source;
            tracing::info!(source = %source.name(), "capturing");
            let began = Timestamp::now();
            let (result, hook_error) = self.save_between_hooks(source).await;
            let stop = ends_the_run(&result) || self.cancel.is_cancelled();
            let placed = self.place(source, result).await;
            let mut line = self.note(source, &placed, began);
            self.stage(source, &mut line, began).await;
            if hook_error.is_some() {
                line.exit = if line.exit == Exit::Done { Exit::Partial } else { line.exit };
                line.hook_error = hook_error;
            }
            log(&line);
            let stop = stop || matches!(line.exit, Exit::Cancelled);
            self.report.sources.push(line);
            if stop {
                break;
            }
        }
    }

    /// Saves a source between the commands of its config. Also returns which of the commands after it failed.
    async fn save_between_hooks(
        &self,
        source: &dyn Restorable,
    ) -> (Result<Saved, SaveError>, Option<String>) {
        let hooks = self.job.hooks.get(source.name()).filter(|_| !self.job.dry_run);
        let Some(hooks) = hooks else {
            return (Box::pin(self.save(source)).await, None);
        };
        let between = hooks.around(self.cancel, Box::pin(self.save(source))).await;
        let saved = between.done.unwrap_or_else(|why| {
            let why = if self.cancel.is_cancelled() {
                SourceError::Cancelled
            } else {
                SourceError::Unsupported(why)
            };
            Err(why.into())
        });
        (saved, between.after)
    }

    /// Saves a source to the run's own repository.
    async fn save(&self, source: &dyn Restorable) -> Result<Saved, SaveError> {
        let Some(lock) = &self.lock else {
            let why = self.report.repository_error.clone().unwrap_or_default();
            return Err(RepositoryError::Unusable(why).into());
        };
        self.job.repository.save(source, &self.options, lock, self.progress, self.cancel).await
    }

    /// Saves the source to a secondary repository if the run's own is broken.
    async fn place(&mut self, source: &dyn Restorable, result: Result<Saved, SaveError>) -> Placed {
        if let Err(SaveError::Repository(error)) = &result
            && is_broken(error)
            && !self.job.dry_run
            && let Some((at, saved)) = self.save_into_secondary(source).await
        {
            return Placed {
                holder: Holder::Secondary(at),
                own_failure: Some(error_chain(error)),
                result: Ok(saved),
            };
        }
        Placed { holder: Holder::Own, result, own_failure: None }
    }

    /// Saves a source to the first secondary repository that takes it; returns the index of that
    /// repository.
    async fn save_into_secondary(&mut self, source: &dyn Restorable) -> Option<(usize, Saved)> {
        for (at, secondary) in self.secondaries.iter_mut().enumerate() {
            let mut options = self.options.clone();
            options.tags.extend(tags_for(&secondary.of.tags, self.job.host.as_str()));
            let Some((repository, lock)) = secondary.locked(self.job.patience).await else {
                continue;
            };
            tracing::warn!(source = %source.name(), repository = %repository.location(), "capturing directly into the next repository");
            match repository.save(source, &options, lock, self.progress, self.cancel).await {
                Ok(saved) => return Some((at, saved)),
                Err(SaveError::Repository(error)) if is_broken(&error) => secondary.fail(&error),
                Err(_) => return None,
            }
        }
        None
    }

    /// Records a saved snapshot for the later phases, and builds the source's report.
    fn note(&mut self, source: &dyn Restorable, placed: &Placed, began: Timestamp) -> SourceReport {
        let mut line = report_of(source, &placed.result, began);
        let Ok(saved) = &placed.result else { return line };
        if let Some(snapshot) = saved.snapshot {
            let fresh = Fresh {
                source: source.name().clone(),
                snapshot,
                manifest: saved.manifest.clone(),
                new_blob_bytes: saved.new_blob_bytes,
            };
            self.fresh.push((placed.holder, fresh));
        }
        if let (Holder::Secondary(at), Some(failed)) = (placed.holder, &placed.own_failure) {
            let repository = self.secondaries[at].of.name.clone();
            line.snapshot = None;
            line.added_bytes = 0;
            line.error = Some(format!("source {}: {failed}; {repository} has it", source.name()));
            line.exit = Exit::Partial;
            line.copies.push(CopyOutcome {
                repository,
                snapshot: saved.snapshot,
                error: None,
                added_bytes: saved.added_bytes,
            });
        }
        line
    }

    /// Writes the staged file of a snapshot that this run has just saved, if the config asks for
    /// one.
    async fn stage(&self, source: &dyn Restorable, line: &mut SourceReport, began: Timestamp) {
        let (Some(staging), Some(snapshot)) = (&self.job.staging, line.snapshot) else { return };
        if !staging.wants(source.name()) {
            return;
        }
        match self.staged_file(staging, source, snapshot).await {
            Ok(staged) => line.staged = staged,
            Err(error) => {
                line.staged_error = Some(error_chain(&error));
                line.exit = Exit::Partial;
            }
        }
        line.seconds = Timestamp::now().duration_since(began).as_secs_f64();
    }

    async fn staged_file(
        &self,
        staging: &Staging,
        source: &dyn Restorable,
        snapshot: SnapshotId,
    ) -> Result<Option<StagedFile>, SourceError> {
        if source.staged().is_none() {
            return Ok(None);
        }
        let repository = &self.job.repository;
        let point = async {
            let snapshots = repository.snapshots().await?;
            let snapshot = select(&snapshots, &snapshot.to_string(), &HostScope::Any)?;
            let reader = repository.read(snapshot).await?;
            PointReader::open(reader, self.progress.clone(), self.cancel.clone()).await
        };
        let point = point.await.map_err(|error| SourceError::Point(error.into()))?;
        staging.stage(source, &point).await
    }
}

fn ends_the_run(result: &Result<Saved, SaveError>) -> bool {
    matches!(
        result,
        Err(SaveError::Repository(RepositoryError::LockLost { .. } | RepositoryError::Cancelled))
    )
}

fn log(line: &SourceReport) {
    if let Some(error) = &line.error {
        tracing::error!(source = %line.source, %error, "source failed");
    } else {
        tracing::info!(source = %line.source, bytes = line.size_bytes, added = line.added_bytes, "saved");
    }
    if let Some(error) = &line.hook_error {
        tracing::error!(source = %line.source, %error, "a command after the capture failed");
    }
    if let Some(error) = &line.staged_error {
        tracing::error!(source = %line.source, %error, "no staged file was made");
    }
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
