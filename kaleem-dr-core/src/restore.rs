//! Putting a snapshot's files back on disk, with flat memory and nothing overwritten unasked.
//!
//! Files are taken in windows: the blobs of a window are read by runs of neighbouring blobs, several at once, and written to
//! their places. Blocks of zeros become holes. Attributes follow the content; those of directories come last, for every
//! write in a directory changes its time. With verification, each file is read back and compared blob by blob.

mod compare;

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt as _;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use nix::{
    fcntl::AT_FDCWD,
    sys::stat::{self, Mode, SFlag, UtimensatFlags},
    sys::time::TimeSpec,
    unistd::{self, Gid, Uid},
};
use rustic_core::repofile::{Node, NodeType, Tree};
use serde::Serialize;

use crate::{
    CancellationToken,
    digest::ByteDigest,
    progress::{ProgressSink, StageProgress, Unit},
    repository::{BlobPlace, RepositoryError, SnapshotReader, blocking, go_mode, pick, runs},
    sentence,
};

pub use self::compare::{compare_files, turn_a_byte};

/// Blobs in one window: with at most a few runs in memory at once, this bounds what is planned, not what is held.
const WINDOW_BLOBS: usize = 2048;
/// Entries in one window.
const WINDOW_ITEMS: usize = 1024;
/// Runs under way at once.
const RUNS_AT_ONCE: usize = 4;
/// Zeros of this length, on its boundary in a blob, become a hole.
const HOLE_BYTES: usize = 64 << 10;

/// What to restore, and how.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct RestoreOptions {
    /// Directory under which the snapshot's paths are made.
    pub target: PathBuf,
    /// Only what lies under these absolute paths of the snapshot, or matches these globs; empty for everything.
    pub include: Vec<String>,
    /// Without what matches these globs (against the whole path, or the name alone where there is no `/`).
    pub exclude: Vec<String>,
    /// Leave out `/.kaleem-dr` and `/RESTORE.md`.
    pub without_own_files: bool,
    /// Write over files that are there. Otherwise a target that is not empty is refused.
    pub overwrite: bool,
    /// Read every file back and compare it.
    pub verify: bool,
    /// Count only.
    pub dry_run: bool,
}

/// What restoring files did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FilesReport {
    /// Regular files written.
    pub files: u64,
    /// Further names of those files (hard links).
    pub links: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links, pipes, sockets, devices.
    pub others: u64,
    /// Bytes of the files.
    pub size_bytes: u64,
    /// Files read back and found equal.
    pub verified: u64,
    /// What could not be restored, or reads back otherwise.
    pub problems: Vec<FileProblem>,
}

impl FilesReport {
    /// Whether nothing at all was meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files + self.links + self.others + self.directories == 0 && self.problems.is_empty()
    }
}

/// One path that could not be restored.
#[derive(Clone, Debug, Serialize)]
pub struct FileProblem {
    /// Path in the target; lossily decoded where it is not UTF-8.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

/// Restores files of a snapshot.
///
/// # Errors
/// [`RepositoryError::Guarded`] when the target is not empty; whatever keeps the snapshot from being read. Paths that cannot be
/// written are in the report: whoever asked must look at [`FilesReport::problems`].
pub async fn restore_files(
    snapshot: &SnapshotReader,
    options: &RestoreOptions,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<FilesReport, RepositoryError> {
    let selection = Selection::of(&options.include, &options.exclude, options.without_own_files)?;
    if !options.overwrite && !options.dry_run && is_occupied(&options.target)? {
        return Err(RepositoryError::Guarded(format!(
            "{} is not empty; name a new directory, or say --in-place to write over it",
            options.target.display()
        )));
    }
    let stage = progress.begin("restoring files", Unit::Bytes, None);
    let (snapshot_reader, target) = (snapshot.clone(), options.target.clone());
    let mut walk = blocking(move || Walk::new(snapshot_reader, selection, target)).await?;
    let mut disk = Disk {
        options: options.clone(),
        report: FilesReport::default(),
        first_links: HashMap::new(),
        directories: Vec::new(),
        blocked: Vec::new(),
    };
    loop {
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        let (window, next_walk, next_disk, mut failed) = blocking(move || {
            let mut window = walk.window()?;
            let failed = disk.prepare(&mut window);
            Ok((Arc::new(window), walk, disk, failed))
        })
        .await?;
        (walk, disk) = (next_walk, next_disk);
        if window.is_empty() {
            break;
        }
        if !options.dry_run {
            write_content(snapshot, &window, options.overwrite, &mut failed, &stage, cancel).await?;
        }
        disk = blocking(move || {
            disk.complete(&window, failed);
            Ok(disk)
        })
        .await?;
    }
    let report = blocking(move || Ok(disk.finish())).await?;
    stage.finish();
    Ok(report)
}

fn is_occupied(target: &Path) -> Result<bool, RepositoryError> {
    match fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(RepositoryError::Path { path: target.to_path_buf(), action: "look into", cause }),
    }
}

/// Which paths of a snapshot are wanted.
#[derive(Debug)]
pub(crate) struct Selection {
    prefixes: Vec<PathBuf>,
    include: Option<GlobSet>,
    exclude: GlobSet,
    without_own_files: bool,
}

impl Selection {
    pub(crate) fn of(include: &[String], exclude: &[String], without_own_files: bool) -> Result<Self, RepositoryError> {
        let (globs, prefixes): (Vec<&String>, Vec<&String>) =
            include.iter().partition(|pattern| pattern.contains(['*', '?', '[']));
        Ok(Self {
            prefixes: prefixes.into_iter().map(PathBuf::from).collect(),
            include: if include.is_empty() { None } else { Some(globset(globs)?) },
            exclude: globset(exclude)?,
            without_own_files,
        })
    }

