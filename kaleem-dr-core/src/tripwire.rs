//! Tripwires: a night on which too much vanished, shrank or was rewritten stops forgetting and pruning until somebody looks.
//!
//! A loss or an encryption by others is saved like any other change, and retention would then drive the last good snapshots out.
//! So each new snapshot is compared with the last one that was found normal; what is suspicious becomes an alarm that stands,
//! in the state directory, until it is acknowledged. This judges and remembers; it deletes nothing, and needs no repository.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    failpoint::{self, Step},
    job::RunId,
    manifest::Manifest,
    repository::RepositoryError,
    source::SourceName,
};

/// Fewer items than this may go without a word: a handful of small collections come and go.
const FEW_ITEMS: u64 = 10;
/// Up to this share of new bytes, a source is one that changes little.
const QUIET_PERCENT: u64 = 20;
/// So many earlier snapshots tell how much is new on a normal day.
const ENOUGH_HISTORY: usize = 3;
/// How many names a sentence has.
const NAMES: usize = 5;
/// File with the alarms, in the state directory.
const FILE: &str = "alarms.json";
const FORMAT: u32 = 1;

/// When a snapshot is suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tripwire {
    /// Whether snapshots are looked at.
    pub enabled: bool,
    /// Most of a source's items, or of its files, that may be gone since the last normal snapshot, in percent.
    pub max_shrink_percent: u64,
    /// Most of a source's bytes that may be new, in percent, where usually less than a fifth is.
    pub max_new_percent: u64,
    /// Below this size, how much is new says nothing.
    pub min_bytes: u64,
}

impl Default for Tripwire {
    fn default() -> Self {
        Self { enabled: true, max_shrink_percent: 50, max_new_percent: 60, min_bytes: 16 << 20 }
    }
}

/// A new snapshot, as its save reported it.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// What it says of itself.
    pub manifest: &'a Manifest,
    /// Plain bytes of blobs that were new to the repository.
    pub new_blob_bytes: u64,
}

/// What is known of a source's earlier whole snapshots of the same host.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Manifest of the last one that was found normal; `None` compares with nothing.
    pub normal: Option<Manifest>,
    /// New plain bytes and all bytes of each, where its maker said so.
    pub volumes: Vec<Volume>,
}

/// How much of a snapshot was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Plain bytes of blobs that were new to the repository.
    pub new_bytes: u64,
    /// All bytes.
    pub size_bytes: u64,
}

impl Volume {
    /// The share of new bytes. Trees count as new but not as content, so it may be above a hundred.
    fn percent(self) -> Option<u64> {
        (self.size_bytes > 0).then(|| self.new_bytes.saturating_mul(100) / self.size_bytes)
    }
}

/// Something suspicious.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// What was seen: `2 artifacts are gone: /mongo/kaleem/users.bson, …`.
    pub what: String,
    /// Why it counts: what was there before, and the limit.
    pub why: String,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.why)
    }
}

impl Tripwire {
    /// Compares a new snapshot with what was normal. Nothing suspicious gives an empty list.
    #[must_use]
    pub fn judge(&self, new: Observed<'_>, history: &History) -> Vec<Suspicion> {
        if !self.enabled {
            return Vec::new();
        }
        let shrunk = history.normal.as_ref().into_iter().flat_map(|normal| {
            let items = (items(normal), items(new.manifest));
            let files = (normal.tree.files, new.manifest.tree.files);
            [vanished(normal, new.manifest), self.shrunk("items", items), self.shrunk("files", files)]
        });
        shrunk.flatten().chain(self.rewritten(new, &history.volumes)).collect()
    }

    fn shrunk(&self, of: &str, (before, now): (u64, u64)) -> Option<Suspicion> {
        let gone = before.saturating_sub(now);
        (gone >= FEW_ITEMS && gone.saturating_mul(100) > before.saturating_mul(self.max_shrink_percent)).then(|| Suspicion {
            what: format!("{gone} of {before} {of} are gone"),
            why: format!("more than {} percent", self.max_shrink_percent),
        })
    }

    fn rewritten(&self, new: Observed<'_>, volumes: &[Volume]) -> Option<Suspicion> {
        let now = Volume { new_bytes: new.new_blob_bytes, size_bytes: new.manifest.size_bytes() };
        if now.size_bytes < self.min_bytes {
            return None;
        }
        let percent = now.percent()?;
        let mut usual: Vec<u64> = volumes.iter().filter_map(|volume| volume.percent()).collect();
        usual.sort_unstable();
        let median = *usual.get(usual.len() / 2).filter(|_| usual.len() >= ENOUGH_HISTORY)?;
        (percent > self.max_new_percent && median < QUIET_PERCENT).then(|| Suspicion {
            what: format!("{} percent of the data are new", percent.min(100)),
            why: format!("usually {median} percent are, and the limit is {} percent: were they encrypted?", self.max_new_percent),
        })
    }
}

