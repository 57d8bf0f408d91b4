//! `check` and `repair`: what is damaged in a repository, and how it is mended.

use serde_json::json;

use super::{Site, SiteError, parts::released};
use crate::{
    engine::{
        ledger::EventKind,
        replicate::{self, RepairOptions, RepairReport},
        repository::{
            CheckReport, IndexRepair, LockKind, ReadData, RepairedSnapshot, SnapshotRepair,
        },
    },
    ground::{Exit, RunId},
    operate::monitor::{Ended, Job},
};

/// A repair of the repository that is meant from one of its mirrors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MirrorRepair {
    /// The mirror, by its name in the config.
    pub from: String,
    /// Also fetches what only the mirror has.
    pub missing: bool,
    /// Only shows what is damaged.
    pub dry_run: bool,
}

impl MirrorRepair {
    /// Puts damaged objects back from a mirror of the config.
    #[must_use]
    pub fn from(mirror: impl Into<String>) -> Self {
        Self { from: mirror.into(), missing: false, dry_run: false }
    }
}

/// A repair of snapshots without a mirror: they are rewritten without what is lost of them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SnapshotsRepair {
    /// Only these, by the beginnings of their ids; all where none is named.
    pub snapshots: Vec<String>,
    /// Forgets the damaged snapshots once they are rewritten, and those of which nothing is left.
    pub forget: bool,
    /// Only shows what is lost.
    pub dry_run: bool,
}

impl SnapshotsRepair {
    /// These snapshots, by the beginnings of their ids; all where none is named.
    #[must_use]
    pub fn of(snapshots: Vec<String>) -> Self {
        Self { snapshots, ..Self::default() }
    }
}

/// What [`Site::repair_index`] found and did.
#[derive(Debug)]
#[non_exhaustive]
pub struct IndexRepaired {
    /// What does not fit.
    pub plan: IndexRepair,
    /// Whether it was mended.
    pub done: bool,
}

/// What [`Site::repair_snapshots`] found and did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SnapshotsRepaired {
    /// What is lost.
    pub plan: SnapshotRepair,
    /// The snapshots that were rewritten; `None` where nothing was changed.
    pub done: Option<Vec<RepairedSnapshot>>,
}

impl From<&CheckReport> for Ended {
    fn from(report: &CheckReport) -> Self {
        let exit = if report.errors() == 0 { Exit::Done } else { Exit::NotVerified };
        let error = report.findings.iter().find(|finding| finding.is_error());
        let message = error.map(|finding| finding.message.clone());
        let report = json!({ "num_errors": report.errors(), "findings": report.findings });
        Self { message, ..Self::new(exit, &report) }
    }
}

impl From<&RepairReport> for Ended {
    fn from(report: &RepairReport) -> Self {
        let message = report.unrepaired.first().cloned();
        Self { message, ..Self::new(report.exit, report) }
    }
}

impl From<&IndexRepaired> for Ended {
    fn from(report: &IndexRepaired) -> Self {
        Self::new(Exit::Done, &report.plan)
    }
}

impl From<&SnapshotsRepaired> for Ended {
    fn from(report: &SnapshotsRepaired) -> Self {
        match &report.done {
            Some(done) => Self::new(Exit::Done, done),
            None => Self::new(Exit::Done, &report.plan),
        }
    }
}

impl Site {
    /// The job that a check is, with this id.
    #[must_use]
    pub fn check_job(&self, run: RunId) -> Job {
        self.job(EventKind::Check, run, Vec::new(), false)
    }

    /// The job that a repair is, of whatever kind, with this id.
    #[must_use]
    pub fn repair_job(&self, run: RunId) -> Job {
        self.job(EventKind::Repair, run, Vec::new(), false)
    }

