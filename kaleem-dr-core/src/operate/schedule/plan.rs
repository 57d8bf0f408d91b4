//! Derives jobs from a config: which exist, when they run, and what they need on the machine.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};
use serde::Serialize;

use super::{ScheduleError, When};
use crate::{
    engine::repository::Location,
    operate::config::{
        References, Settings,
        secret::{Environment, SecretRef},
    },
};

/// Directories of credentials, below the root: systemd's and ours.
const ENCRYPTED_CREDENTIALS: &str = "/etc/credstore.encrypted";
const PLAIN_CREDENTIALS: &str = "/etc/kaleem-dr/credentials";
/// The directories that systemd creates for us.
pub(super) const DEFAULT_STATE: &str = "/var/lib/kaleem-dr";
pub(super) const DEFAULT_CACHE: &str = "/var/cache/kaleem-dr";

/// Inputs of schedules: the program, the config and the machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Premises<'a> {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Absolute path of the config.
    pub config: PathBuf,
    /// Settings of the config, with the times of the jobs.
    pub settings: &'a Settings,
    /// Files, credentials and variables that the config refers to.
    pub references: References,
    /// The environment that the config was read in.
    pub environment: &'a Environment,
    /// The machine's time zone is UTC; cron has no other one.
    pub clock_is_utc: bool,
    /// Root for credentials: `/`, or the root of another system.
    pub root: PathBuf,
}

impl<'a> Premises<'a> {
    /// The inputs for jobs of the running system, on the machine's clock.
    #[must_use]
    pub fn new(
        program: PathBuf,
        config: PathBuf,
        settings: &'a Settings,
        references: References,
        environment: &'a Environment,
    ) -> Self {
        Self {
            program,
            config,
            settings,
            references,
            environment,
            clock_is_utc: TimeZone::system().to_offset(Timestamp::now()) == Offset::UTC,
            root: PathBuf::from("/"),
        }
    }
}

/// Kinds of jobs that can be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Captures the sources, and forgets and prunes if the config enables it.
    Backup,
    /// Updates the mirrors of the config.
    Replicate,
    /// Proves the newest points of all sources.
    Verify,
    /// Checks the structure of a repository, and a part of its data.
    Check,
    /// Restores into scratch targets, compares and measures.
    Drill,
    /// Saves change logs between backups.
    Oplog,
}

/// A job to schedule, with its times and arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Job {
    /// Name of the job, which ends its unit's name: `backup`, `drill-r2`.
    pub name: String,
    /// Kind of the job, which determines its command.
    pub kind: JobKind,
    /// Times of the job; never [`When::Off`].
    pub when: When,
    /// Arguments after the program and the config.
    pub args: Vec<String>,
}

/// A credential that the config refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Credential {
    /// Name of the credential, as the config refers to it.
    pub name: String,
    /// File that systemd loads the credential from.
    pub path: PathBuf,
    /// systemd has to decrypt it.
    pub encrypted: bool,
    /// Notifications of failures need it.
    pub for_notices: bool,
}

/// A file to install, with its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Absolute path, without the root.
    pub path: PathBuf,
    /// Content; never contains a secret.
    pub content: String,
}

/// The jobs of a config, and what they need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Jobs, in the order in which they wait for each other.
    pub jobs: Vec<Job>,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Absolute path of the config.
    pub config: PathBuf,
    /// File of variables that the config refers to.
    pub environment_file: Option<PathBuf>,
    /// Credentials that the units have to load.
    pub credentials: Vec<Credential>,
    /// Directories that jobs write to, other than state and cache.
    pub writes: Vec<PathBuf>,
    /// State directory that the jobs write to.
    pub state_directory: PathBuf,
    /// Cache directory that the jobs write to.
    pub cache_directory: PathBuf,
    /// Jobs write to a directory that does not belong to root.
    pub writes_for_others: bool,
    /// Jobs can have private `/tmp` and `/var/tmp`, because the config names nothing there.
    pub private_tmp: bool,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
    pub(super) clock_is_utc: bool,
}

impl Plan {
    /// Derives the jobs.
    ///
    /// # Errors
    /// [`ScheduleError::Settings`] if the repository is ambiguous, or the config schedules
    /// something that it does not have.
    pub fn of(premises: &Premises<'_>) -> Result<Self, ScheduleError> {
        let jobs = jobs(premises.settings)?;
        let (writes, mut warnings) = writes(premises);
        let credentials = credentials(premises, &mut warnings);
        let environment_file = environment_file(premises, &mut warnings);
        let settings = premises.settings;
        let written = writes.iter().chain([&settings.state_directory, &settings.cache_directory]);
        let writes_for_others =
            written.filter_map(|path| fs::metadata(path).ok()).any(|metadata| metadata.uid() != 0);
        Ok(Self {
            jobs,
            program: premises.program.clone(),
            config: premises.config.clone(),
            environment_file,
            credentials,
            writes,
            state_directory: settings.state_directory.clone(),
            cache_directory: settings.cache_directory.clone(),
            writes_for_others,
            private_tmp: !uses_tmp(premises),
            warnings,
            clock_is_utc: premises.clock_is_utc,
        })
    }
}

