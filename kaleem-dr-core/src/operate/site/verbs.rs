//! The verbs of a site.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Site, SiteError};
use crate::{
    engine::{
        ledger::{ChainedReport, Ledger},
        repository::{Repository, RepositoryError, select},
        source::Probe,
    },
    ground::{ProofLevel, RunId, SourceError, SourceName, error_chain, host::HostScope},
    operate::{
        config::RepositorySettings,
        job::{
            self, BackupJob, FurtherRepository, Restoring, RunReport, SourceStatus, StatusOf,
            StatusRules, VerifyJob,
        },
        runbook::Runbook,
        tripwire::{Alarm, Alarms, RecordedAlarm},
    },
    recovery::{
        drill::{DrillJob, DrillReport, drill},
        objectives::rto_broken,
        points::{PointChoice, RecoveryPoint, open_point, recovery_points},
        source::{RestorePlan, RestoreReport, RestoreRequest},
        verify::{VerifyReport, verify_snapshot},
    },
};

/// After a cancellation, how long work may take to end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// What [`Site::backup`] saves.
#[derive(Clone, Debug, Default)]
pub struct Backup {
    /// The run's id; a new one unless it is set.
    pub run: Option<RunId>,
    /// Sources; all that a backup takes where none is named.
    pub sources: Vec<SourceName>,
    /// More tags for every snapshot.
    pub tags: Vec<String>,
    /// Read everything, write nothing.
    pub dry_run: bool,
}

/// What [`Site::verify`] proves.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The job's id; a new one unless it is set.
    pub run: Option<RunId>,
    /// Sources; all that a backup takes where none is named.
    pub sources: Vec<SourceName>,
    /// `latest`, or the beginning of a run's or a snapshot's id.
    pub point: String,
    /// One snapshot instead, by the beginning of its id: also one of another tool.
    pub snapshot: Option<String>,
    /// How far: [`ProofLevel::Parsed`] unless it is set, and [`ProofLevel::Readable`] for another tool's snapshot.
    pub level: Option<ProofLevel>,
}

impl Default for Verification {
    /// The newest point of every source, parsed.
    fn default() -> Self {
        Self {
            run: None,
            sources: Vec::new(),
            point: "latest".to_owned(),
            snapshot: None,
            level: None,
        }
    }
}

/// What [`Site::drill`] restores and compares.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The job's id; a new one unless it is set.
    pub run: Option<RunId>,
    /// Sources; all that a backup takes where none is named.
    pub sources: Vec<SourceName>,
    /// `latest`, or the beginning of a run's or a snapshot's id.
    pub point: String,
    /// How far. Only [`ProofLevel::Restored`] measures an RTO.
    pub level: ProofLevel,
}

impl Default for Drill {
    /// The newest point of every source, restored.
    fn default() -> Self {
        Self {
            run: None,
            sources: Vec::new(),
            point: "latest".to_owned(),
            level: ProofLevel::Restored,
        }
    }
}

/// What [`Site::status`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SiteStatus {
    /// A line for each repository and source.
    pub sources: Vec<SourceStatus>,
    /// Whether recovering all sources from the repository that is meant would take longer than the config allows; `None` where the config sets
    /// no limit, or nothing was measured.
    pub rto_broken: Option<bool>,
    /// Alarms of this host that are not acknowledged. They block forget and prune.
    pub alarms: Vec<Alarm>,
    /// Alarms of every host that are recorded in the repository.
    pub recorded: Vec<RecordedAlarm>,
}

impl SiteStatus {
    /// Whether a limit of the config is broken: the command then ends with 6. Without a source, nothing is protected.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.rto_broken == Some(true) || self.sources.iter().any(SourceStatus::is_broken)
    }
}

