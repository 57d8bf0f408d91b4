//! The old installation according to its files: variables, cron lines, units, and the scripts they
//! name. Nothing is run.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    MigrateError, below, failed,
    variables::{HOME, Variables, assignments, defaults},
};
use crate::operate::{
    config::parse_env_file,
    host_jobs,
    host_jobs::{SCRIPT_DIRECTORIES, SYSTEM_DIRECTORY},
    schedule::When,
};

/// The files of the old installation.
pub(super) const ENV_FILE: &str = "/etc/kaleem-backups.env";
pub(super) const RCLONE_CONFIG: &str = "/root/.config/rclone/rclone.conf";
pub(super) const PASSWORD_FILE: &str = "/etc/restic.pass";
pub(super) const CRON_FILE: &str = "/etc/cron.d/kaleem-backups";
pub(super) const UNITS: &str = "/etc/systemd/system";
pub(super) const SERVICE: &str = "kaleem-backup-r2.service";
pub(super) const TIMER: &str = "kaleem-backup-r2.timer";

/// Maximum size of a script, in bytes.
const LARGEST_SCRIPT_BYTES: u64 = 1 << 20;
/// A text file of the old installation.
#[derive(Debug)]
pub(super) struct LegacyFile {
    /// Its path there, without the root.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A line of cron that starts a job.
#[derive(Debug)]
pub(super) struct CronLine {
    pub(super) number: usize,
    pub(super) fields: String,
    pub(super) when: Option<When>,
    pub(super) command: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegacyJob {
    Backup,
    OffSite,
    RestoreTest,
}

impl LegacyJob {
    /// The kind of the job whose script a command runs.
    pub(super) fn of(command: &str) -> Option<Self> {
        if command.contains("restore-test") {
            Some(Self::RestoreTest)
        } else if command.contains("kaleem-backup.r2") || command.contains("kaleem-backup-r2") {
            Some(Self::OffSite)
        } else if command.contains("kaleem-backup") && command.contains(".sh") {
            Some(Self::Backup)
        } else {
            None
        }
    }
}

#[derive(Debug)]
pub(super) struct Legacy {
    pub(super) root: PathBuf,
    /// The variables of its jobs, the most specific ones first. Each may be a secret.
    pub(super) variables: Variables,
    /// Why the env file is invalid.
    pub(super) env_fault: Option<String>,
    pub(super) cron: Vec<CronLine>,
    pub(super) calendar: Option<String>,
    /// Files with commands: scripts, units and the cron file.
    pub(super) texts: Vec<LegacyFile>,
    /// Files of secrets that other users can read, with their modes.
    pub(super) exposed: Vec<(PathBuf, u32)>,
    /// Other cron files that name our scripts, restic or rclone.
    pub(super) elsewhere: Vec<PathBuf>,
}

impl Legacy {
    /// Reads the installation below `root`.
    ///
    /// # Errors
    /// [`MigrateError::Nothing`] if there is neither an env file nor a cron file;
    /// [`MigrateError::File`] if one cannot be read.
    pub(super) fn read(root: &Path) -> Result<Self, MigrateError> {
        let env_text = read(root, ENV_FILE)?;
        let cron_text = read(root, CRON_FILE)?;
        if env_text.is_none() && cron_text.is_none() {
            return Err(MigrateError::Nothing(format!(
                "there is nothing to migrate: neither {} nor {} exists",
                below(root, ENV_FILE).display(),
                below(root, CRON_FILE).display()
            )));
        }
        let cron = cron_text.as_deref().map(cron_lines).unwrap_or_default();
        let mut texts: Vec<LegacyFile> =
            cron_text.map(|text| LegacyFile { path: CRON_FILE.into(), text }).into_iter().collect();
        for unit in [SERVICE, TIMER] {
            let path = Path::new(UNITS).join(unit);
            texts.extend(read(root, &path)?.map(|text| LegacyFile { path, text }));
        }
        let calendar = texts
            .iter()
            .find(|file| file.path.ends_with(TIMER))
            .and_then(|file| calendar(&file.text));
        let scripts = scripts(root, &texts)?;
        let mut old = Self {
            variables: Variables::default(),
            env_fault: None,
            calendar,
            exposed: exposed(root),
            elsewhere: elsewhere(root),
            root: root.to_path_buf(),
            cron,
            texts,
        };
        for script in &scripts {
            for (name, value) in defaults(&script.text) {
                old.variables.set(&name, value, &script.path);
            }
        }
        if let Some(text) = &env_text {
            match parse_env_file(text, Some(HOME)) {
                Ok(environment) => old.variables.take(&environment, Path::new(ENV_FILE)),
                Err(fault) => old.env_fault = Some(fault.to_string()),
            }
        }
        for line in
            old.cron.iter().filter(|line| LegacyJob::of(&line.command) != Some(LegacyJob::OffSite))
        {
            for (name, value) in assignments(&line.command) {
                old.variables.set(&name, value, Path::new(CRON_FILE));
            }
        }
        old.texts.extend(scripts);
        Ok(old)
    }

