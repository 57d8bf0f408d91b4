//! Checks the repositories: whether each opens, which other programs use it, and whether its
//! snapshots are right.

use std::{fs, time::Duration};

use jiff::Timestamp;

use super::{Examination, endpoint};
use crate::{
    engine::repository::{
        Access, Location, LockInfo, LockVerdict, Repository, RepositoryError, Snapshot,
    },
    ground::{diagnosis::Diagnosis, error_chain},
    operate::config::{RepositorySettings, SettingsError},
};

/// Name of our processes (`/proc/PID/comm`).
const PROGRAM: &str = "kaleem-dr";

pub(super) async fn examine(job: &Examination, name: &str, deadline: Duration) -> Vec<Diagnosis> {
    let settings = &job.config.settings;
    let Some(repository) = settings.repository.get(name) else { return Vec::new() };
    let location = match repository.location(&job.environment) {
        Ok(location) => location,
        Err(error) => return vec![of_settings(name, &error)],
    };
    let Location::S3(s3) = &location else {
        return content(job, name, repository, &location, deadline).await;
    };
    if job.offline {
        return vec![Diagnosis::information(
            "offline",
            format!("repository {name} was not checked: --offline"),
        )];
    }
    let mut found = endpoint::way(job, name, s3, deadline).await;
    // If the service does not answer, that is reported once, without a second wait.
    if found.iter().any(|seen| seen.id == "endpoint") {
        let content = content(job, name, repository, &location, deadline);
        let (rules, content) = tokio::join!(endpoint::lifecycle(name, s3, deadline), content);
        found.extend(rules);
        found.extend(content);
    }
    found
}

fn of_settings(name: &str, error: &SettingsError) -> Diagnosis {
    let what = format!("repository {name}: {}", error_chain(error));
    match error {
        SettingsError::Key(_) => {
            Diagnosis::error("bucket-key", what).because("the service rejects every request with this key").fix(format!(
                "write the right key to the files that [repository.{name}] refers to, then run `kaleem-dr --repo {name} r2 check`"
            ))
        }
        SettingsError::Secret(_) => {
            Diagnosis::error("repository-secret", what).fix(format!("fix the secret that [repository.{name}] refers to"))
        }
        SettingsError::Location(_) => {
            Diagnosis::error("repository-location", what).fix(format!("fix `location` of [repository.{name}]"))
        }
    }
}

async fn content(
    job: &Examination,
    name: &str,
    repository: &RepositorySettings,
    location: &Location,
    deadline: Duration,
) -> Vec<Diagnosis> {
    // Listing a thousand snapshots in a bucket takes a while.
    let patience = if matches!(location, Location::S3(_)) { deadline * 4 } else { deadline };
    let look = async {
        if let Some(of) = &repository.mirror_of {
            return mirror(name, of, location).await;
        }
        match repository.access(&job.config.settings.cache_directory, &job.environment) {
            Ok(access) => inside(job, name, &access).await,
            Err(error) => vec![of_settings(name, &error)],
        }
    };
    tokio::time::timeout(patience, look).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", patience.as_secs());
        vec![Diagnosis::unseen(&format!("the snapshots of repository {name}"), &why)]
    })
}

/// A mirror is not opened, because its objects are those of its repository.
async fn mirror(name: &str, of: &str, location: &Location) -> Vec<Diagnosis> {
    let config = match location.store() {
        Ok(store) => store.size("config").await.map_err(RepositoryError::from),
        Err(error) => Err(error),
    };
    match config {
        Ok(Some(_)) => vec![Diagnosis::ok(
            "repository",
            format!("repository {name}, the mirror of {of}, exists"),
        )],
        Ok(None) | Err(RepositoryError::NotFound { .. }) => vec![
            Diagnosis::error(
                "mirror-missing",
                format!("repository {name}, the mirror of {of}, does not exist"),
            )
            .because("it was never created, or its disk is not mounted")
            .fix(format!("mount it, or run `kaleem-dr replicate {name}`")),
        ],
        Err(error) => vec![of_error(name, &error)],
    }
}

async fn inside(job: &Examination, name: &str, access: &Access) -> Vec<Diagnosis> {
    let repository = match Repository::open(access).await {
        Ok(repository) => repository,
        Err(error) => return vec![of_error(name, &error)],
    };
    let (snapshots, locks) = tokio::join!(repository.snapshots(), repository.locks());
    let mut found = Vec::new();
    match snapshots {
        Ok(snapshots) => {
            let what = format!("repository {name} opens; {} snapshots", snapshots.len());
            found.push(Diagnosis::ok("repository", what));
            found.extend(of_snapshots(job, name, &snapshots));
        }
        Err(error) => found.push(of_error(name, &error)),
    }
    match locks {
        Ok(locks) => {
            // A host that only adds cannot remove the locks of its runs that have ended; another one does.
            let is_left =
                |lock: &&LockInfo| repository.is_append_only() && lock.verdict == LockVerdict::Dead;
            let locks = locks.iter().filter(|lock| !is_left(lock));
            found.extend(locks.map(|lock| of_lock(job, name, lock)));
        }
        Err(error) => found.push(Diagnosis::unseen(
            &format!("the locks of repository {name}"),
            &error_chain(&error),
        )),
    }
    found
}