impl Site {
    /// Makes the repository of a site that has no config, where there is none yet, and opens it.
    ///
    /// # Errors
    /// [`SiteError::Config`] on a site with a config; what keeps the repository from being made or opened.
    pub async fn init(&self) -> Result<Repository, SiteError> {
        let Some(access) = &self.access else {
            return Err(SiteError::Config(
                "this site has a config: its repositories are made one by one".to_owned(),
            ));
        };
        match Repository::init(access, 2).await {
            Err(RepositoryError::AlreadyExists { .. }) => Ok(Repository::open(access).await?),
            made => Ok(made?),
        }
    }

    /// Saves sources: one snapshot each, with copies, retention and alarms as the config says. A source that fails does not keep the others
    /// from being saved: see [`RunReport::exit`].
    ///
    /// # Errors
    /// What keeps the run from beginning: a lock, an unknown source, no repository that opens.
    pub async fn backup(&self, backup: Backup) -> Result<RunReport, SiteError> {
        if self.identity.scope == HostScope::Any {
            return Err(SiteError::Config(
                "a backup is of one host; --host any does not say which".to_owned(),
            ));
        }
        let (sources, unavailable) = self.sources(&backup.sources)?;
        let settings = &self.config.settings;
        let (repository, tags, also) = self.repositories(backup.tags).await?;
        let job = BackupJob {
            run: backup.run,
            host: settings.host_name(),
            repository,
            sources,
            unavailable,
            retention: settings.backup.forget.then(|| settings.retention.clone()),
            prune: settings.backup.prune,
            staging: settings.staged.clone(),
            tags,
            restore_text: Some(
                Runbook::of(&self.config, &self.environment, &self.path).restore_md().into(),
            ),
            dry_run: backup.dry_run,
            also,
            tripwire: Some(settings.tripwire),
            state_directory: Some(settings.state_directory.clone()),
            patience: self.patience,
        };
        let run = async { Ok(job::backup(&job, &self.progress, &self.cancel).await?) };
        self.until_cancelled(Box::pin(run)).await
    }

    /// The run's repository, the tags of what is saved in it, and the further repositories. When the first cannot be opened, the next that
    /// can takes its place, and it counts as one that failed.
    async fn repositories(
        &self,
        tags: Vec<String>,
    ) -> Result<(Repository, Vec<String>, Vec<FurtherRepository>), SiteError> {
        let settings = &self.config.settings;
        if self.access.is_some() {
            return Ok((self.repository().await?, tags, Vec::new()));
        }
        let own = self.chosen_repository()?.0;
        let tags_of = |name: &str| {
            settings
                .repository
                .get(name)
                .map(|repository| repository.tags.clone())
                .unwrap_or_default()
        };
        let mut also = Vec::new();
        for name in settings.backup.also.iter().filter(|name| *name != own) {
            let opened = match self.access_to(name) {
                Ok(access) => Repository::open(&access).await.map_err(|error| error_chain(&error)),
                Err(error) => Err(error.to_string()),
            };
            also.push(FurtherRepository {
                name: name.clone(),
                repository: opened,
                tags: tags_of(name),
            });
        }
        let more = settings.backup.tags.iter().cloned().chain(tags);
        match self.repository().await {
            Ok(repository) => Ok((repository, more.chain(tags_of(own)).collect(), also)),
            Err(error) => {
                let Some(at) = also.iter().position(|further| further.repository.is_ok()) else {
                    return Err(error);
                };
                let stand_in = also.remove(at);
                let repository = stand_in.repository.map_err(SiteError::Config)?;
                also.insert(
                    0,
                    FurtherRepository {
                        name: own.to_owned(),
                        repository: Err(error_chain(&error)),
                        tags: Vec::new(),
                    },
                );
                Ok((repository, more.chain(stand_in.tags).collect(), also))
            }
        }
    }

    /// Proves points, or one snapshot, and keeps what was shown in the history. [`job::exit_of`] sums the reports up.
    ///
    /// # Errors
    /// When the repository cannot be used, the job was cancelled, or a proof cannot be kept.
    pub async fn verify(&self, wanted: Verification) -> Result<Vec<VerifyReport>, SiteError> {
        self.until_cancelled(Box::pin(self.verify_wanted(wanted))).await
    }