    /// Times of an old job; `None` if the job does not exist, or its times are unsupported.
    pub(super) fn when(&self, job: LegacyJob) -> Option<When> {
        if job == LegacyJob::OffSite
            && let Some(when) = self.calendar.as_deref().and_then(When::from_calendar)
        {
            return Some(when);
        }
        self.cron
            .iter()
            .filter(|line| LegacyJob::of(&line.command) == Some(job))
            .find_map(|line| line.when)
    }

    /// The commands of all files, one a line, with their places, without comments, and with
    /// continued lines joined.
    pub(super) fn commands(&self) -> Vec<(String, String)> {
        self.texts.iter().flat_map(|file| commands(&file.path, &file.text)).collect()
    }
}

fn read(root: &Path, path: impl AsRef<Path>) -> Result<Option<String>, MigrateError> {
    let path = below(root, path);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// The jobs of a file in `/etc/cron.d`: five fields, a user, a command.
fn cron_lines(text: &str) -> Vec<CronLine> {
    let line = |(at, line): (usize, &str)| {
        let entry = host_jobs::entry(line, true)?;
        let command: Vec<&str> = entry.command.split_whitespace().collect();
        Some(CronLine {
            number: at + 1,
            fields: entry.fields.join(" "),
            when: When::from_cron(&entry.fields),
            command: command.join(" "),
        })
    };
    text.lines().enumerate().filter_map(line).collect()
}

fn calendar(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix("OnCalendar="))
        .map(|value| value.trim().to_owned())
}

/// The scripts that commands name, and scripts in the same directories with the same prefix.
fn scripts(root: &Path, texts: &[LegacyFile]) -> Result<Vec<LegacyFile>, MigrateError> {
    let mut paths = BTreeSet::new();
    for word in texts
        .iter()
        .flat_map(|file| file.text.split(|c: char| c.is_whitespace() || "\"';|&()=".contains(c)))
    {
        if word.starts_with('/') && is_script(&below(root, word)) {
            paths.insert(PathBuf::from(word));
        }
    }
    for directory in paths
        .iter()
        .filter_map(|path| path.parent())
        .map(Path::to_path_buf)
        .collect::<BTreeSet<_>>()
    {
        let Ok(entries) = fs::read_dir(below(root, &directory)) else { continue };
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if name.starts_with("kaleem-")
                && is_shell(Path::new(&name))
                && is_script(&below(root, directory.join(&name)))
            {
                paths.insert(directory.join(name));
            }
        }
    }
    let mut scripts = Vec::new();
    for path in paths {
        scripts.extend(read(root, &path)?.map(|text| LegacyFile { path, text }));
    }
    Ok(scripts)
}

fn is_shell(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "sh")
}

