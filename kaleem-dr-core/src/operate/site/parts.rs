//! What the verbs of a site work with: its repositories and sources, its locks, its guard.

use std::{sync::Arc, time::Duration};

use super::{Made, Site, SiteError};
use crate::{
    engine::repository::{Access, Location, Lock, Repository, RepositoryError, Snapshot},
    ground::{SourceName, error_chain, host::HostScope},
    operate::{
        config::{DeclaredSource, RepositorySettings},
        history::History,
        tripwire::{Alarm, Alarms, Removal},
    },
    recovery::{
        points::PointChoice,
        source::{Restorable, Unavailable},
        staged::StagedWork,
    },
};

/// After a cancellation, how long work may take to end by itself.
const GRACE: Duration = Duration::from_secs(1);

impl Site {
    /// The repository that is meant, opened.
    ///
    /// # Errors
    /// When the config has no such repository, or it cannot be opened.
    pub async fn repository(&self) -> Result<Repository, SiteError> {
        let repository = match &self.access {
            Some(access) => Repository::open(access).await?,
            None => Repository::open(&self.access_to(self.chosen_repository()?.0)?).await?,
        };
        Ok(if self.locks { repository } else { repository.without_locks() })
    }

    /// Name and settings of the repository that is meant: the one that was chosen, else `local`, else the only one.
    ///
    /// # Errors
    /// [`SiteError::Config`] lists those that there are.
    pub fn chosen_repository(&self) -> Result<(&str, &RepositorySettings), SiteError> {
        let all = &self.config.settings.repository;
        let names = || all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let found = match &self.chosen {
            Some(name) => return self.named(name),
            None if all.len() == 1 => all.iter().next(),
            None => all.get_key_value("local"),
        };
        found.map(|(name, settings)| (name.as_str(), settings)).ok_or_else(|| {
            SiteError::Config(if all.is_empty() {
                format!("{} has no [repository.NAME]", self.path.display())
            } else {
                format!("say which repository with --repo: {}", names())
            })
        })
    }

    pub(super) fn named(&self, name: &str) -> Result<(&str, &RepositorySettings), SiteError> {
        let all = &self.config.settings.repository;
        let names = || all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        all.get_key_value(name).map(|(name, settings)| (name.as_str(), settings)).ok_or_else(|| {
            SiteError::Config(format!("the config has no repository `{name}`; it has {}", names()))
        })
    }

    /// Where a repository of the config is. Its password is not read.
    ///
    /// # Errors
    /// [`SiteError::Config`] when there is none of this name, or its location is not understood.
    pub fn location(&self, name: &str) -> Result<Location, SiteError> {
        let (_, repository) = self.named(name)?;
        repository
            .location(&self.environment)
            .map_err(|error| SiteError::Config(error_chain(&error)))
    }

    /// Where a repository of the config is, and its password.
    ///
    /// # Errors
    /// As [`Site::location`], and when the password cannot be read.
    pub fn access_to(&self, name: &str) -> Result<Access, SiteError> {
        let (_, repository) = self.named(name)?;
        let access = repository.access(&self.config.settings.cache_directory, &self.environment);
        access.map_err(|error| SiteError::Config(error_chain(&error)))
    }

    /// These sources, or those that a backup takes, with their secrets read. One whose secret is missing, say, fails alone: it is among the
    /// unavailable.
    ///
    /// # Errors
    /// [`SiteError::Config`] when a name is unknown, or there is no source at all.
    pub fn sources(&self, wanted: &[SourceName]) -> Result<Made, SiteError> {
        let all = self
            .config
            .backup_sources()
            .into_iter()
            .chain(self.own.iter().map(|source| source.name().clone()));
        let wanted = if wanted.is_empty() { all.collect() } else { wanted.to_vec() };
        if wanted.is_empty() {
            return Err(SiteError::Config(format!(
                "{} has no [source.NAME]: there is nothing to do",
                self.path.display()
            )));
        }
        let (mut sources, mut unavailable) = (Vec::new(), Vec::new());
        for name in wanted {
            if let Some(own) = self.own.iter().find(|source| *source.name() == name) {
                sources.push(own.clone());
                continue;
            }
            let declared = self.declared(&name)?;
            match declared.make(&self.environment) {
                Ok(source) => sources.push(source),
                Err(error) => {
                    unavailable.push(Unavailable {
                        source: name,
                        kind: declared.kind.to_owned(),
                        why: error_chain(&*error),
                    });
                }
            }
        }
        Ok((sources, unavailable))
    }

