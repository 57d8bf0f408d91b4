//! What a command works with: the config, the repository, progress, cancellation.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{Access, Location, Lock, LockKind, Repository, RepositoryError},
    ground::{
        RunId, SourceName, error_chain,
        host::{HostScope, Identity},
        progress::ProgressSink,
    },
    operate::{
        config::{Config, DeclaredSource, RepositorySettings, config_of_environment, parse_env_file, secret::Environment},
        monitor::LogTail,
    },
    recovery::{
        points::PointChoice,
        source::{Restorable, Unavailable},
        staged::StagedWork,
    },
};

use crate::{failure::Failure, global::Global, progress};

const SYSTEM_CONFIG: &str = "/etc/kaleem-dr/kaleem-dr.toml";

/// What a command works with. Nothing is read until it is asked for.
pub struct Context {
    pub global: Global,
    pub cancel: CancellationToken,
    pub progress: Arc<dyn ProgressSink>,
    /// Id of the job, where the command is one.
    pub run: RunId,
    /// The end of the log so far.
    pub log: LogTail,
    loaded: OnceLock<Arc<Loaded>>,
}

/// A config with the environment it was read in.
pub struct Loaded {
    pub config: Config,
    /// Which host this is, and whose snapshots are meant.
    pub identity: Identity,
    pub environment: Environment,
    pub path: PathBuf,
}

/// Sources that could be made, and those that could not.
pub type Made = (Vec<Arc<dyn Restorable>>, Vec<Unavailable>);

impl Context {
    pub fn new(global: Global, cancel: CancellationToken, log: LogTail) -> Self {
        let progress = progress::sink(global.quiet);
        Self { global, cancel, progress, run: RunId::new(), log, loaded: OnceLock::new() }
    }

    /// The config: the file that was named, else restic's and the handbook's variables, else the first default file. Read once.
    pub fn load(&self) -> Result<Arc<Loaded>, Failure> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded.clone());
        }
        let loaded = Arc::new(self.read_config()?);
        Ok(self.loaded.get_or_init(|| loaded).clone())
    }

    /// The same work with another config.
    pub fn with_config(&self, path: PathBuf) -> Self {
        let global = Global { config: Some(path), ..self.global.clone() };
        Self::new(global, self.cancel.clone(), self.log.clone())
    }

    /// Reads the config anew.
    pub fn read_config(&self) -> Result<Loaded, Failure> {
        let mut environment = Environment::of_process();
        if let Some(path) = &self.global.env_file {
            let text = read(path)?;
            let file = parse_env_file(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            environment.overlay(file);
        }
        let named = self.global.config.clone();
        let (text, path) = if let Some(path) = named {
            (read(&path)?, path)
        } else {
            let made = if self.global.env_file.is_some() || default_config(&environment).is_none() {
                config_of_environment(&environment).map_err(Failure::usage)?
            } else {
                None
            };
            match (made, default_config(&environment)) {
                (Some(text), _) => (text, PathBuf::from("the environment")),
                (None, Some(path)) => (read(&path)?, path),
                (None, None) => {
                    let mut failure =
                        Failure::usage(format!("there is no config: neither {SYSTEM_CONFIG} nor RESTIC_REPOSITORY is set"));
                    failure.advice = Some("`kaleem-dr config init` writes one to start from; or name one with --config".into());
                    return Err(failure);
                }
            }
        };
        let mut config = Config::parse(&text, &path, &kaleem_dr_sources::kinds(), &environment).map_err(Failure::usage)?;
        let own = Identity::own(config.settings.host_name());
        let identity = match &self.global.host {
            None => own,
            // Whoever names a host acts as it: its queue, its proofs, its RPO.
            Some(HostScope::One(host)) => {
                config.settings.host = Some(host.clone());
                Identity::own(host.clone())
            }
            Some(HostScope::Any) => Identity { scope: HostScope::Any, ..own },
        };
        Ok(Loaded { config, identity, environment, path })
    }

    /// Opens the repository that `--repo` names.
    pub async fn repository(&self, loaded: &Loaded) -> Result<Repository, Failure> {
        let repository = Repository::open(&self.access(loaded)?).await?;
        Ok(if self.global.no_lock { repository.without_locks() } else { repository })
    }

    /// Takes a lock for work that writes; an interrupt ends the wait.
    pub async fn lock(&self, repository: &Repository, kind: LockKind) -> Result<Lock, Failure> {
        self.until_cancelled(repository.lock(kind, self.global.retry_lock)).await
    }

    /// Takes a lock for work that only reads; none with `--no-lock`, or where none can be written.
    pub async fn lock_to_read(&self, repository: &Repository) -> Result<Lock, Failure> {
        self.until_cancelled(repository.lock_to_read(self.global.retry_lock)).await
    }

    /// Takes an exclusive lock for work that makes room; none on a disk that is full.
    pub async fn lock_to_free(&self, repository: &Repository) -> Result<Lock, Failure> {
        self.until_cancelled(repository.lock_to_free(self.global.retry_lock)).await
    }

    async fn until_cancelled(&self, lock: impl Future<Output = Result<Lock, RepositoryError>>) -> Result<Lock, Failure> {
        tokio::select! {
            lock = lock => Ok(lock?),
            () = self.cancel.cancelled() => Err(RepositoryError::Cancelled.into()),
        }
    }

    /// What work on staged files may use.
    pub fn staged_work(&self, loaded: &Loaded) -> StagedWork {
        StagedWork { scratch: loaded.config.settings.scratch(), progress: self.progress.clone(), cancel: self.cancel.clone() }
    }

    /// Where that repository is, and its password.
    pub fn access(&self, loaded: &Loaded) -> Result<Access, Failure> {
        let settings = &loaded.config.settings;
        let (_, repository) = self.chosen(loaded)?;
        repository.access(&settings.cache_directory, &loaded.environment).map_err(|error| Failure::usage(error_chain(&error)))
    }

    /// The repository that `--repo` names, else `local`, else the only one.
    pub fn chosen<'a>(&self, loaded: &'a Loaded) -> Result<(&'a String, &'a RepositorySettings), Failure> {
        let all = &loaded.config.settings.repository;
        let names = || all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        match &self.global.repo {
            Some(name) => named(loaded, name),
            None if all.len() == 1 => all.iter().next().ok_or_else(|| Failure::usage("the config has no repository")),
            None => all.get_key_value("local").ok_or_else(|| {
                Failure::usage(if all.is_empty() {
                    format!("{} has no [repository.NAME]", loaded.path.display())
                } else {
                    format!("say which repository with --repo: {}", names())
                })
            }),
        }
    }
}

