//! Installs, lists and removes schedules on a machine. Only files with the marker are overwritten
//! or removed.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    MARKER, Manager, Plan, PlannedFile, ScheduleError, WHEN_NOTE, When, Zone, cron,
    plan::{DEFAULT_CACHE, DEFAULT_STATE, below},
    systemd,
};
use crate::ground::durable_file;

/// The program that runs the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// systemd timers and services in `/etc/systemd/system`.
    Systemd,
    /// One file in `/etc/cron.d` with a line for each job.
    Cron,
}

/// The result of an installation.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InstallReport {
    /// The program that runs the jobs.
    pub style: Style,
    /// Nothing was changed, because a dry run was requested.
    pub dry_run: bool,
    /// Paths of the files that were written.
    pub written: Vec<PathBuf>,
    /// Files that were up to date.
    pub unchanged: Vec<PathBuf>,
    /// Files of kaleem-dr that no job needs any more.
    pub removed: Vec<PathBuf>,
    /// Commands to run now: by [`InstallReport::activate`], or by the operator.
    pub commands: Vec<String>,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
}

/// The result of a removal.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RemoveReport {
    /// Nothing was changed, because a dry run was requested.
    pub dry_run: bool,
    /// Paths of the files that were removed.
    pub removed: Vec<PathBuf>,
    /// Commands that make systemd aware of the changes.
    pub commands: Vec<String>,
}

impl InstallReport {
    /// Runs the commands of this report if systemd runs below `root`. Returns whether they were run; otherwise the operator has to
    /// run them on that system. In a dry run, none is run.
    ///
    /// # Errors
    /// [`ScheduleError::Command`] for the first that fails; later ones do not run.
    pub async fn activate(&self, root: &Path) -> Result<bool, ScheduleError> {
        if self.dry_run { Ok(false) } else { activate(root, &self.commands).await }
    }
}

impl RemoveReport {
    /// Runs the commands of this report, as [`InstallReport::activate`] does.
    ///
    /// # Errors
    /// [`ScheduleError::Command`] for the first that fails; later ones do not run.
    pub async fn activate(&self, root: &Path) -> Result<bool, ScheduleError> {
        if self.dry_run { Ok(false) } else { activate(root, &self.commands).await }
    }
}

/// A job that systemd or cron runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Installed {
    /// Name of its unit without the suffix, or of its line in the cron file.
    pub name: String,
    /// The program that runs it.
    pub style: Style,
    /// The unit or the cron file that schedules it.
    pub path: PathBuf,
    /// Its times; `None` if its file does not record them.
    pub when: Option<When>,
    /// Time zone of its times.
    pub zone: Zone,
    /// Next run; `None` if it is unknown, or the job is not enabled.
    pub next: Option<Timestamp>,
    /// The job is enabled: a timer must be linked.
    pub enabled: bool,
}

/// The files of a plan.
///
/// # Errors
/// [`ScheduleError::Settings`] if cron would not accept its file.
pub fn planned_files(plan: &Plan, style: Style) -> Result<Vec<PlannedFile>, ScheduleError> {
    match style {
        Style::Systemd => Ok(systemd::files(plan)),
        Style::Cron => Ok(vec![cron::file(plan)?]),
    }
}

