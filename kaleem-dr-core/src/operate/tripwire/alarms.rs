//! Alarms: what a tripwire detected, until an operator acknowledges it.
//!
//! An alarm is stored twice: in the state directory of the host that raised it, and as a record in
//! the repository, where every host sees it and where it survives the loss of this host. An alarm
//! that was acknowledged in the repository is acknowledged.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use schemars::JsonSchema;
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

/// An active alarm. Retention of its repository waits until the operator acknowledges it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Alarm {
    /// Id of the repository, 64 hex digits.
    pub repository: String,
    /// The source whose snapshot is suspicious.
    pub source: SourceName,
    /// Name of the host that captured it.
    pub host: String,
    /// The run that raised the alarm.
    pub run: RunId,
    /// Time of the alarm, by that host's clock.
    pub time: Timestamp,
    /// Id of the newest suspicious snapshot.
    pub snapshot: String,
    /// Id of the last normal snapshot; it is kept while the alarm is active.
    #[serde(default)]
    pub normal: Option<String>,
    /// The repository holds a record of the alarm.
    #[serde(default)]
    pub is_recorded: bool,
    /// The suspicions, one for each exceeded limit.
    pub suspicions: Vec<Suspicion>,
}

impl Alarm {
    /// The alarms of every host that are recorded in a repository, oldest first. A record that
    /// cannot be read still counts.
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

/// An alarm as recorded in a repository.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct RecordedAlarm {
    /// The snapshot that holds the record.
    pub record: SnapshotId,
    /// The host that raised the alarm.
    pub host: String,
    /// The alarm; `None` if a newer program wrote it in another format.
    pub alarm: Option<Alarm>,
}

impl fmt::Display for RecordedAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.alarm {
            Some(alarm) => write!(f, "host {}, {alarm}", self.host),
            None => write!(
                f,
                "host {}: this program cannot read the alarm; use a newer program",
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

/// The removal that an alarm may stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Forgetting snapshots of some hosts.
    Forget,
    /// Pruning data that no snapshot of any host needs.
    Prune,
}

impl Alarm {
    /// Reports whether both concern the same source of the same host in the same repository.
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

/// The alarms of a host, and the last normal snapshot of each source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    standing: Vec<Alarm>,
    normal: BTreeMap<(String, SourceName), String>,
}

/// The stored form of the alarms.
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

/// Why alarms cannot be read or stored. A removal treats this as an active alarm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlarmError {
    /// The file cannot be used.
    #[error("cannot {action} the alarms in {}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The attempted action.
        action: &'static str,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The content of the file is invalid.
    #[error("the alarms in {} are invalid: {why}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
}

impl Alarms {
    /// Reads the alarms of a host. Without a file, no alarm was ever raised.
    ///
    /// # Errors
    /// If the file exists and cannot be read, or is invalid.
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
            let why = format!(
                "their format {} is newer than this program; use a newer program",
                stored.format
            );
            return Err(AlarmError::Damaged { path, why });
        }
        let normal = stored
            .normal
            .into_iter()
            .map(|normal| ((normal.repository, normal.source), normal.snapshot))
            .collect();
        Ok(Self { standing: stored.alarms, normal })
    }

    /// The alarms that wait for an acknowledgement.
    #[must_use]
    pub fn standing(&self) -> &[Alarm] {
        &self.standing
    }

    /// Id of the last normal snapshot of a source.
    #[must_use]
    pub fn normal(&self, repository: &str, source: &SourceName) -> Option<&str> {
        self.normal.get(&(repository.to_owned(), source.clone())).map(String::as_str)
    }

    /// Records the judgement of a source's new snapshot: a suspicion raises an alarm or is added to
    /// the active one; without a suspicion and an active alarm, the snapshot becomes the last
    /// normal one. Returns the stored alarms.
    ///
    /// # Errors
    /// If they cannot be read or written; then nothing is changed.
    #[expect(clippy::needless_pass_by_value, reason = "it is kept")]
    pub fn note(state_directory: &Path, new: Alarm) -> Result<Self, AlarmError> {
        Self::change(state_directory, |alarms| {
            let same = |alarm: &&mut Alarm| {
                alarm.repository == new.repository && alarm.source == new.source
            };
            match alarms.standing.iter_mut().find(same) {
                Some(alarm) => {
                    // The first suspicions stay; new ones are added.
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

    /// Removes alarms of some hosts: of these sources, or of all if none is named. What raised them
    /// counts as normal from now on. Returns the removed alarms.
    ///
    /// # Errors
    /// If they cannot be read or written; then nothing is changed.
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

    /// Refuses a removal while an alarm stops it, or while the alarms cannot be read.
    ///
    /// An alarm of this host stops every removal in every repository: a copy must not lose the good
    /// snapshots of what was lost here. An alarm that another host recorded in the repository stops
    /// pruning there, and forgetting if `hosts` includes that host.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`], with the suspicions and advice.
    pub fn guard(
        state_directory: &Path,
        recorded: &[RecordedAlarm],
        hosts: &HostScope,
        removal: Removal,
    ) -> Result<(), RepositoryError> {
        let own = Self::load(state_directory).map_err(|error| {
            RepositoryError::Guarded(format!(
                "{}; forget and prune are blocked until this is fixed",
                crate::ground::error_chain(&error)
            ))
        })?;
        let seen: Vec<String> = own.standing.iter().map(ToString::to_string).collect();
        if !seen.is_empty() {
            return Err(RepositoryError::Guarded(refusal(&seen.join("; "))));
        }
        Self::guard_recorded(recorded, hosts, removal)
    }

    /// As [`Alarms::guard`], for hosts that store no alarms of their own.
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

    /// Applies acknowledgements from a repository: an alarm whose record was removed there was
    /// acknowledged by some host. Returns the alarms of this repository that have no record yet.
    ///
    /// # Errors
    /// If the alarms cannot be read or written; then nothing is changed.
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
    /// If the alarms cannot be read or written; then nothing is changed.
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

    /// Removes alarms and returns them; what raised them counts as normal from now on.
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

    /// Reads, changes and writes under a lock, because jobs of several repositories share the file.
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

/// Why forget and prune are blocked, and what to do about it.
pub(crate) fn refusal(seen: &str) -> String {
    format!(
        "an alarm is active, so nothing is forgotten or pruned: {seen}. Check whether the data were lost or encrypted; \
         if not, run `kaleem-dr alarm acknowledge`"
    )
}

#[cfg(test)]
mod tests;
