//! `doctor`: finds what breaks a backup or a restore, now or soon, on this machine, in its config,
//! its repositories and its servers.
//!
//! The checks run concurrently, each for a limited time, and each returns findings: that all is
//! well, what is wrong, or that it could not be checked. They change nothing. Sources are examined
//! through [`Source::diagnose`]; this module knows no concrete source.
//!
//! [`Source::diagnose`]: crate::recovery::source::Restorable::diagnose

mod disk;
mod endpoint;
mod files;
mod leaks;
mod leftovers;
mod listeners;
mod repositories;
mod settings;
mod state;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use serde::Serialize;

pub(crate) use self::disk::places;
pub use self::settings::DoctorSettings;
pub use super::host_facts::{Host, HostFacts, Space, ThisMachine};
use crate::{
    engine::repository::Location,
    ground::{
        Exit, SourceName,
        diagnosis::{Diagnosis, Severity},
        error_chain,
    },
    operate::{
        config::{Config, secret::Environment},
        host_jobs,
    },
    recovery::source::Restorable,
};

/// Inputs of an examination: the installation and the machine.
#[non_exhaustive]
pub struct Examination {
    /// The config of the installation.
    pub config: Config,
    /// Path of the config, if it is a file.
    pub config_path: Option<PathBuf>,
    /// The environment that the config was read in.
    pub environment: Environment,
    /// The repository that runs save to, by its name in the config.
    pub primary: Option<String>,
    /// The machine whose files, disks and clock are examined.
    pub host: Host,
    /// Contacts no servers: neither sources nor buckets.
    pub offline: bool,
}

/// The result of an examination.
#[derive(Clone, Debug, Serialize)]
#[must_use]
#[non_exhaustive]
pub struct DoctorReport {
    /// All findings, in no particular order.
    pub findings: Vec<Diagnosis>,
}

impl DoctorReport {
    /// Number of findings of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|seen| seen.severity == severity).count()
    }

    /// Exit status: errors fail, and in strict mode warnings too.
    #[must_use]
    pub fn exit(&self, strict: bool) -> Exit {
        let bad = if strict { Severity::Warning } else { Severity::Error };
        if self.findings.iter().any(|seen| seen.severity >= bad) {
            Exit::Failed
        } else {
            Exit::Done
        }
    }
}

type Check<'a> = Pin<Box<dyn Future<Output = Vec<Diagnosis>> + Send + 'a>>;