    fn excludes(&self, path: &Path) -> bool {
        let own = path == Path::new("/.kaleem-dr") || path == Path::new("/RESTORE.md");
        self.without_own_files && own
            || self.exclude.is_match(path)
            || path.file_name().is_some_and(|name| self.exclude.is_match(name))
    }

    pub(crate) fn includes(&self, path: &Path) -> bool {
        let Some(globs) = &self.include else { return true };
        self.prefixes.iter().any(|prefix| path.starts_with(prefix))
            || path
                .ancestors()
                .any(|ancestor| globs.is_match(ancestor) || ancestor.file_name().is_some_and(|name| globs.is_match(name)))
    }

    /// Whether something below a directory may be wanted.
    pub(crate) fn may_hold(&self, path: &Path) -> bool {
        self.includes(path)
            || self.include.as_ref().is_some_and(|globs| !globs.is_empty())
            || self.prefixes.iter().any(|prefix| prefix.starts_with(path))
    }
}

fn globset<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Result<GlobSet, RepositoryError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(
            glob.map_err(|error| RepositoryError::Guarded(format!("the pattern `{pattern}` is not valid: {}", error.kind())))?,
        );
    }
    set.build().map_err(|error| RepositoryError::Guarded(format!("the patterns are not valid: {error}")))
}

/// One node on its way to disk.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) node: Node,
    pub(crate) target: PathBuf,
    pub(crate) blobs: Vec<BlobPlace>,
    /// The file it is a further name of; it then has no content of its own.
    link_to: Option<PathBuf>,
}

/// Walks the trees depth first, a window at a time, directories before what is in them.
pub(crate) struct Walk {
    snapshot: SnapshotReader,
    selection: Selection,
    target: PathBuf,
    /// Nodes still to visit, the next one last; each with its path in the snapshot.
    stack: Vec<(PathBuf, Node)>,
    /// Directories above the current path that are not wanted themselves: they are made when something in them is.
    above: Vec<(PathBuf, Node)>,
}

impl Walk {
    pub(crate) fn new(snapshot: SnapshotReader, selection: Selection, target: PathBuf) -> Result<Self, RepositoryError> {
        let mut walk = Self { snapshot, selection, target, stack: Vec::new(), above: Vec::new() };
        let root = walk.snapshot.root()?;
        walk.push(Path::new("/"), root)?;
        Ok(walk)
    }

    fn push(&mut self, path: &Path, tree: Tree) -> Result<(), RepositoryError> {
        for node in tree.nodes.into_iter().rev() {
            let name = node.name().into_owned();
            // A crafted tree could otherwise write outside the target.
            if name.is_empty() || name == "." || name == ".." || name.as_bytes().contains(&b'/') {
                return Err(RepositoryError::Damaged {
                    object: format!("tree of {}", path.display()),
                    why: format!("it holds an entry named {}", name.display()),
                });
            }
            let path = path.join(name);
            if !self.selection.excludes(&path) {
                self.stack.push((path, node));
            }
        }
        Ok(())
    }

