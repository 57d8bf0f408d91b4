//! The verbs of a site.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Site, SiteError};
use crate::{
    engine::{
        ledger::{ChainedReport, Ledger},
        repository::{Repository, RepositoryError},
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
    },
    recovery::{
        drill::{DrillJob, DrillReport, drill},
        points::{RecoveryPoint, open_point, recovery_points},
        source::{RestorePlan, RestoreReport, RestoreRequest},
        verify::VerifyReport,
    },
};

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
    /// How far.
    pub level: ProofLevel,
}

impl Default for Verification {
    /// The newest point of every source, parsed.
    fn default() -> Self {
        Self {
            run: None,
            sources: Vec::new(),
            point: "latest".to_owned(),
            level: ProofLevel::Parsed,
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
        Ok(job::backup(&job, &self.progress, &self.cancel).await?)
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

    /// Proves the points of sources, and keeps what was shown in the history. [`job::exit_of`] sums the reports up.
    ///
    /// # Errors
    /// When the repository cannot be used, the job was cancelled, or a proof cannot be kept.
    pub async fn verify(&self, verification: Verification) -> Result<Vec<VerifyReport>, SiteError> {
        let (sources, unavailable) = self.sources(&verification.sources)?;
        let job = VerifyJob {
            run: verification.run.unwrap_or_default(),
            repository: self.repository().await?,
            sources,
            unavailable,
            // What is newest has to be proven, whole or not.
            point: self.point(&verification.point, true),
            level: verification.level,
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
        Ok(drill(&job, &self.progress, &self.cancel).await?)
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
        let lock = repository.lock_to_read(self.patience).await?;
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

    /// How old and how well proven the newest point of each source is, in the repository that is meant and in those that are fed from it.
    ///
    /// # Errors
    /// When the repository or the history cannot be read.
    pub async fn status(&self) -> Result<Vec<SourceStatus>, SiteError> {
        let settings = &self.config.settings;
        let repository = self.repository().await?;
        let snapshots = repository.snapshots().await?;
        let own = self.own.iter().map(|source| source.name().clone());
        let sources: Vec<SourceName> =
            self.config.backup_sources().into_iter().chain(own).collect();
        let (ledger, host) = (Ledger::open(&settings.state_directory)?, settings.host_name());
        let rules = StatusRules {
            ledger: &ledger,
            objectives: &settings.objectives,
            sources: &sources,
            host: host.as_str(),
            max_age: SignedDuration::from_hours(i64::from(settings.status.max_age_hours)),
            now: Timestamp::now(),
        };
        if self.access.is_some() {
            let of = StatusOf {
                name: "repository".to_owned(),
                location: repository.location(),
                mirror_of: None,
            };
            return Ok(rules.of_repository(&of, &snapshots)?);
        }
        let name = self.chosen_repository()?.0;
        let mut all = rules.of_repository(&self.status_of(name)?, &snapshots)?;
        if self.chosen.is_none() {
            for replica in self.replicas(name) {
                all.extend(rules.of_replica(&self.status_of(replica)?, &snapshots)?);
            }
        }
        Ok(all)
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
            let probe = Arc::clone(&source).probe().await;
            probes.push((source.name().clone(), probe));
        }
        probes.extend(
            unavailable.into_iter().map(|of| (of.source, Err(SourceError::Unsupported(of.why)))),
        );
        Ok(probes)
    }
}