    /// One source, with its secrets read.
    ///
    /// # Errors
    /// [`SiteError::Config`] when there is none of this name, or it cannot be made.
    pub fn source(&self, name: &SourceName) -> Result<Arc<dyn Restorable>, SiteError> {
        if let Some(own) = self.own.iter().find(|source| source.name() == name) {
            return Ok(own.clone());
        }
        let made = self.declared(name)?.make(&self.environment);
        made.map_err(|error| SiteError::Config(format!("source {name}: {}", error_chain(&*error))))
    }

    /// One source as the config declares it.
    ///
    /// # Errors
    /// [`SiteError::Config`] lists those that there are.
    pub fn declared(&self, name: &SourceName) -> Result<&DeclaredSource, SiteError> {
        let known =
            || self.config.sources.keys().map(SourceName::as_str).collect::<Vec<_>>().join(", ");
        let none = || {
            SiteError::Config(format!(
                "{} has no source `{name}`; it has: {}",
                self.path.display(),
                known()
            ))
        };
        self.config.sources.get(name).ok_or_else(none)
    }

    /// A point of the hosts that are meant: `latest`, or the beginning of a run's or a snapshot's id.
    #[must_use]
    pub fn point(&self, wanted: &str, allow_incomplete: bool) -> PointChoice {
        PointChoice {
            wanted: wanted.to_owned(),
            hosts: self.identity.scope.clone(),
            allow_incomplete,
        }
    }

    /// What work on points and staged files may use.
    #[must_use]
    pub fn staged_work(&self) -> StagedWork {
        StagedWork {
            scratch: self.config.settings.scratch(),
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// The sources that a backup takes: those of the config and those that were added.
    pub(super) fn source_names(&self) -> Vec<SourceName> {
        let own = self.own.iter().map(|source| source.name().clone());
        self.config.backup_sources().into_iter().chain(own).collect()
    }

    /// Where the repository that is meant is, in words; `None` where the config does not say.
    pub(super) fn place(&self) -> Option<String> {
        match &self.access {
            Some(access) => Some(access.location.in_words()),
            None => self.chosen_repository().ok().map(|(name, _)| self.place_of(name)),
        }
    }

    /// Where a repository of the config is, in words; its name where that is not understood.
    pub(super) fn place_of(&self, name: &str) -> String {
        self.location(name).map_or_else(|_| name.to_owned(), |location| location.in_words())
    }

    pub(super) fn history(&self) -> Result<History, SiteError> {
        Ok(History::open(&self.config.settings.state_directory)?)
    }

    /// Opens the repository that is meant, and lists it. A cancellation ends it.
    pub(super) async fn listed(&self) -> Result<(Repository, Vec<Snapshot>), SiteError> {
        let listing = async {
            let repository = self.repository().await?;
            let snapshots = repository.snapshots().await?;
            Ok((repository, snapshots))
        };
        self.until_cancelled(Box::pin(listing)).await
    }

    /// Opens one repository of the config.
    pub(super) async fn open_named(&self, name: &str) -> Result<Repository, SiteError> {
        Ok(Repository::open(&self.access_to(name)?).await?)
    }

    /// Waits for a lock; a cancellation ends the wait.
    pub(super) async fn wait_for(
        &self,
        lock: impl Future<Output = Result<Lock, RepositoryError>>,
    ) -> Result<Lock, SiteError> {
        let cancelled = Err(RepositoryError::Cancelled);
        Ok(self.cancel.run_until_cancelled(lock).await.unwrap_or(cancelled)?)
    }

    /// Refuses what an alarm blocks.
    pub(super) async fn guard(
        &self,
        repository: &Repository,
        hosts: &HostScope,
        removal: Removal,
    ) -> Result<(), SiteError> {
        let recorded = Alarm::recorded(&repository.snapshots().await?);
        let state_directory = &self.config.settings.state_directory;
        // Where the alarms cannot be read, the guard refuses.
        if let Err(error) = Alarms::reconcile(state_directory, repository.id(), &recorded) {
            tracing::warn!(error = %error_chain(&error), "the alarms of this host cannot be read");
        }
        Ok(Alarms::guard(state_directory, &recorded, hosts, removal)?)
    }

    /// Lets work end by itself for a second after a cancellation. Then it is dropped, as a wait for a lock is, and a lock that it held is
    /// removed.
    pub(super) async fn until_cancelled<T>(
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
}

/// Releases a lock after the work under it, however that ended.
pub(super) async fn released<T>(lock: Lock, done: Result<T, SiteError>) -> Result<T, SiteError> {
    lock.release().await?;
    done
}
