//! Follows everything that a snapshot's tree refers to, and checks that the index has all of it.
//!
//! rustic_core reuses a tree of the parent snapshot by its id, and never checks that the index has it or what it refers to. So
//! before a snapshot is released, and in a check, every tree below its root is read and every blob of every file is looked up.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
};

use rustic_core::{Id, IndexedFullStatus, TreeId, repofile::Tree};

use super::{RepositoryError, engine_error::store_error_kind, tree_threads::visit_all};
use crate::CancellationToken;

type Engine = rustic_core::Repository<IndexedFullStatus>;

/// Limit for the lost paths kept by name.
const NAMED: usize = 3;

/// The lost objects to which a tree refers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost {
    /// Directories whose tree is in no index, or does not decrypt.
    pub(crate) directories: u64,
    /// Files with a blob that is in no index.
    pub(crate) files: u64,
    /// The first of their paths.
    pub(crate) first: Vec<PathBuf>,
    /// Trees that an index names but whose content is damaged.
    pub(crate) damaged: Vec<String>,
}

impl Lost {
    pub(crate) fn is_empty(&self) -> bool {
        self.directories == 0 && self.files == 0
    }

    /// Adds a directory whose tree is lost.
    pub(super) fn directory(&mut self, path: PathBuf, why: Why) {
        self.directories += 1;
        self.name(path);
        if let Why::Damaged(why) = why {
            self.damaged.push(why);
        }
    }

    /// Adds a file with a lost blob.
    pub(super) fn file(&mut self, path: PathBuf) {
        self.files += 1;
        self.name(path);
    }

    fn name(&mut self, path: PathBuf) {
        if self.first.len() < NAMED {
            self.first.push(path);
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: Vec<String> = self.first.iter().map(|path| path.display().to_string()).collect();
        let more = (self.directories + self.files).saturating_sub(first.len() as u64);
        write!(
            f,
            "{} directories and {} files are lost: {}",
            self.directories,
            self.files,
            first.join(", ")
        )?;
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// Walks trees, and remembers those that are whole including everything below them.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    whole: HashSet<TreeId>,
    /// The packs with a blob of the walked trees, if requested.
    packs: Option<HashSet<Id>>,
}

/// One tree that was read.
struct Visited {
    id: TreeId,
    below: Vec<(TreeId, PathBuf)>,
    lost_files: Vec<PathBuf>,
    packs: HashSet<Id>,
    /// The reason why it is lost itself.
    lost: Option<Why>,
    path: PathBuf,
}

/// The reason why a tree is lost.
pub(super) enum Why {
    NotIndexed,
    Damaged(String),
}

impl Reach {
    /// A walk that collects the needed packs.
    pub(crate) fn collecting() -> Self {
        Self { packs: Some(HashSet::new()), ..Self::default() }
    }

    /// A walk that knows these trees to be whole including everything below them.
    pub(super) fn knowing(whole: HashSet<TreeId>) -> Self {
        Self { whole, packs: None }
    }

    /// The packs with a blob of the walked trees.
    pub(crate) fn into_packs(self) -> HashSet<Id> {
        self.packs.unwrap_or_default()
    }

    /// Reads every tree below `root` that is not known to be whole. The blobs of packs in `is_lost` count as lost even if the
    /// index names them. Blocking.
    ///
    /// # Errors
    /// If the store fails, or on cancellation.
    pub(crate) fn walk(
        &mut self,
        engine: &Engine,
        root: TreeId,
        is_lost: &(dyn Fn(&Id) -> bool + Sync),
        cancel: &CancellationToken,
    ) -> Result<Lost, RepositoryError> {
        let mut lost = Lost::default();
        let mut seen = HashSet::from([root]);
        let mut above: HashMap<TreeId, Vec<TreeId>> = HashMap::new();
        let mut broken = Vec::new();
        let mut pending = vec![(root, PathBuf::from("/"))];
        pending.retain(|(id, _)| !self.whole.contains(id));
        while !pending.is_empty() {
            let mut next = Vec::new();
            let visit = |(id, path): &(TreeId, PathBuf)| visit(engine, *id, path, is_lost);
            for visited in visit_all(&pending, cancel, visit)? {
                if let Some(packs) = &mut self.packs {
                    packs.extend(visited.packs);
                }
                if visited.lost.is_some() || !visited.lost_files.is_empty() {
                    broken.push(visited.id);
                }
                if let Some(why) = visited.lost {
                    lost.directory(visited.path, why);
                }
                visited.lost_files.into_iter().for_each(|path| lost.file(path));
                for (child, path) in visited.below {
                    if self.whole.contains(&child) {
                        continue;
                    }
                    above.entry(child).or_default().push(visited.id);
                    if seen.insert(child) {
                        next.push((child, path));
                    }
                }
            }
            pending = next;
        }
        // A broken tree, and every tree above it, is not whole.
        while let Some(id) = broken.pop() {
            if seen.remove(&id) {
                broken.extend(above.remove(&id).unwrap_or_default());
            }
        }
        self.whole.extend(seen);
        Ok(lost)
    }
}

fn visit(
    engine: &Engine,
    id: TreeId,
    path: &Path,
    is_lost: &(dyn Fn(&Id) -> bool + Sync),
) -> Result<Visited, RepositoryError> {
    let mut visited = Visited {
        id,
        below: Vec::new(),
        lost_files: Vec::new(),
        packs: HashSet::new(),
        lost: None,
        path: path.to_owned(),
    };
    match read_tree(engine, &id, is_lost)? {
        Ok(tree) => {
            visited.packs.extend(engine.get_index_entry(&id).map(|entry| entry.pack.into_inner()));
            for node in tree.nodes {
                if let Some(subtree) = node.subtree {
                    visited.below.push((subtree, path.join(node.name())));
                }
                let mut is_known = |blob| {
                    engine.get_index_entry(blob).is_ok_and(|entry| {
                        let pack = entry.pack.into_inner();
                        visited.packs.insert(pack);
                        !is_lost(&pack)
                    })
                };
                if !node.content.iter().flatten().all(&mut is_known) {
                    visited.lost_files.push(path.join(node.name()));
                }
            }
        }
        Err(why) => visited.lost = Some(why),
    }
    Ok(visited)
}

/// Reads a tree, or finds out why it is lost. The blobs of packs in `is_lost` count as lost.
pub(super) fn read_tree(
    engine: &Engine,
    id: &TreeId,
    is_lost: &(dyn Fn(&Id) -> bool + Sync),
) -> Result<Result<Tree, Why>, RepositoryError> {
    let Ok(entry) = engine.get_index_entry(id) else { return Ok(Err(Why::NotIndexed)) };
    let pack = entry.pack.into_inner();
    if is_lost(&pack) {
        return Ok(Err(Why::NotIndexed));
    }
    match engine.get_tree(id) {
        Ok(tree) => Ok(Ok(tree)),
        Err(error) if store_error_kind(&error).is_some_and(|kind| !kind.is_loss()) => {
            Err(RepositoryError::engine("read a tree of")(error))
        }
        Err(_) => Ok(Err(Why::Damaged(format!(
            "tree {} in pack {}",
            id.into_inner().to_hex().as_str(),
            super::survey::pack_key(&pack)
        )))),
    }
}
