//! `doctor`, `checklist`, `config check`, `r2 check`, `schedule`, `runbook`: examine and explain an
//! installation.

use std::path::{Path, PathBuf, absolute};

use super::{Site, SiteError};
use crate::{
    engine::repository::{BucketReport, Location, check_bucket},
    ground::error_chain,
    operate::{
        checklist::{Checklist, Inspection, Period, go_through},
        config::{References, secret::SecretError},
        doctor::{DoctorReport, Examination, Host, examine},
        runbook::Runbook,
        schedule::{Kubernetes, Manager, Manifests, Plan, Premises, manifests},
    },
};

/// Options of [`Site::doctor`]: the machine, and whether servers are contacted.
#[derive(Clone)]
#[non_exhaustive]
pub struct Doctor {
    /// Machine to examine, with its root directory.
    pub host: Host,
    /// Contacts no servers: neither sources nor buckets.
    pub offline: bool,
}

impl Doctor {
    /// Examines a machine, with the servers and buckets of the config.
    #[must_use]
    pub fn of(host: Host) -> Self {
        Self { host, offline: false }
    }
}

/// Reports whether a source lacks a secret that other processes may have: those of a unit with its environment file
/// or its credentials.
fn is_secret_of_elsewhere(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<SecretError>())
        .any(|error| matches!(error, SecretError::NoVariable(_) | SecretError::NoCredentials(_)))
}

impl Site {
    /// Finds problems that break backups or restores now or soon. Changes nothing.
    pub async fn doctor(&self, wanted: Doctor) -> DoctorReport {
        examine(Examination {
            // Repositories are examined even without a primary one.
            primary: self.chosen_repository().ok().map(|(name, _)| name.to_owned()),
            config_path: self.path.is_file().then(|| self.path.clone()),
            config: (*self.config).clone(),
            environment: self.environment.clone(),
            host: wanted.host,
            offline: wanted.offline,
        })
        .await
    }

    /// Answers an operators' checklist, with evidence for each item. Changes nothing.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the repository is ambiguous.
    pub async fn checklist(&self, period: Period, host: Host) -> Result<Checklist, SiteError> {
        let job = Inspection {
            primary: self.chosen_repository()?.0.to_owned(),
            config: (*self.config).clone(),
            environment: self.environment.clone(),
            host,
            last_scheduled: None,
        };
        Ok(go_through(period, &job).await)
    }

    /// Finds the faults of the config, creates every source, and reads the secrets of repositories and
    /// notifications, because a config whose password file is missing is not valid. Returns warnings,
    /// one sentence each: what is valid and probably not intended, and sources whose secret is in a
    /// variable or a credential that only their unit has.
    ///
    /// # Errors
    /// [`SiteError::Config`] with all faults.
    pub fn check_config(&self) -> Result<Vec<String>, SiteError> {
        let settings = &self.config.settings;
        let path = self.path.display();
        let mut faults: Vec<String> =
            settings.contradictions().into_iter().map(|why| format!("{path}: {why}")).collect();
        let mut warnings = Vec::new();
        for (name, repository) in &settings.repository {
            match repository.access(&settings.cache_directory, &self.environment) {
                Err(error) => faults.push(format!("repository {name}: {}", error_chain(&error))),
                Ok(access) => {
                    let directory = access.location.directory();
                    if let Some(relative) = directory.filter(|directory| !directory.is_absolute()) {
                        warnings.push(format!(
                            "repository {name}: {} is relative to the directory in which a command is started; write an absolute path",
                            relative.display()
                        ));
                    }
                }
            }
        }
        for (name, declared) in &self.config.sources {
            match declared.make(&self.environment) {
                Err(error) => {
                    let is_elsewhere = is_secret_of_elsewhere(&*error);
                    let list = if is_elsewhere { &mut warnings } else { &mut faults };
                    list.push(format!("source {name}: {}", error_chain(&*error)));
                }
                Ok(source) => {
                    let missing = source.local_paths().into_iter().filter(|path| !path.exists());
                    warnings.extend(missing.map(|path| {
                        format!("source {name}: {} does not exist on this machine", path.display())
                    }));
                }
            }
        }
        let passphrase = settings.recovery.passphrase.iter();
        let passphrase = passphrase.map(|secret| ("recovery.passphrase".to_owned(), secret));
        let token = settings.serve.iter().filter_map(|serve| serve.token.as_ref());
        let token = token.map(|secret| ("serve.token".to_owned(), secret));
        for (key, secret) in
            settings.monitoring.secrets().into_iter().chain(passphrase).chain(token)
        {
            if let Err(error) = self.environment.secret(secret) {
                faults.push(format!("`{key}`: {}", error_chain(&error)));
            }
        }
        match &faults[..] {
            [] => Ok(warnings),
            [fault] => Err(SiteError::Config(fault.clone())),
            faults => Err(SiteError::Config(format!(
                "{path} has {} faults:\n  {}",
                faults.len(),
                faults.join("\n  ")
            ))),
        }
    }

    /// Tests the bucket of the selected repository with a canary object, and reads its lifecycle
    /// rules.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the repository is in a directory. Problems of the bucket are in the
    /// report.
    pub async fn check_bucket(&self) -> Result<BucketReport, SiteError> {
        let location = match &self.access {
            Some(access) => access.location.clone(),
            None => self.access_to(self.chosen_repository()?.0)?.location,
        };
        let Location::S3(access) = location else {
            return Err(SiteError::Config(
                "the repository is in a directory, not in a bucket; select another with --repo"
                    .to_owned(),
            ));
        };
        let checking = async { Ok(check_bucket(&access).await?) };
        self.until_cancelled(Box::pin(checking)).await
    }

    /// The scheduled jobs of this config, as `program` runs them on the system below `root`.
    ///
    /// # Errors
    /// [`SiteError::Config`] for a site without a config file, because its jobs would not see its
    /// variables; if the schedules are invalid.
    pub fn schedule_plan(
        &self,
        program: PathBuf,
        root: &Path,
        manager: Manager,
    ) -> Result<Plan, SiteError> {
        if !self.path.is_file() {
            return Err(SiteError::Config(
                "schedules need a config file because jobs do not see these variables; `kaleem-dr migrate` writes one".to_owned(),
            ));
        }
        let unread = |error| SiteError::Config(format!("{}: {error}", self.path.display()));
        let text = std::fs::read_to_string(&self.path).map_err(unread)?;
        let references = References::of(&text, &self.path)
            .map_err(|error| SiteError::Config(error.to_string()))?;
        let premises = Premises {
            root: root.to_path_buf(),
            manager,
            commands: self.config.commands(),
            ..Premises::new(
                program,
                absolute(&self.path).map_err(unread)?,
                &self.config.settings,
                references,
                &self.environment,
            )
        };
        Ok(Plan::of(&premises)?)
    }

    /// The manifests of this config's jobs for Kubernetes.
    ///
    /// # Errors
    /// As [`Site::schedule_plan`]; if a name does not fit.
    pub fn kubernetes_manifests(&self, wanted: &Kubernetes) -> Result<Manifests, SiteError> {
        let plan = self.schedule_plan("/kaleem-dr".into(), Path::new("/"), Manager::System)?;
        Ok(manifests(&plan, &self.config, wanted)?)
    }

    /// Recovery instructions for this config.
    #[must_use]
    pub fn runbook(&self) -> Runbook {
        Runbook::of(&self.config, &self.environment, &self.path)
    }
}
