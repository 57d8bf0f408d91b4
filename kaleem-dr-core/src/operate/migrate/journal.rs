//! What a migration has changed: written down before each change, so that all of it can be put back, also after a crash.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{MigrateError, below, failed};
use crate::{
    ground::durable_file,
    operate::{schedule, schedule::Style},
};

/// Where it lies, below the root: at the default place of the state directory, whatever the config says later.
const FILE: &str = "/var/lib/kaleem-dr/migration.json";
/// Its name once all is put back.
const UNDONE: &str = "migration.undone.json";

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// A directory was made.
    MakeDirectory {
        /// Which.
        path: PathBuf,
    },
    /// A file was written that was not there.
    Write {
        /// Which.
        path: PathBuf,
        /// SHA-256 of its content in hex digits.
        sha256: String,
    },
    /// Our schedules were installed.
    InstallSchedules {
        /// Who runs them.
        style: Style,
    },
    /// A file got another name.
    Rename {
        /// Its old name.
        from: PathBuf,
        /// Its new one.
        to: PathBuf,
    },
    /// A link was removed.
    Unlink {
        /// Where it was.
        path: PathBuf,
        /// Where it led.
        target: PathBuf,
    },
}

/// The record of a migration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journal {
    /// Format of this record.
    pub format: u32,
    /// Where the old system's `/` is.
    pub root: PathBuf,
    /// The config that was made.
    pub config: PathBuf,
    /// When it began.
    pub begun: Timestamp,
    /// When all was done.
    pub finished: Option<Timestamp>,
    /// Every change, in order.
    pub steps: Vec<Step>,
}

/// What was put back.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct UndoReport {
    /// What was done, in words.
    pub done: Vec<String>,
    /// What was left as it is, and why.
    pub left: Vec<String>,
    /// Commands that are to be run now.
    pub commands: Vec<String>,
}

impl Journal {
    pub(super) fn new(root: &Path, config: &Path) -> Self {
        let (root, config) = (root.to_path_buf(), config.to_path_buf());
        Self { format: 1, root, config, begun: Timestamp::now(), finished: None, steps: Vec::new() }
    }

    /// The record of the migration below `root`, if there is one.
    ///
    /// # Errors
    /// [`MigrateError::File`] when it cannot be read.
    pub fn load(root: &Path) -> Result<Option<Self>, MigrateError> {
        let path = below(root, FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|fault| failed("understand", &path)(fault.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Writes a step down; only then may it be done.
    pub(super) fn note(&mut self, step: Step) -> Result<(), MigrateError> {
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
        self.store()
    }

    /// Notes that all is done.
    ///
    /// # Errors
    /// [`MigrateError::File`] when that cannot be written.
    pub fn finish(&mut self) -> Result<(), MigrateError> {
        self.finished = Some(Timestamp::now());
        self.store()
    }

    fn store(&self) -> Result<(), MigrateError> {
        let path = below(&self.root, FILE);
        let directory = path.parent().unwrap_or(Path::new("/"));
        let write = || {
            fs::DirBuilder::new().recursive(true).create(directory)?;
            durable_file::replace(&path, &serde_json::to_vec_pretty(self)?, 0o600)
        };
        write().map_err(failed("write", &path))
    }
}

/// Puts back what a migration changed, the last change first. What was changed since by somebody else is left, and named.
///
/// # Errors
/// [`MigrateError::Nothing`] without a record; [`MigrateError::File`] for the first thing that cannot be put back. It can be run again.
pub fn undo(root: &Path) -> Result<UndoReport, MigrateError> {
    let root = fs::canonicalize(root).map_err(failed("find", root))?;
    let Some(journal) = Journal::load(&root)? else {
        return Err(MigrateError::Nothing(format!(
            "there is no {}: nothing was migrated here",
            below(&root, FILE).display()
        )));
    };
    let mut report = UndoReport { done: Vec::new(), left: Vec::new(), commands: Vec::new() };
    for step in journal.steps.iter().rev() {
        put_back(&root, step, &mut report)?;
    }
    let path = below(&root, FILE);
    fs::rename(&path, path.with_file_name(UNDONE)).map_err(failed("rename", &path))?;
    Ok(report)
}

fn put_back(root: &Path, step: &Step, report: &mut UndoReport) -> Result<(), MigrateError> {
    match step {
        Step::Rename { from, to } => match (exists(from), exists(to)) {
            (false, true) => {
                fs::rename(to, from).map_err(failed("rename", to))?;
                report.done.push(format!("{} is back", from.display()));
            }
            (true, true) => {
                report.left.push(format!("{}: {} is there too", to.display(), from.display()));
            }
            (true, false) => {}
            (false, false) => {
                report.left.push(format!("{} is gone, under both names", from.display()));
            }
        },
        Step::Unlink { path, target } if !exists(path) => {
            symlink(target, path).map_err(failed("make the link", path))?;
            report.done.push(format!("{} is back", path.display()));
            let timer = path.file_name().unwrap_or_default().to_string_lossy();
            report
                .commands
                .extend(["systemctl daemon-reload".to_owned(), format!("systemctl start {timer}")]);
        }
        Step::InstallSchedules { .. } => {
            let removed = schedule::remove(root, false)?;
            report.done.extend(
                removed.removed.iter().map(|path| format!("{} is removed", path.display())),
            );
            report.commands.extend(removed.commands);
        }
        Step::Write { path, sha256 } if exists(path) => {
            let content = fs::read(path).map_err(failed("read", path))?;
            if digest(&content) == *sha256 {
                fs::remove_file(path).map_err(failed("remove", path))?;
                report.done.push(format!("{} is removed", path.display()));
            } else {
                report.left.push(format!("{} was changed since", path.display()));
            }
        }
        // Only if nothing else is in it.
        Step::MakeDirectory { path } => match fs::remove_dir(path) {
            Ok(()) => report.done.push(format!("{} is removed", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                report.left.push(format!("{} is not empty", path.display()));
            }
            Err(error) => return Err(failed("remove", path)(error)),
        },
        Step::Unlink { .. } | Step::Write { .. } => {}
    }
    Ok(())
}

pub(super) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

pub(super) fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}
