//! Everything in a snapshot's trees: how much there is, which packs it needs, and what is lost. One walk, in a few threads.
//!
//! A tree that occurs in several places is read once, and counted wherever it occurs.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use rustic_core::{Id, TreeId, repofile::Node};

use super::{RepositoryError, SnapshotReader, reader::BlobPlace, tree_threads::visit_all};
use crate::{
    CancellationToken,
    engine::manifest::{OWN_DIRECTORY, TreeTotals, is_own_path},
    ground::error_chain,
};

/// Limit for the defects of one kind that are listed; the rest is counted.
const LISTED: usize = 30;

/// The content of a snapshot, as its trees describe it.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Totals of everything that is neither an artifact nor one of our own files.
    pub(crate) totals: TreeTotals,
    /// Number of the wanted artifacts that exist.
    pub(crate) artifacts: u64,
    /// The needed packs; true for those with a tree, or with a part of a file that is not an artifact.
    pub(crate) packs: HashMap<Id, bool>,
    /// Trees and blobs that are lost or unreadable.
    pub(crate) lost: Defects,
    /// Files whose length is not that of their content.
    pub(crate) odd: Defects,
}

/// Defects of one kind: the first ones as sentences, and the number of the rest.
#[derive(Debug, Default)]
pub(crate) struct Defects {
    listed: Vec<String>,
    more: u64,
}

impl Defects {
    pub(crate) fn push(&mut self, sentence: String) {
        if self.listed.len() < LISTED {
            self.listed.push(sentence);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        for sentence in other.listed {
            self.push(sentence);
        }
        self.more += other.more;
    }

    /// The sentences; the last one counts those that are not listed.
    pub(crate) fn into_sentences(self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("{} more of this kind", self.more));
        self.listed.into_iter().chain(more).collect()
    }
}

/// A tree to read. Files are recognised by their paths only in named directories: the root, our own directory, and those that
/// lead to artifacts. Each of them is read at each of its places, any other tree once.
struct Pending {
    id: TreeId,
    path: PathBuf,
    is_named: bool,
}

/// A tree that was read.
#[derive(Default)]
struct Visited {
    totals: TreeTotals,
    artifacts: u64,
    below: Vec<Pending>,
    packs: HashMap<Id, bool>,
    lost: Defects,
    odd: Defects,
}

/// The counts of one tree, and the trees directly below it by their numbers.
#[derive(Default)]
struct Counted {
    totals: TreeTotals,
    artifacts: u64,
    below: Vec<usize>,
}

/// The artifacts to find, and the directories that lead to them.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    artifacts: HashSet<&'a Path>,
    directories: HashSet<&'a Path>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn of(artifacts: impl IntoIterator<Item = &'a Path>) -> Self {
        let artifacts: HashSet<&Path> = artifacts.into_iter().collect();
        let directories =
            artifacts.iter().flat_map(|artifact| artifact.ancestors().skip(1)).collect();
        Self { artifacts, directories }
    }

    fn names(&self, directory: &Path) -> bool {
        directory.starts_with(OWN_DIRECTORY) || self.directories.contains(directory)
    }
}

impl SnapshotReader {
    /// Reads every tree of the snapshot. Blocking.
    ///
    /// # Errors
    /// If the store fails, or on cancellation. Lost and damaged trees are in the result.
    pub(crate) fn contents(
        &self,
        wanted: &Wanted<'_>,
        cancel: &CancellationToken,
    ) -> Result<Contents, RepositoryError> {
        let mut contents = Contents::default();
        let mut counted = vec![Counted::default()];
        let mut numbers = HashMap::<TreeId, usize>::new();
        let root =
            Pending { id: self.snapshot().file.tree, path: PathBuf::from("/"), is_named: true };
        let mut level = vec![(0, root)];
        while !level.is_empty() {
            let mut next = Vec::new();
            let visit =
                |(number, tree): &(usize, Pending)| Ok((*number, self.visit(tree, wanted)?));
            for (number, visited) in visit_all(&level, cancel, visit)? {
                for (pack, holds_files) in visited.packs {
                    *contents.packs.entry(pack).or_default() |= holds_files;
                }
                contents.lost.extend(visited.lost);
                contents.odd.extend(visited.odd);
                counted[number].totals = visited.totals;
                counted[number].artifacts = visited.artifacts;
                for tree in visited.below {
                    let known = if tree.is_named { None } else { numbers.get(&tree.id) };
                    let below = known.copied().unwrap_or_else(|| {
                        let new = counted.len();
                        counted.push(Counted::default());
                        if !tree.is_named {
                            numbers.insert(tree.id, new);
                        }
                        next.push((new, tree));
                        new
                    });
                    counted[number].below.push(below);
                }
            }
            level = next;
        }
        (contents.totals, contents.artifacts) = sum(&counted);
        Ok(contents)
    }

    fn visit(&self, tree: &Pending, wanted: &Wanted<'_>) -> Result<Visited, RepositoryError> {
        let mut visited = Visited::default();
        match self.pack_of_tree(&tree.id) {
            Ok(pack) => {
                visited.packs.insert(pack, true);
            }
            Err(error) => {
                visited.lost.push(format!("{}: {error}", tree.path.display()));
                return Ok(visited);
            }
        }
        let nodes = match self.tree(&tree.id) {
            Ok(read) => read.nodes,
            Err(error @ RepositoryError::Damaged { .. }) => {
                visited.lost.push(format!("{}: {}", tree.path.display(), error_chain(&error)));
                return Ok(visited);
            }
            Err(error) => return Err(error),
        };
        for node in &nodes {
            self.count(tree, node, wanted, &mut visited);
        }
        Ok(visited)
    }

