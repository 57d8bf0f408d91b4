//! `check` and `repair`: find and repair damage in a repository.

use serde_json::json;

use super::{Site, SiteError, parts::released};
use crate::{
    engine::{
        ledger::EventKind,
        replicate::{self, RepairOptions, RepairReport},
        repository::{
            Access, CheckReport, IndexRepair, LockKind, ReadData, RepairedSnapshot, SnapshotRepair,
        },
    },
    ground::{Exit, RunId},
    operate::monitor::{Ended, Job},
};

/// A repair of the selected repository from one of its mirrors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MirrorRepair {
    /// Name of the mirror in the config.
    pub from: String,
    /// Also fetches objects that only the mirror has.
    pub missing: bool,
    /// Shows what is damaged, and writes nothing.
    pub dry_run: bool,
}

impl MirrorRepair {
    /// Restores damaged objects from a mirror of the config.
    #[must_use]
    pub fn from(mirror: impl Into<String>) -> Self {
        Self { from: mirror.into(), missing: false, dry_run: false }
    }
}

/// A repair of snapshots without a mirror: rewrites them without the lost data.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SnapshotsRepair {
    /// Only these snapshots, by id prefix; all if empty.
    pub snapshots: Vec<String>,
    /// Forgets the damaged snapshots after they are rewritten, and those of which nothing is left.
    pub forget: bool,
    /// Shows what is lost, and writes nothing.
    pub dry_run: bool,
}

impl SnapshotsRepair {
    /// Repairs these snapshots, by id prefix; all if the list is empty.
    #[must_use]
    pub fn of(snapshots: Vec<String>) -> Self {
        Self { snapshots, ..Self::default() }
    }
}

/// The result of [`Site::repair_index`]: the differences, and whether they are repaired.
#[derive(Debug)]
#[non_exhaustive]
pub struct IndexRepaired {
    /// The differences between index and packs.
    pub plan: IndexRepair,
    /// The differences were repaired, not only listed.
    pub done: bool,
}

/// The result of [`Site::repair_snapshots`]: the loss, and the new snapshots.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SnapshotsRepaired {
    /// The data that the snapshots lost.
    pub plan: SnapshotRepair,
    /// The snapshots that were rewritten; `None` if nothing was changed.
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
    /// The job of a check, with this id.
    #[must_use]
    pub fn check_job(&self, run: RunId) -> Job {
        self.job(EventKind::Check, run, Vec::new(), false)
    }

    /// The job of a repair of any kind, with this id.
    #[must_use]
    pub fn repair_job(&self, run: RunId) -> Job {
        self.job(EventKind::Repair, run, Vec::new(), false)
    }

    /// Checks the structure of the selected repository, and as much of its data as `read` requests.
    /// Damage is in the report.
    ///
    /// # Errors
    /// If the repository is unusable.
    pub async fn check(&self, read: ReadData) -> Result<CheckReport, SiteError> {
        let checking = async {
            let repository = self.repository().await?;
            let lock = self.wait_for(repository.lock_to_read(self.patience)).await?;
            let done =
                async { Ok(repository.check(read, &lock, &self.progress, &self.cancel).await?) }
                    .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(checking)).await
    }

    /// Restores damaged and missing objects from a mirror. Needs no password; with it, index files and snapshots that refer to
    /// lost data are not brought back.
    ///
    /// # Errors
    /// If one of the two cannot be reached, or they are different repositories.
    pub async fn repair_from_mirror(
        &self,
        wanted: &MirrorRepair,
    ) -> Result<RepairReport, SiteError> {
        let repairing = async {
            let (repository, access) = if let Some(access) = &self.access {
                (access.location.store()?, Some(Access::clone(access)))
            } else {
                let name = self.chosen_repository()?.0;
                (self.location(name)?.store()?, self.access_to(name).ok())
            };
            let mirror = self.location(&wanted.from)?.store()?;
            let options = RepairOptions { dry_run: wanted.dry_run, missing: wanted.missing };
            let (progress, cancel) = (&self.progress, &self.cancel);
            let access = access.as_ref();
            Ok(replicate::repair(&repository, &mirror, access, options, progress, cancel).await?)
        };
        self.until_cancelled(Box::pin(repairing)).await
    }

    /// Makes the index match the existing packs, if `agree` accepts the plan; `None` if it does
    /// not. `agree` is not called in a dry run, or if the index matches.
    ///
    /// # Errors
    /// If the repository is unusable.
    pub async fn repair_index(
        &self,
        dry_run: bool,
        agree: impl AsyncFnOnce(&IndexRepair) -> bool,
    ) -> Result<Option<IndexRepaired>, SiteError> {
        let repairing = async {
            let repository = self.repository().await?;
            let lock = self.wait_for(repository.lock(LockKind::Exclusive, self.patience)).await?;
            let done = async {
                let plan = repository.plan_index_repair(&self.progress, &self.cancel).await?;
                if dry_run || !plan.is_needed() {
                    return Ok(Some(IndexRepaired { plan, done: false }));
                }
                if !agree(&plan).await {
                    return Ok(None);
                }
                repository.repair_index(&plan, &lock).await?;
                Ok(Some(IndexRepaired { plan, done: true }))
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(repairing)).await
    }

    /// Rewrites snapshots without their lost data, if `agree` accepts the plan; `None` if it does
    /// not. `agree` is not called in a dry run, or if nothing is lost.
    ///
    /// # Errors
    /// If the repository is unusable, or a snapshot is not found.
    pub async fn repair_snapshots(
        &self,
        wanted: &SnapshotsRepair,
        agree: impl AsyncFnOnce(&SnapshotRepair) -> bool,
    ) -> Result<Option<SnapshotsRepaired>, SiteError> {
        let SnapshotsRepair { snapshots, forget, dry_run } = wanted;
        let repairing = async {
            let repository = self.repository().await?;
            let lock = self.wait_for(repository.lock(LockKind::Exclusive, self.patience)).await?;
            let done = async {
                let (progress, cancel) = (&self.progress, &self.cancel);
                let plan =
                    repository.plan_snapshot_repair(snapshots, &lock, progress, cancel).await?;
                if *dry_run || !plan.is_needed(*forget) {
                    return Ok(Some(SnapshotsRepaired { plan, done: None }));
                }
                if !agree(&plan).await {
                    return Ok(None);
                }
                let done =
                    repository.repair_snapshots(&plan, *forget, &lock, progress, cancel).await?;
                Ok(Some(SnapshotsRepaired { plan, done: Some(done) }))
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(repairing)).await
    }
}
