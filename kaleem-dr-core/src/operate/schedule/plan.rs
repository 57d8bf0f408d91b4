//! Derives jobs from a config: which exist, when they run, and what they need on the machine.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Manager, ScheduleError, When, Zone};
use crate::{
    engine::repository::Location,
    operate::config::{
        Commands, References, RepositorySettings, ServeSettings, Settings,
        secret::{Environment, SecretRef},
    },
};

/// systemd's directory of encrypted credentials, below the root.
const ENCRYPTED_CREDENTIALS: &str = "/etc/credstore.encrypted";
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
    /// The machine's clock shows the time of the schedule's zone; cron has no other one.
    pub clock_fits: bool,
    /// Root for credentials: `/`, or the root of another system.
    pub root: PathBuf,
    /// The systemd that runs the jobs.
    pub manager: Manager,
    /// The jobs that run commands of the operator.
    pub commands: Commands,
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
            clock_fits: settings.schedule.timezone.is_machines(),
            root: PathBuf::from("/"),
            manager: Manager::System,
            commands: Commands::default(),
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

impl JobKind {
    /// Its command.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Replicate => "replicate",
            Self::Verify => "verify",
            Self::Check => "check",
            Self::Drill => "drill",
            Self::Oplog => "oplog",
        }
    }
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

/// A file of variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnvironmentFile {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// Notifications of failures need one of its variables.
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

/// The service of the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PageService {
    /// Directory of its socket, if it listens on one.
    pub socket_directory: Option<PathBuf>,
}

/// The jobs of a config, and what they need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Jobs, in the order in which they wait for each other.
    pub jobs: Vec<Job>,
    /// The page, if the config has `[serve]`.
    pub page: Option<PageService>,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Absolute path of the config.
    pub config: PathBuf,
    /// The systemd that runs the jobs.
    pub manager: Manager,
    /// File of variables that the config refers to.
    pub environment_file: Option<EnvironmentFile>,
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
    /// The jobs that run commands of the operator, which the usual restrictions would hinder.
    pub commands: Commands,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
    /// Time zone of the schedule.
    pub zone: Zone,
    pub(super) clock_fits: bool,
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
        warnings.extend(warnings_for_users(premises));
        let settings = premises.settings;
        let written = writes.iter().chain([&settings.state_directory, &settings.cache_directory]);
        let writes_for_others =
            written.filter_map(|path| fs::metadata(path).ok()).any(|metadata| metadata.uid() != 0);
        Ok(Self {
            page: settings.serve.as_ref().map(page).transpose()?,
            jobs,
            program: premises.program.clone(),
            config: premises.config.clone(),
            manager: premises.manager.clone(),
            environment_file,
            credentials,
            writes,
            state_directory: settings.state_directory.clone(),
            cache_directory: settings.cache_directory.clone(),
            writes_for_others,
            private_tmp: !uses_tmp(premises),
            commands: premises.commands,
            warnings,
            zone: settings.schedule.timezone.clone(),
            clock_fits: premises.clock_fits,
        })
    }
}

/// The service of the page. A token that is made at each start would only be in the journal.
fn page(serve: &ServeSettings) -> Result<PageService, ScheduleError> {
    if serve.token.is_none() && serve.socket.is_none() {
        return Err(ScheduleError::Settings(
            "`[serve]` has neither `token` nor `socket`: a service needs one of them".to_owned(),
        ));
    }
    let directory = |socket: &PathBuf| socket.parent().map(Path::to_path_buf);
    Ok(PageService { socket_directory: serve.socket.as_ref().and_then(directory) })
}

/// The jobs that a config or the defaults schedule.
pub(super) fn jobs(settings: &Settings) -> Result<Vec<Job>, ScheduleError> {
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
    jobs.extend(from_nothing(settings, own));
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

/// The drill that begins with nothing but a replica.
fn from_nothing(settings: &Settings, own: &str) -> Option<Job> {
    let is_fed = |(name, repository): &(&String, &RepositorySettings)| {
        name.as_str() != own
            && (repository.mirror_of.is_some() || settings.backup.also.contains(name))
    };
    let replica = settings.repository.iter().find(is_fed).map(|(name, _)| name.as_str());
    let usual = replica.map(|_| When::quarterly(2, 4, 20));
    let when = settings.schedule.drill_from_nothing.or(usual)?;
    let args = ["--repo", replica.unwrap_or(own), "drill", "--from-nothing"];
    Some(job(JobKind::Drill, "drill-from-nothing", when, args))
}

fn job<const N: usize>(kind: JobKind, name: &str, when: When, args: [&str; N]) -> Job {
    Job { name: name.to_owned(), kind, when, args: args.map(str::to_owned).to_vec() }
}

/// The repository that is used without `--repo`.
pub(super) fn default_repository(settings: &Settings) -> Option<&str> {
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
    writes.extend(premises.references.scratch.iter().cloned());
    // The file is replaced, so its directory must be writable.
    let textfile = premises.settings.monitoring.prometheus.textfile.as_ref();
    writes.extend(textfile.and_then(|file| file.parent()).map(Path::to_path_buf));
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
        // A user's manager cannot decrypt what the machine's key encrypts.
        let encrypted = !premises.manager.is_user() && below(&premises.root, &sealed).exists();
        let path = if encrypted { sealed } else { premises.manager.credentials().join(name) };
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
fn environment_file(
    premises: &Premises<'_>,
    warnings: &mut Vec<String>,
) -> Option<EnvironmentFile> {
    for variable in premises.environment.names_with("KALEEM_DR__") {
        warnings
            .push(format!("{variable} overrides the config here; scheduled jobs do not see it"));
    }
    let (_, first) = variables(premises).next()?;
    let path = premises.settings.schedule.environment_file.clone();
    if !path.exists() {
        warnings.push(format!(
            "the config refers to the variable {first}, and {} does not exist: jobs fail until that file sets it",
            path.display()
        ));
    }
    let for_notices = variables(premises).any(|(key, _)| key.starts_with("monitoring."));
    Some(EnvironmentFile { path, for_notices })
}

/// The variables that the config refers to, each with its key.
fn variables<'a>(premises: &'a Premises<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    premises.references.secrets.iter().filter_map(|(key, secret)| match secret {
        SecretRef::Env(name) => Some((key.as_str(), name.as_str())),
        _ => None,
    })
}

/// Warnings about the additional steps that jobs of a user need.
fn warnings_for_users(premises: &Premises<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if !premises.manager.is_user() {
        return warnings;
    }
    let user = premises.environment.get("USER").unwrap_or_default();
    if user.is_empty() || !Path::new("/var/lib/systemd/linger").join(user).exists() {
        warnings.push(
            "a user's jobs run only while the user is logged in: `loginctl enable-linger` changes that".into(),
        );
    }
    let settings = premises.settings;
    for (key, path, usual) in [
        ("state_directory", &settings.state_directory, DEFAULT_STATE),
        ("cache_directory", &settings.cache_directory, DEFAULT_CACHE),
    ] {
        if path == Path::new(usual) {
            warnings.push(format!(
                "{usual} belongs to root: set `{key}` in the config to a directory of the user"
            ));
        }
    }
    warnings
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
mod tests;
