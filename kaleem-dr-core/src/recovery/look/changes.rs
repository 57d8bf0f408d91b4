//! The differences between the files of two snapshots, found by merging their trees; equal directories are not read.

use std::{
    iter::Peekable,
    path::{Path, PathBuf},
    vec::IntoIter,
};

use rustic_core::{
    TreeId,
    repofile::{Node, NodeType},
};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::engine::{
    manifest::is_own_path,
    repository::{RepositoryError, SnapshotReader, TreeEntry, in_order},
};

/// Limit for the changes that wait for the receiver.
const CHANGES_IN_FLIGHT: usize = 256;

/// The kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only the newer snapshot has it.
    Added,
    /// Only the older snapshot has it.
    Removed,
    /// Its content differs, or the target of a link.
    Content,
    /// Its mode, owner, time or extended attributes differ, and its content does not.
    Metadata,
    /// It is of another type: a file became a directory.
    Type,
}

impl ChangeKind {
    /// The kind of the change of something that differs, from where it exists: [`ChangeKind::Content`] if both have it.
    #[must_use]
    pub fn between<T>(old: Option<T>, new: Option<T>) -> Self {
        match (old, new) {
            (Some(_), Some(_)) => Self::Content,
            (Some(_), None) => Self::Removed,
            (None, _) => Self::Added,
        }
    }

    /// The letter of restic's `diff`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Content => 'M',
            Self::Metadata => 'U',
            Self::Type => 'T',
        }
    }
}

/// A difference between two snapshots.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeChange {
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The entry in the older snapshot, if it has it.
    pub old: Option<TreeEntry>,
    /// The entry in the newer snapshot, if it has it.
    pub new: Option<TreeEntry>,
}

impl TreeChange {
    /// Its absolute path in the snapshots.
    #[must_use]
    pub fn path(&self) -> &Path {
        let entry = self.new.as_ref().or(self.old.as_ref());
        entry.map_or(Path::new("/"), |entry| &entry.path)
    }

    fn of(path: &Path, old: Option<&Node>, new: Option<&Node>) -> Option<Self> {
        let kind = match (old, new) {
            (Some(old), Some(new)) => changed(old, new)?,
            (old, new) => ChangeKind::between(old, new),
        };
        let entry = |node: &Node| TreeEntry::new(path.to_path_buf(), node.clone());
        Some(Self { kind, old: old.map(entry), new: new.map(entry) })
    }
}

/// Changes counted by kind, and their sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChangeCounts {
    /// Entries that only the newer snapshot has.
    pub added: Counted,
    /// Entries that only the older snapshot has.
    pub removed: Counted,
    /// Files and links with other content.
    pub changed: u64,
    /// Entries with other attributes only.
    pub metadata: u64,
    /// Entries of another type.
    pub types: u64,
}

/// Counts of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counted {
    /// Number of regular files.
    pub files: u64,
    /// Number of directories.
    pub dirs: u64,
    /// Number of links, pipes, sockets and devices.
    pub others: u64,
    /// Length of the files, in bytes.
    pub bytes: u64,
}

impl Counted {
    fn add(&mut self, entry: Option<&TreeEntry>) {
        let Some(node) = entry.map(|entry| &entry.node) else { return };
        match node.node_type {
            NodeType::File => {
                self.files += 1;
                self.bytes += node.meta.size;
            }
            NodeType::Dir => self.dirs += 1,
            _ => self.others += 1,
        }
    }
}

impl ChangeCounts {
    /// Counts a change.
    pub fn add(&mut self, change: &TreeChange) {
        match change.kind {
            ChangeKind::Added => self.added.add(change.new.as_ref()),
            ChangeKind::Removed => self.removed.add(change.old.as_ref()),
            ChangeKind::Content => self.changed += 1,
            ChangeKind::Metadata => self.metadata += 1,
            ChangeKind::Type => self.types += 1,
        }
    }

    /// Reports whether there was no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The changes from one snapshot to another, one after the other.
#[derive(Debug)]
pub struct ChangeWalk(mpsc::Receiver<Result<TreeChange, RepositoryError>>);

impl ChangeWalk {
    /// The next change, or the error of a directory that could not be read; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<TreeChange, RepositoryError>> {
        self.0.recv().await
    }
}

