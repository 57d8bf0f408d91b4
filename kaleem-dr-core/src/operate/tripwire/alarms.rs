//! Alarms: what a tripwire saw, until an operator acknowledges it.
//!
//! An alarm is kept in two places: in the state directory of the host that raised it, and as a record in the repository, where every host
//! sees it and where it survives the loss of this one. An alarm that was acknowledged in the repository is acknowledged.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Suspicion;
use crate::{
    engine::repository::{
        Record, RecordKind, RepositoryError, RetentionScope, Snapshot, SnapshotId,
    },
    ground::{RunId, SourceName, durable_file, failpoint, failpoint::Step, flock, host::HostScope},
};

/// File with the alarms, in the state directory.
const FILE: &str = "alarms.json";
const FORMAT: u32 = 1;

/// An alarm that stands: retention of its repository waits for somebody to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Id of the repository.
    pub repository: String,
    /// The source.
    pub source: SourceName,
    /// Host that it was captured on.
    pub host: String,
    /// The run that raised it.
    pub run: RunId,
    /// When it was raised.
    pub time: Timestamp,
    /// The newest snapshot that looked like this, by its id.
    pub snapshot: String,
    /// The snapshot that was normal last, by its id: it stays while the alarm does.
    #[serde(default)]
    pub normal: Option<String>,
    /// Whether the repository holds a record of it.
    #[serde(default)]
    pub is_recorded: bool,
    /// What was seen.
    pub suspicions: Vec<Suspicion>,
}

impl Alarm {
    /// The alarms that are recorded in a repository, of every host, oldest first. A record that cannot be understood still counts.
    #[must_use]
    pub fn recorded(snapshots: &[Snapshot]) -> Vec<RecordedAlarm> {
        let records = Record::among(snapshots, RecordKind::Alarm);
        let read = |record: Record| RecordedAlarm {
            record: record.snapshot,
            host: record.host,
            alarm: serde_json::from_value(record.body).ok(),
        };
        records.into_iter().map(read).collect()
    }
}

/// An alarm as a repository holds it.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedAlarm {
    /// The snapshot that holds the record.
    pub record: SnapshotId,
    /// The host that raised it.
    pub host: String,
    /// What it says; `None` where a newer program wrote it otherwise.
    pub alarm: Option<Alarm>,
}

impl fmt::Display for RecordedAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.alarm {
            Some(alarm) => write!(f, "host {}, {alarm}", self.host),
            None => write!(
                f,
                "host {}: this program cannot read what was seen; use a newer one",
                self.host
            ),
        }
    }
}

/// The snapshots that alarms protect: the last normal one before each.
#[must_use]
pub fn protected_by(alarms: &[RecordedAlarm], hosts: HostScope) -> RetentionScope {
    let protects = |recorded: &RecordedAlarm| {
        let normal = recorded.alarm.as_ref()?.normal.as_ref()?.parse().ok()?;
        Some((normal, format!("last normal snapshot before an alarm of host {}", recorded.host)))
    };
    RetentionScope { hosts, protected: alarms.iter().filter_map(protects).collect() }
}

/// What would be removed past an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Snapshots of some hosts.
    Forget,
    /// Data that no snapshot of any host needs any more.
    Prune,
}

impl Alarm {
    /// Whether both are about the same source of the same host in the same repository.
    fn is_of(&self, other: &Self) -> bool {
        (&self.repository, &self.source, &self.host)
            == (&other.repository, &other.source, &other.host)
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen: Vec<String> = self.suspicions.iter().map(ToString::to_string).collect();
        write!(f, "source {} in run {}: {}", self.source, self.run, seen.join("; "))
    }
}

/// The alarms of a host, and which snapshot of each source was normal last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    standing: Vec<Alarm>,
    normal: BTreeMap<(String, SourceName), String>,
}

/// How alarms lie on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    alarms: Vec<Alarm>,
    normal: Vec<Normal>,
}

#[derive(Serialize, Deserialize)]
struct Normal {
    repository: String,
    source: SourceName,
    snapshot: String,
}

