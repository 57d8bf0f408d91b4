//! Files on their way into a repository on disk, and the remains of killed processes.
//!
//! An object is written in `tmp`, synced if it must be durable, and renamed into its place. After a failure its file is removed,
//! so that a full disk does not stay full. A killed process cannot do this, so the name of each file identifies the process that
//! writes it: the first write of a process removes the files of dead ones. If a process cannot be judged from here (on another
//! host, or of an older program), its file counts as left over once it has not grown for an hour.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Once, OnceLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use ulid::Ulid;

use crate::ground::durable_file::sync_directory;

/// Directory for incomplete objects of a repository on disk, until they are renamed into place.
pub(crate) const TEMPORARY_DIRECTORY: &str = "tmp";
/// Time without growth after which the file of an unknown process counts as left over.
const RESTS_AT_MOST: Duration = Duration::from_hours(1);
/// The prefixes of temporary names, apart from the object's own hash.
const KINDS: [&str; 6] = ["config", "data-", "index-", "keys-", "locks-", "snapshots-"];

/// The temporary directory of a repository. Clones share their state.
#[derive(Clone, Debug)]
pub(super) struct Temporary {
    root: Arc<PathBuf>,
    cleared: Arc<Once>,
}

/// A file that is removed unless it is renamed into place.
#[derive(Debug)]
pub(super) struct Unplaced {
    path: PathBuf,
    target: PathBuf,
    file: File,
    placed: bool,
}

impl Temporary {
    /// For the repository in this directory. Creates nothing before the first write.
    pub(super) fn of(root: PathBuf) -> Self {
        Self { root: Arc::new(root), cleared: Arc::new(Once::new()) }
    }

    /// Creates the temporary file of an object. Blocking.
    pub(super) fn begin(&self, key: &str) -> io::Result<Unplaced> {
        let directory = self.root.join(TEMPORARY_DIRECTORY);
        self.cleared.call_once(|| clear(&directory, Process::this()));
        let target = self.root.join(key);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir_all(&directory)?;
        let process = Process::this().map_or_else(|| "-".to_owned(), Process::in_a_name);
        let path =
            directory.join(format!("{}.{process}.{}", key.replace('/', "-"), Ulid::generate()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Unplaced { path, target, file, placed: false })
    }

    /// Writes an object durably. Blocking.
    pub(super) fn write(&self, key: &str, content: &[Bytes]) -> io::Result<()> {
        let mut unplaced = self.begin(key)?;
        content.iter().try_for_each(|piece| unplaced.add(piece))?;
        unplaced.place_durably()
    }
}

impl Unplaced {
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Renames the file into place: readers see all of it from now on, but a crash may lose it. Returns the path.
    pub(super) fn place(mut self) -> io::Result<PathBuf> {
        fs::rename(&self.path, &self.target)?;
        self.placed = true;
        Ok(self.target.clone())
    }

    /// The same, but makes first the file and then its name durable.
    pub(super) fn place_durably(self) -> io::Result<()> {
        self.file.sync_all()?;
        let target = self.place()?;
        target.parent().map_or(Ok(()), sync_directory)
    }
}

impl Drop for Unplaced {
    fn drop(&mut self) {
        if !self.placed {
            // The original failure matters more than that the file could not be removed; the next process tries again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what was left over. A directory that cannot be read or changed is left as it is: the next write reports the reason.
fn clear(directory: &Path, this: Option<&Process>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let is_left = match Process::of_name(name).map(|process| process.fate(this)) {
            Some(Fate::Ended) => true,
            Some(Fate::Runs) => false,
            Some(Fate::Unknown) | None => rested(&meta) > RESTS_AT_MOST,
        };
        if meta.is_file() && is_left {
            match fs::remove_file(&path) {
                Ok(()) => {
                    tracing::info!(file = %path.display(), bytes = meta.len(), "removed what a write that was cut short left");
                }
                Err(error) => {
                    tracing::debug!(file = %path.display(), %error, "a left-over cannot be removed");
                }
            }
        }
    }
}

/// Time since the last write to a file; zero for one dated in the future.
fn rested(meta: &fs::Metadata) -> Duration {
    meta.modified()
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok())
        .unwrap_or_default()
}

/// Reports whether a file has one of our names. Older versions named files by the object's last component and eight random
/// letters.
fn is_ours(name: &str) -> bool {
    let object = name.split('.').next().unwrap_or_default();
    let is_hash = object.len() == 64 && object.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.contains('.') && (is_hash || KINDS.iter().any(|kind| object.starts_with(kind)))
}

/// The identity of a process, as recorded in the names of its files.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    /// The first digits of the boot's id.
    boot: String,
    /// The number of the PID namespace.
    namespace: u64,
    pid: u32,
    /// Start of the process, in clock ticks since the boot, because process ids are reused.
    start: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Runs,
    Ended,
    /// It is of another machine, boot or PID namespace.
    Unknown,
}

impl Process {
    /// The current process; `None` if the system does not provide enough information.
    fn this() -> Option<&'static Self> {
        static THIS: OnceLock<Option<Process>> = OnceLock::new();
        let look = || {
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
            let namespace =
                namespace.to_str()?.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
            let pid = std::process::id();
            Some(Self { boot: boot.get(..8)?.to_owned(), namespace, pid, start: start_of(pid)? })
        };
        THIS.get_or_init(look).as_ref()
    }