fn named<'a>(loaded: &'a Loaded, name: &str) -> Result<(&'a String, &'a RepositorySettings), Failure> {
    let all = &loaded.config.settings.repository;
    let names = || all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    all.get_key_value(name).ok_or_else(|| Failure::usage(format!("the config has no repository `{name}`; it has {}", names())))
}

impl Loaded {
    /// The point that `--point` names, of the host that is meant.
    pub fn point(&self, wanted: &str, allow_incomplete: bool) -> PointChoice {
        PointChoice { wanted: wanted.to_owned(), hosts: self.identity.scope.clone(), allow_incomplete }
    }

    /// Where a repository of the config is. Its password is not read.
    pub fn location(&self, name: &str) -> Result<Location, Failure> {
        let (_, repository) = named(self, name)?;
        repository.location(&self.environment).map_err(|error| Failure::usage(error_chain(&error)))
    }

    /// Where a repository of this name is, and its password.
    pub fn access_to(&self, name: &str) -> Result<Access, Failure> {
        let (_, repository) = named(self, name)?;
        let access = repository.access(&self.config.settings.cache_directory, &self.environment);
        access.map_err(|error| Failure::usage(error_chain(&error)))
    }

    /// These sources, or those that a backup takes. One whose secret is missing, say, fails alone: it is among the unavailable.
    pub fn sources(&self, wanted: &[SourceName]) -> Result<Made, Failure> {
        let wanted = if wanted.is_empty() { self.config.backup_sources() } else { wanted.to_vec() };
        if wanted.is_empty() {
            return Err(Failure::usage(format!("{} has no [source.NAME]: there is nothing to do", self.path.display())));
        }
        let (mut sources, mut unavailable) = (Vec::new(), Vec::new());
        for name in wanted {
            let declared = self.declared(&name)?;
            match declared.make(&self.environment) {
                Ok(source) => sources.push(source),
                Err(error) => {
                    unavailable.push(Unavailable { source: name, kind: declared.kind.to_owned(), why: error_chain(&*error) });
                }
            }
        }
        Ok((sources, unavailable))
    }

    /// One source, with its secrets read.
    pub fn source(&self, name: &SourceName) -> Result<Arc<dyn Restorable>, Failure> {
        let source = self.declared(name)?;
        source.make(&self.environment).map_err(|error| Failure::usage(format!("source {name}: {}", error_chain(&*error))))
    }

    /// One source as the config declares it.
    pub fn declared(&self, name: &SourceName) -> Result<&DeclaredSource, Failure> {
        let known = || self.config.sources.keys().map(SourceName::as_str).collect::<Vec<_>>().join(", ");
        let none = || Failure::usage(format!("{} has no source `{name}`; it has: {}", self.path.display(), known()));
        self.config.sources.get(name).ok_or_else(none)
    }
}

fn default_config(environment: &Environment) -> Option<PathBuf> {
    let user = environment
        .get("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| environment.get("HOME").map(|home| Path::new(home).join(".config")))
        .map(|directory| directory.join("kaleem-dr/kaleem-dr.toml"));
    [Some(PathBuf::from(SYSTEM_CONFIG)), user].into_iter().flatten().find(|path| path.exists())
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
