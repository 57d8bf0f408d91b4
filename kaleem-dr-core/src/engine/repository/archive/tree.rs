//! Builds the trees of a snapshot while its files are read: a directory is complete once it has been left and all of its files
//! and directories are.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    ffi::OsStr,
    mem,
    path::{Path, PathBuf},
};

use rustic_core::{
    IndexedFullStatus, TreeId,
    repofile::{Node, NodeType, SnapshotSummary, Tree},
};

use super::{
    packer::{Encoder, Packer},
    read::Content,
};
use crate::{
    engine::repository::{
        RepositoryError,
        reach::{Lost, read_tree},
    },
    ground::error_chain,
};

type Engine = rustic_core::Repository<IndexedFullStatus>;

/// The position of an entry: the number of its directory, and its position in it.
pub(super) type Place = (u64, usize);

/// An entry in a directory that is not complete.
enum Slot {
    Ready(Box<Node>),
    /// A file that is being read.
    Reading(Box<Node>, Change),
    /// A directory, or a file that could not be read.
    Empty,
}

/// A directory that is not complete.
struct Directory {
    /// Its own node; `None` for the root.
    node: Option<Node>,
    above: Option<Place>,
    slots: Vec<Slot>,
    /// Slots that wait for files or directories.
    waiting: usize,
    /// No further entry will come.
    is_left: bool,
    parent: Known,
    /// Nothing in it or below it was stored anew, or read again.
    is_reused: bool,
}

/// A directory of the parent snapshot.
#[derive(Default)]
struct Known {
    id: Option<TreeId>,
    tree: Tree,
    /// The first node that has not been passed.
    at: usize,
}

impl Known {
    /// The node with a name. Names are asked for in ascending order.
    fn find(&mut self, name: &OsStr) -> Option<&Node> {
        while let Some(node) = self.tree.nodes.get(self.at) {
            match (*node.name()).cmp(name) {
                Ordering::Less => self.at += 1,
                Ordering::Equal => return self.tree.nodes.get(self.at),
                Ordering::Greater => return None,
            }
        }
        None
    }
}

/// The difference of an entry from the parent snapshot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Unmodified,
    Changed,
    New,
}

/// The trees of a snapshot under construction.
pub(super) struct Trees<'a> {
    engine: &'a Engine,
    packer: &'a Packer<'a>,
    encoder: Encoder<'a>,
    directories: HashMap<u64, Directory>,
    /// The open directories from the root to the last entry, with their paths.
    open: Vec<(u64, PathBuf)>,
    next: u64,
    root: Option<TreeId>,
    summary: SnapshotSummary,
    reuse: Reuse,
}

/// The use that was made of the parent snapshot.
#[derive(Default)]
pub(super) struct Reuse {
    /// Trees of the parent that were read, and are the same now; everything below them is in the index.
    pub(super) whole: HashSet<TreeId>,
    /// Parts of the parent that are lost, and were therefore read again.
    pub(super) lost: Lost,
}

impl<'a> Trees<'a> {
    /// The empty root. `parent` is the tree of the parent snapshot. What it refers to is reused only if it is there.
    pub(super) fn new(
        engine: &'a Engine,
        packer: &'a Packer<'a>,
        encoder: Encoder<'a>,
        parent: Option<TreeId>,
    ) -> Result<Self, RepositoryError> {
        let mut trees = Self {
            engine,
            packer,
            encoder,
            directories: HashMap::new(),
            open: vec![(0, PathBuf::from("/"))],
            next: 1,
            root: None,
            summary: SnapshotSummary::default(),
            reuse: Reuse::default(),
        };
        let root = trees.opened(None, None, (parent, Path::new("/")))?;
        trees.directories.insert(0, root);
        Ok(trees)
    }