    pub(crate) fn window(&mut self) -> Result<Vec<Item>, RepositoryError> {
        let mut items = Vec::new();
        let mut blobs = 0;
        while blobs < WINDOW_BLOBS && items.len() < WINDOW_ITEMS {
            let Some(item) = self.next_item()? else { break };
            blobs += item.blobs.len();
            items.push(item);
        }
        Ok(items)
    }

    fn next_item(&mut self) -> Result<Option<Item>, RepositoryError> {
        while let Some((path, node)) = self.stack.pop() {
            self.above.retain(|(above, _)| path.starts_with(above));
            if !self.selection.includes(&path) {
                if let Some(subtree) = &node.subtree
                    && self.selection.may_hold(&path)
                {
                    let tree = self.snapshot.tree(subtree)?;
                    self.push(&path, tree)?;
                    self.above.push((path, node));
                }
                continue;
            }
            if !self.above.is_empty() {
                self.stack.push((path, node));
                let (path, node) = self.above.remove(0);
                return self.item(&path, node).map(Some);
            }
            if let Some(subtree) = &node.subtree {
                let tree = self.snapshot.tree(subtree)?;
                self.push(&path, tree)?;
            }
            return self.item(&path, node).map(Some);
        }
        Ok(None)
    }

    fn item(&self, path: &Path, node: Node) -> Result<Item, RepositoryError> {
        let blobs = if node.is_file() { self.snapshot.places(&node)? } else { Vec::new() };
        let target = self.target.join(path.strip_prefix("/").unwrap_or(path));
        Ok(Item { node, target, blobs, link_to: None })
    }
}

/// Why items of a window failed, by their place in it.
type Failed = HashMap<usize, String>;

impl Item {
    /// Where content is written: beside the target where that is there already, so that nobody sees half a file.
    fn scratch(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.target.file_name().unwrap_or_else(|| OsStr::new("file")));
        name.push(".kaleem-dr-restore");
        self.target.with_file_name(name)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.blobs.iter().map(BlobPlace::plain_length).sum()
    }

    /// What hard links of one file share; `None` where it has no other name.
    pub(crate) fn inode(&self) -> Option<(u64, u64)> {
        let meta = &self.node.meta;
        (meta.links > 1 && meta.inode != 0).then_some((meta.device_id, meta.inode))
    }

    fn written(&self, overwrite: bool) -> PathBuf {
        if overwrite { self.scratch() } else { self.target.clone() }
    }
}

/// Reads the blobs of a window and writes them to their files.
async fn write_content(
    snapshot: &SnapshotReader,
    window: &Arc<Vec<Item>>,
    overwrite: bool,
    failed: &mut Failed,
    stage: &Arc<dyn StageProgress>,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    let mut places = Vec::new();
    // Of each place: which item it belongs to, and where in its file.
    let mut homes = Vec::new();
    for (at, item) in window.iter().enumerate().filter(|(at, _)| !failed.contains_key(at)) {
        let mut offset = 0;
        for place in &item.blobs {
            places.push(*place);
            homes.push((at, offset));
            offset += place.plain_length();
        }
    }
    let runs = runs(&places, true);
    let homes = Arc::new(homes);
    let mut writes = futures::stream::iter(runs)
        .map(|run| {
            let (picked, window, homes) = (pick(&places, &run), window.clone(), homes.clone());
            async move {
                let read = snapshot.blobs().read(&run, &picked).await;
                let wanted = run.wanted;
                match read {
                    Ok(blobs) => blocking(move || Ok(write_blobs(&window, &homes, &wanted, &blobs, overwrite))).await,
                    // The files that needed this run are lost; others may still come back.
                    Err(error) => Ok(wanted.iter().map(|&at| (homes[at].0, Err(sentence(&error)))).collect()),
                }
            }
        })
        .buffer_unordered(RUNS_AT_ONCE);
    while let Some(written) = writes.next().await {
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        for (item, result) in written? {
            match result {
                Ok(bytes) => stage.advance(bytes),
                Err(why) => {
                    failed.entry(item).or_insert(why);
                }
            }
        }
    }
    Ok(())
}

