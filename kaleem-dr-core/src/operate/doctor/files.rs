//! Checks files of secrets, the config, and the directories that we use.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::unistd::{AccessFlags, access};

use super::{Examination, Host};
use crate::{
    ground::diagnosis::{Diagnosis, Severity},
    operate::config::{RepositorySettings, secret::SecretRef},
};

/// All files of secrets in the config, and the config itself.
pub(super) fn secrets(job: &Examination) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    let files = secret_files(job);
    for (key, path) in &files {
        found.extend(of_secret(&job.host, key, path));
    }
    if let Some(path) = &job.config_path {
        found.extend(of_config(&job.host, path));
    }
    if found.iter().all(|seen| seen.severity == Severity::Ok) {
        found.push(Diagnosis::ok(
            "secret-files",
            format!("{} files of secrets are readable by their owner only", files.len()),
        ));
    }
    found
}

/// Key and path of each file.
fn secret_files(job: &Examination) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for (name, repository) in &job.config.settings.repository {
        let own = [
            ("password", Some(&repository.password)),
            ("access_key_id", repository.access_key_id.as_ref()),
            ("secret_access_key", repository.secret_access_key.as_ref()),
            ("session_token", repository.session_token.as_ref()),
        ];
        for (key, secret) in own {
            if let Some(SecretRef::File(path)) = secret {
                files.push((format!("repository.{name}.{key}"), path.clone()));
            }
        }
        if let Some(path) = rclone_config(job, repository) {
            files.push((format!("repository.{name}.rclone_config"), path));
        }
    }
    // The old jobs may have used a file that the config does not name.
    let home =
        job.environment.get("HOME").map(|home| Path::new(home).join(".config/rclone/rclone.conf"));
    if let Some(path) =
        home.filter(|path| path.exists() && !files.iter().any(|(_, known)| known == path))
    {
        files.push(("HOME".to_owned(), path));
    }
    for (name, source) in &job.config.sources {
        files.extend(
            source
                .secret_files
                .iter()
                .map(|(key, path)| (format!("source.{name}.{key}"), path.clone())),
        );
    }
    files
}

/// Path of rclone's config, if a repository needs it.
fn rclone_config(job: &Examination, repository: &RepositorySettings) -> Option<PathBuf> {
    repository
        .location
        .starts_with("rclone:")
        .then(|| repository.rclone_config_path(&job.environment))
        .flatten()
}

fn of_secret(host: &Host, key: &str, path: &Path) -> Option<Diagnosis> {
    let shown = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            return Some(
                Diagnosis::error(
                    "secret-file-unreadable",
                    format!("{shown}, which `{key}` names: {error}"),
                )
                .fix(format!(
                    "write the secret to {shown}, then chmod 600 {shown}; or fix `{key}`"
                )),
            );
        }
    };
    let mode = meta.mode() & 0o7777;
    if meta.is_file() && mode & 0o077 != 0 {
        return Some(
            Diagnosis::error(
                "secret-file-mode",
                format!("{shown}, which `{key}` refers to, has mode {mode:03o}"),
            )
            .because("users other than its owner can read or change it, so kaleem-dr refuses it")
            .fix(format!("chmod 600 {shown}")),
        );
    }
    if meta.uid() != host.uid && meta.uid() != 0 {
        return Some(
            Diagnosis::error(
                "secret-file-owner",
                format!("{shown}, which `{key}` names, belongs to the user {}", meta.uid()),
            )
            .because("that user can read or replace it")
            .fix(format!("chown {} {shown}", host.uid)),
        );
    }
    None
}

fn of_config(host: &Host, path: &Path) -> Option<Diagnosis> {
    let shown = path.display();
    let meta = fs::metadata(path).ok()?;
    let foreign = meta.uid() != host.uid && meta.uid() != 0;
    (meta.mode() & 0o022 != 0 || foreign).then(|| {
        Diagnosis::error(
            "config-writable",
            format!(
                "users other than the owner may write to the config {shown} (mode {:03o})",
                meta.mode() & 0o7777
            ),
        )
        .because("it contains commands that run after a restore, and the locations of secrets")
        .fix(format!("chown root {shown} && chmod 644 {shown}"))
    })
}