    async fn verify_wanted(&self, wanted: Verification) -> Result<Vec<VerifyReport>, SiteError> {
        let repository = self.repository().await?;
        let run = wanted.run.unwrap_or_default();
        let Some(id) = &wanted.snapshot else {
            // What is newest has to be proven, whole or not.
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
                "no source of the config made snapshot {}, so its format is unknown; --level readable is the most",
                snapshot.id().short()
            )));
        }
        let lock = repository.lock_to_read(self.patience).await?;
        let verified = async {
            verify_snapshot(&repository.read(snapshot).await?, level, &self.staged_work()).await
        }
        .await;
        lock.release().await?;
        let report = verified?;
        if let Some(proof) = report.proof(run, &repository.location(), Timestamp::now()) {
            Ledger::open(&self.config.settings.state_directory)?.record_proof(&proof)?;
        }
        Ok(vec![report])
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
            run,
            repository,
            sources,
            unavailable,
            point,
            level: level.unwrap_or(ProofLevel::Parsed),
            state_directory: self.config.settings.state_directory.clone(),
            patience: self.patience,
        };
        Ok(job::verify(&job, &self.staged_work()).await?)
    }

    /// Restores points into scratch targets, compares, damages them, compares again, and measures. The report is kept in the history.
    ///
    /// # Errors
    /// What keeps the drill from beginning, or its report from being kept.
    pub async fn drill(&self, wanted: Drill) -> Result<(DrillReport, ChainedReport), SiteError> {
        let (sources, unavailable) = self.sources(&wanted.sources)?;
        let settings = &self.config.settings;
        let job = DrillJob {
            run: wanted.run.unwrap_or_default(),
            repository: self.repository().await?,
            sources,
            unavailable,
            host: settings.host_name(),
            // What is newest has to be proven, whole or not.
            point: self.point(&wanted.point, true),
            level: wanted.level,
            state_directory: settings.state_directory.clone(),
            scratch_directory: settings.scratch(),
            patience: self.patience,
        };
        let run = async { Ok(drill(&job, &self.progress, &self.cancel).await?) };
        self.until_cancelled(Box::pin(run)).await
    }

    /// The recovery points of the hosts that are meant, newest first.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn points(&self) -> Result<Vec<RecoveryPoint>, SiteError> {
        let snapshots = self.repository().await?.snapshots().await?;
        let own = self.own.iter().map(|source| source.name().clone());
        let wanted: Vec<SourceName> = self.config.backup_sources().into_iter().chain(own).collect();
        Ok(recovery_points(&snapshots, &wanted, &self.identity.scope))
    }

    /// Lets work end by itself for a second after a cancellation. Then it is dropped, as a wait for a lock is, and a lock that it held is
    /// removed.
    async fn until_cancelled<T>(
        &self,
        mut work: impl Future<Output = Result<T, SiteError>> + Unpin,
    ) -> Result<T, SiteError> {
        tokio::select! {
            done = &mut work => done,
            () = self.cancel.cancelled() => {
                tokio::time::timeout(GRACE, work).await.unwrap_or(Err(RepositoryError::Cancelled.into()))
            }
        }
    }

    /// Restores a source, after `agree` has seen the plan and said yes; `None` when it said no. Differences found afterwards are in the
    /// report: see [`RestoreReport::is_done`].
    ///
    /// # Errors
    /// When there is no such point, a guard refuses, or something could not be read or written.
    pub async fn restore(
        &self,
        source: &SourceName,
        point: &str,
        request: RestoreRequest,
        agree: impl FnOnce(&RestorePlan) -> bool + Send,
    ) -> Result<Option<RestoreReport>, SiteError> {
        let source = self.source(source)?;
        let repository = self.repository().await?;
        // Nobody may prune what is read.
        let waiting = async { Ok(repository.lock_to_read(self.patience).await?) };
        let lock = self.until_cancelled(Box::pin(waiting)).await?;
        let restored = async {
            let choice = self.point(point, false);
            let (point, notes) =
                open_point(&repository, source.name(), &choice, &self.progress, &self.cancel)
                    .await?;
            let restoring =
                Restoring { source: &*source, point: &point, notes, identity: &self.identity };
            let plan = job::plan_restore(restoring, request).await?;
            Ok::<_, SiteError>(if agree(&plan) {
                Some(source.restore(&point, plan).await?)
            } else {
                None
            })
        }
        .await;
        lock.release().await?;
        restored
    }

    /// How old and how well proven the newest point of each source is, in the repository that is meant and in those that are fed from it,
    /// and which alarms are not acknowledged. [`SiteStatus::is_broken`] sums it up.
    ///
    /// # Errors
    /// When the repository, the history or the alarms cannot be read.
    pub async fn status(&self) -> Result<SiteStatus, SiteError> {
        let settings = &self.config.settings;
        let repository = self.repository().await?;
        let snapshots = repository.snapshots().await?;
        let own = self.own.iter().map(|source| source.name().clone());
        let names: Vec<SourceName> = self.config.backup_sources().into_iter().chain(own).collect();
        let (ledger, host) = (Ledger::open(&settings.state_directory)?, settings.host_name());
        let rules = StatusRules {
            ledger: &ledger,
            objectives: &settings.objectives,
            sources: &names,
            host: host.as_str(),
            max_age: SignedDuration::from_hours(i64::from(settings.status.max_age_hours)),
            now: Timestamp::now(),
        };
        let primary = match &self.access {
            Some(_) => None,
            None => Some(self.chosen_repository()?.0),
        };
        let of = match primary {
            Some(name) => self.status_of(name)?,
            None => StatusOf {
                name: "repository".to_owned(),
                location: repository.location(),
                mirror_of: None,
            },
        };
        let mut sources = rules.of_repository(&of, &snapshots)?;
        let standings = sources.iter().map(|status| &status.standing);
        let rto_broken = rto_broken(&settings.objectives, standings);
        if let (Some(primary), None) = (primary, &self.chosen) {
            for replica in self.replicas(primary) {
                sources.extend(rules.of_replica(&self.status_of(replica)?, &snapshots)?);
            }
        }
        let recorded = Alarm::recorded(&snapshots);
        Alarms::reconcile(&settings.state_directory, repository.id(), &recorded)?;
        let alarms = Alarms::load(&settings.state_directory)?.standing().to_vec();
        Ok(SiteStatus { sources, rto_broken, alarms, recorded })
    }

    fn status_of(&self, name: &str) -> Result<StatusOf, SiteError> {
        let location = |name: &str| Ok::<_, SiteError>(self.location(name)?.in_words());
        let mirror_of = self.named(name)?.1.mirror_of.as_deref();
        Ok(StatusOf {
            name: name.to_owned(),
            location: location(name)?,
            mirror_of: mirror_of.map(location).transpose()?,
        })
    }

    /// Repositories that are fed from one of the config: its mirrors, and those that a backup copies to.
    pub fn replicas<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a str> {
        let settings = &self.config.settings;
        let is_fed = move |name: &String, repository: &RepositorySettings| {
            repository.mirror_of.as_deref() == Some(of) || settings.backup.also.contains(name)
        };
        settings
            .repository
            .iter()
            .filter(move |(name, repository)| *name != of && is_fed(name, repository))
            .map(|(name, _)| name.as_str())
    }

    /// Reaches every source and reads versions, rights and sizes. Never writes.
    ///
    /// # Errors
    /// None for a source that cannot be reached: that is its part of the answer. [`SiteError::Config`] when there is no source.
    pub async fn probe(&self) -> Result<Vec<(SourceName, Result<Probe, SourceError>)>, SiteError> {
        let (sources, unavailable) = self.sources(&[])?;
        let mut probes = Vec::new();
        for source in sources {
            probes.push((source.name().clone(), source.probe().await));
        }
        probes.extend(
            unavailable.into_iter().map(|of| (of.source, Err(SourceError::Unsupported(of.why)))),
        );
        Ok(probes)
    }
}