fn write_blobs(
    window: &[Item],
    homes: &[(usize, u64)],
    wanted: &[usize],
    blobs: &[Bytes],
    overwrite: bool,
) -> Vec<(usize, Result<u64, String>)> {
    let mut open: Option<(usize, File)> = None;
    let mut results = Vec::with_capacity(wanted.len());
    for (&place, blob) in wanted.iter().zip(blobs) {
        let (at, offset) = homes[place];
        let file = match open.take() {
            Some((which, file)) if which == at => Ok(file),
            _ => OpenOptions::new().write(true).custom_flags(nofollow()).open(window[at].written(overwrite)),
        };
        let result = file.and_then(|file| {
            write_sparsely(&file, blob, offset)?;
            open = Some((at, file));
            Ok(blob.len() as u64)
        });
        results.push((at, result.map_err(|error| error.to_string())));
    }
    results
}

fn nofollow() -> i32 {
    nix::fcntl::OFlag::O_NOFOLLOW.bits()
}

/// The file has its full length and is all holes; blocks of zeros stay holes.
pub(crate) fn write_sparsely(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let zero = |chunk: &[u8]| chunk.iter().all(|&byte| byte == 0);
        let mut end = (at + HOLE_BYTES).min(bytes.len());
        if zero(&bytes[at..end]) {
            at = end;
            continue;
        }
        while end < bytes.len() && !zero(&bytes[end..(end + HOLE_BYTES).min(bytes.len())]) {
            end = (end + HOLE_BYTES).min(bytes.len());
        }
        file.write_all_at(&bytes[at..end], offset + at as u64)?;
        at = end;
    }
    Ok(())
}

/// The target's side of a restore. Blocking.
struct Disk {
    options: RestoreOptions,
    report: FilesReport,
    /// First path of each hard-linked inode.
    first_links: HashMap<(u64, u64), PathBuf>,
    /// Directories made, in the order of the walk, whose attributes are still to be set.
    directories: Vec<(PathBuf, Node)>,
    /// Paths under which nothing may be written.
    blocked: Vec<PathBuf>,
}

impl Disk {
    /// Makes directories and special files, and creates the files whose content follows.
    fn prepare(&mut self, window: &mut [Item]) -> Failed {
        let mut failed = Failed::new();
        for (at, item) in window.iter_mut().enumerate() {
            self.resolve_link(item);
            if let Err(error) = self.prepare_one(item) {
                failed.insert(at, error.to_string());
                if item.node.is_dir() {
                    self.blocked.push(item.target.clone());
                }
            }
        }
        failed
    }

