//! Walking file trees in path order, with all attributes.

use std::{
    collections::HashMap,
    fs::{self, Metadata, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kaleem_dr_core::engine::artifact::{Entry, EntryKind, EntryMeta};
use nix::{
    fcntl::OFlag,
    unistd::{Gid, Group, Uid, User},
};
use tokio::sync::mpsc;

use super::{
    excludes::{Excludes, Matched},
    places::Places,
};

/// Limit for the extended attributes of one entry, names included, in bytes: more than `ext4`
/// supports, and few enough for a tar of them to be readable.
const ATTRIBUTES_LIMIT_BYTES: usize = 1 << 20;
/// Entries that are handed over together, and the longest time for which one waits for others.
const BATCH: usize = 256;
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// The paths in a snapshot that are reserved for us. A file of the host cannot have the same path.
const OWN: [&str; 2] = ["/.kaleem-dr", "/RESTORE.md"];

/// An entry of a walk.
#[derive(Debug)]
pub(super) enum Found {
    Entry(Box<Entry>),
    Problem { path: PathBuf, why: String },
}

/// A walk over all roots. Blocking.
pub(super) struct Walk {
    roots: Vec<PathBuf>,
    places: Places,
    excludes: Excludes,
    matched: Matched,
    one_file_system: bool,
    found: mpsc::Sender<Vec<Found>>,
    batch: Vec<Found>,
    sent: Instant,
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

/// The receiver was dropped.
struct Gone;

impl Walk {
    pub(super) fn new(
        (roots, places): (Vec<PathBuf>, Places),
        (excludes, matched): (Excludes, Matched),
        one_file_system: bool,
        found: mpsc::Sender<Vec<Found>>,
    ) -> Self {
        Self {
            roots,
            places,
            excludes,
            matched,
            one_file_system,
            found,
            batch: Vec::new(),
            sent: Instant::now(),
            users: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// Walks all roots. Returns the patterns that matched.
    pub(super) fn run(mut self) -> Matched {
        let mut above: Vec<PathBuf> = Vec::new();
        for root in std::mem::take(&mut self.roots) {
            if self.root(&root, &mut above).is_err() {
                break;
            }
        }
        // If the receiver was dropped, nothing more is wanted.
        let _ = self.flush();
        self.matched
    }

    fn root(&mut self, root: &Path, above: &mut Vec<PathBuf>) -> Result<(), Gone> {
        let meta = match fs::symlink_metadata(self.places.of(root)) {
            Ok(meta) => meta,
            Err(error) => return self.problem(root, &error),
        };
        if self.excludes.excludes(root, &mut self.matched) {
            let why = "it is listed in `paths`, but a pattern of `exclude` excludes it with everything below";
            return self.problem(root, &io::Error::other(why));
        }
        let mut parents: Vec<&Path> =
            root.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
        parents.reverse();
        for parent in parents {
            if !above.iter().any(|known| known == parent) {
                above.push(parent.to_path_buf());
                // Stores a linked parent as the directory that it points to, so that the paths
                // below it exist.
                match fs::metadata(self.places.of(parent)) {
                    Ok(meta) => self.emit(parent, EntryKind::Directory, &meta)?,
                    Err(error) => self.problem(parent, &error)?,
                }
            }
        }
        if meta.is_symlink() {
            let why = io::Error::other(
                "it is a symbolic link, and only the link was captured; add its target to `paths`",
            );
            self.problem(root, &why)?;
        }
        self.visit(root, &meta, meta.dev())
    }

    fn visit(&mut self, path: &Path, meta: &Metadata, device: u64) -> Result<(), Gone> {
        if self.found.is_closed() {
            return Err(Gone);
        }
        if self.excludes.excludes(path, &mut self.matched) {
            return Ok(());
        }
        if OWN.iter().any(|own| path == Path::new(own)) {
            return self.problem(
                path,
                &io::Error::other(
                    "kaleem-dr stores a file of its own at this path in each snapshot: rename it",
                ),
            );
        }
        let kind = meta.file_type();
        if kind.is_dir() {
            return self.directory(path, meta, device);
        }
        let entry = if kind.is_file() {
            if self.excludes.is_too_large(meta.len()) {
                return Ok(());
            }
            let path = self.places.of(path).into_owned();
            EntryKind::File(Box::new(move || {
                open(&path).map(|file| Box::new(file) as Box<dyn io::Read + Send>)
            }))
        } else if kind.is_symlink() {
            match fs::read_link(self.places.of(path)) {
                Ok(target) => EntryKind::Symlink(target),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return self.problem(path, &error),
            }
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else if kind.is_socket() {
            EntryKind::Socket
        } else if kind.is_char_device() {
            EntryKind::CharDevice(meta.rdev())
        } else {
            EntryKind::BlockDevice(meta.rdev())
        };
        self.emit(path, entry, meta)
    }

    fn directory(&mut self, path: &Path, meta: &Metadata, device: u64) -> Result<(), Gone> {
        if self.excludes.excludes_directory(&self.places.of(path)) {
            return Ok(());
        }
        // The root directory is the root of every snapshot and has no entry of its own.
        if path.parent().is_some() {
            self.emit(path, EntryKind::Directory, meta)?;
        }
        if self.one_file_system && meta.dev() != device {
            return Ok(());
        }
        let entries = match fs::read_dir(self.places.of(path)) {
            Ok(entries) => entries,
            // It was removed after the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return self.problem(path, &error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if self.found.is_closed() {
                return Err(Gone);
            }
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(error) => self.problem(path, &error)?,
            }
        }
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let path = path.join(name);
            match fs::symlink_metadata(self.places.of(&path)) {
                Ok(meta) => self.visit(&path, &meta, device)?,
                // It was removed after the listing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.problem(&path, &error)?,
            }
        }
        Ok(())
    }

    fn emit(&mut self, path: &Path, kind: EntryKind, meta: &Metadata) -> Result<(), Gone> {
        let is_file = matches!(kind, EntryKind::File(_));
        let xattrs = self.xattrs(path)?;
        let mut entry = EntryMeta::default();
        entry.mode = meta.mode() & 0o7777;
        entry.mtime = Timestamp::new(meta.mtime(), nanoseconds(meta.mtime_nsec())).ok();
        entry.ctime = Timestamp::new(meta.ctime(), nanoseconds(meta.ctime_nsec())).ok();
        entry.uid = Some(meta.uid());
        entry.gid = Some(meta.gid());
        entry.user = self.user(meta.uid());
        entry.group = self.group(meta.gid());
        entry.inode = meta.ino();
        entry.device_id = meta.dev();
        entry.size_bytes = if is_file { meta.len() } else { 0 };
        entry.links = if meta.is_dir() { 0 } else { meta.nlink() };
        entry.xattrs = xattrs;
        self.send(Found::Entry(Box::new(Entry::new(path, kind, entry))))
    }

    fn xattrs(&mut self, path: &Path) -> Result<Vec<(String, Vec<u8>)>, Gone> {
        let mut all = Vec::new();
        let place = self.places.of(path);
        let names = match xattr::list(&place) {
            Ok(names) => names,
            Err(error) if is_unsupported(&error) => return Ok(all),
            Err(error) => {
                self.problem(path, &error)?;
                return Ok(all);
            }
        };
        let mut kept_bytes = 0;
        for name in names {
            match (name.to_str(), xattr::get(&place, &name)) {
                (Some(name), Ok(Some(value))) => {
                    kept_bytes += name.len() + value.len();
                    if kept_bytes > ATTRIBUTES_LIMIT_BYTES {
                        let why = format!(
                            "it has more than 1 MiB of extended attributes; {name} and those after it are left out"
                        );
                        self.problem(path, &io::Error::other(why))?;
                        break;
                    }
                    all.push((name.to_owned(), value));
                }
                (Some(_), Ok(None)) => {}
                (Some(_), Err(error)) if is_unsupported(&error) => {}
                (_, result) => {
                    let error =
                        result.err().unwrap_or_else(|| io::Error::other("its name is not UTF-8"));
                    self.problem(
                        path,
                        &io::Error::new(
                            error.kind(),
                            format!("extended attribute {}: {error}", name.display()),
                        ),
                    )?;
                }
            }
        }
        Ok(all)
    }

    fn user(&mut self, uid: u32) -> Option<String> {
        self.users
            .entry(uid)
            .or_insert_with(|| {
                User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
            })
            .clone()
    }

    fn group(&mut self, gid: u32) -> Option<String> {
        self.groups
            .entry(gid)
            .or_insert_with(|| {
                Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
            })
            .clone()
    }

    fn problem(&mut self, path: &Path, error: &io::Error) -> Result<(), Gone> {
        self.send(Found::Problem { path: path.to_path_buf(), why: error.to_string() })
    }

    fn send(&mut self, found: Found) -> Result<(), Gone> {
        self.batch.push(found);
        if self.batch.len() < BATCH && self.sent.elapsed() < LONGEST_WAIT {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Gone> {
        self.sent = Instant::now();
        let batch = std::mem::take(&mut self.batch);
        self.found.blocking_send(batch).map_err(|_| Gone)
    }
}

/// Opens a file without following links or blocking, in case it was replaced by a link or a pipe
/// after the listing.
fn open(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::NotFound)
}

fn nanoseconds(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(0)
}