    /// An empty directory, with what the parent snapshot knows of it.
    fn opened(
        &mut self,
        node: Option<Node>,
        above: Option<Place>,
        (parent, path): (Option<TreeId>, &Path),
    ) -> Result<Directory, RepositoryError> {
        let parent = match parent {
            None => Known::default(),
            Some(id) => match read_tree(self.engine, &id, &|_| false)? {
                Ok(tree) => Known { id: Some(id), tree, at: 0 },
                Err(why) => {
                    self.reuse.lost.directory(path.to_owned(), why);
                    Known::default()
                }
            },
        };
        let is_reused = parent.id.is_some();
        let (slots, waiting, is_left) = (Vec::new(), 0, false);
        Ok(Directory { node, above, slots, waiting, is_left, parent, is_reused })
    }

    /// Enters a directory. Paths ascend, and a directory comes before its entries.
    pub(super) fn directory(&mut self, path: PathBuf, node: Node) -> Result<(), RepositoryError> {
        let above = self.leave_until(&path)?;
        let subtree = {
            let name = path.file_name().unwrap_or_default();
            let found = self.directory_of(above)?.parent.find(name);
            found.filter(|found| found.is_dir()).and_then(|found| found.subtree)
        };
        let into = self.directory_of(above)?;
        let place = (above, into.slots.len());
        into.slots.push(Slot::Empty);
        into.waiting += 1;
        let number = self.next;
        self.next += 1;
        let directory = self.opened(Some(node), Some(place), (subtree, &path))?;
        self.directories.insert(number, directory);
        self.open.push((number, path));
        Ok(())
    }

    /// Adds any other entry. Returns its place if it is a file that must be read.
    pub(super) fn entry(
        &mut self,
        path: &Path,
        mut node: Node,
    ) -> Result<Option<Place>, RepositoryError> {
        let above = self.leave_until(path)?;
        let engine = self.engine;
        let into = self.directory_of(above)?;
        let (mut change, mut is_lost) = (Change::New, false);
        if let Some(found) = into.parent.find(path.file_name().unwrap_or_default()) {
            change = if is_unmodified(found, &node) { Change::Unmodified } else { Change::Changed };
            let is_stored = |found: &Node| {
                found.content.iter().flatten().all(|blob| engine.get_index_entry(blob).is_ok())
            };
            if change == Change::Unmodified && node.node_type == NodeType::File {
                if found.content.is_some() && is_stored(found) {
                    node.content.clone_from(&found.content);
                } else {
                    (change, is_lost) = (Change::New, true);
                }
            }
        }
        let must_read = node.node_type == NodeType::File && change != Change::Unmodified;
        let place = (above, into.slots.len());
        let size_bytes = node.meta.size;
        let node = Box::new(node);
        into.slots.push(if must_read { Slot::Reading(node, change) } else { Slot::Ready(node) });
        into.is_reused &= change == Change::Unmodified;
        if must_read {
            into.waiting += 1;
        } else {
            self.count(change, size_bytes);
        }
        if is_lost {
            self.reuse.lost.file(path.to_owned());
        }
        Ok(must_read.then_some(place))
    }

    fn count(&mut self, change: Change, size_bytes: u64) {
        self.summary.total_files_processed += 1;
        self.summary.total_bytes_processed += size_bytes;
        let count = match change {
            Change::Unmodified => &mut self.summary.files_unmodified,
            Change::Changed => &mut self.summary.files_changed,
            Change::New => &mut self.summary.files_new,
        };
        *count += 1;
    }

    /// Completes a file that was read; without content, it is left out.
    pub(super) fn read(
        &mut self,
        (number, at): Place,
        content: Option<Content>,
    ) -> Result<(), RepositoryError> {
        let directory = self.directory_of(number)?;
        directory.waiting -= 1;
        let is_complete = directory.is_left && directory.waiting == 0;
        let slot = directory.slots.get_mut(at).ok_or_else(confused)?;
        let Slot::Reading(mut node, change) = mem::replace(slot, Slot::Empty) else {
            return Err(confused());
        };
        if let Some(Content { blobs, size_bytes }) = content {
            node.content = Some(blobs);
            *slot = Slot::Ready(node);
            self.count(change, size_bytes);
        }
        if is_complete { self.complete(number) } else { Ok(()) }
    }

