//! Taking over from the shell scripts before us: what they have installed, what is wrong with it, a config that does the same, and
//! the change of guard.
//!
//! [`Survey::of`] only reads. [`begin`] writes the config, [`prove`] judges a first run of it, and only what it returns lets
//! [`switch`] install our schedules and disable the old ones. Each change is in the [`Journal`] before it is made, and [`undo`]
//! takes all of them back. Secrets stay where they are; those that stand only among variables get files of their own.

mod draft;
mod findings;
mod journal;
mod legacy;
mod lines;
mod places;
mod relation;
mod survey;
mod switch;
mod variables;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use self::{
    draft::{Draft, DraftSecret},
    findings::Finding,
    journal::{Journal, Step, UndoReport, undo},
    relation::Relation,
    survey::Survey,
    switch::{NotProven, Proven, SwitchReport, begin, prove, switch},
};
use crate::operate::schedule::ScheduleError;

/// Why a migration went no further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A file cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Something stands in the way that only the operator can judge.
    #[error("{0}")]
    Refused(String),
    /// There is nothing to take over, or to undo.
    #[error("{0}")]
    Nothing(String),
    /// Our schedules could not be installed or removed.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// A path of the old system, as it is reached from here.
fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MigrateError {
    let path = path.to_path_buf();
    move |cause| MigrateError::File { path, action, cause }
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_script(text: &str) {
    let _ = (variables::defaults(text), variables::assignments(text));
}
