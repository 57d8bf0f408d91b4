//! Secondary repositories of a run: each receives a copy of what the run saved. If the run's own
//! repository cannot take a snapshot, the source is saved directly to a secondary one.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    report::{CopyOutcome, SecondaryReport, SourceReport},
    retain::{Retaining, retain},
};
use crate::{
    CancellationToken,
    engine::repository::{CopyOptions, Lock, LockKind, Repository, RepositoryError, SnapshotId},
    ground::{Exit, error_chain, progress::ProgressSink},
};

/// A repository that a run copies to, in addition to its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SecondaryRepository {
    /// Its name in the config.
    pub name: String,
    /// The repository, or why it could not be opened: then it counts as failed, and the run
    /// continues.
    pub repository: Result<Repository, String>,
    /// Additional tags for the snapshots that are copied to it; `{host}` in a tag is replaced by
    /// the host's name.
    pub tags: Vec<String>,
}

impl SecondaryRepository {
    /// A repository with its name in the config, or why it could not be opened.
    pub fn of(name: impl Into<String>, repository: Result<Repository, String>) -> Self {
        Self { name: name.into(), repository, tags: Vec::new() }
    }
}

/// A secondary repository during a run.
pub(super) struct Secondary<'a> {
    pub(super) of: &'a SecondaryRepository,
    pub(super) report: SecondaryReport,
    lock: Option<Lock>,
}

impl<'a> Secondary<'a> {
    pub(super) fn new(of: &'a SecondaryRepository) -> Self {
        let report = SecondaryReport {
            repository: of.name.clone(),
            location: of.repository.as_ref().ok().map(Repository::location),
            error: of.repository.as_ref().err().cloned(),
            added_bytes: 0,
            forgotten: None,
            prune: None,
            retention_error: None,
        };
        Self { of, report, lock: None }
    }

    /// Returns the repository with a lock on it; `None` if it has failed.
    pub(super) async fn locked(&mut self, patience: Duration) -> Option<(&Repository, &Lock)> {
        let repository = self.of.repository.as_ref().ok()?;
        if self.lock.is_none() && self.report.error.is_none() {
            match repository.lock(LockKind::Shared, patience).await {
                Ok(lock) => self.lock = Some(lock),
                Err(error) => self.report.error = Some(error_chain(&error)),
            }
        }
        Some((repository, self.lock.as_ref()?))
    }

    /// Releases the lock, if there is one.
    pub(super) async fn release(&mut self) {
        if let Some(lock) = self.lock.take()
            && let Err(error) = lock.release().await
        {
            self.fail(&error);
        }
    }

    pub(super) fn fail(&mut self, error: &RepositoryError) {
        let error = error_chain(error);
        tracing::error!(repository = %self.of.name, %error, "a secondary repository failed");
        self.report.error.get_or_insert(error);
    }

    /// Copies the snapshots that a run saved in another repository, and records them in the
    /// sources' reports.
    pub(super) async fn copy_from(
        &mut self,
        (holder, holder_lock): (&Repository, &Lock),
        ids: &HashSet<SnapshotId>,
        reports: &mut [SourceReport],
        patience: Duration,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) {
        let options = CopyOptions { tags: self.of.tags.clone(), dry_run: false };
        let copied = match self.locked(patience).await {
            None => None,
            Some((repository, lock)) => Some(
                async {
                    let mut snapshots = holder.snapshots().await?;
                    snapshots.retain(|snapshot| ids.contains(&snapshot.id()));
                    holder
                        .copy_to(
                            repository,
                            &snapshots,
                            &options,
                            (holder_lock, lock),
                            progress,
                            cancel,
                        )
                        .await
                }
                .await,
            ),
        };
        if let Some(Err(error)) = &copied {
            self.fail(error);
        }
        let copied = copied.and_then(Result::ok).unwrap_or_default();
        self.report.added_bytes += copied.added_bytes;
        for failure in &copied.failed {
            tracing::error!(repository = %self.of.name, snapshot = %failure.snapshot, error = %failure.error, "not copied");
            self.report.error.get_or_insert_with(|| failure.error.clone());
        }
        for report in reports {
            let Some(from) = report.held().filter(|id| ids.contains(id)) else { continue };
            let mut outcome = CopyOutcome {
                repository: self.of.name.clone(),
                snapshot: None,
                error: None,
                added_bytes: 0,
            };
            if let Some(copy) = copied.copied.iter().find(|copy| copy.from == from) {
                (outcome.snapshot, outcome.added_bytes) = (copy.snapshot, copy.added_bytes);
            } else {
                let failure = copied.failed.iter().find(|failure| failure.snapshot == from);
                outcome.error = failure
                    .map(|failure| failure.error.clone())
                    .or_else(|| self.report.error.clone());
                report.exit = if report.exit == Exit::Done { Exit::Partial } else { report.exit };
            }
            report.copies.push(outcome);
        }
    }

    /// Forgets and prunes here by the policy of the run.
    pub(super) async fn retain(
        &mut self,
        retaining: &Retaining<'_>,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) {
        let Ok(repository) = &self.of.repository else { return };
        if self.report.error.is_some() || repository.is_append_only() {
            return;
        }
        match retain(repository, retaining, progress, cancel).await {
            Ok(retained) => {
                self.report.forgotten = Some(retained.forgotten);
                self.report.prune = retained.prune;
                self.report.retention_error = retained.withheld;
            }
            Err(error) => {
                tracing::error!(repository = %self.of.name, error = %error_chain(&error), "retention failed");
                self.report.retention_error = Some(error_chain(&error));
            }
        }
    }
}

/// Reports whether the repository itself failed, so that another one may take the snapshot.
pub(super) fn is_broken(error: &RepositoryError) -> bool {
    !matches!(
        error,
        RepositoryError::Cancelled
            | RepositoryError::NotCommitted(_)
            | RepositoryError::Locked { .. }
            | RepositoryError::Guarded(_)
    )
}