/// The jobs that a config or the defaults schedule.
fn jobs(settings: &Settings) -> Result<Vec<Job>, ScheduleError> {
    let schedule = &settings.schedule;
    let invalid = |why: String| Err(ScheduleError::Settings(why));
    if let Some(contradiction) = settings.contradictions().into_iter().next() {
        return invalid(contradiction);
    }
    let Some(own) = default_repository(settings) else {
        return invalid(
            "the repository is ambiguous: there are several, and none is named `local`".into(),
        );
    };
    let mirrors = settings.repository.values().any(|repository| repository.mirror_of.is_some());
    let replicate = match schedule.replicate {
        None if mirrors => When::daily(3, 30),
        Some(When::Off) | None => When::Off,
        Some(_) if !mirrors => {
            return invalid(
                "`schedule.replicate` is set, but no repository has `mirror_of`".into(),
            );
        }
        Some(when) => when,
    };
    let plain = |kind, word: &str, when| job(kind, word, when, [word]);
    let mut jobs = vec![
        plain(JobKind::Backup, "backup", schedule.backup),
        plain(JobKind::Replicate, "replicate", replicate),
        plain(JobKind::Verify, "verify", schedule.verify),
        plain(JobKind::Check, "check", schedule.check),
        plain(JobKind::Drill, "drill", schedule.drill),
    ];
    if let Some(unknown) = schedule
        .drill_of
        .keys()
        .find(|name| !settings.repository.contains_key(*name) || *name == own)
    {
        return invalid(format!(
            "`schedule.drill_of.{unknown}` names no other repository of the config; `drill` is for {own}"
        ));
    }
    let mut hour = 4;
    for (name, repository) in settings.repository.iter().filter(|(name, _)| *name != own) {
        let fed = repository.mirror_of.is_some() || settings.backup.also.contains(name);
        let when = match schedule.drill_of.get(name) {
            Some(when) => *when,
            None if fed => When::monthly(1, hour % 24, 20),
            None => continue,
        };
        if !is_unit_word(name) {
            return invalid(format!(
                "repository `{name}` cannot be part of a unit's name; only letters, digits, `-` and `_` are allowed"
            ));
        }
        hour += 1;
        jobs.push(job(JobKind::Drill, &format!("drill-{name}"), when, ["--repo", name, "drill"]));
    }
    jobs.retain(|job| job.when != When::Off);
    if !settings.oplog.sources.is_empty() {
        let minutes = settings.oplog.every_minutes;
        let Ok(when) = format!("every {minutes}m").parse() else {
            return invalid(format!(
                "`oplog.every_minutes` is {minutes}; a schedule needs a divisor of 60 up to 30. For other times run `kaleem-dr oplog --every N` \
                 as a service"
            ));
        };
        jobs.push(job(JobKind::Oplog, "oplog", when, ["oplog", "--once"]));
    }
    Ok(jobs)
}

fn job<const N: usize>(kind: JobKind, name: &str, when: When, args: [&str; N]) -> Job {
    Job { name: name.to_owned(), kind, when, args: args.map(str::to_owned).to_vec() }
}

/// The repository that is used without `--repo`.
fn default_repository(settings: &Settings) -> Option<&str> {
    let mut names = settings.repository.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Some(only),
        _ => settings.repository.get_key_value("local").map(|(name, _)| name.as_str()),
    }
}

fn is_unit_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// Directories that jobs write to, other than state and cache.
fn writes(premises: &Premises<'_>) -> (Vec<PathBuf>, Vec<String>) {
    let (mut writes, mut warnings) = (BTreeSet::new(), Vec::new());
    for (name, repository) in &premises.settings.repository {
        match repository.location(premises.environment) {
            Ok(Location::Directory(path)) => {
                writes.insert(path);
            }
            Ok(Location::S3(_)) => {}
            // A directory has no secrets that could be missing; but an rclone remote may resolve to
            // a directory.
            Err(error) => warnings.push(format!(
                "repository {name} cannot be reached with this config ({error}); if it is a directory, fix the config and install again"
            )),
        }
    }
    writes.extend(premises.settings.scratch_directory.clone());
    writes.extend(premises.settings.staged.iter().map(|staged| staged.directory.clone()));
    for path in writes.iter().filter(|path| !path.exists()) {
        warnings.push(format!(
            "{} does not exist; create it before the first job runs, because jobs cannot",
            path.display()
        ));
    }
    (writes.into_iter().collect(), warnings)
}

