//! A look at the whole of an old installation. It reads files and opens repositories, and writes nothing.

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

/// Where the config goes.
const CONFIG: &str = "/etc/kaleem-dr/kaleem-dr.toml";

/// What was found, and the config that would take its place.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Survey {
    /// Where the old system's `/` is.
    pub root: PathBuf,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// What the repository off site is to the local one.
    pub relation: Relation,
    /// Where the config will lie.
    pub config_path: PathBuf,
    /// The config.
    #[serde(skip)]
    pub draft: Draft,
}

impl Survey {
    /// Looks at the installation below `root`, which is `/`, or where the old system's file system is mounted.
    ///
    /// # Errors
    /// [`MigrateError::Nothing`] when none is there; [`MigrateError::File`] when one of its files cannot be read. What is wrong
    /// with what it does is a finding.
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

    /// What must be settled before anything is changed.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.blocks)
    }
}

/// What the files themselves show: modes, places, other schedules.
fn of_files(old: &Legacy, places: &Places) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, mode) in &old.exposed {
        findings.push(
            Finding::error(
                "exposed-secret",
                format!("others than its owner can read this file of secrets (mode {mode:03o})"),
                "every user of the machine can read the secrets, and kaleem-dr refuses the file",
                &format!(
                    "chmod 600 {}, and change what is in it",
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
                "restic, rclone or one of the old scripts is started from here too",
                "only /etc/cron.d/kaleem-backups and the old timer are switched off: this would go on beside the new jobs",
                "take those lines out by hand",
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
                "the local repository {} lies on the file system of what it backs up",
                places.local.display()
            ),
            "one broken disk takes both: that is one medium, not two",
            "move the repository to a disk of its own, or count on the one off site alone",
        ));
    }
    if places.off_site.is_some() {
        findings.push(Finding::information(
            "bucket",
            "whether rules of the bucket delete or protect objects cannot be seen in files",
            "a lifecycle that expires objects destroys a repository slowly",
            "run `kaleem-dr --repo r2 r2 check` once the config is there",
        ));
    }
    findings
}

/// What the variables show.
fn of_variables(old: &Legacy) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(fault) = &old.env_fault {
        findings.push(
            Finding::error(
                "env-file",
                format!("the file of variables is not understood: {fault}"),
                "what it sets would be missing from the config",
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
                "the password in MONGO_URI has characters beyond ASCII",
                "tools differ in how they encode them, and MongoDB then says `Authentication failed`",
                "give the user a password of letters and digits, or write those characters percent-encoded",
            )
            .at(ENV_FILE),
        );
    }
    if user == "backup" && old.variables.get("MONGO_RESTORE_URI").is_none() {
        findings.push(
            Finding::warning(
                "restore-rights",
                "the only login to MongoDB is `backup`",
                "MongoDB's role `backup` reads only: a restore with it fails, and that is found out when it is needed",
                "make a user with the role `restore`, and set `restore_uri` of source `mongo` to a file with its connection string",
            )
            .at(ENV_FILE),
        );
    }
    findings
}