    /// Leaves all directories: no further entry will come.
    pub(super) fn leave_all(&mut self) -> Result<(), RepositoryError> {
        while let Some((number, _)) = self.open.pop() {
            self.leave(number)?;
        }
        Ok(())
    }

    /// The tree of the root, the counts, and what was reused, once everything is complete.
    pub(super) fn finish(self) -> Result<(TreeId, SnapshotSummary, Reuse), RepositoryError> {
        Ok((self.root.ok_or_else(confused)?, self.summary, self.reuse))
    }

    /// Leaves the directories that do not contain a path. Returns the number of the one that does.
    fn leave_until(&mut self, path: &Path) -> Result<u64, RepositoryError> {
        let above = path.parent().ok_or_else(confused)?;
        loop {
            match self.open.last() {
                Some((number, open)) if open == above => return Ok(*number),
                // Every directory comes before its entries.
                Some((_, open)) if above.starts_with(open) => return Err(confused()),
                Some((number, _)) => {
                    let number = *number;
                    self.open.pop();
                    self.leave(number)?;
                }
                None => return Err(confused()),
            }
        }
    }

    fn leave(&mut self, number: u64) -> Result<(), RepositoryError> {
        let directory = self.directory_of(number)?;
        directory.is_left = true;
        if directory.waiting == 0 { self.complete(number) } else { Ok(()) }
    }

    /// Stores the tree of a directory, and those of the directories above that were waiting for it alone.
    fn complete(&mut self, mut number: u64) -> Result<(), RepositoryError> {
        loop {
            let Directory { node, above, slots, parent, is_reused, .. } =
                self.directories.remove(&number).ok_or_else(confused)?;
            let nodes = slots.into_iter().filter_map(|slot| match slot {
                Slot::Ready(node) => Some(*node),
                Slot::Reading(..) | Slot::Empty => None,
            });
            let id = self.store(&Tree { nodes: nodes.collect() }, parent.id)?;
            let is_reused = is_reused && parent.id == Some(id);
            if is_reused {
                self.reuse.whole.insert(id);
            }
            let (Some(mut node), Some((above, at))) = (node, above) else {
                self.root = Some(id);
                return Ok(());
            };
            node.subtree = Some(id);
            let into = self.directory_of(above)?;
            *into.slots.get_mut(at).ok_or_else(confused)? = Slot::Ready(Box::new(node));
            into.waiting -= 1;
            into.is_reused &= is_reused;
            if !into.is_left || into.waiting > 0 {
                return Ok(());
            }
            number = above;
        }
    }

    fn store(&mut self, tree: &Tree, parent: Option<TreeId>) -> Result<TreeId, RepositoryError> {
        let (json, id) = tree.serialize().map_err(|error| {
            RepositoryError::NotCommitted(format!(
                "a tree cannot be written: {}",
                error_chain(&error)
            ))
        })?;
        self.summary.total_dirs_processed += 1;
        self.summary.total_dirsize_processed += json.len() as u64;
        if parent == Some(id) {
            self.summary.dirs_unmodified += 1;
            return Ok(id);
        }
        if parent.is_some() {
            self.summary.dirs_changed += 1;
        } else {
            self.summary.dirs_new += 1;
        }
        if self.engine.get_index_entry(&id).is_err() {
            self.packer.add(id.into_inner(), &json, &mut self.encoder)?;
        }
        Ok(id)
    }

    fn directory_of(&mut self, number: u64) -> Result<&mut Directory, RepositoryError> {
        self.directories.get_mut(&number).ok_or_else(confused)
    }
}

/// Reports whether an entry is as it was in the parent snapshot: restic's rule, without the number of the inode, which other
/// file systems and containers change. A new inode has a new time of the last change of its attributes.
fn is_unmodified(before: &Node, now: &Node) -> bool {
    let (then, meta) = (&before.meta, &now.meta);
    before.node_type == now.node_type
        && then.size == meta.size
        && then.mtime == meta.mtime
        && then.ctime.zip(meta.ctime).is_none_or(|(then, now)| then == now)
}

fn confused() -> RepositoryError {
    RepositoryError::NotCommitted(
        "the entries of the capture are not in the order of a tree".into(),
    )
}
