//! `prune`: the space of what no snapshot needs is given back.

use super::{Site, SiteError, parts::released};
use crate::{
    engine::{
        ledger::EventKind,
        repository::{PruneOptions, PruneReport},
    },
    ground::{Exit, RunId},
    operate::{
        monitor::{Ended, Job},
        tripwire::Removal,
    },
};

/// How far [`Site::prune`] goes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Prune {
    /// Deletes at once what would be marked now and deleted by a prune a day later.
    pub instant: bool,
    /// Unused space that may stay, in percent from 0 to 100; 100 is any.
    pub max_unused_percent: u64,
    /// Only plans.
    pub dry_run: bool,
}

impl Default for Prune {
    fn default() -> Self {
        let PruneOptions { instant, max_unused_percent, .. } = PruneOptions::default();
        Self::of(instant, max_unused_percent)
    }
}

impl Prune {
    /// With the share of unused space that may stay, in percent.
    #[must_use]
    pub fn of(instant: bool, max_unused_percent: u64) -> Self {
        Self { instant, max_unused_percent, dry_run: false }
    }

    /// The job that this is, with this id; `None` for a dry run, which is not watched.
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
    /// Prunes the repository that is meant, after `agree` has seen the plan and said yes; `None` when it said no. It is not asked in a dry run,
    /// or where nothing would be deleted at once.
    ///
    /// # Errors
    /// When an alarm blocks it, or the repository cannot be used.
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
            {
                let held = self.wait_for(repository.lock_to_free(self.patience)).await?;
                let lock = &held;
                let done = async {
                    let (progress, cancel) = (&self.progress, &self.cancel);
                    let plan = repository.prune(plan, lock, progress, cancel).await?;
                    if wanted.dry_run {
                        return Ok(Some(plan));
                    }
                    if (wanted.instant || !plan.deletes_nothing()) && !agree(&plan).await {
                        return Ok(None);
                    }
                    Ok(Some(repository.prune(options, lock, progress, cancel).await?))
                }
                .await;
                released(held, done).await
            }
        };
        self.until_cancelled(Box::pin(pruning)).await
    }
}