/// Writes a plan's files below `root` (usually `/`), links its timers, and removes files of
/// kaleem-dr that it does not contain, including those of the other style, so that no job runs
/// twice.
///
/// # Errors
/// [`ScheduleError::NotOurs`] before anything is written; [`ScheduleError::File`] if a file cannot
/// be written.
pub fn install(
    plan: &Plan,
    style: Style,
    root: &Path,
    dry_run: bool,
) -> Result<InstallReport, ScheduleError> {
    let files = planned_files(plan, style)?;
    let started: Vec<String> = match style {
        Style::Systemd => {
            let page = plan.page.iter().map(|_| systemd::PAGE.to_owned());
            plan.jobs.iter().map(systemd::timer_name).chain(page).collect()
        }
        Style::Cron => Vec::new(),
    };
    let links: Vec<PathBuf> = started.iter().map(|unit| plan.manager.link(unit)).collect();
    for path in files.iter().map(|file| &file.path) {
        let place = below(root, path);
        if place.symlink_metadata().is_ok() && !is_ours(&place)? {
            return Err(ScheduleError::NotOurs { path: place });
        }
    }
    let keep: BTreeSet<&PathBuf> = files.iter().map(|file| &file.path).chain(&links).collect();
    let surplus: Vec<PathBuf> =
        ours(root, &plan.manager)?.into_iter().filter(|path| !keep.contains(path)).collect();
    let mut report = InstallReport {
        style,
        dry_run,
        written: vec![],
        unchanged: vec![],
        removed: vec![],
        commands: vec![],
        warnings: vec![],
    };
    report.warnings.clone_from(&plan.warnings);
    if style == Style::Cron && !plan.clock_fits {
        report.warnings.push(format!(
            "the time zone of this machine is not {}: on Debian, cron treats the times as local times",
            plan.zone
        ));
    }
    if style == Style::Cron && !plan.credentials.is_empty() {
        report.warnings.push(
            "the config refers to systemd credentials, which cron jobs do not have; use files"
                .into(),
        );
    }
    if style == Style::Cron && plan.page.is_some() {
        report
            .warnings
            .push("cron starts no services: run `kaleem-dr serve` with another supervisor".into());
    }
    take_away(root, &surplus, dry_run)?;
    report.removed = surplus;
    if !dry_run && style == Style::Systemd {
        make_own_directories(plan)?;
    }
    for PlannedFile { path, content } in files {
        let place = below(root, &path);
        if fs::read_to_string(&place).is_ok_and(|there| there == content) {
            report.unchanged.push(path);
            continue;
        }
        if !dry_run {
            write_public(&place, &content)?;
        }
        report.written.push(path);
    }
    for path in links {
        if link_unit(root, &plan.manager, &path, dry_run)? {
            report.written.push(path);
        } else {
            report.unchanged.push(path);
        }
    }
    report.commands = commands(&plan.manager, &report.removed, &started);
    Ok(report)
}

/// Removes all files of kaleem-dr below `root`.
///
/// # Errors
/// [`ScheduleError::File`] if a file cannot be removed.
pub fn remove(
    root: &Path,
    manager: &Manager,
    dry_run: bool,
) -> Result<RemoveReport, ScheduleError> {
    let removed = ours(root, manager)?;
    take_away(root, &removed, dry_run)?;
    let commands = commands(manager, &removed, &[]);
    Ok(RemoveReport { dry_run, removed, commands })
}

/// The jobs that are installed below `root`.
///
/// # Errors
/// [`ScheduleError::File`] if a file of kaleem-dr cannot be read.
pub fn list(
    root: &Path,
    manager: &Manager,
    now: Timestamp,
) -> Result<Vec<Installed>, ScheduleError> {
    let mut installed = Vec::new();
    for path in ours(root, manager)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let place = below(root, &path);
        if path == Path::new(cron::FILE) {
            let text = read(&place)?;
            let mut before = "";
            for line in text.lines() {
                if let Some(when) = line.strip_prefix(WHEN_NOTE) {
                    let name = format!("{}{}", systemd::PREFIX, before.trim_start_matches("# "));
                    installed.push(entry(name, Style::Cron, &path, Some(when), true, now));
                }
                before = line;
            }
        } else if let Some(unit) = name.strip_suffix(".timer").filter(|_| manager.is_unit(&path)) {
            let text = read(&place)?;
            let when = text.lines().find_map(|line| line.strip_prefix(WHEN_NOTE));
            let enabled = below(root, &manager.link(&name)).symlink_metadata().is_ok();
            installed.push(entry(unit.to_owned(), Style::Systemd, &path, when, enabled, now));
        }
    }
    Ok(installed)
}