fn of_error(name: &str, error: &RepositoryError) -> Diagnosis {
    let what = format!("repository {name}: {}", error_chain(error));
    match error {
        RepositoryError::NotFound { .. } => Diagnosis::error("repository-missing", what)
            .because("it was never created, or its disk is not mounted")
            .fix(format!("mount it, or run `kaleem-dr --repo {name} init`")),
        RepositoryError::WrongPassword { .. } => Diagnosis::error("repository-password", what)
            .fix(format!("fix the secret that `password` of [repository.{name}] refers to")),
        RepositoryError::Store(store) => {
            let seen = Diagnosis::error("repository-unreachable", what);
            match store.kind().advice() {
                Some(advice) => seen.fix(advice),
                None => seen.fix(format!("kaleem-dr --repo {name} snapshots --verbose")),
            }
        }
        _ => Diagnosis::error("repository-failed", what)
            .fix(format!("kaleem-dr --repo {name} check")),
    }
}

fn of_snapshots(job: &Examination, name: &str, snapshots: &[Snapshot]) -> Vec<Diagnosis> {
    let now = job.host.facts.now();
    let mut found = Vec::new();
    for ahead in snapshots.iter().filter(|snapshot| snapshot.is_of_the_future(now)) {
        let id = ahead.id().short();
        found.push(
            Diagnosis::error(
                "snapshot-in-future",
                format!("snapshot {id} in repository {name} is dated {}", ahead.time().timestamp()),
            )
            .because("a clock was wrong; retention is disabled while it exists, because it would forget real snapshots instead")
            .fix(format!("timedatectl status; then `kaleem-dr forget {id}`, if that snapshot is not needed")),
        );
    }
    if job.primary.as_deref() == Some(name) {
        found.extend(first_backups(job, name, snapshots));
    }
    found.extend(newer_of_others(name, snapshots, now));
    found
}

fn first_backups(job: &Examination, name: &str, snapshots: &[Snapshot]) -> Vec<Diagnosis> {
    let host = job.config.settings.host_name();
    let has = |source| {
        snapshots.iter().any(|snapshot| {
            snapshot.is_ours()
                && snapshot.host() == host.as_str()
                && snapshot.source().as_ref() == Some(source)
        })
    };
    let wanted = job.config.backup_sources();
    let missing: Vec<_> = wanted.iter().filter(|source| !has(source)).collect();
    let of = |source: &&crate::ground::SourceName| {
        Diagnosis::error(
            "no-backup-yet",
            format!("repository {name} has no snapshot of source {source} from this host"),
        )
        .because("it was never backed up, or each attempt failed (`kaleem-dr history`)")
        .fix(format!("kaleem-dr backup {source}"))
    };
    missing.iter().map(of).collect()
}

fn newer_of_others(name: &str, snapshots: &[Snapshot], now: Timestamp) -> Option<Diagnosis> {
    let newest = |ours: bool| {
        let dated = snapshots.iter().filter(|snapshot| {
            snapshot.is_data() && snapshot.is_ours() == ours && snapshot.time().timestamp() <= now
        });
        dated.max_by_key(|snapshot| snapshot.time().timestamp())
    };
    let (own, other) = (newest(true)?, newest(false)?);
    (other.time().timestamp() > own.time().timestamp()).then(|| {
        let (id, host, program) = (other.id().short(), other.host(), other.program());
        let program = if program.is_empty() { "another program" } else { program };
        let what = format!(
            "snapshot {id} in repository {name}, of {program} on {host}, is newer than our newest"
        );
        Diagnosis::warning("foreign-snapshot", what)
            .because("an old job still writes to this repository")
            .fix("disable that job: grep -rl restic /etc/cron* /etc/systemd/system /var/spool/cron")
    })
}

pub(super) fn of_lock(job: &Examination, name: &str, lock: &LockInfo) -> Diagnosis {
    let what = format!("repository {name} is locked by {}", lock.holder);
    if lock.verdict == LockVerdict::Dead {
        return Diagnosis::information("stale-lock", what)
            .because("its process has ended; the next run removes it");
    }
    if lock.is_stale {
        return Diagnosis::warning("left-over-lock", what)
            .because("it was not renewed for half an hour, and blocks forget and prune")
            .fix("check that its process has ended, then run `kaleem-dr unlock`");
    }
    let here = lock.host == job.host.name;
    let process =
        fs::read_to_string(job.host.at(format!("/proc/{}/comm", lock.pid))).unwrap_or_default();
    if here && process.trim() == PROGRAM {
        return Diagnosis::information("run-at-work", what).because("kaleem-dr is running");
    }
    let by = if here {
        format!("the program {}", process.trim())
    } else {
        format!("the host {}", lock.host)
    };
    Diagnosis::warning("foreign-lock", what)
        .because(format!("{by} is using this repository; meanwhile forget and prune wait"))
        .fix("wait for it; disable its job if only kaleem-dr should use this repository")
}
