//! Migration from the old shell scripts: examines what they have installed, reports problems,
//! writes a config that does the same, and switches over.
//!
//! [`Survey::of`] only reads. [`begin`] writes the config, [`prove`] judges a first run of it, and
//! only its result lets [`switch`] install our schedules and disable the old ones. The [`Journal`]
//! records each change before it is made, and [`undo`] reverts all of them. Secrets stay in their
//! files; those that exist only as variables get files.

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
use crate::{ground::Exit, operate::schedule::ScheduleError};

/// The reason why a migration or its undo stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A file cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The attempted action.
        action: &'static str,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// A problem that only the operator can resolve.
    #[error("{0}")]
    Refused(String),
    /// There is nothing to migrate or to undo.
    #[error("{0}")]
    Nothing(String),
    /// Our schedules could not be installed or removed.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

impl From<&MigrateError> for Exit {
    fn from(error: &MigrateError) -> Self {
        match error {
            MigrateError::Refused(_) => Self::Refused,
            MigrateError::Nothing(_) => Self::Usage,
            MigrateError::Schedule(error) => error.into(),
            MigrateError::File { .. } => Self::Failed,
        }
    }
}

/// A path of the old system, as seen from here.
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
