//! An installation, as one type: its config, its sources and repositories, and an operator's verbs.
//!
//! A program that embeds the library makes a [`Site`] of a config ([`Site::parse`]), or of a repository and sources of its own
//! ([`Site::new`]), and calls its verbs. Each verb does what the command of the same name does, under the same locks and guards, and gives a
//! report that must be looked at: an error is only what kept the verb from being carried out.

mod error;
mod verbs;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use self::{
    error::SiteError,
    verbs::{Backup, Drill, SiteStatus, Verification},
};
use crate::{
    CancellationToken,
    engine::repository::{Access, Location, Repository},
    ground::{
        SourceName, error_chain,
        host::{HostScope, Identity},
        progress::{ProgressSink, Silent},
    },
    operate::config::{
        Config, DeclaredSource, RepositorySettings, SourceKind, secret::Environment,
    },
    recovery::{
        points::PointChoice,
        source::{Restorable, Unavailable},
        staged::StagedWork,
    },
};

/// Sources that could be made, and those that could not.
pub type Made = (Vec<Arc<dyn Restorable>>, Vec<Unavailable>);

/// An installation.
#[derive(Clone)]
pub struct Site {
    config: Arc<Config>,
    identity: Identity,
    environment: Environment,
    path: PathBuf,
    /// The repository that is meant; `None` for `local`, or the only one.
    chosen: Option<String>,
    /// A repository that no config names.
    access: Option<Arc<Access>>,
    /// Sources that no config names.
    own: Vec<Arc<dyn Restorable>>,
    locks: bool,
    patience: Duration,
    progress: Arc<dyn ProgressSink>,
    cancel: CancellationToken,
}

impl Site {
    /// A site without a config: one repository, and sources that [`Site::with_source`] adds. History and the queue of runs are kept in
    /// `state_directory`.
    ///
    /// # Errors
    /// [`SiteError::Config`] when the directory cannot be named in a config.
    pub fn new(access: Access, state_directory: &Path) -> Result<Self, SiteError> {
        let quoted = |path: &Path| {
            serde_json::to_string(&path.to_string_lossy())
                .map_err(|error| SiteError::Config(error.to_string()))
        };
        let text = format!("state_directory = {}\n", quoted(state_directory)?);
        let mut site = Self::parse(&text, Path::new("this program"), &[], Environment::default())?;
        site.access = Some(Arc::new(access));
        Ok(site)
    }

    /// A site from the text of a config. `path` names it in messages; `kinds` are the kinds of source that it may declare; variables such as
    /// `RESTIC_PASSWORD_FILE` are taken from `environment`.
    ///
    /// # Errors
    /// [`SiteError::Config`] with the first fault and its place.
    pub fn parse(
        text: &str,
        path: &Path,
        kinds: &[SourceKind],
        environment: Environment,
    ) -> Result<Self, SiteError> {
        let config = Config::parse(text, path, kinds, &environment)
            .map_err(|error| SiteError::Config(error.to_string()))?;
        Ok(Self {
            identity: Identity::own(config.settings.host_name()),
            config: Arc::new(config),
            environment,
            path: path.to_path_buf(),
            chosen: None,
            access: None,
            own: Vec::new(),
            locks: true,
            patience: Duration::ZERO,
            progress: Arc::new(Silent),
            cancel: CancellationToken::new(),
        })
    }

    /// Reads a config file.
    ///
    /// # Errors
    /// As [`Site::parse`], and when the file cannot be read.
    pub fn open(
        path: &Path,
        kinds: &[SourceKind],
        environment: Environment,
    ) -> Result<Self, SiteError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SiteError::Config(format!("{}: {error}", path.display())))?;
        Self::parse(&text, path, kinds, environment)
    }

    /// Adds a source of the program's own to those that a backup takes.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn Restorable>) -> Self {
        self.own.push(source);
        self
    }

    /// Means another repository of the config than `local`.
    #[must_use]
    pub fn with_repository(mut self, name: &str) -> Self {
        self.chosen = Some(name.to_owned());
        self
    }

    /// Acts as a host, or means every host's snapshots. Whoever names one host acts as it: its queue, its proofs, its RPO.
    #[must_use]
    pub fn with_host(mut self, scope: HostScope) -> Self {
        self.identity = match scope {
            HostScope::One(host) => {
                Arc::make_mut(&mut self.config).settings.host = Some(host.clone());
                Identity::own(host)
            }
            HostScope::Any => Identity { scope: HostScope::Any, ..self.identity },
        };
        self
    }

    /// Neither forgets nor prunes after a backup, whatever the config says.
    #[must_use]
    pub fn without_retention(mut self) -> Self {
        let backup = &mut Arc::make_mut(&mut self.config).settings.backup;
        (backup.forget, backup.prune) = (false, false);
        self
    }

    /// Shows progress.
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn ProgressSink>) -> Self {
        self.progress = progress;
        self
    }

    /// Ends a verb early: within two seconds after the token is cancelled.
    #[must_use]
    pub fn with_cancellation(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Waits so long for another program's lock. At once refused unless it is set.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Reads without a lock, as from a place that cannot be written. For verbs that only read.
    #[must_use]
    pub fn without_locks(mut self) -> Self {
        self.locks = false;
        self
    }

    /// The config.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Which host this is, and whose snapshots are meant.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The variables that the config was read with.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The config's file, or what stands for it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

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

    fn named(&self, name: &str) -> Result<(&str, &RepositorySettings), SiteError> {
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
}
