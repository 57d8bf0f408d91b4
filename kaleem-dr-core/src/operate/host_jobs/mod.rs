//! The jobs of this machine: lines of crontabs, systemd services, and the scripts that they call.
//! Read by `doctor` and `migrate`.
//!
//! Shell is not interpreted, only split into commands and words; the value of a variable is known
//! if the same job sets it.

mod crontab;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

pub(crate) use self::{
    crontab::{SCRIPT_DIRECTORIES, SYSTEM_DIRECTORY, entry},
    text::joined,
};
use super::host_facts::Host;

/// Maximum size of a script in bytes; larger files are not scripts.
const LONGEST_SCRIPT_BYTES: u64 = 256 << 10;
/// Maximum depth of scripts that call scripts.
const DEEPEST_CALL: usize = 4;
/// Words that may precede the program in a command.
const BEFORE_A_PROGRAM: [&str; 22] = [
    "sudo",
    "nice",
    "ionice",
    "env",
    "timeout",
    "exec",
    "time",
    "flock",
    "if",
    "!",
    "then",
    "do",
    "else",
    "while",
    "until",
    "sh",
    "bash",
    "command",
    "nohup",
    "chrt",
    "{",
    "systemd-cat",
];

/// A crontab, a service, or a script of `cron.daily` and similar directories.
#[derive(Debug)]
pub(crate) struct Job {
    /// File that runs it: `/etc/cron.d/kaleem-backups`.
    pub place: PathBuf,
    pub kind: JobKind,
    pub is_active: bool,
    /// Its lines, and those of the scripts that it calls.
    pub lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    Cron,
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Crontab { with_user: bool },
    Unit,
    Script,
    Variables,
}

/// A line of a job.
#[derive(Debug)]
pub(crate) struct Line {
    /// Place of the line: `/etc/cron.d/kaleem-backups:3`.
    pub place: String,
    pub file: PathBuf,
    pub kind: FileKind,
    /// Permission bits of the file.
    pub mode: u32,
    /// The whole line, joined with its continuation lines.
    pub text: String,
}

/// All jobs, and the files that could not be read.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub jobs: Vec<Job>,
    pub unread: Vec<(String, io::Error)>,
}

impl Line {
    pub(crate) fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with(['#', ';'])
    }

    /// The commands of the line, each as words, beginning with the program.
    pub(crate) fn commands(&self) -> Vec<Vec<&str>> {
        if self.is_comment() {
            return Vec::new();
        }
        let text = match self.kind {
            FileKind::Crontab { with_user } => {
                entry(&self.text, with_user).map_or("", |entry| entry.command)
            }
            FileKind::Unit => match self.text.split_once('=') {
                Some((key, value)) if key.trim().starts_with("Exec") => {
                    value.trim_start().trim_start_matches(['-', '@', '+', '!', ':'])
                }
                _ => "",
            },
            FileKind::Script => &self.text,
            FileKind::Variables => "",
        };
        let text = text.split(" #").next().unwrap_or_default();
        text.split([';', '|', '&', '(', ')', '`', '\n'])
            .filter_map(|command| {
                let words: Vec<&str> = words(command).collect();
                let program = words.iter().position(|word| !precedes(word))?;
                Some(words[program..].to_vec())
            })
            .collect()
    }
}

impl Job {
    /// The variables that the job sets with literal values, such as `MONGO_URI`.
    pub(crate) fn variables(&self) -> BTreeMap<&str, &str> {
        let lines = self.lines.iter().filter(|line| !line.is_comment());
        lines
            .flat_map(|line| words(&line.text).filter_map(|word| assignment(strip_key(word))))
            .collect()
    }
}

/// The words of a command, without quotes.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "<>".contains(c))
        .map(|word| word.trim_matches(['"', '\'', '\\']))
        .filter(|word| !word.is_empty())
}

/// Removes the key from `Environment="NAME=VALUE"` of a unit.
pub(crate) fn strip_key(word: &str) -> &str {
    word.strip_prefix("Environment=").unwrap_or(word).trim_matches(['"', '\''])
}

/// Splits `NAME=VALUE`.
pub(crate) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name, value.trim_matches(['"', '\''])))
}