    /// Checks the structure of the repository that is meant, and as many of its bytes as `read` says. Damage is in the report.
    ///
    /// # Errors
    /// When the repository cannot be used.
    pub async fn check(&self, read: ReadData) -> Result<CheckReport, SiteError> {
        let checking = async {
            let repository = self.repository().await?;
            {
                let held = self.wait_for(repository.lock_to_read(self.patience)).await?;
                let lock = &held;
                let done =
                    async { Ok(repository.check(read, lock, &self.progress, &self.cancel).await?) }
                        .await;
                released(held, done).await
            }
        };
        self.until_cancelled(Box::pin(checking)).await
    }

    /// Puts damaged and missing objects back from a mirror. No password is needed.
    ///
    /// # Errors
    /// When one of the two cannot be reached, or they are different repositories.
    pub async fn repair_from_mirror(
        &self,
        wanted: &MirrorRepair,
    ) -> Result<RepairReport, SiteError> {
        let repairing = async {
            let repository = match &self.access {
                Some(access) => access.location.store()?,
                None => self.location(self.chosen_repository()?.0)?.store()?,
            };
            let mirror = self.location(&wanted.from)?.store()?;
            let options = RepairOptions { dry_run: wanted.dry_run, missing: wanted.missing };
            let (progress, cancel) = (&self.progress, &self.cancel);
            Ok(replicate::repair(&repository, &mirror, options, progress, cancel).await?)
        };
        self.until_cancelled(Box::pin(repairing)).await
    }

    /// Makes the index fit the packs that are there, after `agree` has seen the plan and said yes; `None` when it said no. It is not asked in a
    /// dry run, or where the index fits.
    ///
    /// # Errors
    /// When the repository cannot be used.
    pub async fn repair_index(
        &self,
        dry_run: bool,
        agree: impl AsyncFnOnce(&IndexRepair) -> bool,
    ) -> Result<Option<IndexRepaired>, SiteError> {
        let repairing = async {
            let repository = self.repository().await?;
            let lock = repository.lock(LockKind::Exclusive, self.patience);
            {
                let held = self.wait_for(lock).await?;
                let lock = &held;
                let done = async {
                    let plan = repository.plan_index_repair(&self.progress, &self.cancel).await?;
                    if dry_run || !plan.is_needed() {
                        return Ok(Some(IndexRepaired { plan, done: false }));
                    }
                    if !agree(&plan).await {
                        return Ok(None);
                    }
                    repository.repair_index(&plan, lock).await?;
                    Ok(Some(IndexRepaired { plan, done: true }))
                }
                .await;
                released(held, done).await
            }
        };
        self.until_cancelled(Box::pin(repairing)).await
    }

    /// Rewrites snapshots without what is lost of them, after `agree` has seen the plan and said yes; `None` when it said no. It is not asked
    /// in a dry run, or where nothing is lost.
    ///
    /// # Errors
    /// When the repository cannot be used, or a snapshot is not found.
    pub async fn repair_snapshots(
        &self,
        wanted: &SnapshotsRepair,
        agree: impl AsyncFnOnce(&SnapshotRepair) -> bool,
    ) -> Result<Option<SnapshotsRepaired>, SiteError> {
        let SnapshotsRepair { snapshots, forget, dry_run } = wanted;
        let repairing = async {
            let repository = self.repository().await?;
            let lock = repository.lock(LockKind::Exclusive, self.patience);
            {
                let held = self.wait_for(lock).await?;
                let lock = &held;
                let done = async {
                    let (progress, cancel) = (&self.progress, &self.cancel);
                    let plan =
                        repository.plan_snapshot_repair(snapshots, lock, progress, cancel).await?;
                    if *dry_run || !plan.is_needed(*forget) {
                        return Ok(Some(SnapshotsRepaired { plan, done: None }));
                    }
                    if !agree(&plan).await {
                        return Ok(None);
                    }
                    let done =
                        repository.repair_snapshots(&plan, *forget, lock, progress, cancel).await?;
                    Ok(Some(SnapshotsRepaired { plan, done: Some(done) }))
                }
                .await;
                released(held, done).await
            }
        };
        self.until_cancelled(Box::pin(repairing)).await
    }
}
