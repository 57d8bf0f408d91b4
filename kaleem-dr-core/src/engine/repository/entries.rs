//! The entries of a snapshot's trees one by one: files, directories, links and the rest.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;
use rustic_core::{
    TreeId,
    repofile::{Node, NodeType, Tree},
};
use tokio::sync::mpsc;

use super::{RepositoryError, SnapshotReader, blocking, tree_entry::go_mode};

/// Limit for the entries that wait for the receiver.
const ENTRIES_IN_FLIGHT: usize = 256;

/// An entry of a snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeEntry {
    /// Its absolute path in the snapshot.
    pub path: PathBuf,
    pub(crate) node: Node,
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeEntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
}

impl TreeEntryKind {
    /// The kind in restic's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "dir",
            Self::Symlink => "symlink",
            Self::Pipe => "fifo",
            Self::Socket => "socket",
            Self::BlockDevice => "dev",
            Self::CharacterDevice => "chardev",
        }
    }

    /// The letter that `ls -l` begins a line with.
    fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::Pipe => 'p',
            Self::Socket => 's',
            Self::BlockDevice => 'b',
            Self::CharacterDevice => 'c',
        }
    }
}

impl TreeEntry {
    pub(crate) fn new(path: PathBuf, node: Node) -> Self {
        Self { path, node }
    }

    /// Its last component.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> TreeEntryKind {
        match self.node.node_type {
            NodeType::File => TreeEntryKind::File,
            NodeType::Dir => TreeEntryKind::Directory,
            NodeType::Symlink { .. } => TreeEntryKind::Symlink,
            NodeType::Fifo => TreeEntryKind::Pipe,
            NodeType::Socket => TreeEntryKind::Socket,
            NodeType::Dev { .. } => TreeEntryKind::BlockDevice,
            NodeType::Chardev { .. } => TreeEntryKind::CharacterDevice,
        }
    }

    /// Length of a file's content, in bytes; 0 for other entries.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.node.meta.size
    }

    /// Permission bits, `0o7777`; `None` if they were not recorded.
    #[must_use]
    pub fn mode(&self) -> Option<u32> {
        self.node.meta.mode.map(go_mode::to_unix)
    }

    /// The mode as Go's `fs.FileMode`, which restic stores.
    #[must_use]
    pub fn go_mode(&self) -> Option<u32> {
        self.node.meta.mode
    }

    /// Kind and permissions as `ls -l` shows them: `-rw-r--r--`.
    #[must_use]
    pub fn permissions(&self) -> String {
        let mode = self.mode().unwrap_or_default();
        let mut text = String::from(self.kind().letter());
        for (shift, special, set, unset) in
            [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
        {
            let bits = mode >> shift;
            text.push(if bits & 4 == 0 { '-' } else { 'r' });
            text.push(if bits & 2 == 0 { '-' } else { 'w' });
            text.push(match (bits & 1 != 0, mode & special != 0) {
                (true, true) => set,
                (false, true) => unset,
                (true, false) => 'x',
                (false, false) => '-',
            });
        }
        text
    }

    /// Id of the owner, if recorded.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.node.meta.uid
    }

    /// Id of the owner's group, if recorded.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.node.meta.gid
    }

    /// Name of the owner, if recorded.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.node.meta.user.as_deref().filter(|name| !name.is_empty())
    }

    /// Name of the owner's group, if recorded.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.node.meta.group.as_deref().filter(|name| !name.is_empty())
    }

    /// Time of the last change of its content, if recorded.
    #[must_use]
    pub fn mtime(&self) -> Option<Timestamp> {
        self.node.meta.mtime
    }

    /// Number of names of the file at the time of the capture; 0 if not recorded.
    #[must_use]
    pub fn links(&self) -> u64 {
        self.node.meta.links
    }

    /// Inode number at the time of the capture; 0 if not recorded.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.node.meta.inode
    }

    /// Target of a symbolic link.
    #[must_use]
    pub fn link_target(&self) -> Option<&Path> {
        self.node.is_symlink().then(|| self.node.node_type.to_link())
    }
}

/// The entries of a snapshot, one after the other.
#[derive(Debug)]
pub struct EntryWalk(mpsc::Receiver<Result<TreeEntry, RepositoryError>>);

impl EntryWalk {
    /// The next entry, or the error of a directory that could not be read; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<TreeEntry, RepositoryError>> {
        self.0.recv().await
    }
}

