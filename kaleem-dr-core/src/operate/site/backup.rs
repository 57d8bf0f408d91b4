//! `backup`.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{Site, SiteError};
use crate::{
    engine::{
        ledger::EventKind,
        repository::{Repository, RepositoryError},
    },
    ground::{Exit, RunId, SourceName, error_chain, host::HostScope},
    operate::{
        backup_hooks::BackupHooks,
        job::{self, BackupJob, RunReport, SecondaryRepository},
        monitor::{Ended, Job},
        runbook::Runbook,
    },
    recovery::source::Restorable,
};

/// Options of [`Site::backup`]. The default saves every source.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Backup {
    /// Id of the run; a new one by default.
    pub run: Option<RunId>,
    /// Sources to capture; all if empty.
    pub sources: Vec<SourceName>,
    /// Additional tags for every snapshot.
    pub tags: Vec<String>,
    /// Reads everything, but writes nothing.
    pub dry_run: bool,
}

impl Backup {
    /// A backup of these sources, or of all sources if the list is empty.
    #[must_use]
    pub fn of(sources: Vec<SourceName>) -> Self {
        Self { sources, ..Self::default() }
    }

    /// The job of this backup, with this id; `None` for a dry run, which is not watched.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Option<Job> {
        let (parts, is_narrowed) = site.parts_of(&self.sources);
        (!self.dry_run).then(|| site.job(EventKind::Backup, run, parts, is_narrowed))
    }
}

impl From<&RunReport> for Ended {
    fn from(report: &RunReport) -> Self {
        Self::of_run(report)
    }
}

impl Site {
    /// Saves sources, one snapshot each, with copies, retention and alarms as configured. If a
    /// source fails, the others are still saved: see [`RunReport::exit`].
    ///
    /// # Errors
    /// If the run cannot begin: because of a lock, an unknown source, or because no repository
    /// opens.
    pub async fn backup(&self, backup: Backup) -> Result<RunReport, SiteError> {
        if self.identity.scope == HostScope::Any {
            return Err(SiteError::Config(
                "a backup belongs to one host: replace --host any by a host's name".to_owned(),
            ));
        }
        let hooks = &self.config.settings.backup.hooks;
        if backup.dry_run {
            return Box::pin(self.back_up(backup)).await;
        }
        let between = hooks.around(&self.cancel, Box::pin(self.back_up(backup))).await;
        if let Some(error) = &between.after {
            tracing::error!(%error, "a command after the backup failed");
        }
        match between.done {
            Ok(report) => report.map(|mut report| {
                if let Some(error) = between.after {
                    report.hook_error = Some(error);
                    report.exit =
                        if report.exit == Exit::Done { Exit::Partial } else { report.exit };
                }
                report
            }),
            Err(_) if self.cancel.is_cancelled() => {
                Err(SiteError::Repository(RepositoryError::Cancelled))
            }
            Err(why) => Err(SiteError::Hook(why)),
        }
    }

    async fn back_up(&self, backup: Backup) -> Result<RunReport, SiteError> {
        let (run, started) = (backup.run.unwrap_or_default(), Timestamp::now());
        let (sources, unavailable) = self.sources(&backup.sources)?;
        let settings = &self.config.settings;
        let (repository, tags, secondaries) = self.repositories(backup.tags).await?;
        let job = BackupJob {
            run: Some(run),
            host: settings.host_name(),
            repository,
            hooks: self.hooks_of(&sources),
            sources,
            unavailable,
            retention: settings.backup.forget.then(|| settings.retention.clone()),
            prune: settings.backup.prune,
            prune_every: settings.backup.prune_every(),
            staging: settings.staged.clone(),
            tags,
            restore_text: Some(
                Runbook::of(&self.config, &self.environment, &self.path).restore_md().into(),
            ),
            dry_run: backup.dry_run,
            enclosures: Vec::new(),
            unsealed: None,
            secondaries,
            tripwire: Some(settings.tripwire),
            state_directory: Some(settings.state_directory.clone()),
            patience: self.patience,
        };
        let enclosed = self.enclosures(&job.sources, job.dry_run).await;
        let job = BackupJob { enclosures: enclosed.files, unsealed: enclosed.unsealed, ..job };
        let work = async {
            let result = job::backup(&job, &self.progress, &self.cancel).await;
            if !job.dry_run {
                let location = job.repository.location();
                self.history()?.backup(location, (run, started), &result)?;
            }
            Ok(result?)
        };
        self.until_cancelled(Box::pin(work)).await
    }

    fn hooks_of(&self, sources: &[Arc<dyn Restorable>]) -> BTreeMap<SourceName, BackupHooks> {
        let names = sources.iter().map(|source| source.name());
        let declared = names
            .filter_map(|name| Some((name.clone(), self.config.sources.get(name)?.hooks.clone())));
        declared.collect()
    }

    /// The run's repository, the tags of its snapshots, and the secondary repositories. If the
    /// first repository cannot be opened, the next one that opens takes its place, and the first
    /// counts as failed.
    async fn repositories(
        &self,
        tags: Vec<String>,
    ) -> Result<(Repository, Vec<String>, Vec<SecondaryRepository>), SiteError> {
        let settings = &self.config.settings;
        if self.access.is_some() {
            return Ok((self.repository().await?, tags, Vec::new()));
        }
        let own = self.chosen_repository()?.0;
        let tags_of = |name: &str| self.tags_of(name);
        let mut also = self.secondary_repositories().await?;
        let more = settings.backup.tags.iter().cloned().chain(tags);
        match self.repository().await {
            Ok(repository) => Ok((repository, more.chain(tags_of(own)).collect(), also)),
            Err(error) => {
                let Some(at) = also.iter().position(|secondary| secondary.repository.is_ok())
                else {
                    return Err(error);
                };
                let stand_in = also.remove(at);
                let repository = stand_in.repository.map_err(SiteError::Config)?;
                also.insert(
                    0,
                    SecondaryRepository {
                        name: own.to_owned(),
                        repository: Err(error_chain(&error)),
                        tags: Vec::new(),
                    },
                );
                Ok((repository, more.chain(stand_in.tags).collect(), also))
            }
        }
    }

    /// The repositories of `backup.also`, each opened, or with the reason why it could not be.
    ///
    /// # Errors
    /// If the config has no such repository as the one that is chosen.
    pub(super) async fn secondary_repositories(
        &self,
    ) -> Result<Vec<SecondaryRepository>, SiteError> {
        if self.access.is_some() {
            return Ok(Vec::new());
        }
        let own = self.chosen_repository()?.0;
        let mut also = Vec::new();
        for name in self.config.settings.backup.also.iter().filter(|name| *name != own) {
            let opened = match self.access_to(name) {
                Ok(access) => Repository::open(&access).await.map_err(|error| error_chain(&error)),
                Err(error) => Err(error.to_string()),
            };
            also.push(SecondaryRepository {
                name: name.clone(),
                repository: opened,
                tags: self.tags_of(name),
            });
        }
        Ok(also)
    }

    /// Additional tags of snapshots in a repository of the config.
    fn tags_of(&self, repository: &str) -> Vec<String> {
        let settings = self.config.settings.repository.get(repository);
        settings.map(|repository| repository.tags.clone()).unwrap_or_default()
    }
}
