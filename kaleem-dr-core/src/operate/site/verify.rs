//! `verify` and `drill`: prove recovery points.

use std::path::Path;

use super::{Site, SiteError, export::no_form, parts::released};
use crate::{
    engine::{
        ledger::{ChainedReport, EventKind},
        repository::{Repository, select},
    },
    ground::{ProofLevel, RunId, SourceName, host::HostScope},
    operate::{
        job::{self, Verified, VerifyJob},
        monitor::{Ended, Job},
    },
    recovery::{
        change_log::Moment,
        drill::{DrillJob, DrillReport, drill},
        points::PointChoice,
        verify::{VerifyReport, verify_point, verify_snapshot},
    },
};

/// The default point.
const LATEST: &str = "latest";

/// Options of [`Site::verify`]: sources, point and level.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verification {
    /// Id of the job; a new one by default.
    pub run: Option<RunId>,
    /// Sources to verify; all if empty.
    pub sources: Vec<SourceName>,
    /// `latest`, or the id prefix of a run or a snapshot.
    pub point: String,
    /// A single snapshot instead, by id prefix; may be of another program.
    pub snapshot: Option<String>,
    /// Level to prove; by default [`ProofLevel::Parsed`], and [`ProofLevel::Readable`] for another
    /// program's snapshot.
    pub level: Option<ProofLevel>,
}

impl Default for Verification {
    /// Verifies the newest point of every source at level parsed.
    fn default() -> Self {
        Self {
            run: None,
            sources: Vec::new(),
            point: LATEST.to_owned(),
            snapshot: None,
            level: None,
        }
    }
}

/// Options of [`Site::drill`]: sources, point and level.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Drill {
    /// Id of the job; a new one by default.
    pub run: Option<RunId>,
    /// Sources to restore; all if empty.
    pub sources: Vec<SourceName>,
    /// `latest`, or the id prefix of a run or a snapshot.
    pub point: String,
    /// Restores to this moment, from the newest point before it; `point` is then ignored.
    pub moment: Option<Moment>,
    /// Level to prove. Only [`ProofLevel::Restored`] measures an RTO.
    pub level: ProofLevel,
    /// Begins with nothing but the repository, its keys and its password: see
    /// [`Site::drill_from_nothing`].
    pub from_nothing: bool,
}

impl Default for Drill {
    /// Restores the newest point of every source.
    fn default() -> Self {
        Self {
            run: None,
            sources: Vec::new(),
            point: LATEST.to_owned(),
            moment: None,
            level: ProofLevel::Restored,
            from_nothing: false,
        }
    }
}

impl Verification {
    /// Verifies the newest points of these sources; of all if the list is empty.
    #[must_use]
    pub fn of(sources: Vec<SourceName>) -> Self {
        Self { sources, ..Self::default() }
    }

    /// The job of this verification, with this id.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Job {
        let (parts, is_narrowed) = match &self.snapshot {
            Some(_) => (Vec::new(), true),
            None => site.parts_of(&self.sources),
        };
        site.job(EventKind::Verify, run, parts, is_narrowed || self.point != LATEST)
    }
}

impl Drill {
    /// A drill of the newest points of these sources; of all if the list is empty.
    #[must_use]
    pub fn of(sources: Vec<SourceName>) -> Self {
        Self { sources, ..Self::default() }
    }

    /// The job of this drill, with this id.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Job {
        let (parts, is_narrowed) = site.parts_of(&self.sources);
        let is_narrowed = is_narrowed || self.point != LATEST || self.moment.is_some();
        site.job(EventKind::Drill, run, parts, is_narrowed)
    }
}

impl From<&[VerifyReport]> for Ended {
    fn from(reports: &[VerifyReport]) -> Self {
        Self::of_verification(reports)
    }
}

impl From<&DrillReport> for Ended {
    fn from(report: &DrillReport) -> Self {
        Self::of_drill(report)
    }
}

impl Site {
    /// Proves points, or one snapshot, and records the result in the history. [`job::exit_of`]
    /// summarises the reports.
    ///
    /// # Errors
    /// If the repository is unusable, the job was cancelled, or a proof cannot be recorded.
    pub async fn verify(&self, wanted: Verification) -> Result<Vec<VerifyReport>, SiteError> {
        self.until_cancelled(Box::pin(self.verify_wanted(wanted))).await
    }

