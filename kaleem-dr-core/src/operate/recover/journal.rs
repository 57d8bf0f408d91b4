//! The journal of a recovery in the state directory: written durably after each step, so that a
//! recovery that was killed continues, and does nothing again that it has proven.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ground::{RunId, SourceName, durable_file, flock},
    recovery::drill::SourceDrill,
};

const FORMAT: u32 = 1;
/// Name of the journal in the state directory.
const FILE: &str = "recovery.json";
/// Name of the lock that one recovery holds.
const LOCK: &str = "recovery.lock";

/// The journal. One process has it at a time.
pub(crate) struct Journal {
    path: PathBuf,
    content: Content,
    _held: flock::FileLock,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    format: u32,
    /// Id of the recovery.
    run: RunId,
    in_place: bool,
    /// The moment that sources are recovered to; `None` for their points.
    #[serde(default)]
    moment: Option<String>,
    /// Name of the repository that the recovery reads, once it is decided.
    reads: Option<String>,
    /// Names of repositories whose filling began and has not ended.
    #[serde(default)]
    filling: BTreeSet<String>,
    sources: BTreeMap<SourceName, Entry>,
    /// Time at which everything was recovered and recorded.
    #[serde(default)]
    finished: Option<Timestamp>,
}

/// A source in the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Run of the point.
    pub(crate) point: Option<RunId>,
    pub(crate) state: State,
    /// The target as text, as in the plan.
    pub(crate) target: String,
    /// The result, once there is one.
    pub(crate) line: Option<SourceDrill>,
}

/// The progress of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Its restore began. If nothing else follows, it was interrupted.
    Begun,
    /// Restored, compared and equal.
    Recovered,
    /// Not restored, or not equal.
    Failed,
}

/// Why the journal is unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another recovery of this installation runs.
    #[error("another recovery is running; wait until it ends")]
    Held,
    /// The journal cannot be read or written.
    #[error("{}: the journal of the recovery cannot be {action}", path.display())]
    Unusable {
        /// Path of the journal.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
}

impl Journal {
    /// Opens the journal of a recovery in place or next to the live data. An earlier journal is
    /// continued if it is of the same form, and replaced otherwise. Blocking.
    pub(crate) fn open(
        state_directory: &Path,
        run: RunId,
        in_place: bool,
    ) -> Result<Self, JournalError> {
        let path = state_directory.join(FILE);
        let failed = |action| {
            let path = path.clone();
            move |cause| JournalError::Unusable { path, action, cause }
        };
        let held = lock(state_directory).map_err(failed("written"))?.ok_or(JournalError::Held)?;
        let earlier = match fs::read(&path) {
            Ok(json) => Some(
                serde_json::from_slice::<Content>(&json)
                    .map_err(|error| failed("read")(error.into()))?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read")(error)),
        };
        if let Some(newer) = earlier.as_ref().filter(|content| content.format > FORMAT) {
            let why = format!("its format is {}, but only {FORMAT} is supported", newer.format);
            return Err(failed("read")(io::Error::other(why)));
        }
        let content = earlier.filter(|content| content.in_place == in_place).unwrap_or(Content {
            format: FORMAT,
            run,
            in_place,
            moment: None,
            reads: None,
            filling: BTreeSet::new(),
            sources: BTreeMap::new(),
            finished: None,
        });
        Ok(Self { path, content, _held: held })
    }

    /// Time at which everything was recovered and recorded; `None` while something is left.
    pub(crate) fn finished(&self) -> Option<Timestamp> {
        self.content.finished
    }

    /// Records that everything is recovered and recorded.
    pub(crate) fn finish(&mut self) -> Result<(), JournalError> {
        self.content.finished = Some(Timestamp::now());
        self.save()
    }

    /// Forgets the recovery of these sources; of all, if the list is empty.
    pub(crate) fn begin_again(&mut self, sources: &[SourceName]) {
        self.content.finished = None;
        self.content.sources.retain(|name, _| !sources.is_empty() && !sources.contains(name));
    }

    /// Sets the moment that sources are recovered to. Returns the earlier one if sources were recovered
    /// to it, or are being recovered: both must not be mixed.
    pub(crate) fn set_moment(&mut self, moment: Option<String>) -> Result<(), String> {
        if self.content.moment != moment && self.point().is_some() {
            let points = || "their points".to_owned();
            return Err(self.content.moment.clone().unwrap_or_else(points));
        }
        self.content.moment = moment;
        Ok(())
    }

    /// The entry of a source.
    pub(crate) fn entry(&self, source: &SourceName) -> Option<&Entry> {
        self.content.sources.get(source)
    }

    /// Reports whether a source is recovered.
    pub(crate) fn has_recovered(&self, source: &SourceName) -> bool {
        self.entry(source).is_some_and(|entry| entry.state == State::Recovered)
    }

    /// Reports whether an attempt to restore this source from the point of this run was interrupted.
    pub(crate) fn is_begun(&self, source: &SourceName, point: Option<RunId>) -> bool {
        self.entry(source).is_some_and(|entry| entry.state == State::Begun && entry.point == point)
    }

    /// Reports whether a source was begun, and neither recovered nor failed.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.content.sources.values().any(|entry| entry.state == State::Begun)
    }