    fn in_a_name(&self) -> String {
        format!("{}-{}-{}-{}", self.boot, self.namespace, self.pid, self.start)
    }

    fn of_name(name: &str) -> Option<Self> {
        let mut fields = name.rsplit('.').nth(1)?.split('-');
        let boot = fields.next().filter(|boot| !boot.is_empty())?.to_owned();
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (namespace, pid, start) = (number()?, number()?, number()?);
        Some(Self { boot, namespace, pid: u32::try_from(pid).ok()?, start })
    }

    fn fate(&self, this: Option<&Self>) -> Fate {
        match this {
            Some(this) if self.boot == this.boot && self.namespace == this.namespace => {
                if start_of(self.pid) == Some(self.start) { Fate::Runs } else { Fate::Ended }
            }
            _ => Fate::Unknown,
        }
    }
}

/// Start of a process. The name in parentheses may contain any characters.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn names(home: &Path) -> Vec<String> {
        let entries = fs::read_dir(home.join(TEMPORARY_DIRECTORY)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_write_clears_what_the_dead_left_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let this = Process::this().unwrap();
        let dead = Process { pid: 4_194_303, start: 1, boot: this.boot.clone(), ..*this };
        let again = Process { start: this.start + 1, boot: this.boot.clone(), ..*this };
        let other = Process { namespace: 7, boot: this.boot.clone(), ..*this };
        let file = |object: &str, process: &Process| {
            format!("{object}.{}.{}", process.in_a_name(), Ulid::generate())
        };
        let directory = home.path().join(TEMPORARY_DIRECTORY);
        fs::create_dir(&directory).unwrap();
        let make = |name: &str, hours: u64| {
            let file = File::create(directory.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_hours(hours)).unwrap();
            name.to_owned()
        };
        make(&file(&format!("data-00-{HASH}"), &dead), 0);
        make(&file("config", &again), 0);
        make(&format!("{HASH}.aB3dE6gH"), 2);
        make(&file(&format!("index-{HASH}"), &other), 2);
        let mut kept = vec![
            make(&file(&format!("data-00-{HASH}"), this), 9),
            make(&file(&format!("keys-{HASH}"), &other), 0),
            make(&format!("{HASH}.aB3dE6gI"), 0),
            make("thesis.odt", 999),
        ];
        kept.sort();
        let temporary = Temporary::of(home.path().to_path_buf());
        temporary
            .write(
                &format!("data/00/{HASH}"),
                &[Bytes::from_static(b"a "), Bytes::from_static(b"pack")],
            )
            .unwrap();
        assert_eq!(names(home.path()), kept);
        assert_eq!(fs::read(home.path().join("data/00").join(HASH)).unwrap(), b"a pack");
        assert_eq!(Process::of_name(&file("config", this)).as_ref(), Some(this));
    }

    #[test]
    fn what_fails_takes_its_file_away() {
        let home = tempfile::tempdir().unwrap();
        let temporary = Temporary::of(home.path().to_path_buf());
        let mut unplaced = temporary.begin("index/ab").unwrap();
        unplaced.add(b"half of").unwrap();
        assert_eq!(names(home.path()).len(), 1);
        drop(unplaced);
        assert!(names(home.path()).is_empty());
        // A directory is in its place.
        fs::create_dir_all(home.path().join("index/cd/x")).unwrap();
        temporary.write("index/cd", &[Bytes::from_static(b"x")]).unwrap_err();
        assert!(names(home.path()).is_empty());
    }
}