fn precedes(word: &str) -> bool {
    BEFORE_A_PROGRAM.contains(&word)
        || BEFORE_A_PROGRAM.contains(&word.rsplit('/').next().unwrap_or_default())
        || word.starts_with('-')
        || assignment(word).is_some()
        || word.starts_with(|c: char| c.is_ascii_digit())
        || word.ends_with(".lock")
}

/// Finds every job below a root.
pub(crate) fn gather(host: &Host) -> Jobs {
    let mut found = Jobs::default();
    let cron = |with_user| FileKind::Crontab { with_user };
    for path in [host.at("/etc/crontab")].into_iter().filter(|path| path.exists()) {
        found.add(host, path, JobKind::Cron, cron(true), true);
    }
    let scripts = SCRIPT_DIRECTORIES.map(|directory| (directory, FileKind::Script));
    let crontabs = [
        (SYSTEM_DIRECTORY, cron(true)),
        ("/var/spool/cron", cron(false)),
        ("/var/spool/cron/crontabs", cron(false)),
    ];
    for (directory, kind) in crontabs.into_iter().chain(scripts) {
        for path in found.files(host, directory) {
            // cron(8) ignores names with a dot in these directories, except in the users' own.
            let is_active = directory.starts_with("/var") || !name(&path).contains(['.', '~']);
            found.add(host, path, JobKind::Cron, kind, is_active);
        }
    }
    let enabled = enabled_units(host, &mut found);
    for path in found.files(host, "/etc/systemd/system") {
        let unit = name(&path).to_owned();
        let Some(stem) = unit.strip_suffix(".service") else { continue };
        let is_active = enabled.contains(stem);
        found.add(host, path, JobKind::Service, FileKind::Unit, is_active);
        for part in found.files(host, &format!("/etc/systemd/system/{unit}.d")) {
            if name(&part).ends_with(".conf") {
                found.add(host, part, JobKind::Service, FileKind::Unit, is_active);
            }
        }
    }
    found
}

/// Names, without suffix, of the units that another unit wants at boot or at a time.
fn enabled_units(host: &Host, found: &mut Jobs) -> BTreeSet<String> {
    let mut enabled = BTreeSet::new();
    for directory in found.entries(host, "/etc/systemd/system") {
        if directory.extension().is_some_and(|kind| kind == "wants" || kind == "requires") {
            let below = host.shown(&directory);
            for unit in found.entries(host, &below) {
                if let Some((stem, "service" | "timer")) = name(&unit).rsplit_once('.') {
                    enabled.insert(stem.to_owned());
                }
            }
        }
    }
    enabled
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

impl Jobs {
    fn entries(&mut self, host: &Host, directory: &str) -> Vec<PathBuf> {
        let path = host.at(directory);
        let read = fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()
        });
        match read {
            Ok(mut entries) => {
                entries.sort();
                entries
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.unread.push((directory.to_owned(), error));
                Vec::new()
            }
        }
    }

    fn files(&mut self, host: &Host, directory: &str) -> Vec<PathBuf> {
        let mut entries = self.entries(host, directory);
        entries.retain(|path| !path.is_dir());
        entries
    }

    #[expect(clippy::needless_pass_by_value, reason = "every caller has one to give away")]
    fn add(&mut self, host: &Host, path: PathBuf, kind: JobKind, file: FileKind, is_active: bool) {
        let mut lines = Vec::new();
        let mut seen = BTreeSet::new();
        match read(host, &path, file) {
            Ok(own) => {
                seen.insert(path.clone());
                self.follow(host, own, &mut seen, &mut lines, DEEPEST_CALL);
            }
            Err(error) => self.unread.push((host.shown(&path), error)),
        }
        if !lines.is_empty() {
            self.jobs.push(Job { place: host.shown(&path).into(), kind, is_active, lines });
        }
    }

    /// Adds lines, and those of the scripts that they name.
    fn follow(
        &mut self,
        host: &Host,
        own: Vec<Line>,
        seen: &mut BTreeSet<PathBuf>,
        all: &mut Vec<Line>,
        depth: usize,
    ) {
        let called: Vec<(PathBuf, FileKind)> = own
            .iter()
            .filter(|line| !line.is_comment())
            .flat_map(|line| called(host, line))
            .collect();
        all.extend(own);
        for (path, kind) in called {
            if depth == 0 || !seen.insert(path.clone()) {
                continue;
            }
            match read(host, &path, kind) {
                Ok(lines) => self.follow(host, lines, seen, all, depth - 1),
                Err(error) => self.unread.push((host.shown(&path), error)),
            }
        }
    }
}