    fn prepare_one(&mut self, item: &Item) -> io::Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        if let Some(above) = self.blocked.iter().find(|blocked| item.target.starts_with(blocked)) {
            return Err(io::Error::other(format!("{} could not be made", above.display())));
        }
        let target = &item.target;
        match &item.node.node_type {
            NodeType::Dir => make_directory(target)?,
            NodeType::File => {
                if item.link_to.is_none() {
                    let written = item.written(self.options.overwrite);
                    if self.options.overwrite {
                        remove(&written)?;
                    }
                    if let Some(parent) = target.parent() {
                        // With a selection, parents may not be in the walk.
                        fs::create_dir_all(parent)?;
                    }
                    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written)?;
                    file.set_len(item.size_bytes())?;
                }
            }
            special => {
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent)?;
                }
                if self.options.overwrite {
                    remove(target)?;
                }
                make_special(target, special)?;
            }
        }
        Ok(())
    }

    /// Remembers the first path of an inode; later ones become links to it.
    fn resolve_link(&mut self, item: &mut Item) {
        let Some(inode) = item.inode().filter(|_| item.node.is_file()) else { return };
        if let Some(first) = self.first_links.get(&inode) {
            item.link_to = Some(first.clone());
            item.blobs.clear();
        } else {
            self.first_links.insert(inode, item.target.clone());
        }
    }

    /// Sets attributes, verifies, links; counts.
    fn complete(&mut self, window: &[Item], mut failed: Failed) {
        for (at, item) in window.iter().enumerate() {
            let result = match failed.remove(&at) {
                Some(why) => Err(io::Error::other(why)),
                None => self.complete_one(item),
            };
            if let Err(error) = result {
                if item.node.is_file() && !self.options.dry_run {
                    // Half a file must not look like a restored one. That it may not be there at all is fine.
                    let _ = fs::remove_file(item.written(self.options.overwrite));
                    if item.link_to.is_none()
                        && let Some(inode) = item.inode()
                    {
                        self.first_links.remove(&inode);
                    }
                }
                let path = item.target.to_string_lossy().into_owned();
                self.report.problems.push(FileProblem { path, why: error.to_string() });
            }
        }
    }

    fn complete_one(&mut self, item: &Item) -> io::Result<()> {
        if !item.node.is_file() {
            if item.node.is_dir() {
                self.report.directories += 1;
                self.directories.push((item.target.clone(), item.node.clone()));
                return Ok(());
            }
            self.report.others += 1;
            if !self.options.dry_run {
                set_attributes(&item.target, &item.node)?;
            }
            return Ok(());
        }
        if !self.options.dry_run {
            if let Some(first) = &item.link_to {
                if self.options.overwrite {
                    remove(&item.target)?;
                }
                fs::hard_link(first, &item.target)?;
                self.report.links += 1;
                return Ok(());
            }
            let written = item.written(self.options.overwrite);
            if self.options.verify {
                verify(&written, &item.blobs)?;
                self.report.verified += 1;
            }
            set_attributes(&written, &item.node)?;
            if written != item.target {
                fs::rename(&written, &item.target)?;
            }
        }
        self.report.files += 1;
        self.report.size_bytes += item.size_bytes();
        Ok(())
    }

    /// Directories last, deepest first: every write in one changes its times, and a read-only one takes no more entries.
    fn finish(mut self) -> FilesReport {
        if !self.options.dry_run {
            for (path, node) in self.directories.iter().rev() {
                if let Err(error) = set_attributes(path, node) {
                    let path = path.to_string_lossy().into_owned();
                    self.report.problems.push(FileProblem { path, why: error.to_string() });
                }
            }
        }
        self.report
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other("it is there and is no directory; a link is not followed")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn make_special(path: &Path, kind: &NodeType) -> io::Result<()> {
    let node = |kind: SFlag, device: u64| stat::mknod(path, kind, Mode::S_IRUSR | Mode::S_IWUSR, device).map_err(io::Error::from);
    match kind {
        NodeType::Symlink { .. } => std::os::unix::fs::symlink(kind.to_link(), path),
        NodeType::Fifo => node(SFlag::S_IFIFO, 0),
        NodeType::Socket => node(SFlag::S_IFSOCK, 0),
        NodeType::Chardev { device } => node(SFlag::S_IFCHR, *device),
        NodeType::Dev { device } => node(SFlag::S_IFBLK, *device),
        NodeType::File | NodeType::Dir => Ok(()),
    }
}

/// Owner first (it clears set-id bits), then mode, extended attributes, and times last.
fn set_attributes(path: &Path, node: &Node) -> io::Result<()> {
    let meta = &node.meta;
    let (uid, gid) = (meta.uid.map(Uid::from_raw), meta.gid.map(Gid::from_raw));
    match unistd::fchownat(AT_FDCWD, path, uid, gid, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
        // Only root may give files away; others restore what they can, as restic does.
        Err(nix::errno::Errno::EPERM) if !unistd::geteuid().is_root() => {}
        result => result?,
    }
    if !node.is_symlink()
        && let Some(mode) = meta.mode
    {
        fs::set_permissions(path, fs::Permissions::from_mode(go_mode::to_unix(mode)))?;
    }
    for attribute in &meta.extended_attributes {
        let value = attribute.value.as_deref().unwrap_or_default();
        match xattr::set(path, &attribute.name, value) {
            // Trusted and security attributes need root; a file system may take none at all.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !unistd::geteuid().is_root() => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("extended attribute {}: {error}", attribute.name))),
            Ok(()) => {}
        }
    }
    if let Some(mtime) = meta.mtime {
        let nanoseconds = mtime.as_nanosecond();
        let second = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).map_err(io::Error::other)?;
        let rest = i64::try_from(nanoseconds.rem_euclid(1_000_000_000)).map_err(io::Error::other)?;
        let time = TimeSpec::new(second, rest);
        stat::utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    }
    Ok(())
}

/// Reads a file back and compares each blob's stretch with its id.
fn verify(path: &Path, blobs: &[BlobPlace]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).custom_flags(nofollow()).open(path)?;
    let mut buffer = Vec::new();
    for place in blobs {
        buffer.resize(usize::try_from(place.plain_length()).map_err(io::Error::other)?, 0);
        file.read_exact(&mut buffer)?;
        if ByteDigest::of(&buffer) != place.id.into_inner().to_hex().as_str() {
            return Err(io::Error::other("it reads back otherwise than it was written"));
        }
    }
    match file.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("it is longer than it was written")),
    }
}