fn credentials(premises: &Premises<'_>, warnings: &mut Vec<String>) -> Vec<Credential> {
    let mut found: Vec<Credential> = Vec::new();
    for (key, secret) in &premises.references.secrets {
        let SecretRef::Credential(name) = secret else { continue };
        let for_notices = key.starts_with("monitoring.");
        if let Some(known) = found.iter_mut().find(|credential| credential.name == *name) {
            known.for_notices |= for_notices;
            continue;
        }
        let sealed = Path::new(ENCRYPTED_CREDENTIALS).join(name);
        let encrypted = below(&premises.root, &sealed).exists();
        let path = if encrypted { sealed } else { Path::new(PLAIN_CREDENTIALS).join(name) };
        if !below(&premises.root, &path).exists() {
            warnings.push(format!(
                "the credential {name} does not exist: jobs fail until {} exists",
                path.display()
            ));
        }
        found.push(Credential { name: name.clone(), path, encrypted, for_notices });
    }
    found
}

/// The file of variables, if the config refers to any; adds warnings about variables that jobs
/// would not see.
fn environment_file(premises: &Premises<'_>, warnings: &mut Vec<String>) -> Option<PathBuf> {
    for variable in premises.environment.names_with("KALEEM_DR__") {
        warnings
            .push(format!("{variable} overrides the config here; scheduled jobs do not see it"));
    }
    let variables: Vec<&str> = premises
        .references
        .secrets
        .iter()
        .filter_map(
            |(_, secret)| {
                if let SecretRef::Env(name) = secret { Some(name.as_str()) } else { None }
            },
        )
        .collect();
    let first = variables.first()?;
    let file = premises.settings.schedule.environment_file.clone();
    if !file.exists() {
        warnings.push(format!(
            "the config refers to the variable {first}, and {} does not exist: jobs fail until that file sets it",
            file.display()
        ));
    }
    Some(file)
}

/// Reports whether the config names a path in the directories that systemd would replace by private
/// ones.
fn uses_tmp(premises: &Premises<'_>) -> bool {
    let settings = premises.settings;
    let files = premises.references.secrets.iter().filter_map(|(_, secret)| {
        if let SecretRef::File(path) = secret { Some(path) } else { None }
    });
    let places =
        [&premises.config, &premises.program, &settings.state_directory, &settings.cache_directory];
    let scratch = settings.scratch_directory.iter();
    premises.references.paths.iter().chain(files).chain(places).chain(scratch).any(|path| {
        path == Path::new("/")
            || path.starts_with("/tmp")
            || path.starts_with("/var/tmp")
            || path == Path::new("/var")
    })
}