/// The changes of files from `old` to `new`, in byte order of paths; with `old` absent, all entries as added. `without_own` leaves
/// out the files that each commit of ours adds.
#[must_use]
pub fn changes(
    old: Option<&SnapshotReader>,
    new: &SnapshotReader,
    without_own: bool,
) -> ChangeWalk {
    let (sender, receiver) = mpsc::channel(CHANGES_IN_FLIGHT);
    let (old, new) = (old.cloned(), new.clone());
    tokio::task::spawn_blocking(move || {
        let roots = (old.as_ref().map(tree_of), Some(tree_of(&new)));
        let mut merge = Merge { reader: new, sender, without_own, stack: Vec::new() };
        // If the receiver is gone, the rest is not needed.
        let _ = merge.run(roots);
    });
    ChangeWalk(receiver)
}

fn tree_of(reader: &SnapshotReader) -> TreeId {
    reader.snapshot().file.tree
}

/// The receiver of changes is gone.
struct Gone;

/// A directory in both snapshots, or in one of them.
struct Frame {
    path: PathBuf,
    old: Peekable<IntoIter<Node>>,
    new: Peekable<IntoIter<Node>>,
}

struct Merge {
    /// Reads the trees of both snapshots: they are in one repository.
    reader: SnapshotReader,
    sender: mpsc::Sender<Result<TreeChange, RepositoryError>>,
    without_own: bool,
    stack: Vec<Frame>,
}

impl Merge {
    fn run(&mut self, (old, new): (Option<TreeId>, Option<TreeId>)) -> Result<(), Gone> {
        self.enter(PathBuf::from("/"), old, new)?;
        while let Some(frame) = self.stack.last_mut() {
            let order = match (frame.old.peek(), frame.new.peek()) {
                (Some(old), Some(new)) => old.name().cmp(&new.name()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => {
                    self.stack.pop();
                    continue;
                }
            };
            let old = if order.is_le() { frame.old.next() } else { None };
            let new = if order.is_ge() { frame.new.next() } else { None };
            let Some(name) = new.as_ref().or(old.as_ref()).map(Node::name) else { continue };
            let path = frame.path.join(name);
            if self.without_own && is_own_path(&path) {
                continue;
            }
            if let Some(change) = TreeChange::of(&path, old.as_ref(), new.as_ref()) {
                self.send(Ok(change))?;
            }
            let tree = |node: &Option<Node>| node.as_ref().and_then(|node| node.subtree);
            self.enter(path, tree(&old), tree(&new))?;
        }
        Ok(())
    }

    fn enter(
        &mut self,
        path: PathBuf,
        old: Option<TreeId>,
        new: Option<TreeId>,
    ) -> Result<(), Gone> {
        if old == new {
            return Ok(());
        }
        // Without one of the two, everything in the other would appear to be added or removed.
        let (old, new) = match (self.nodes(old), self.nodes(new)) {
            (Ok(old), Ok(new)) => (old.peekable(), new.peekable()),
            (Err(error), _) | (_, Err(error)) => return self.send(Err(error)),
        };
        self.stack.push(Frame { path, old, new });
        Ok(())
    }

    fn nodes(&self, tree: Option<TreeId>) -> Result<IntoIter<Node>, RepositoryError> {
        match tree {
            Some(tree) => Ok(in_order(self.reader.tree(&tree)?)),
            None => Ok(Vec::new().into_iter()),
        }
    }

    fn send(&self, change: Result<TreeChange, RepositoryError>) -> Result<(), Gone> {
        self.sender.blocking_send(change).map_err(|_| Gone)
    }
}

/// The change of a node; `None` if it is equal. Access times, inodes and the times of streams that we captured do not count.
fn changed(old: &Node, new: &Node) -> Option<ChangeKind> {
    if std::mem::discriminant(&old.node_type) != std::mem::discriminant(&new.node_type) {
        return Some(ChangeKind::Type);
    }
    if old.node_type != new.node_type || old.content != new.content {
        return Some(ChangeKind::Content);
    }
    let (a, b) = (&old.meta, &new.meta);
    // Streams have no inode, and their time is that of the capture.
    let is_stream = a.inode == 0 && b.inode == 0 && a.uid.is_none() && b.uid.is_none();
    let is_equal = a.mode == b.mode
        && a.uid == b.uid
        && a.gid == b.gid
        && a.user == b.user
        && a.group == b.group
        && (is_stream || a.mtime == b.mtime)
        && a.extended_attributes == b.extended_attributes;
    (!is_equal).then_some(ChangeKind::Metadata)
}