/// Keys of buckets that are older than the config allows.
pub(super) fn key_age(job: &Examination) -> Vec<Diagnosis> {
    let days = i64::from(job.config.settings.doctor.key_age_days);
    let mut found = Vec::new();
    for (name, repository) in &job.config.settings.repository {
        let key = match &repository.secret_access_key {
            Some(SecretRef::File(path)) => Some(path.clone()),
            Some(_) => None,
            None => rclone_config(job, repository),
        };
        let Some(path) = key else { continue };
        let Some(age) = age_in_days(&path, job.host.facts.now()) else { continue };
        let what = format!("the key of repository {name} in {} is {age} days old", path.display());
        found.push(if age > days {
            Diagnosis::information("key-rotation-due", what).because(format!("`doctor.key_age_days` is {days}")).fix(
                "create a new key at the service, write it to that file, run `kaleem-dr r2 check`, then revoke the old one",
            )
        } else {
            Diagnosis::ok("key-age", what)
        });
    }
    found
}

fn age_in_days(path: &Path, now: Timestamp) -> Option<i64> {
    let written = Timestamp::try_from(fs::metadata(path).ok()?.modified().ok()?).ok()?;
    Some(now.duration_since(written).as_secs() / 86_400)
}

/// State directory, cache and home.
pub(super) fn directories(job: &Examination) -> Vec<Diagnosis> {
    let settings = &job.config.settings;
    let remote = settings.repository.values().any(|repository| !is_directory(repository));
    let mut found =
        vec![of_directory("state-directory", "state_directory", &settings.state_directory, true)];
    found.push(of_directory(
        "cache-directory",
        "cache_directory",
        &settings.cache_directory,
        remote,
    ));
    if job.environment.get("HOME").is_none() {
        let needs_home = settings.repository.values().any(|repository| needs_home(job, repository));
        let what = "HOME is not set";
        found.push(if needs_home {
            Diagnosis::error("no-home", what)
                .because("a repository needs rclone's config or AWS's credentials, which are below HOME unless the config names another place")
                .fix("set `rclone_config`, or `access_key_id` and `secret_access_key`")
        } else {
            Diagnosis::information("no-home", what).because("services have none; nothing in this config needs it")
        });
    }
    found
}

fn is_directory(repository: &RepositorySettings) -> bool {
    !repository.location.starts_with("s3:") && !repository.location.starts_with("rclone:")
}

fn needs_home(job: &Examination, repository: &RepositorySettings) -> bool {
    let keyless =
        repository.access_key_id.is_none() && job.environment.get("AWS_ACCESS_KEY_ID").is_none();
    if repository.location.starts_with("rclone:") {
        return repository.rclone_config_path(&job.environment).is_none();
    }
    !is_directory(repository)
        && keyless
        && job.environment.get("AWS_SHARED_CREDENTIALS_FILE").is_none()
}

fn of_directory(id: &'static str, key: &str, path: &Path, needed: bool) -> Diagnosis {
    let shown = path.display();
    let nearest = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let usable = nearest.is_dir() && access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if usable {
        let what =
            if path.exists() { "can be written" } else { "does not exist yet, and can be created" };
        return Diagnosis::ok(id, format!("{shown} {what}"));
    }
    let what = if path.exists() {
        format!("{shown} cannot be written")
    } else {
        format!("{shown} does not exist and cannot be created")
    };
    let seen = if needed { Diagnosis::error(id, what) } else { Diagnosis::information(id, what) };
    seen.because(format!("the current user may not write in {}", nearest.display())).fix(format!(
        "install -d -m 700 -o \"$(id -un)\" {shown}, as root; or set another directory in `{key}`"
    ))
}
