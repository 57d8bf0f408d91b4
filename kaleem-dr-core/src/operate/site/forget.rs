//! `forget`: forgets snapshots by rules, or by name.

use std::time::Duration;

use serde_json::json;

use super::{Site, SiteError, parts::released};
use crate::{
    engine::{
        ledger::EventKind,
        repository::{
            ForgetReport, Lock, PruneOptions, PruneReport, Repository, Retention, Snapshot,
        },
    },
    ground::{Exit, RunId, host::HostScope},
    operate::{
        evidence,
        job::{ElectedPrune, forget_by_id},
        monitor::{Ended, Job},
        tripwire::{Alarm, Removal, protected_by},
    },
};

/// Options of [`Site::forget`]. The default applies the rules of the config.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Forget {
    /// Snapshots by id prefix; applies rules if empty.
    pub snapshots: Vec<String>,
    /// Rules that replace all rules of the config.
    pub retention: Option<Retention>,
    /// Also forgets snapshots that other programs made.
    pub take_over: bool,
    /// Prunes afterwards, under the same lock.
    pub prune: bool,
    /// Lists what would be forgotten, and writes nothing.
    pub dry_run: bool,
}

impl Forget {
    /// Forgets these snapshots, by id prefix; by the config's rules if the list is empty.
    #[must_use]
    pub fn of(snapshots: Vec<String>) -> Self {
        Self { snapshots, ..Self::default() }
    }

    /// The job of this command, with this id; `None` for a dry run, which is not watched.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Option<Job> {
        (!self.dry_run).then(|| site.job(EventKind::Forget, run, Vec::new(), false))
    }
}

/// The snapshots that are, or would be, forgotten.
#[derive(Clone, Debug)]
pub enum Forgetting {
    /// By rules: for each group, the snapshots to keep and to forget.
    ByRules(ForgetReport),
    /// By name: these snapshots, whatever the rules.
    Named(Vec<Snapshot>),
}

impl Forgetting {
    /// Number of snapshots to forget.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::ByRules(report) => report.removed(),
            Self::Named(snapshots) => snapshots.len(),
        }
    }
}

/// The report of [`Site::forget`]: snapshots, and the prune that followed.
#[derive(Debug)]
#[non_exhaustive]
#[must_use]
pub struct Forgotten {
    /// The snapshots that are, or would be, forgotten.
    pub what: Forgetting,
    /// Nothing was written, because a dry run was requested.
    pub dry_run: bool,
    /// Result of the prune, or its error: the snapshots are forgotten all the same. `None` if none
    /// was requested.
    pub prune: Option<Result<PruneReport, SiteError>>,
}

impl From<&Forgotten> for Ended {
    fn from(report: &Forgotten) -> Self {
        let prune = report.prune.as_ref().and_then(|prune| prune.as_ref().ok());
        Self::new(Exit::Done, &json!({ "forgotten": report.what.count(), "prune": prune }))
    }
}

impl Site {
    /// Forgets snapshots of the selected hosts, if `agree` accepts the list; `None` if it does not.
    /// `agree` is not called in a dry run, or if the rules remove nothing.
    ///
    /// # Errors
    /// If an alarm blocks it, a snapshot may not be forgotten or is not found, or the repository is
    /// unusable.
    pub async fn forget(
        &self,
        wanted: &Forget,
        agree: impl AsyncFnOnce(&Forgetting) -> bool,
    ) -> Result<Option<Forgotten>, SiteError> {
        let forgetting = async {
            let repository = self.repository().await?;
            let lock = self.wait_for(repository.lock_to_free(self.patience)).await?;
            let done = async {
                let what = if wanted.snapshots.is_empty() {
                    self.forget_by_rules(&repository, wanted, &lock, agree).await?
                } else {
                    self.forget_named(&repository, wanted, &lock, agree).await?
                };
                let Some(what) = what else { return Ok(None) };
                let prune = if wanted.prune {
                    Some(self.prune_after(&repository, wanted.dry_run, &lock).await)
                } else {
                    None
                };
                Ok(Some(Forgotten { what, dry_run: wanted.dry_run, prune }))
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(forgetting)).await
    }

    async fn forget_by_rules(
        &self,
        repository: &Repository,
        wanted: &Forget,
        lock: &Lock,
        agree: impl AsyncFnOnce(&Forgetting) -> bool,
    ) -> Result<Option<Forgetting>, SiteError> {
        let hosts = &self.identity.scope;
        if !wanted.dry_run {
            self.guard(repository, hosts, Removal::Forget).await?;
        }
        let rules = wanted.retention.as_ref().unwrap_or(&self.config.settings.retention);
        let take_over = rules.take_over || wanted.take_over;
        let rules = Retention { take_over, ..rules.clone() };
        let snapshots = repository.snapshots().await?;
        let scope = protected_by(&Alarm::recorded(&snapshots), hosts.clone());
        let (progress, cancel) = (&self.progress, &self.cancel);
        let plan = repository.forget(&rules, &scope, true, lock, progress, cancel).await?;
        let plan = Forgetting::ByRules(plan);
        if wanted.dry_run {
            return Ok(Some(plan));
        }
        if plan.count() == 0 {
            evidence::trim(repository, &snapshots, lock, progress, cancel).await;
            return Ok(Some(plan));
        }
        if !agree(&plan).await {
            return Ok(None);
        }
        let done = repository.forget(&rules, &scope, false, lock, progress, cancel).await?;
        evidence::trim(repository, &snapshots, lock, progress, cancel).await;
        Ok(Some(Forgetting::ByRules(done)))
    }

    async fn forget_named(
        &self,
        repository: &Repository,
        wanted: &Forget,
        lock: &Lock,
        agree: impl AsyncFnOnce(&Forgetting) -> bool,
    ) -> Result<Option<Forgetting>, SiteError> {
        let snapshots = repository.snapshots().await?;
        let chosen = forget_by_id(&snapshots, &wanted.snapshots, &self.identity)?;
        let hosts: Vec<HostScope> = chosen
            .iter()
            .map(|snapshot| snapshot.host().parse().map_or(HostScope::Any, HostScope::One))
            .collect();
        let ids: Vec<_> = chosen.iter().map(Snapshot::id).collect();
        let chosen = Forgetting::Named(chosen);
        if wanted.dry_run {
            return Ok(Some(chosen));
        }
        for host in hosts {
            self.guard(repository, &host, Removal::Forget).await?;
        }
        if !agree(&chosen).await {
            return Ok(None);
        }
        repository.forget_snapshots(&ids, lock, &self.progress, &self.cancel).await?;
        Ok(Some(chosen))
    }

    async fn prune_after(
        &self,
        repository: &Repository,
        dry_run: bool,
        lock: &Lock,
    ) -> Result<PruneReport, SiteError> {
        if !dry_run {
            self.guard(repository, &self.identity.scope, Removal::Prune).await?;
        }
        let options = PruneOptions { dry_run, ..PruneOptions::default() };
        let (progress, cancel) = (&self.progress, &self.cancel);
        let report = repository.prune(options, lock, progress, cancel).await?;
        if !dry_run {
            let (host, every) = (&self.identity.host, Duration::ZERO);
            let snapshots = &repository.snapshots().await?;
            let prune = ElectedPrune { repository, snapshots, host, every, lock, progress, cancel };
            prune.note(&report).await;
        }
        Ok(report)
    }
}
