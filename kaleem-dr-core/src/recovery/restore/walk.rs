//! A snapshot's trees, depth first, a window at a time.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustic_core::repofile::{Node, Tree};

use super::Selection;
use crate::{
    engine::repository::{BlobPlace, RepositoryError, SnapshotReader},
    recovery::extract_root::{Identity, Unfinished},
};

/// Limit for the blobs in one window: this bounds what is planned; only a few runs of them are in memory at once.
const WINDOW_BLOBS: usize = 2048;
/// Entries in one window.
const WINDOW_ITEMS: usize = 1024;
/// Limit for the directories in one window: each is kept open while files in it are written.
const WINDOW_DIRECTORIES: usize = 256;

/// A node that is being restored.
pub(crate) struct Item {
    pub(crate) node: Node,
    pub(crate) target: PathBuf,
    /// The path below the target: the path in the snapshot without its leading `/`.
    pub(crate) below: PathBuf,
    pub(crate) blobs: Vec<BlobPlace>,
    /// The file of which it is another name; it then has no content of its own.
    pub(super) link_to: Option<FirstName>,
    /// The file that its content goes into, while it is written.
    pub(super) unfinished: Option<Unfinished>,
}

/// The first name of a file that has several.
#[derive(Clone, Debug)]
pub(super) struct FirstName {
    pub(super) below: PathBuf,
    /// The created file; `None` until then.
    pub(super) identity: Option<Identity>,
}

impl Item {
    pub(crate) fn size_bytes(&self) -> u64 {
        self.blobs.iter().map(BlobPlace::plain_length).sum()
    }

    /// A key that all hard links of a file share; `None` if the file has no other name.
    pub(crate) fn inode(&self) -> Option<(u64, u64)> {
        let meta = &self.node.meta;
        (meta.links > 1 && meta.inode != 0).then_some((meta.device_id, meta.inode))
    }
}

/// Walks the trees depth first, a window at a time; directories come before their content.
pub(crate) struct Walk {
    snapshot: SnapshotReader,
    selection: Selection,
    target: PathBuf,
    /// Nodes still to visit, the next one last; each with its path in the snapshot.
    stack: Vec<(PathBuf, Node)>,
    /// Directories above the current path that are not selected themselves: they are created if something in them is.
    above: Vec<(PathBuf, Node)>,
}

impl Walk {
    pub(crate) fn new(
        snapshot: SnapshotReader,
        selection: Selection,
        target: PathBuf,
    ) -> Result<Self, RepositoryError> {
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
                    why: format!("it contains an entry named {}", name.display()),
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
        let (mut blobs, mut directories, mut last) = (0, 0, PathBuf::new());
        while blobs < WINDOW_BLOBS && items.len() < WINDOW_ITEMS && directories < WINDOW_DIRECTORIES
        {
            let Some(item) = self.next_item()? else { break };
            blobs += item.blobs.len();
            if item.below.parent() != Some(&last) {
                last = item.below.parent().unwrap_or(Path::new("")).to_path_buf();
                directories += 1;
            }
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
        let below = path.strip_prefix("/").unwrap_or(path).to_path_buf();
        Ok(Item {
            node,
            target: self.target.join(&below),
            below,
            blobs,
            link_to: None,
            unfinished: None,
        })
    }
}