    fn count(&self, tree: &Pending, node: &Node, wanted: &Wanted<'_>, visited: &mut Visited) {
        let path = || tree.path.join(node.name());
        let named = tree.is_named.then(path);
        let is_own = named.as_deref().is_some_and(is_own_path);
        let is_artifact =
            named.as_deref().is_some_and(|path| wanted.artifacts.contains(path) && node.is_file());
        if let Some(id) = node.subtree {
            visited.totals.directories += u64::from(!is_own);
            let path = path();
            visited.below.push(Pending { id, is_named: wanted.names(&path), path });
            return;
        }
        if !node.is_file() {
            visited.totals.directories += u64::from(node.is_dir() && !is_own);
            visited.totals.others += u64::from(!node.is_dir() && !is_own);
            return;
        }
        let places = match self.places(node) {
            Ok(places) => places,
            Err(error) => {
                visited.lost.push(format!("{}: {}", path().display(), error_chain(&error)));
                return;
            }
        };
        let mut size_bytes = 0;
        for place in &places {
            *visited.packs.entry(place.pack()).or_default() |= !is_artifact;
            size_bytes += place.plain_length();
        }
        if size_bytes != node.meta.size {
            let path = path();
            visited.odd.push(format!(
                "{}: it is {} bytes long, but its content has {size_bytes}",
                path.display(),
                node.meta.size
            ));
        } else if is_artifact {
            visited.artifacts += 1;
        } else if !is_own {
            visited.totals.files += 1;
            visited.totals.size_bytes += size_bytes;
        }
    }

    /// The first files of the snapshot with content that `is_bad` names, and the number of the others. Blocking.
    ///
    /// # Errors
    /// As [`SnapshotReader::contents`].
    pub(crate) fn files_with(
        &self,
        is_bad: &dyn Fn(&BlobPlace) -> bool,
        cancel: &CancellationToken,
    ) -> Result<Defects, RepositoryError> {
        let mut found = Defects::default();
        let mut seen = HashSet::new();
        let mut pending = vec![(PathBuf::from("/"), self.snapshot().file.tree)];
        while let Some((directory, id)) = pending.pop() {
            if !seen.insert(id) {
                continue;
            }
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            // What cannot be read was reported before.
            let Ok(tree) = self.tree(&id) else { continue };
            for node in tree.nodes {
                if let Some(subtree) = node.subtree {
                    pending.push((directory.join(node.name()), subtree));
                } else if self.places(&node).is_ok_and(|places| places.iter().any(is_bad)) {
                    let path = directory.join(node.name());
                    found.push(format!("{}: a part of its content is damaged", path.display()));
                }
            }
        }
        Ok(found)
    }
}

/// The totals below the first tree: of each tree, as often as it occurs.
fn sum(counted: &[Counted]) -> (TreeTotals, u64) {
    let mut sums: Vec<Option<(TreeTotals, u64)>> = counted.iter().map(|_| None).collect();
    let mut pending = vec![0];
    while let Some(&number) = pending.last() {
        let tree = &counted[number];
        let before = pending.len();
        if sums[number].is_none() {
            pending.extend(tree.below.iter().filter(|below| sums[**below].is_none()));
        }
        if pending.len() > before {
            continue;
        }
        pending.pop();
        if sums[number].is_some() {
            continue;
        }
        let (mut totals, mut artifacts) = (tree.totals.clone(), tree.artifacts);
        for (below, more) in tree.below.iter().filter_map(|below| sums[*below].as_ref()) {
            totals.files = totals.files.saturating_add(below.files);
            totals.directories = totals.directories.saturating_add(below.directories);
            totals.others = totals.others.saturating_add(below.others);
            totals.size_bytes = totals.size_bytes.saturating_add(below.size_bytes);
            artifacts = artifacts.saturating_add(*more);
        }
        sums[number] = Some((totals, artifacts));
    }
    sums.swap_remove(0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: u64, below: &[usize]) -> Counted {
        let totals = TreeTotals { files, ..TreeTotals::default() };
        Counted { totals, artifacts: 1, below: below.to_vec() }
    }

    #[test]
    fn a_tree_counts_wherever_it_occurs() {
        let (totals, artifacts) =
            sum(&[tree(1, &[1, 2, 2]), tree(10, &[3]), tree(100, &[3, 3]), tree(1000, &[])]);
        assert_eq!(totals.files, 1 + 10 + 1000 + 2 * (100 + 2000));
        assert_eq!(artifacts, 1 + 2 + 2 * 3);
    }

    #[test]
    fn a_tree_that_doubles_at_each_level_is_summed_at_once() {
        let mut counted: Vec<Counted> = (0..200).map(|n| tree(1, &[n + 1, n + 1])).collect();
        counted.push(tree(1, &[]));
        for tree in &mut counted {
            tree.artifacts = 0;
        }
        assert_eq!(sum(&counted).0.files, u64::MAX, "the count is limited");
    }
}