fn is_script(path: &Path) -> bool {
    let is_small = fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST_SCRIPT_BYTES);
    is_small
        && (path.extension().is_some_and(|ending| ending == "sh")
            || fs::read(path).is_ok_and(|text| text.starts_with(b"#!")))
}

/// Files of secrets that users other than their owner can read.
fn exposed(root: &Path) -> Vec<(PathBuf, u32)> {
    [ENV_FILE, RCLONE_CONFIG, PASSWORD_FILE]
        .into_iter()
        .filter_map(|path| {
            Some((PathBuf::from(path), fs::metadata(below(root, path)).ok()?.mode() & 0o7777))
        })
        .filter(|(_, mode)| mode & 0o077 != 0)
        .collect()
}

/// Other files in which cron may start the old jobs.
fn elsewhere(root: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        ["/etc/crontab", "/var/spool/cron/crontabs/root", "/var/spool/cron/root"]
            .map(PathBuf::from)
            .to_vec();
    let directories = std::iter::once(SYSTEM_DIRECTORY).chain(SCRIPT_DIRECTORIES);
    for directory in directories {
        let Ok(entries) = fs::read_dir(below(root, directory)) else { continue };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        // cron ignores names with a dot, and our own file does not count.
        places.extend(
            names
                .filter(|name| !name.contains('.') && name != "kaleem-dr")
                .map(|name| Path::new(directory).join(name)),
        );
    }
    places.retain(|place| {
        let text = fs::read(below(root, place))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        let of_ours = ["kaleem-backup", "kaleem-restore-test", "rclone sync", "restic "];
        place != Path::new(CRON_FILE)
            && commands(place, &text)
                .iter()
                .any(|(_, line)| of_ours.iter().any(|word| line.contains(word)))
    });
    places.sort();
    places
}

/// The commands of a text, one a line, with their places.
fn commands(path: &Path, text: &str) -> Vec<(String, String)> {
    let line = |(number, pieces): (usize, Vec<&str>)| {
        let pieces: Vec<&str> = pieces.into_iter().map(str::trim).collect();
        (format!("{}:{number}", path.display()), pieces.join(" "))
    };
    let lines = host_jobs::joined(text, true).into_iter().map(line);
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cron_are_jobs_and_their_variables_stand_in_them() {
        let text = "# nightly\nMAILTO=root\n0 3 * * * root /bin/bash -lc \". /etc/kaleem-backups.env; BACKUP_ROOT=/backups \
            RESTIC_REPO=/backups/restic-local /opt/kaleem/scripts/kaleem-backup.v2.1.sh >> /var/log/b.log 2>&1\"\n\
            20 3 1 * * root /opt/kaleem/scripts/kaleem-restore-test.sh\n@daily root /usr/bin/true\n";
        let lines = cron_lines(text);
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(lines[0].when, Some("daily 03:00".parse().unwrap()));
        assert_eq!(lines[1].when, Some("monthly 1 03:20".parse().unwrap()));
        assert_eq!(lines[2].when, None);
        assert_eq!(LegacyJob::of(&lines[0].command), Some(LegacyJob::Backup));
        assert_eq!(LegacyJob::of(&lines[1].command), Some(LegacyJob::RestoreTest));
        assert_eq!(LegacyJob::of(&lines[2].command), None);
        let named = assignments(&lines[0].command);
        assert!(
            named.contains(&("RESTIC_REPO".into(), "/backups/restic-local".into())),
            "{named:?}"
        );
    }

    #[test]
    fn commands_that_go_on_over_lines_are_one_and_comments_are_none() {
        let found = commands(
            Path::new("/s.sh"),
            "#!/bin/sh\n# rclone sync\nrestic forget \\\n  --prune\n\necho\n",
        );
        assert_eq!(
            found,
            [("/s.sh:3".into(), "restic forget --prune".into()), ("/s.sh:6".into(), "echo".into())]
        );
    }
}