fn entry(
    name: String,
    style: Style,
    path: &Path,
    when: Option<&str>,
    enabled: bool,
    now: Timestamp,
) -> Installed {
    // Files of releases without time zones have none.
    let (when, zone) = match when.map(str::trim) {
        None => (None, None),
        Some(note) => {
            match note.rsplit_once(' ').map(|(when, zone)| (when.parse(), zone.parse())) {
                Some((Ok(when), Ok(zone))) => (Some(when), Some(zone)),
                _ => (note.parse().ok(), None),
            }
        }
    };
    let when: Option<When> = when;
    let zone: Zone = zone.unwrap_or_default();
    let next = when.filter(|_| enabled).and_then(|when| when.next_after(now, &zone));
    Installed { name, style, path: path.to_path_buf(), when, zone, next, enabled }
}

/// Runs commands if systemd runs below `root`. Returns whether it does.
pub(crate) async fn activate(root: &Path, commands: &[String]) -> Result<bool, ScheduleError> {
    if !systemd_runs(root) {
        return Ok(false);
    }
    carry_out(commands).await?;
    Ok(true)
}

/// Runs commands one after the other.
///
/// # Errors
/// [`ScheduleError::Command`] for the first that fails; later ones do not run.
async fn carry_out(commands: &[String]) -> Result<(), ScheduleError> {
    for command in commands {
        let failed = |said: String| ScheduleError::Command { command: command.clone(), said };
        let mut words = command.split(' ');
        let ended = tokio::process::Command::new(words.next().unwrap_or_default())
            .args(words)
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .map_err(|error| failed(error.to_string()))?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            return Err(failed(format!("{}, {}", ended.status, said.trim())));
        }
    }
    Ok(())
}

/// Commands that make systemd aware of the changes. None of their words contains a space.
fn commands(manager: &Manager, removed: &[PathBuf], started: &[String]) -> Vec<String> {
    let systemctl = manager.systemctl();
    let stopped: Vec<&str> = removed
        .iter()
        .filter(|path| {
            manager.is_unit(path)
                && (path.extension().is_some_and(|ending| ending == "timer")
                    || path.ends_with(systemd::PAGE))
        })
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    let mut commands = Vec::new();
    if !stopped.is_empty() {
        commands.push(format!("{systemctl}stop {}", stopped.join(" ")));
    }
    if !started.is_empty() || !stopped.is_empty() {
        commands.push(format!("{systemctl}daemon-reload"));
    }
    if !started.is_empty() {
        commands.push(format!("{systemctl}restart {}", started.join(" ")));
    }
    commands
}

/// Reports whether a link had to be created.
fn link_unit(
    root: &Path,
    manager: &Manager,
    path: &Path,
    dry_run: bool,
) -> Result<bool, ScheduleError> {
    let (place, target) =
        (below(root, path), manager.units().join(path.file_name().unwrap_or_default()));
    if fs::read_link(&place).is_ok_and(|there| there == target) {
        return Ok(false);
    }
    if !dry_run {
        if let Some(directory) = place.parent() {
            make_public_directory(directory)?;
        }
        if place.symlink_metadata().is_ok() {
            fs::remove_file(&place).map_err(failed("remove", &place))?;
        }
        symlink(&target, &place).map_err(failed("make the link", &place))?;
    }
    Ok(true)
}