impl SnapshotReader {
    /// Entries of the snapshot, directories before their content, names in byte order: all of them if `below` is empty; otherwise
    /// these paths and the content of those that are directories, at every depth with `recursive`.
    ///
    /// A path that does not exist is an error between the entries, as a damaged directory is.
    #[must_use]
    pub fn entries(&self, below: &[PathBuf], recursive: bool) -> EntryWalk {
        let (sender, receiver) = mpsc::channel(ENTRIES_IN_FLIGHT);
        let (reader, below) = (self.clone(), below.to_vec());
        tokio::task::spawn_blocking(move || {
            // If the receiver is gone, the rest is not needed.
            let _ = Lister { reader: &reader, sender: &sender }.list(&below, recursive);
        });
        EntryWalk(receiver)
    }

    /// The entry at an absolute path, which is not the root.
    ///
    /// # Errors
    /// [`RepositoryError::NoPath`] if it does not exist; if a tree above it cannot be read.
    pub async fn entry(&self, path: &Path) -> Result<TreeEntry, RepositoryError> {
        let (reader, path) = (self.clone(), path.to_path_buf());
        blocking(move || reader.entry_at(&path)).await
    }

    fn entry_at(&self, path: &Path) -> Result<TreeEntry, RepositoryError> {
        let found = match absolute(path) {
            Some(path) => self.find(&path)?.map(|node| TreeEntry::new(path, node)),
            None => None,
        };
        found.ok_or_else(|| RepositoryError::NoPath {
            snapshot: self.snapshot().id().short(),
            path: path.to_path_buf(),
        })
    }
}

/// The path from the root, without `.`; `None` if it contains `..`, which a snapshot cannot.
pub(crate) fn absolute(path: &Path) -> Option<PathBuf> {
    let mut absolute = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir => return None,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(absolute)
}

/// The nodes of a tree in byte order of their names, which the order in the tree is not if names are escaped.
pub(crate) fn in_order(tree: Tree) -> std::vec::IntoIter<Node> {
    let mut nodes = tree.nodes;
    if !nodes.is_sorted_by(|a, b| a.name() <= b.name()) {
        nodes.sort_by_cached_key(|node| node.name().into_owned());
    }
    nodes.into_iter()
}

/// The receiver of entries is gone.
struct Gone;

struct Lister<'a> {
    reader: &'a SnapshotReader,
    sender: &'a mpsc::Sender<Result<TreeEntry, RepositoryError>>,
}

impl Lister<'_> {
    fn send(&self, entry: Result<TreeEntry, RepositoryError>) -> Result<(), Gone> {
        self.sender.blocking_send(entry).map_err(|_| Gone)
    }

    fn list(&self, below: &[PathBuf], recursive: bool) -> Result<(), Gone> {
        let root = self.reader.snapshot().file.tree;
        if below.is_empty() {
            return self.content(Path::new("/"), &root, true);
        }
        for path in below {
            if absolute(path).is_some_and(|path| path == Path::new("/")) {
                self.content(Path::new("/"), &root, recursive)?;
                continue;
            }
            match self.reader.entry_at(path) {
                Ok(entry) => {
                    let (path, subtree) = (entry.path.clone(), entry.node.subtree);
                    self.send(Ok(entry))?;
                    if let Some(subtree) = subtree {
                        self.content(&path, &subtree, recursive)?;
                    }
                }
                Err(error) => self.send(Err(error))?,
            }
        }
        Ok(())
    }

    fn content(&self, directory: &Path, tree: &TreeId, recursive: bool) -> Result<(), Gone> {
        let mut stack = Vec::new();
        match self.reader.tree(tree) {
            Ok(tree) => stack.push((directory.to_path_buf(), in_order(tree))),
            Err(error) => self.send(Err(error))?,
        }
        while let Some((directory, nodes)) = stack.last_mut() {
            let Some(node) = nodes.next() else {
                stack.pop();
                continue;
            };
            let (path, subtree) = (directory.join(node.name()), node.subtree);
            self.send(Ok(TreeEntry::new(path.clone(), node)))?;
            if let Some(subtree) = subtree.filter(|_| recursive) {
                match self.reader.tree(&subtree) {
                    Ok(tree) => stack.push((path, in_order(tree))),
                    Err(error) => self.send(Err(error))?,
                }
            }
        }
        Ok(())
    }
}