    async fn verify_wanted(&self, wanted: Verification) -> Result<Vec<VerifyReport>, SiteError> {
        let repository = self.repository().await?;
        let run = wanted.run.unwrap_or_default();
        let Some(id) = &wanted.snapshot else {
            // The newest point has to be proven, whole or not.
            let point = self.point(&wanted.point, true);
            return self.verify_points(run, repository, &wanted.sources, point, wanted.level).await;
        };
        let snapshots = repository.snapshots().await?;
        let snapshot = select(&snapshots, id, &self.identity.scope)?;
        let own = snapshot.source().filter(|name| snapshot.is_ours() && self.source(name).is_ok());
        if let Some(name) = own {
            let newest = PointChoice::newest(HostScope::Any);
            let point = PointChoice { wanted: snapshot.id().to_string(), ..newest };
            return self.verify_points(run, repository, &[name], point, wanted.level).await;
        }
        let level = wanted.level.unwrap_or(ProofLevel::Readable);
        if level > ProofLevel::Readable {
            return Err(SiteError::Config(format!(
                "no source of the config made snapshot {}, so its format is unknown; use --level readable or stored",
                snapshot.id().short()
            )));
        }
        let lock = self.wait_for(repository.lock_to_read(self.patience)).await?;
        let done = async {
            let reader = repository.read(snapshot).await?;
            Ok(verify_snapshot(&reader, level, &self.staged_work()).await?)
        }
        .await;
        let report = released(lock, done).await?;
        let reports = vec![report];
        self.record_proofs(run, &repository, &reports).await?;
        Ok(reports)
    }

    async fn verify_points(
        &self,
        run: RunId,
        repository: Repository,
        names: &[SourceName],
        point: PointChoice,
        level: Option<ProofLevel>,
    ) -> Result<Vec<VerifyReport>, SiteError> {
        let (sources, unavailable) = self.sources(names)?;
        let job = VerifyJob {
            repository,
            sources,
            unavailable,
            point,
            level: level.unwrap_or(ProofLevel::Parsed),
            patience: self.patience,
        };
        let Verified { reports, stopped } = job::verify(&job, &self.staged_work()).await?;
        // Recorded first, and even if the job ended early: damage that was found revokes earlier
        // proofs.
        self.record_proofs(run, &job.repository, &reports).await?;
        match stopped {
            Some(error) => Err(error.into()),
            None => Ok(reports),
        }
    }

    /// Verifies a staged file of a source. The history records nothing, because a file is not a
    /// point of a repository.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the source has no staged form; if the file cannot be read.
    pub async fn verify_file(
        &self,
        source: &SourceName,
        file: &Path,
        level: ProofLevel,
    ) -> Result<VerifyReport, SiteError> {
        let verify = async {
            let (source, work) = (self.source(source)?, self.staged_work());
            let form = source.staged().ok_or_else(|| no_form(source.name()))?;
            let point = form.open(file, &work).await?;
            Ok(verify_point(&*source, &point, level, &work).await?)
        };
        self.until_cancelled(Box::pin(verify)).await
    }

    /// Restores points into scratch targets, compares, damages them, compares again, and measures
    /// the time. The history records the report.
    ///
    /// # Errors
    /// If the drill cannot begin, or its report cannot be recorded.
    pub async fn drill(&self, wanted: Drill) -> Result<(DrillReport, ChainedReport), SiteError> {
        let (sources, unavailable) = self.sources(&wanted.sources)?;
        let settings = &self.config.settings;
        let job = DrillJob {
            run: wanted.run.unwrap_or_default(),
            repository: self.repository().await?,
            sources,
            unavailable,
            host: settings.host_name(),
            // The newest point has to be proven, whole or not.
            point: PointChoice { moment: wanted.moment, ..self.point(&wanted.point, true) },
            level: wanted.level,
            state_directory: settings.state_directory.clone(),
            scratch_directory: settings.scratch(),
            patience: self.patience,
        };
        let run = async { Ok(drill(&job, &self.progress, &self.cancel).await?) };
        let (mut report, released) = self.until_cancelled(Box::pin(run)).await?;
        let chained = self.record_drill(&mut report).await?;
        released?;
        Ok((report, chained))
    }
}
