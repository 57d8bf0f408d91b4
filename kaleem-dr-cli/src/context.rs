//! The context of a command: config, repository, progress, cancellation.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use kaleem_dr_core::{
    CancellationToken, Site,
    ground::{RunId, progress::ProgressSink},
    operate::{
        config::{
            config_of_environment, default_config, new_config_path, parse_env_file,
            secret::Environment,
        },
        monitor::LogTail,
    },
};

use crate::{failure::Failure, global::Global, progress};

/// The context of a command. Reads everything on first use.
pub struct Context {
    pub global: Global,
    pub cancel: CancellationToken,
    pub progress: Arc<dyn ProgressSink>,
    /// Id of the job, if the command is one.
    pub run: RunId,
    /// The last lines of the log so far.
    pub log: LogTail,
    site: OnceLock<Arc<Site>>,
}

impl Context {
    pub fn new(global: Global, cancel: CancellationToken, log: LogTail) -> Self {
        let progress = progress::sink(global.quiet);
        Self { global, cancel, progress, run: RunId::new(), log, site: OnceLock::new() }
    }

    /// The config: the file that was named, or restic's and the handbook's variables, or the first
    /// default file. Read once.
    pub fn load(&self) -> Result<Arc<Site>, Failure> {
        if let Some(site) = self.site.get() {
            return Ok(site.clone());
        }
        let site = Arc::new(self.read_config()?);
        Ok(self.site.get_or_init(|| site).clone())
    }

    /// The same context with another config.
    pub fn with_config(&self, path: PathBuf) -> Self {
        let global = Global { config: Some(path), ..self.global.clone() };
        Self::new(global, self.cancel.clone(), self.log.clone())
    }

    /// The variables of the process, overridden by those of the file that was named.
    pub fn environment(&self) -> Result<Environment, Failure> {
        let mut environment = Environment::of_process().cancelled_by(self.cancel.clone());
        if let Some(path) = &self.global.env_file {
            let text = read(path)?;
            let file = parse_env_file(&text, environment.get("HOME"))
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            environment.overlay(file);
        }
        Ok(environment)
    }

    /// Reads the config again.
    pub fn read_config(&self) -> Result<Site, Failure> {
        let environment = self.environment()?;
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
                    let mut failure = Failure::usage(format!(
                        "no config found: {} does not exist, and RESTIC_REPOSITORY is not set",
                        new_config_path(&environment).display()
                    ));
                    failure.advice = Some(
                        "`kaleem-dr config init` writes one; or name one with --config".into(),
                    );
                    return Err(failure);
                }
            }
        };
        let mut site = Site::parse(&text, &path, &kaleem_dr_sources::kinds(), environment)?
            .with_progress(self.progress.clone())
            .with_cancellation(self.cancel.clone())
            .with_log(self.log.clone())
            .with_patience(self.global.retry_lock);
        if let Some(host) = &self.global.host {
            site = site.with_host(host.clone());
        }
        if let Some(name) = &self.global.repo {
            site = site.with_repository(name);
        }
        Ok(if self.global.no_lock { site.without_locks() } else { site })
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
