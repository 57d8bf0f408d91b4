//! `prune`: deletes data that no snapshot needs.

use std::time::Duration;

use super::{Site, SiteError, parts::released};
use crate::{
    engine::{
        ledger::EventKind,
        repository::{PruneOptions, PruneReport},
    },
    ground::{Exit, RunId},
    operate::{
        evidence,
        job::{ELECTED_PATIENCE, ElectedPrune},
        monitor::{Ended, Job},
        tripwire::Removal,
    },
};

/// Options of [`Site::prune`]. The default marks packs for a later prune.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Prune {
    /// Deletes packs at once, instead of marking them for a prune at least a day later.
    pub instant: bool,
    /// Maximum unused space, in percent from 0 to 100; 100 for no limit.
    pub max_unused_percent: u64,
    /// Plans the prune, and writes nothing.
    pub dry_run: bool,
    /// One of the hosts that share the repository prunes for all: this one only if none has done so
    /// within [`BackupSettings::prune_every`](crate::operate::config::BackupSettings::prune_every).
    /// Waits for the locks of other hosts for half an hour at least.
    pub elected: bool,
}

impl Default for Prune {
    fn default() -> Self {
        let PruneOptions { instant, max_unused_percent, .. } = PruneOptions::default();
        Self::of(instant, max_unused_percent)
    }
}

impl Prune {
    /// Sets the maximum unused space, in percent.
    #[must_use]
    pub fn of(instant: bool, max_unused_percent: u64) -> Self {
        Self { instant, max_unused_percent, dry_run: false, elected: false }
    }

    /// The job of this command, with this id; `None` for a dry run, which is not watched.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Option<Job> {
        (!self.dry_run).then(|| site.job(EventKind::Prune, run, Vec::new(), false))
    }
}

impl From<&PruneReport> for Ended {
    fn from(report: &PruneReport) -> Self {
        Self::new(Exit::Done, report)
    }
}

impl Site {
    /// Prunes the selected repository, if `agree` accepts the plan; `None` if it does not. `agree`
    /// is not called in a dry run, or if nothing would be deleted at once, or if another host has
    /// pruned already ([`PruneReport::done_by`]).
    ///
    /// # Errors
    /// If an alarm blocks it, or the repository is unusable.
    pub async fn prune(
        &self,
        wanted: Prune,
        agree: impl AsyncFnOnce(&PruneReport) -> bool,
    ) -> Result<Option<PruneReport>, SiteError> {
        let pruning = async {
            let repository = self.repository().await?;
            if !wanted.dry_run {
                self.guard(&repository, &self.identity.scope, Removal::Prune).await?;
            }
            let plan = PruneOptions {
                instant: wanted.instant,
                max_unused_percent: wanted.max_unused_percent,
                dry_run: true,
                ..PruneOptions::default()
            };
            let options = PruneOptions { dry_run: false, ..plan };
            let elected_patience = if wanted.elected { ELECTED_PATIENCE } else { Duration::ZERO };
            let patience = self.patience.max(elected_patience);
            let lock = self.wait_for(repository.lock_to_free(patience)).await?;
            let done = async {
                let (progress, cancel) = (&self.progress, &self.cancel);
                let every = if wanted.elected {
                    self.config.settings.backup.prune_every()
                } else {
                    Duration::ZERO
                };
                let host = &self.identity.host;
                let (repository, lock) = (&repository, &lock);
                let snapshots = &repository.snapshots().await?;
                let election =
                    ElectedPrune { repository, snapshots, host, every, lock, progress, cancel };
                if let Some(done) = election.done_by_another() {
                    return Ok(Some(done));
                }
                let plan = repository.prune(plan, lock, progress, cancel).await?;
                if wanted.dry_run {
                    return Ok(Some(plan));
                }
                if (wanted.instant || !plan.deletes_nothing()) && !agree(&plan).await {
                    return Ok(None);
                }
                evidence::trim(repository, snapshots, lock, progress, cancel).await;
                let report = repository.prune(options, lock, progress, cancel).await?;
                election.note(&report).await;
                Ok(Some(report))
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(pruning)).await
    }
}