/// Runs all checks concurrently. None takes much longer than the config's time limit.
pub async fn examine(job: Examination) -> DoctorReport {
    let job = Arc::new(job);
    let deadline = job.config.settings.doctor.deadline();
    let (sources, mut findings) = sources(&job);
    let mut checks: Vec<Check<'_>> = vec![
        on_disk("the files of secrets", &job, deadline, files::secrets),
        on_disk("the age of keys", &job, deadline, files::key_age),
        on_disk("the directories", &job, deadline, files::directories),
        on_disk("the disks", &job, deadline, disk::room),
        on_disk("the listening ports", &job, deadline, |job| listeners::examine(&job.host)),
        on_disk("the alarms", &job, deadline, state::alarms),
        on_disk("the mirrors", &job, deadline, state::mirrors),
        Box::pin(jobs_of_before(&job, deadline)),
    ];
    let local = sources.clone();
    checks.push(on_disk("the devices", &job, deadline, move |job| disk::copies(job, &local)));
    for name in job.config.settings.repository.keys() {
        checks.push(Box::pin(repositories::examine(&job, name, deadline)));
    }
    if job.offline && !sources.is_empty() {
        findings.push(Diagnosis::information(
            "offline",
            format!("{} sources were not asked: --offline", sources.len()),
        ));
    } else {
        checks
            .extend(sources.into_iter().map(|source| Box::pin(ask(source, deadline)) as Check<'_>));
    }
    findings.extend(futures::future::join_all(checks).await.into_iter().flatten());
    DoctorReport { findings }
}

/// Creates the sources; those that cannot be created are findings.
fn sources(job: &Examination) -> (Vec<Arc<dyn Restorable>>, Vec<Diagnosis>) {
    let (mut sources, mut findings) = (Vec::new(), Vec::new());
    for (name, declared) in &job.config.sources {
        match declared.make(&job.environment) {
            Ok(source) => sources.push(source),
            Err(error) => findings.push(not_made(name, &error_chain(&*error))),
        }
    }
    if job.config.sources.is_empty() {
        findings.push(
            Diagnosis::warning(
                "no-source",
                "the config has no [source.NAME]: nothing is backed up",
            )
            .fix("add one; `kaleem-dr config init -` prints examples"),
        );
    }
    (sources, findings)
}

fn not_made(name: &SourceName, why: &str) -> Diagnosis {
    Diagnosis::error("source-config", format!("source {name}: {why}"))
        .fix(format!("fix [source.{name}] or the secrets that it refers to"))
}

async fn ask(source: Arc<dyn Restorable>, deadline: Duration) -> Vec<Diagnosis> {
    match tokio::time::timeout(deadline, source.diagnose()).await {
        Ok(found) => found,
        Err(_) => vec![
            Diagnosis::error(
                "source-unreachable",
                format!("source {} gave no answer within {} s", source.name(), deadline.as_secs()),
            )
            .because("the server is down or overloaded, or a firewall drops the connection")
            .fix(format!("check its log and the address in [source.{}]", source.name())),
        ],
    }
}

async fn jobs_of_before(job: &Arc<Examination>, deadline: Duration) -> Vec<Diagnosis> {
    let names = leftovers::Names(names(job));
    let look = {
        let job = job.clone();
        tokio::task::spawn_blocking(move || {
            let jobs = host_jobs::gather(&job.host);
            let found = leftovers::examine(&job.host, &jobs, &names);
            (jobs, found)
        })
    };
    match tokio::time::timeout(deadline, look).await {
        Ok(Ok((jobs, mut found))) => {
            match tokio::time::timeout(
                deadline,
                leftovers::old_restic(&job.host, &job.environment, &jobs),
            )
            .await
            {
                Ok(restic) => found.extend(restic),
                Err(_) => {
                    found.push(Diagnosis::unseen("the version of restic", "no answer in time"));
                }
            }
            found
        }
        Ok(Err(panic)) => vec![Diagnosis::unseen("the jobs of this machine", &panic.to_string())],
        Err(_) => {
            vec![Diagnosis::unseen("the jobs of this machine", "the disk did not answer in time")]
        }
    }
}

/// The names of our repositories that may appear in another program's job.
fn names(job: &Examination) -> Vec<String> {
    let mut names = Vec::new();
    for repository in job.config.settings.repository.values() {
        match repository.location(&job.environment) {
            Ok(Location::Directory(path)) => names.push(path.display().to_string()),
            Ok(Location::S3(access)) if access.prefix.is_empty() => names.push(access.bucket),
            Ok(Location::S3(access)) => names.push(format!("{}/{}", access.bucket, access.prefix)),
            Err(_) => {}
        }
        names.push(repository.location.clone());
    }
    names
}

/// A check that reads disks, which may hang (NFS).
fn on_disk<'a>(
    what: &'static str,
    job: &Arc<Examination>,
    deadline: Duration,
    look: impl FnOnce(&Examination) -> Vec<Diagnosis> + Send + 'static,
) -> Check<'a> {
    let job = job.clone();
    let look = tokio::task::spawn_blocking(move || look(&job));
    Box::pin(async move {
        match tokio::time::timeout(deadline, look).await {
            Ok(Ok(found)) => found,
            Ok(Err(panic)) => vec![Diagnosis::unseen(what, &panic.to_string())],
            Err(_) => {
                vec![Diagnosis::unseen(what, &format!("no answer within {} s", deadline.as_secs()))]
            }
        }
    })
}
