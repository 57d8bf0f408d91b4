//! The journal of a migration: each change is recorded before it is made, so that all changes can
//! be undone, even after a crash.

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

/// Path below the root: in the default state directory, whatever the config says later.
const FILE: &str = "/var/lib/kaleem-dr/migration.json";
/// Its name after everything was undone.
const UNDONE: &str = "migration.undone.json";

/// A change to the system, recorded before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// A directory was created, because it did not exist.
    MakeDirectory {
        /// Path of the directory.
        path: PathBuf,
    },
    /// A new file was written.
    Write {
        /// Path of the file.
        path: PathBuf,
        /// SHA-256 of its content, in hex digits.
        sha256: String,
    },
    /// Our schedules were installed, in this style.
    InstallSchedules {
        /// The program that runs them.
        style: Style,
    },
    /// A file was renamed, so that cron ignores it.
    Rename {
        /// Its old name.
        from: PathBuf,
        /// Its new name.
        to: PathBuf,
    },
    /// A link was removed, so that systemd no longer starts its unit.
    Unlink {
        /// Path of the link.
        path: PathBuf,
        /// Target of the link.
        target: PathBuf,
    },
}

/// The record of a migration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Journal {
    /// Format version of this record.
    pub format: u32,
    /// Root directory of the old system.
    pub root: PathBuf,
    /// Path of the new config.
    pub config: PathBuf,
    /// Start of the migration, by this machine's clock.
    pub begun: Timestamp,
    /// End of the migration; `None` while it can be resumed.
    pub finished: Option<Timestamp>,
    /// Every change, in the order in which it was made.
    pub steps: Vec<Step>,
}

/// The result of an undo.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct UndoReport {
    /// The undone changes, in words.
    pub done: Vec<String>,
    /// Files that were left unchanged, and why.
    pub left: Vec<String>,
    /// Commands that make systemd aware of the changes.
    pub commands: Vec<String>,
}

impl UndoReport {
    /// Runs the commands of this report if systemd runs below `root`. Returns whether they were run; otherwise the operator has to
    /// run them on that system.
    ///
    /// # Errors
    /// [`MigrateError::Schedule`] for the first that fails; later ones do not run.
    pub async fn activate(&self, root: &Path) -> Result<bool, MigrateError> {
        Ok(schedule::activate(root, &self.commands).await?)
    }
}

impl Journal {
    pub(super) fn new(root: &Path, config: &Path) -> Self {
        let (root, config) = (root.to_path_buf(), config.to_path_buf());
        Self { format: 1, root, config, begun: Timestamp::now(), finished: None, steps: Vec::new() }
    }

    /// The record of the migration below `root`; `None` if there is none.
    ///
    /// # Errors
    /// [`MigrateError::File`] if it cannot be read.
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

    /// Records a step; the step may only be taken afterwards.
    pub(super) fn note(&mut self, step: Step) -> Result<(), MigrateError> {
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
        self.store()
    }

    /// Records that the migration is complete.
    ///
    /// # Errors
    /// [`MigrateError::File`] if the record cannot be written.
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

/// Undoes a migration, the last change first. Files that were changed since are left alone and
/// reported.
///
/// # Errors
/// [`MigrateError::Nothing`] without a record; [`MigrateError::File`] for the first change that
/// cannot be undone. It can be run again.
pub fn undo(root: &Path) -> Result<UndoReport, MigrateError> {
    let root = fs::canonicalize(root).map_err(failed("find", root))?;
    let Some(journal) = Journal::load(&root)? else {
        return Err(MigrateError::Nothing(format!(
            "{} does not exist: nothing was migrated here",
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
                report.done.push(format!("restored {}", from.display()));
            }
            (true, true) => {
                report.left.push(format!("{}: {} exists too", to.display(), from.display()));
            }
            (true, false) => {}
            (false, false) => {
                report.left.push(format!("{} no longer exists, under either name", from.display()));
            }
        },
        Step::Unlink { path, target } if !exists(path) => {
            symlink(target, path).map_err(failed("make the link", path))?;
            report.done.push(format!("restored {}", path.display()));
            let timer = path.file_name().unwrap_or_default().to_string_lossy();
            report
                .commands
                .extend(["systemctl daemon-reload".to_owned(), format!("systemctl start {timer}")]);
        }
        Step::InstallSchedules { .. } => {
            let removed = schedule::remove(root, &schedule::Manager::System, false)?;
            report
                .done
                .extend(removed.removed.iter().map(|path| format!("removed {}", path.display())));
            report.commands.extend(removed.commands);
        }
        Step::Write { path, sha256 } if exists(path) => {
            let content = fs::read(path).map_err(failed("read", path))?;
            if digest(&content) == *sha256 {
                fs::remove_file(path).map_err(failed("remove", path))?;
                report.done.push(format!("removed {}", path.display()));
            } else {
                report.left.push(format!("{} was changed since", path.display()));
            }
        }
        // Only if it is empty.
        Step::MakeDirectory { path } => match fs::remove_dir(path) {
            Ok(()) => report.done.push(format!("removed {}", path.display())),
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