/// Creates the state and cache directories if the config moves them: the services could not create
/// them.
fn make_own_directories(plan: &Plan) -> Result<(), ScheduleError> {
    for (path, usual) in
        [(&plan.state_directory, DEFAULT_STATE), (&plan.cache_directory, DEFAULT_CACHE)]
    {
        if path != Path::new(usual) && !path.exists() {
            fs::create_dir_all(path).map_err(failed("make the directory", path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(failed("set the mode of", path))?;
        }
    }
    Ok(())
}

/// All files of kaleem-dr below `root`: units, links to them, the cron file. Paths are without the
/// root.
fn ours(root: &Path, manager: &Manager) -> Result<Vec<PathBuf>, ScheduleError> {
    let mut found = Vec::new();
    let units = manager.units();
    for name in
        names(&below(root, &units))?.into_iter().filter(|name| name.starts_with(systemd::PREFIX))
    {
        if !is_ours(&below(root, &units.join(&name)))? {
            continue;
        }
        let linked = manager.link(&name);
        if below(root, &linked).symlink_metadata().is_ok() {
            found.push(linked);
        }
        found.push(units.join(name));
    }
    if !manager.is_user() && is_ours(&below(root, Path::new(cron::FILE)))? {
        found.push(cron::FILE.into());
    }
    Ok(found)
}

fn names(directory: &Path) -> Result<Vec<String>, ScheduleError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed("list", directory))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Reports whether a file has the marker. A missing file, a link, a directory and a file that is
/// not text do not.
fn is_ours(path: &Path) -> Result<bool, ScheduleError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            let content = fs::read(path).map_err(failed("read", path))?;
            Ok(content.starts_with(MARKER.as_bytes()))
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

fn take_away(root: &Path, paths: &[PathBuf], dry_run: bool) -> Result<(), ScheduleError> {
    for path in paths.iter().filter(|_| !dry_run) {
        let place = below(root, path);
        fs::remove_file(&place).map_err(failed("remove", &place))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, ScheduleError> {
    fs::read_to_string(path).map_err(failed("read", path))
}

/// Writes a file that everyone may read, atomically: cron and systemd see the old file or the new
/// one.
fn write_public(path: &Path, content: &str) -> Result<(), ScheduleError> {
    make_public_directory(path.parent().unwrap_or(Path::new("/")))?;
    durable_file::replace(path, content.as_bytes(), 0o644).map_err(failed("write", path))
}

/// Creates a directory with the mode of system directories; an existing one keeps its mode.
fn make_public_directory(path: &Path) -> Result<(), ScheduleError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_public_directory(above)?;
    }
    fs::create_dir(path).map_err(failed("make the directory", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(failed("set the mode of", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScheduleError {
    let path = path.to_path_buf();
    move |cause| ScheduleError::File { path, action, cause }
}

/// Reports whether the system below `root` is the running one, and systemd runs it.
#[must_use]
pub fn systemd_runs(root: &Path) -> bool {
    root == Path::new("/") && Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_fails_is_named_with_what_it_said_and_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let (missing, made) = (directory.path().join("missing"), directory.path().join("made"));
        let commands = [format!("ls {}", missing.display()), format!("mkdir {}", made.display())];
        let error = carry_out(&commands).await.unwrap_err().to_string();
        assert!(error.contains(&commands[0]) && error.contains("No such file"), "{error}");
        assert!(!made.exists(), "what comes after it is not run");
        carry_out(&commands[1..]).await.unwrap();
        assert!(made.exists());
    }

    #[test]
    fn systemd_stops_what_is_gone_before_it_starts_what_is_new() {
        let gone = [
            PathBuf::from("/etc/systemd/system/kaleem-dr-check.timer"),
            "/etc/systemd/system/kaleem-dr-check.service".into(),
        ];
        let timers = ["kaleem-dr-backup.timer".to_owned()];
        let expected = [
            "systemctl stop kaleem-dr-check.timer",
            "systemctl daemon-reload",
            "systemctl restart kaleem-dr-backup.timer",
        ];
        assert_eq!(commands(&Manager::System, &gone, &timers), expected);
        assert!(
            commands(&Manager::System, &["/etc/cron.d/kaleem-dr".into()], &[]).is_empty(),
            "cron notices changes itself"
        );
    }
}
