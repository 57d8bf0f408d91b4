//! The parts that the verbs of a site share: repositories, sources, locks, the guard.

use std::{sync::Arc, time::Duration};

use super::{Made, Site, SiteError};
use crate::{
    engine::repository::{Access, Location, Lock, Repository, RepositoryError, Snapshot},
    ground::{SourceError, SourceName, error_chain, host::HostScope},
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

/// Time that work has to end by itself after a cancellation.
const GRACE: Duration = Duration::from_secs(1);

impl Site {
    /// Opens the selected repository.
    ///
    /// # Errors
    /// If the config has no such repository, or it cannot be opened.
    pub async fn repository(&self) -> Result<Repository, SiteError> {
        let repository = match &self.access {
            Some(access) => Repository::open(access).await?,
            None => Repository::open(&self.access_to(self.chosen_repository()?.0)?).await?,
        };
        Ok(if self.locks { repository } else { repository.without_locks() })
    }

    /// Name and settings of the selected repository: the chosen one, or `local`, or the only one.
    ///
    /// # Errors
    /// [`SiteError::Config`] lists the repositories of the config.
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
                format!("select a repository with --repo: {}", names())
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

    /// Location of a repository of the config. Does not read its password.
    ///
    /// # Errors
    /// [`SiteError::Config`] if it does not exist, or its location is invalid.
    pub fn location(&self, name: &str) -> Result<Location, SiteError> {
        let (_, repository) = self.named(name)?;
        repository
            .location(&self.environment)
            .map_err(|error| SiteError::Config(error_chain(&error)))
    }

    /// Location and password of a repository of the config.
    ///
    /// # Errors
    /// As [`Site::location`]; if the password cannot be read.
    pub fn access_to(&self, name: &str) -> Result<Access, SiteError> {
        let (_, repository) = self.named(name)?;
        let access = repository.access(&self.config.settings.cache_directory, &self.environment);
        access.map_err(|error| SiteError::Config(error_chain(&error)))
    }

    /// These sources, or all that a backup captures, with their secrets read. A source that cannot
    /// be made, for example because its secret is missing, fails alone: it is among the unavailable
    /// ones.
    ///
    /// # Errors
    /// [`SiteError::Config`] if a name is unknown, or the config has no source.
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

    /// A source, with its secrets read.
    ///
    /// # Errors
    /// [`SiteError::Config`] if it does not exist or cannot be made.
    pub fn source(&self, name: &SourceName) -> Result<Arc<dyn Restorable>, SiteError> {
        if let Some(own) = self.own.iter().find(|source| source.name() == name) {
            return Ok(own.clone());
        }
        let made = self.declared(name)?.make(&self.environment);
        made.map_err(|error| SiteError::Config(format!("source {name}: {}", error_chain(&*error))))
    }

    /// A source as the config declares it.
    ///
    /// # Errors
    /// [`SiteError::Config`] lists the sources of the config.
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

    /// A point of the selected hosts: `latest`, or the id prefix of a run or a snapshot.
    #[must_use]
    pub fn point(&self, wanted: &str, allow_incomplete: bool) -> PointChoice {
        PointChoice {
            wanted: wanted.to_owned(),
            hosts: self.identity.scope.clone(),
            allow_incomplete,
            moment: None,
        }
    }

    /// Resources for work on points and staged files.
    #[must_use]
    pub fn staged_work(&self) -> StagedWork {
        StagedWork {
            scratch: self.config.settings.scratch(),
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// The sources that a backup captures: those of the config, and those that were added.
    pub(super) fn source_names(&self) -> Vec<SourceName> {
        let own = self.own.iter().map(|source| source.name().clone());
        self.config.backup_sources().into_iter().chain(own).collect()
    }

    /// Location of the selected repository; `None` if the config does not select one.
    pub(super) fn place(&self) -> Option<String> {
        match &self.access {
            Some(access) => Some(access.location.in_words()),
            None => self.chosen_repository().ok().map(|(name, _)| self.place_of(name)),
        }
    }

    /// Location of a repository of the config; its name if the location is invalid.
    pub(super) fn place_of(&self, name: &str) -> String {
        self.location(name).map_or_else(|_| name.to_owned(), |location| location.in_words())
    }

    pub(super) fn history(&self) -> Result<History, SiteError> {
        Ok(History::open(&self.config.settings.state_directory)?)
    }

    /// Opens the selected repository and lists its snapshots. A cancellation ends it.
    pub(super) async fn listed(&self) -> Result<(Repository, Vec<Snapshot>), SiteError> {
        let listing = async {
            let repository = self.repository().await?;
            let snapshots = repository.snapshots().await?;
            Ok((repository, snapshots))
        };
        self.until_cancelled(Box::pin(listing)).await
    }

    /// Opens a repository of the config.
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
        // If the alarms cannot be read, the guard refuses.
        if let Err(error) = Alarms::reconcile(state_directory, repository.id(), &recorded) {
            tracing::warn!(error = %error_chain(&error), "the alarms of this host cannot be read");
        }
        Ok(Alarms::guard(state_directory, &recorded, hosts, removal)?)
    }

    /// Gives work a second to end by itself after a cancellation. Then the work is dropped, as a
    /// wait for a lock is, and its lock is removed.
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

/// Releases a lock after the work under it, however that ended. The error of the work comes first: a lock that cannot be removed
/// must not hide it.
pub(super) async fn released<T>(lock: Lock, done: Result<T, SiteError>) -> Result<T, SiteError> {
    let released = lock.release().await;
    let done = done?;
    released?;
    Ok(done)
}

/// The repository's own error, if that is the reason: it has more advice.
pub(super) fn of_repository(error: SourceError) -> SiteError {
    match error {
        SourceError::Point(cause) => match cause.downcast::<RepositoryError>() {
            Ok(error) => SiteError::Repository(*error),
            Err(cause) => SourceError::Point(cause).into(),
        },
        error => error.into(),
    }
}