/// Scripts and files of variables that a line names by absolute path.
fn called(host: &Host, line: &Line) -> Vec<(PathBuf, FileKind)> {
    let mut called = Vec::new();
    let mut before = "";
    for piece in line.text.split([';', '|', '&', '(', ')', '`']) {
        for word in words(piece) {
            let (key, path) = match word.split_once('=') {
                Some((
                    key @ ("EnvironmentFile" | "ExecStart" | "ExecStartPre" | "ExecStartPost"),
                    path,
                )) => (key, path),
                _ => ("", word),
            };
            let path = path.trim_start_matches(['-', '@', '+', '!', ':']);
            let sourced = key == "EnvironmentFile" || before == "." || before == "source";
            if path.starts_with('/')
                && let Some(kind) = kind_of(&host.at(path), sourced)
            {
                called.push((host.at(path), kind));
            }
            before = word;
        }
    }
    called
}

/// The kind of a file; `None` for data, programs and missing files.
fn kind_of(path: &Path, sourced: bool) -> Option<FileKind> {
    let meta = fs::metadata(path)
        .ok()
        .filter(|meta| meta.is_file() && meta.len() <= LONGEST_SCRIPT_BYTES)?;
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
    if sourced && suffix != "sh" || suffix == "env" {
        return Some(FileKind::Variables);
    }
    if suffix == "sh" {
        return Some(FileKind::Script);
    }
    // Among executable files, only text that names its shell.
    let runs = meta.mode() & 0o111 != 0;
    (runs && fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#!"))).then_some(FileKind::Script)
}

fn read(host: &Host, path: &Path, kind: FileKind) -> io::Result<Vec<Line>> {
    let mode = fs::metadata(path)?.mode() & 0o7777;
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    if text.contains('\0') {
        return Ok(Vec::new());
    }
    let continues = !matches!(kind, FileKind::Crontab { .. });
    let line = |(number, pieces): (usize, Vec<&str>)| Line {
        place: format!("{}:{number}", host.shown(path)),
        file: path.to_path_buf(),
        kind,
        mode,
        text: pieces.join(" "),
    };
    let lines = joined(&text, continues).into_iter().map(line);
    Ok(lines.filter(|line| !line.text.trim().is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: FileKind, text: &str) -> Line {
        Line {
            place: String::new(),
            file: PathBuf::new(),
            kind,
            mode: 0o600,
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_program_of_a_command_is_found_behind_times_users_and_wrappers() {
        let system = FileKind::Crontab { with_user: true };
        for (kind, text, wanted) in [
            (system, "0 3 * * * root /usr/bin/restic forget --prune", "/usr/bin/restic"),
            (FileKind::Crontab { with_user: false }, "@daily restic backup /etc", "restic"),
            (FileKind::Unit, "ExecStart=-/usr/bin/nice -n 19 restic backup /etc", "restic"),
            (FileKind::Unit, "ExecStart=/bin/bash -lc 'restic prune'", "restic"),
            (FileKind::Script, "if ! RESTIC_CACHE_DIR=/c timeout 30m restic check", "restic"),
        ] {
            let line = line(kind, text);
            assert_eq!(line.commands()[0][0], wanted, "{text}");
        }
        let two = line(FileKind::Script, "cd /x && restic backup . | tee -a log; restic forget");
        let programs: Vec<&str> = two.commands().iter().map(|words| words[0]).collect();
        assert_eq!(programs, ["cd", "restic", "tee", "restic"]);
        for harmless in ["log \"restic forget is done\"", "# restic prune", "echo restic prune"] {
            assert!(
                line(FileKind::Script, harmless)
                    .commands()
                    .iter()
                    .all(|words| words[0] != "restic"),
                "{harmless}"
            );
        }
        assert!(line(system, "RESTIC_REPOSITORY=/r").commands().is_empty());
    }
}