    /// The run of the points of sources that this recovery has begun.
    pub(crate) fn point(&self) -> Option<RunId> {
        let recovered = |entry: &&Entry| entry.state != State::Failed;
        self.content.sources.values().filter(recovered).find_map(|entry| entry.point)
    }

    /// Name of the repository that this recovery reads, if that is decided.
    pub(crate) fn reads(&self) -> Option<&str> {
        self.content.reads.as_deref()
    }

    /// Records the repository that this recovery reads.
    pub(crate) fn read_from(&mut self, repository: &str) -> Result<(), JournalError> {
        self.content.reads = Some(repository.to_owned());
        self.save()
    }

    /// Reports whether the filling of a repository was interrupted, so that it exists and is not whole.
    pub(crate) fn is_filling(&self, repository: &str) -> bool {
        self.content.filling.contains(repository)
    }

    /// Records that the filling of a repository begins.
    pub(crate) fn begin_filling(&mut self, repository: &str) -> Result<(), JournalError> {
        self.content.filling.insert(repository.to_owned());
        self.save()
    }

    /// Records that a repository is filled.
    pub(crate) fn filled(&mut self, repository: &str) -> Result<(), JournalError> {
        self.content.filling.remove(repository);
        self.save()
    }

    /// Records how far a source is.
    pub(crate) fn record(&mut self, source: &SourceName, entry: Entry) -> Result<(), JournalError> {
        self.content.sources.insert(source.clone(), entry);
        self.save()
    }

    fn save(&self) -> Result<(), JournalError> {
        // It has plain fields only, so serialisation cannot fail.
        let json = serde_json::to_vec_pretty(&self.content).unwrap_or_default();
        durable_file::replace(&self.path, &json, 0o600).map_err(|cause| JournalError::Unusable {
            path: self.path.clone(),
            action: "written",
            cause,
        })
    }
}

fn lock(state_directory: &Path) -> io::Result<Option<flock::FileLock>> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_directory)?;
    let file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(state_directory.join(LOCK))?;
    flock::try_lock(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_continues_where_it_was_and_one_of_another_form_begins_anew() {
        let home = tempfile::tempdir().unwrap();
        let source: SourceName = "mongo".parse().unwrap();
        let first = RunId::new();
        let mut journal = Journal::open(home.path(), first, true).unwrap();
        assert!(matches!(Journal::open(home.path(), RunId::new(), true), Err(JournalError::Held)));
        let entry = |state| Entry { point: Some(first), state, target: "t".into(), line: None };
        journal.record(&source, entry(State::Recovered)).unwrap();
        drop(journal);
        let journal = Journal::open(home.path(), RunId::new(), true).unwrap();
        assert!(journal.has_recovered(&source));
        assert_eq!(journal.point(), Some(first));
        drop(journal);
        let journal = Journal::open(home.path(), RunId::new(), false).unwrap();
        assert!(!journal.has_recovered(&source));
    }
}
