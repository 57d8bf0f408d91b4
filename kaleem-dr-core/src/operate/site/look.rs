//! `doctor`, `checklist`, `config check`, `r2 check`, `schedule`, `runbook`: an installation looked at, and explained.

use std::path::{Path, PathBuf, absolute};

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};

use super::{Site, SiteError};
use crate::{
    engine::repository::{BucketReport, Location, check_bucket},
    ground::error_chain,
    operate::{
        checklist::{Checklist, Inspection, Period, go_through},
        config::References,
        doctor::{DoctorReport, Examination, Host, examine},
        runbook::Runbook,
        schedule::{Plan, Premises},
    },
};

/// What [`Site::doctor`] looks at.
#[derive(Clone)]
#[non_exhaustive]
pub struct Doctor {
    /// The machine.
    pub host: Host,
    /// Asks no server: neither sources nor buckets.
    pub offline: bool,
}

impl Doctor {
    /// A machine, with the servers and buckets of the config.
    #[must_use]
    pub fn of(host: Host) -> Self {
        Self { host, offline: false }
    }
}

impl Site {
    /// Finds what keeps backups or restores from working, or will. Changes nothing.
    pub async fn doctor(&self, wanted: Doctor) -> DoctorReport {
        examine(Examination {
            // Without one, the repositories are looked at all the same.
            primary: self.chosen_repository().ok().map(|(name, _)| name.to_owned()),
            config_path: self.path.is_file().then(|| self.path.clone()),
            config: (*self.config).clone(),
            environment: self.environment.clone(),
            host: wanted.host,
            offline: wanted.offline,
        })
        .await
    }

    /// Answers a checklist of the operators, with the evidence for each line. Changes nothing.
    ///
    /// # Errors
    /// [`SiteError::Config`] when it is not clear which repository is meant.
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

    /// Finds the first contradiction of the config, and reads every secret that it refers to: a config whose password file is missing is not
    /// right.
    ///
    /// # Errors
    /// [`SiteError::Config`] with the first fault.
    pub fn check_config(&self) -> Result<(), SiteError> {
        let settings = &self.config.settings;
        if let Some(contradiction) = settings.contradictions().into_iter().next() {
            let path = self.path.display();
            return Err(SiteError::Config(format!("{path}: {contradiction}")));
        }
        for (name, repository) in &settings.repository {
            let access = repository.access(&settings.cache_directory, &self.environment);
            access.map_err(|error| {
                SiteError::Config(format!("repository {name}: {}", error_chain(&error)))
            })?;
        }
        for (key, secret) in settings.monitoring.secrets() {
            self.environment
                .secret(secret)
                .map_err(|error| SiteError::Config(format!("`{key}`: {}", error_chain(&error))))?;
        }
        Ok(())
    }

    /// Tries the bucket of the repository that is meant with an object that is removed again, and reads its lifecycle rules.
    ///
    /// # Errors
    /// [`SiteError::Config`] when the repository is in a directory. What is wrong with the bucket is in the report.
    pub async fn check_bucket(&self) -> Result<BucketReport, SiteError> {
        let location = match &self.access {
            Some(access) => access.location.clone(),
            None => self.access_to(self.chosen_repository()?.0)?.location,
        };
        let Location::S3(access) = location else {
            return Err(SiteError::Config(
                "the repository lies in a directory, not in a bucket; name another with --repo"
                    .to_owned(),
            ));
        };
        let checking = async { Ok(check_bucket(&access).await?) };
        self.until_cancelled(Box::pin(checking)).await
    }

    /// The scheduled jobs of this config, as `program` runs them on the system below `root`.
    ///
    /// # Errors
    /// [`SiteError::Config`] for a site without a config file, whose jobs would not see its variables; when the schedules are not
    /// understood.
    pub fn schedule_plan(&self, program: PathBuf, root: &Path) -> Result<Plan, SiteError> {
        if !self.path.is_file() {
            return Err(SiteError::Config(
                "schedules need a config file: jobs do not see these variables; `kaleem-dr migrate` makes one".to_owned(),
            ));
        }
        let unread = |error| SiteError::Config(format!("{}: {error}", self.path.display()));
        let text = std::fs::read_to_string(&self.path).map_err(unread)?;
        let premises = Premises {
            program,
            config: absolute(&self.path).map_err(unread)?,
            settings: &self.config.settings,
            references: References::of(&text, &self.path)
                .map_err(|error| SiteError::Config(error.to_string()))?,
            environment: &self.environment,
            clock_is_utc: TimeZone::system().to_offset(Timestamp::now()) == Offset::UTC,
            root: root.to_path_buf(),
        };
        Ok(Plan::of(&premises)?)
    }

    /// How everything of this config is got back.
    #[must_use]
    pub fn runbook(&self) -> Runbook {
        Runbook::of(&self.config, &self.environment, &self.path)
    }
}
