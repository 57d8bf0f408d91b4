//! A survey of an old installation. It reads files and opens repositories, and writes nothing.

use std::{
    cmp::Reverse,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Draft, Finding, MigrateError, Relation, below, failed,
    legacy::{ENV_FILE, Legacy},
    lines,
    places::Places,
    relation::relate,
};

use crate::ground::{Exit, diagnosis::Severity};

/// Path of the new config.
const CONFIG: &str = "/etc/kaleem-dr/kaleem-dr.toml";

/// The findings, and the config that would replace the old installation.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Survey {
    /// Root directory of the old system.
    pub root: PathBuf,
    /// The findings, sorted by severity, worst first.
    pub findings: Vec<Finding>,
    /// The relation of the off-site repository to the local one.
    pub relation: Relation,
    /// Path of the new config.
    pub config_path: PathBuf,
    /// The config that does the same as the old jobs.
    #[serde(skip)]
    pub draft: Draft,
}

impl Survey {
    /// Examines the installation below `root`: `/`, or the mount point of the old system.
    ///
    /// # Errors
    /// [`MigrateError::Nothing`] if there is none; [`MigrateError::File`] if one of its files
    /// cannot be read. Faults of the installation are findings.
    pub async fn of(root: &Path) -> Result<Self, MigrateError> {
        let root = fs::canonicalize(root).map_err(failed("find", root))?;
        let old = Legacy::read(&root)?;
        let places = Places::of(&old, lines::off_site(&old));
        let mut findings = of_files(&old, &places);
        findings.extend(places.findings());
        findings.extend(of_variables(&old));
        findings.extend(lines::findings(&old));
        let relation = match places.settings(&old) {
            Ok((local, off_site, environment)) => {
                let (relation, more) = relate(&local, off_site.as_ref(), &environment).await;
                findings.extend(more);
                relation
            }
            Err(why) => Relation::Unknown { why },
        };
        let (draft, more) = Draft::of(&old, &places, &relation);
        findings.extend(more);
        findings.sort_by_key(|finding| (Reverse(finding.diagnosis.severity), !finding.blocks));
        Ok(Self { config_path: below(&root, CONFIG), root, findings, relation, draft })
    }

    /// Exit status: an error among the findings fails, as in `doctor`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let is_error = |finding: &Finding| finding.diagnosis.severity >= Severity::Error;
        if self.findings.iter().any(is_error) { Exit::Failed } else { Exit::Done }
    }

    /// The findings that must be resolved before anything is changed.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.blocks)
    }
}

/// Findings about the files themselves: modes, places, other schedules.
fn of_files(old: &Legacy, places: &Places) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, mode) in &old.exposed {
        findings.push(
            Finding::error(
                "exposed-secret",
                format!(
                    "users other than its owner can read this file of secrets (mode {mode:03o})"
                ),
                "every user of the machine can read the secrets, and kaleem-dr refuses the file",
                &format!(
                    "chmod 600 {}, and change the secrets in it",
                    below(&old.root, path).display()
                ),
            )
            .at(path.display().to_string()),
        );
    }
    for path in &old.elsewhere {
        findings.push(
            Finding::error(
                "other-schedule",
                "this file also starts restic, rclone or one of the old scripts",
                "only /etc/cron.d/kaleem-backups and the old timer are disabled: this would continue next to the new jobs",
                "remove those lines by hand",
            )
            .at(path.display().to_string()),
        );
    }
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    if let (Some(repository), Some(system)) =
        (device(&places.local), device(&below(&old.root, "/etc")))
        && repository == system
    {
        findings.push(Finding::warning(
            "same-disk",
            format!(
                "the local repository {} is on the file system of the data that it backs up",
                places.local.display()
            ),
            "one broken disk destroys both: that is one medium, not two",
            "move the repository to its own disk, or rely on the off-site repository alone",
        ));
    }
    if places.off_site.is_some() {
        findings.push(Finding::information(
            "bucket",
            "the rules of the bucket are not in the files, so they were not checked",
            "lifecycle rules that expire objects destroy a repository slowly",
            "run `kaleem-dr --repo r2 r2 check` when the config is written",
        ));
    }
    findings
}

fn of_variables(old: &Legacy) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(fault) = &old.env_fault {
        findings.push(
            Finding::error(
                "env-file",
                format!("the file of variables is invalid: {fault}"),
                "its settings would be missing from the config",
                "write the line as NAME='value'",
            )
            .at(ENV_FILE)
            .blocking(),
        );
    }
    let Some(uri) = old.variables.get("MONGO_URI") else { return findings };
    let login = uri
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'))
        .map(|(login, _)| login);
    let (user, password) = login.and_then(|login| login.split_once(':')).unwrap_or_default();
    if !password.is_ascii() {
        findings.push(
            Finding::error(
                "password-not-ascii",
                "the password in MONGO_URI contains non-ASCII characters",
                "tools differ in how they encode them, and MongoDB then says `Authentication failed`",
                "change the password to letters and digits, or percent-encode those characters",
            )
            .at(ENV_FILE),
        );
    }
    if user == "backup" && old.variables.get("MONGO_RESTORE_URI").is_none() {
        findings.push(
            Finding::warning(
                "restore-rights",
                "the only login to MongoDB is `backup`",
                "MongoDB's role `backup` is read-only: a restore with it fails, which is noticed only when it is needed",
                "create a user with the role `restore`, and set `restore_uri` of source `mongo` to a file with its connection string",
            )
            .at(ENV_FILE),
        );
    }
    findings
}