/// Why alarms cannot be read or kept. Whoever would delete something takes this for a standing alarm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlarmError {
    /// The file cannot be used.
    #[error("cannot {action} the alarms in {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file is not what it should be.
    #[error("the alarms in {} cannot be understood: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Alarms {
    /// Reads the alarms of a host. No file means that none was ever raised.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn load(state_directory: &Path) -> Result<Self, AlarmError> {
        let path = state_directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(AlarmError::Io { path, action: "read", cause }),
        };
        let stored: Stored = match serde_json::from_slice(&text) {
            Ok(stored) => stored,
            Err(error) => return Err(AlarmError::Damaged { path, why: error.to_string() }),
        };
        if stored.format > FORMAT {
            let why =
                format!("format {} is newer than this program; use a newer one", stored.format);
            return Err(AlarmError::Damaged { path, why });
        }
        let normal = stored
            .normal
            .into_iter()
            .map(|normal| ((normal.repository, normal.source), normal.snapshot))
            .collect();
        Ok(Self { standing: stored.alarms, normal })
    }

    /// Every alarm that nobody has acknowledged.
    #[must_use]
    pub fn standing(&self) -> &[Alarm] {
        &self.standing
    }

    /// The snapshot of a source that was found normal last, by its id.
    #[must_use]
    pub fn normal(&self, repository: &str, source: &SourceName) -> Option<&str> {
        self.normal.get(&(repository.to_owned(), source.clone())).map(String::as_str)
    }

    /// Notes what became of a source's new snapshot: a suspicion raises an alarm or adds to the one that stands; without one,
    /// and with no alarm standing, the snapshot is what is normal now. Gives the alarms as they are stored.
    ///
    /// # Errors
    /// When they cannot be read or written; nothing is changed then.
    #[expect(clippy::needless_pass_by_value, reason = "it is kept")]
    pub fn note(state_directory: &Path, new: Alarm) -> Result<Self, AlarmError> {
        Self::change(state_directory, |alarms| {
            let same = |alarm: &&mut Alarm| {
                alarm.repository == new.repository && alarm.source == new.source
            };
            match alarms.standing.iter_mut().find(same) {
                Some(alarm) => {
                    // What was seen first stays; what else is wrong by now is added.
                    alarm.snapshot.clone_from(&new.snapshot);
                    for suspicion in &new.suspicions {
                        if !alarm.suspicions.contains(suspicion) {
                            alarm.suspicions.push(suspicion.clone());
                        }
                    }
                }
                None if new.suspicions.is_empty() => {
                    alarms
                        .normal
                        .insert((new.repository.clone(), new.source.clone()), new.snapshot.clone());
                }
                None => alarms.standing.push(new.clone()),
            }
        })
        .map(|(alarms, ())| alarms)
    }

    /// Takes alarms of some hosts away: those of some sources, or all where no source is named. What raised them is normal from now on.
    /// Gives what was taken away.
    ///
    /// # Errors
    /// When they cannot be read or written; nothing is changed then.
    pub fn acknowledge(
        state_directory: &Path,
        hosts: &HostScope,
        sources: &[SourceName],
    ) -> Result<Vec<Alarm>, AlarmError> {
        let is_meant = |alarm: &Alarm| {
            hosts.includes(&alarm.host) && (sources.is_empty() || sources.contains(&alarm.source))
        };
        Self::change(state_directory, |alarms| alarms.settle(is_meant)).map(|(_, gone)| gone)
    }

    /// Refuses while an alarm stops a removal, and while it is unknown whether one does.
    ///
    /// An alarm of this host stops everything, whichever repository it is of: a copy must not lose the good snapshots of what was lost here. An
    /// alarm that another host recorded in the repository stops pruning there, and forgetting where `hosts` includes that host.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`], with what was seen and what to do.
    pub fn guard(
        state_directory: &Path,
        recorded: &[RecordedAlarm],
        hosts: &HostScope,
        removal: Removal,
    ) -> Result<(), RepositoryError> {
        let own = Self::load(state_directory).map_err(|error| {
            RepositoryError::Guarded(format!(
                "{}; nothing is forgotten or pruned before that is mended",
                crate::ground::error_chain(&error)
            ))
        })?;
        let seen: Vec<String> = own.standing.iter().map(ToString::to_string).collect();
        if !seen.is_empty() {
            return Err(RepositoryError::Guarded(refusal(&seen.join("; "))));
        }
        Self::guard_recorded(recorded, hosts, removal)
    }

    /// As [`Alarms::guard`], where this host keeps no alarms of its own.
    ///
    /// # Errors
    /// As [`Alarms::guard`].
    pub fn guard_recorded(
        recorded: &[RecordedAlarm],
        hosts: &HostScope,
        removal: Removal,
    ) -> Result<(), RepositoryError> {
        let stops =
            |alarm: &&RecordedAlarm| removal == Removal::Prune || hosts.includes(&alarm.host);
        let seen: Vec<String> = recorded.iter().filter(stops).map(ToString::to_string).collect();
        if seen.is_empty() {
            Ok(())
        } else {
            Err(RepositoryError::Guarded(refusal(&seen.join("; "))))
        }
    }

    /// Takes over what became of alarms in a repository: one whose record was removed there was acknowledged, by whichever host. Gives the
    /// alarms of this repository that have no record yet.
    ///
    /// # Errors
    /// When they cannot be read or written; nothing is changed then.
    pub fn reconcile(
        state_directory: &Path,
        repository: &str,
        recorded: &[RecordedAlarm],
    ) -> Result<Vec<Alarm>, AlarmError> {
        if Self::load(state_directory)?.standing.is_empty() {
            return Ok(Vec::new());
        }
        let is_recorded = |alarm: &Alarm| {
            recorded.iter().any(|record| record.alarm.as_ref().is_some_and(|of| of.is_of(alarm)))
        };
        let (_, unrecorded) = Self::change(state_directory, |alarms| {
            let gone = |alarm: &Alarm| {
                alarm.repository == repository && alarm.is_recorded && !is_recorded(alarm)
            };
            alarms.settle(gone);
            let mut unrecorded = Vec::new();
            for alarm in alarms.standing.iter_mut().filter(|alarm| alarm.repository == repository) {
                alarm.is_recorded |= is_recorded(alarm);
                if !alarm.is_recorded {
                    unrecorded.push(alarm.clone());
                }
            }
            unrecorded
        })?;
        Ok(unrecorded)
    }

    /// Notes that the repository holds a record of an alarm.
    ///
    /// # Errors
    /// When they cannot be read or written; nothing is changed then.
    pub fn note_recorded(state_directory: &Path, recorded: &Alarm) -> Result<(), AlarmError> {
        let note = |alarms: &mut Self| {
            alarms
                .standing
                .iter_mut()
                .filter(|alarm| alarm.is_of(recorded))
                .for_each(|alarm| alarm.is_recorded = true);
        };
        Self::change(state_directory, note).map(drop)
    }

    /// Removes alarms; what raised them is normal from now on. Gives what was removed.
    fn settle(&mut self, goes: impl Fn(&Alarm) -> bool) -> Vec<Alarm> {
        let (gone, stay): (Vec<Alarm>, Vec<Alarm>) =
            std::mem::take(&mut self.standing).into_iter().partition(|alarm| goes(alarm));
        self.standing = stay;
        for alarm in &gone {
            self.normal
                .insert((alarm.repository.clone(), alarm.source.clone()), alarm.snapshot.clone());
        }
        gone
    }

    /// Reads, changes and writes under a lock: jobs of several repositories share the file.
    fn change<T>(
        state_directory: &Path,
        change: impl FnOnce(&mut Self) -> T,
    ) -> Result<(Self, T), AlarmError> {
        let path = state_directory.join(FILE);
        let failed = |action| {
            let path = path.clone();
            move |cause| AlarmError::Io { path, action, cause }
        };
        fs::create_dir_all(state_directory).map_err(failed("create the directory of"))?;
        let beside = state_directory.join("alarms.lock");
        let _lock = flock::wait(&beside).map_err(failed("lock"))?;
        let mut alarms = Self::load(state_directory)?;
        let before = alarms.clone();
        let result = change(&mut alarms);
        if alarms != before {
            alarms.store(state_directory).map_err(failed("write"))?;
        }
        Ok((alarms, result))
    }

    /// A crash leaves the old alarms or the new ones.
    fn store(&self, state_directory: &Path) -> io::Result<()> {
        let normal = |((repository, source), snapshot): (&(String, SourceName), &String)| Normal {
            repository: repository.clone(),
            source: source.clone(),
            snapshot: snapshot.clone(),
        };
        let stored = Stored {
            format: FORMAT,
            alarms: self.standing.clone(),
            normal: self.normal.iter().map(normal).collect(),
        };
        let content = serde_json::to_vec_pretty(&stored)?;
        durable_file::replace(&state_directory.join(FILE), &content, 0o600)?;
        failpoint::pass(Step::Alarms);
        Ok(())
    }
}

/// Why nothing is forgotten, and what to do about it.
pub(crate) fn refusal(seen: &str) -> String {
    format!(
        "an alarm stands, so nothing is forgotten or pruned: {seen}. Look whether the data were lost or encrypted; \
         if all is as it should be, run `kaleem-dr alarm acknowledge`"
    )
}

#[cfg(test)]
mod tests;