fn items(manifest: &Manifest) -> u64 {
    manifest.artifacts.iter().filter_map(|artifact| artifact.items).sum()
}

fn vanished(before: &Manifest, now: &Manifest) -> Option<Suspicion> {
    let gone: Vec<&str> =
        before.artifacts.iter().map(|artifact| artifact.path.as_str()).filter(|path| now.artifact(path).is_none()).collect();
    let more = if gone.len() > NAMES { ", …" } else { "" };
    (!gone.is_empty()).then(|| Suspicion {
        what: format!("{} artifacts are gone: {}{more}", gone.len(), gone[..gone.len().min(NAMES)].join(", ")),
        why: format!("they were in run {}", before.run),
    })
}

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
    /// What was seen.
    pub suspicions: Vec<Suspicion>,
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
            let why = format!("format {} is newer than this program; use a newer one", stored.format);
            return Err(AlarmError::Damaged { path, why });
        }
        let normal = stored.normal.into_iter().map(|normal| ((normal.repository, normal.source), normal.snapshot)).collect();
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
            let same = |alarm: &&mut Alarm| alarm.repository == new.repository && alarm.source == new.source;
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
                    alarms.normal.insert((new.repository.clone(), new.source.clone()), new.snapshot.clone());
                }
                None => alarms.standing.push(new.clone()),
            }
        })
        .map(|(alarms, ())| alarms)
    }

    /// Takes alarms away: those of some sources, or all where none is named. What raised them is normal from now on.
    /// Gives what was taken away.
    ///
    /// # Errors
    /// When they cannot be read or written; nothing is changed then.
    pub fn acknowledge(state_directory: &Path, sources: &[SourceName]) -> Result<Vec<Alarm>, AlarmError> {
        Self::change(state_directory, |alarms| {
            let (gone, stay): (Vec<Alarm>, Vec<Alarm>) = std::mem::take(&mut alarms.standing)
                .into_iter()
                .partition(|alarm| sources.is_empty() || sources.contains(&alarm.source));
            alarms.standing = stay;
            for alarm in &gone {
                alarms.normal.insert((alarm.repository.clone(), alarm.source.clone()), alarm.snapshot.clone());
            }
            gone
        })
        .map(|(_, gone)| gone)
    }

    /// Refuses while an alarm stands, and while nobody can tell whether one does. An alarm of one repository holds for all:
    /// a copy must not lose the good snapshots of what was lost here.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`], with what was seen and what to do.
    pub fn guard(state_directory: &Path) -> Result<(), RepositoryError> {
        let alarms = Self::load(state_directory).map_err(|error| {
            RepositoryError::Guarded(format!("{}; nothing is forgotten or pruned before that is mended", crate::sentence(&error)))
        })?;
        let standing: Vec<String> = alarms.standing.iter().map(ToString::to_string).collect();
        if standing.is_empty() { Ok(()) } else { Err(RepositoryError::Guarded(refusal(&standing.join("; ")))) }
    }

    /// Reads, changes and writes under a lock: jobs of several repositories share the file.
    fn change<T>(state_directory: &Path, change: impl FnOnce(&mut Self) -> T) -> Result<(Self, T), AlarmError> {
        let path = state_directory.join(FILE);
        let failed = |action| {
            let path = path.clone();
            move |cause| AlarmError::Io { path, action, cause }
        };
        fs::create_dir_all(state_directory).map_err(failed("create the directory of"))?;
        let beside = state_directory.join("alarms.lock");
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(beside).map_err(failed("lock"))?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed("lock")(errno.into()))?;
        let mut alarms = Self::load(state_directory)?;
        let before = alarms.clone();
        let result = change(&mut alarms);
        if alarms != before {
            alarms.store(state_directory).map_err(failed("write"))?;
        }
        Ok((alarms, result))
    }

    /// A file beside it, flushed, then renamed into place: a crash leaves the old alarms or the new ones.
    fn store(&self, state_directory: &Path) -> io::Result<()> {
        let normal = |((repository, source), snapshot): (&(String, SourceName), &String)| Normal {
            repository: repository.clone(),
            source: source.clone(),
            snapshot: snapshot.clone(),
        };
        let stored = Stored { format: FORMAT, alarms: self.standing.clone(), normal: self.normal.iter().map(normal).collect() };
        let mut file = tempfile::NamedTempFile::new_in(state_directory)?;
        file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
        file.as_file().sync_all()?;
        file.persist(state_directory.join(FILE)).map_err(|error| error.error)?;
        fs::File::open(state_directory)?.sync_all()?;
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
mod tests {
    use super::*;
    use crate::manifest::ArtifactRecord;

    fn manifest(collections: &[(&str, u64)], files: u64, size_bytes: u64) -> Manifest {
        let mut manifest = Manifest::of_file("s", "k", Timestamp::UNIX_EPOCH);
        manifest.artifacts = collections
            .iter()
            .map(|&(path, items)| ArtifactRecord {
                path: path.to_owned(),
                size_bytes: 0,
                sha256: String::new(),
                items: Some(items),
                content_digest: None,
            })
            .collect();
        manifest.tree.files = files;
        manifest.tree.size_bytes = size_bytes;
        manifest
    }

    fn seen(now: &Manifest, new_blob_bytes: u64, normal: Option<Manifest>, percents: &[u64]) -> Vec<String> {
        let volumes = percents.iter().map(|&percent| Volume { new_bytes: percent, size_bytes: 100 }).collect();
        let found = Tripwire::default().judge(Observed { manifest: now, new_blob_bytes }, &History { normal, volumes });
        found.into_iter().map(|suspicion| suspicion.what).collect()
    }

    const MIB: u64 = 1 << 20;

    /// Artifacts, files, and what is suspicious of them.
    type Case<'a> = (&'a [(&'a str, u64)], u64, &'a [&'a str]);

    #[test]
    fn what_vanished_or_shrank_beyond_the_limit_is_seen() {
        let before = manifest(&[("/a", 60), ("/b", 40)], 30, 0);
        let cases: [Case<'_>; 7] = [
            (&[("/a", 60), ("/b", 40)], 30, &[]),
            (&[("/a", 61), ("/b", 44), ("/c", 1)], 31, &[]),
            (&[("/a", 60)], 30, &["1 artifacts are gone: /b"]),
            (&[("/a", 10), ("/b", 40)], 30, &[]),
            (&[("/a", 9), ("/b", 40)], 30, &["51 of 100 items are gone"]),
            (&[("/a", 60), ("/b", 40)], 15, &[]),
            (&[("/a", 60), ("/b", 40)], 14, &["16 of 30 files are gone"]),
        ];
        for (collections, files, expected) in cases {
            assert_eq!(seen(&manifest(collections, files, 0), 0, Some(before.clone()), &[]), expected, "{collections:?} {files}");
        }
        // Nine of nine is a handful; a first snapshot is compared with nothing.
        assert!(seen(&manifest(&[], 0, 0), 0, Some(manifest(&[], 9, 0)), &[]).is_empty());
        assert!(seen(&manifest(&[], 0, 0), 0, None, &[]).is_empty());
    }

    #[test]
    fn much_new_where_little_was_is_seen_in_large_sources_with_a_history() {
        let large = manifest(&[], 1, 16 * MIB);
        assert_eq!(seen(&large, 10 * MIB, None, &[100, 1, 0]), ["62 percent of the data are new"]);
        for (manifest, new, percents) in [
            (&large, 9 * MIB, &[100, 1, 0][..]),
            (&large, 16 * MIB, &[100, 1]),
            (&large, 16 * MIB, &[100, 20, 20]),
            (&manifest(&[], 1, 16 * MIB - 1), 16 * MIB, &[100, 1, 0]),
        ] {
            assert!(seen(manifest, new, None, percents).is_empty(), "{new} {percents:?}");
        }
    }

    #[test]
    fn an_alarm_stands_until_it_is_acknowledged_and_is_normal_then() {
        let home = tempfile::tempdir().unwrap();
        let source: SourceName = "mongo".parse().unwrap();
        let alarm = |snapshot: &str, seen: &[&str]| Alarm {
            repository: "r".into(),
            source: source.clone(),
            host: "h".into(),
            run: RunId::new(),
            time: Timestamp::now(),
            snapshot: snapshot.into(),
            suspicions: seen.iter().map(|what| Suspicion { what: (*what).into(), why: "so".into() }).collect(),
        };
        Alarms::note(home.path(), alarm("1", &[])).unwrap();
        assert!(Alarms::guard(home.path()).is_ok());
        Alarms::note(home.path(), alarm("2", &["gone"])).unwrap();
        Alarms::note(home.path(), alarm("3", &[])).unwrap();
        let alarms = Alarms::load(home.path()).unwrap();
        assert_eq!(alarms.normal("r", &source), Some("1"), "nothing is normal while an alarm stands");
        assert_eq!(alarms.standing().len(), 1);
        assert!(Alarms::guard(home.path()).unwrap_err().to_string().contains("gone"));
        assert!(Alarms::acknowledge(home.path(), &["files-of-mine".parse().unwrap()]).unwrap().is_empty());
        assert_eq!(Alarms::acknowledge(home.path(), std::slice::from_ref(&source)).unwrap().len(), 1);
        assert!(Alarms::guard(home.path()).is_ok());
        assert_eq!(Alarms::load(home.path()).unwrap().normal("r", &source), Some("3"));
        fs::write(home.path().join(FILE), "{").unwrap();
        assert!(matches!(Alarms::guard(home.path()), Err(RepositoryError::Guarded(_))), "nobody can tell");
    }
}