/// The path of a file of another system, as seen from here.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::{
        config::Config,
        schedule::{Style, planned_files},
    };

    const TWO: &str = "[repository.local]\nlocation = \"/srv/a 50%\"\npassword = { file = \"/p\" }\n[repository.r2]\n\
        location = \"/srv/far\"\npassword = { credential = \"far\" }\n";

    fn plan(text: &str, root: &Path) -> Result<Plan, ScheduleError> {
        let environment = Environment::default();
        let path = Path::new("/etc/kaleem-dr/kaleem-dr.toml");
        let config = Config::parse(text, path, &[], &environment).unwrap();
        Plan::of(&Premises {
            program: "/usr/bin/kaleem-dr".into(),
            config: path.into(),
            settings: &config.settings,
            references: References::of(text, path).unwrap(),
            environment: &environment,
            clock_is_utc: true,
            root: root.into(),
        })
    }

    fn jobs(text: &str) -> Vec<(String, String, String)> {
        let plan = plan(text, Path::new("/")).unwrap();
        plan.jobs
            .iter()
            .map(|job| (job.name.clone(), job.when.to_string(), job.args.join(" ")))
            .collect()
    }

    fn content(plan: &Plan, style: Style, name: &str) -> String {
        planned_files(plan, style)
            .unwrap()
            .into_iter()
            .find(|file| file.path.ends_with(name))
            .unwrap()
            .content
    }

    #[test]
    fn the_defaults_are_the_handbooks_times() {
        let of = |name: &str, when: &str, args: &str| {
            (name.to_owned(), when.to_owned(), args.to_owned())
        };
        let alone = [
            of("backup", "daily 03:00", "backup"),
            of("verify", "daily 04:30", "verify"),
            of("check", "weekly sun 05:00", "check"),
            of("drill", "monthly 1 03:20", "drill"),
        ];
        assert_eq!(jobs(TWO), alone, "nothing feeds r2, so there is nothing to drill");
        let mut mirrored = alone.to_vec();
        mirrored.insert(1, of("replicate", "daily 03:30", "replicate"));
        mirrored.push(of("drill-r2", "monthly 1 04:20", "--repo r2 drill"));
        assert_eq!(jobs(&format!("{TWO}mirror_of = \"local\"\n")), mirrored);
        let copied = jobs(&format!(
            "{TWO}[backup]\nalso = [\"r2\"]\n[schedule]\ncheck = \"off\"\ndrill_of = {{ r2 = \"weekly mon 01:00\" }}\n"
        ));
        let words: Vec<String> =
            copied.iter().map(|(name, when, _)| format!("{name} {when}")).collect();
        assert_eq!(
            words,
            [
                "backup daily 03:00",
                "verify daily 04:30",
                "drill monthly 1 03:20",
                "drill-r2 weekly mon 01:00"
            ]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (more, words) in [
            ("[schedule]\nreplicate = \"hourly\"\n", "mirror_of"),
            ("[schedule]\ndrill_of = { local = \"hourly\" }\n", "drill_of.local"),
            ("[schedule]\ndrill_of = { other = \"hourly\" }\n", "drill_of.other"),
        ] {
            let error = plan(&format!("{TWO}{more}"), Path::new("/")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let unclear = TWO.replace("repository.local", "repository.near");
        assert!(plan(&unclear, Path::new("/")).unwrap_err().to_string().contains("`local`"));
        let text = "[schedule]\nbackup = \"nightly\"\n";
        let error = Config::parse(text, Path::new("t.toml"), &[], &Environment::default())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("t.toml:2:") && error.contains("daily 03:00"), "{error}");
    }

    #[test]
    fn paths_reach_systemd_and_cron_as_they_are() {
        let plan = plan(TWO, Path::new("/")).unwrap();
        let service = content(&plan, Style::Systemd, "kaleem-dr-backup.service");
        assert!(service.lines().any(|line| line == "ReadWritePaths=\"-/srv/a 50%%\""), "{service}");
        assert!(
            service.contains("StateDirectory=kaleem-dr\nStateDirectoryMode=0700\n")
                && service.contains("PrivateTmp=yes")
        );
        let mut odd = plan.clone();
        odd.config = "/etc/it's 100%.toml".into();
        let cron = content(&odd, Style::Cron, "kaleem-dr");
        assert!(cron.contains(r"--config '/etc/it'\''s 100\%.toml' "), "{cron}");
        odd.config = format!("/{}", "x".repeat(500)).into();
        assert!(
            planned_files(&odd, Style::Cron).unwrap_err().to_string().contains("too long for cron")
        );
    }

    #[test]
    fn a_credential_that_is_sealed_is_loaded_sealed() {
        let root = tempfile::tempdir().unwrap();
        let plain =
            content(&plan(TWO, root.path()).unwrap(), Style::Systemd, "kaleem-dr-backup.service");
        assert!(plain.contains("LoadCredential=far:/etc/kaleem-dr/credentials/far\n"), "{plain}");
        fs::create_dir_all(root.path().join("etc/credstore.encrypted")).unwrap();
        fs::write(root.path().join("etc/credstore.encrypted/far"), "sealed").unwrap();
        let sealed =
            content(&plan(TWO, root.path()).unwrap(), Style::Systemd, "kaleem-dr-backup.service");
        assert!(
            sealed.contains("LoadCredentialEncrypted=far:/etc/credstore.encrypted/far\n"),
            "{sealed}"
        );
        let failed =
            content(&plan(TWO, root.path()).unwrap(), Style::Systemd, "kaleem-dr-failed@.service");
        assert!(
            !failed.contains("LoadCredential"),
            "a notice needs only what `monitoring` refers to: {failed}"
        );
    }

    #[test]
    fn each_job_waits_for_those_that_begin_before_it() {
        let plan = plan(&format!("{TWO}mirror_of = \"local\"\n"), Path::new("/")).unwrap();
        let replicate = content(&plan, Style::Systemd, "kaleem-dr-replicate.service");
        assert!(replicate.contains("\nAfter=kaleem-dr-backup.service\n"), "{replicate}");
        let check = content(&plan, Style::Systemd, "kaleem-dr-check.service");
        assert!(
            check.contains("\nAfter=kaleem-dr-backup.service kaleem-dr-replicate.service kaleem-dr-verify.service\n"),
            "{check}"
        );
    }
}
