//! The versions of files over the snapshots of a source: a full walk of the oldest snapshot, then only what changed from each
//! snapshot to the next. Memory grows with the matches and not with the trees.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use jiff::Timestamp;

use super::{
    changes::{ChangeKind, changes},
    patterns::Patterns,
};
use crate::{
    CancellationToken,
    engine::repository::{RepositoryError, Snapshot, SnapshotReader, TreeEntry},
    ground::error_chain,
};

/// A version of a file in consecutive snapshots.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileVersion {
    /// The entry, as the first of these snapshots has it.
    pub entry: TreeEntry,
    /// The first snapshot with this version.
    pub first: Arc<Snapshot>,
    /// The last snapshot with this version.
    pub last: Arc<Snapshot>,
}

/// The versions of the matching entries in these snapshots of one source, oldest first; sorted by path, then by time. A version that
/// disappears and returns is listed for each time. Directories that cannot be read are added to `damaged`.
///
/// # Errors
/// If the store fails, or on cancellation.
pub async fn history(
    reader: &SnapshotReader,
    snapshots: &[Snapshot],
    patterns: &Patterns,
    damaged: &mut Vec<String>,
    cancel: &CancellationToken,
) -> Result<Vec<FileVersion>, RepositoryError> {
    let mut open: BTreeMap<PathBuf, (TreeEntry, usize)> = BTreeMap::new();
    let mut versions: Vec<(TreeEntry, usize, usize)> = Vec::new();
    let mut before = None;
    for (number, snapshot) in snapshots.iter().enumerate() {
        let reader = reader.at(snapshot);
        let mut walk = changes(before.as_ref(), &reader, false);
        while let Some(change) = walk.next().await {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            let change = match change {
                Ok(change) => change,
                Err(error @ RepositoryError::Damaged { .. }) => {
                    damaged.push(format!(
                        "snapshot {}: {}",
                        snapshot.id().short(),
                        error_chain(&error)
                    ));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !patterns.matches(change.path()) {
                continue;
            }
            // Other owners or permissions are not another version, nor is the time of a directory, which changes with its content.
            let is_same = change.kind == ChangeKind::Metadata
                && change.old.as_ref().map(version) == change.new.as_ref().map(version);
            if is_same {
                continue;
            }
            if let Some((entry, first)) = open.remove(change.path()) {
                versions.push((entry, first, number - 1));
            }
            if let Some(entry) = change.new {
                open.insert(entry.path.clone(), (entry, number));
            }
        }
        before = Some(reader);
    }
    let last = snapshots.len().saturating_sub(1);
    versions.extend(open.into_values().map(|(entry, first)| (entry, first, last)));
    versions.sort_by(|a, b| (&a.0.path, a.1).cmp(&(&b.0.path, b.1)));
    let shared: Vec<Arc<Snapshot>> = snapshots.iter().cloned().map(Arc::new).collect();
    let made = |(entry, first, last): (TreeEntry, usize, usize)| FileVersion {
        entry,
        first: shared[first].clone(),
        last: shared[last].clone(),
    };
    Ok(versions.into_iter().map(made).collect())
}

/// The attributes that make a version, apart from the content.
fn version(entry: &TreeEntry) -> (bool, u64, Option<Timestamp>) {
    let is_directory = entry.node.is_dir();
    (is_directory, entry.size_bytes(), entry.mtime().filter(|_| !is_directory))
}
