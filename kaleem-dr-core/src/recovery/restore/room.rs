//! Checks, before anything is written, that a restore fits on the target's file system.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

use super::{RestoreOptions, Selection, Walk};
use crate::{
    CancellationToken,
    engine::repository::{RepositoryError, SnapshotReader, blocking},
};

/// Additional space to require, as a fraction of what is needed: one part in this many, for inodes and partly filled blocks.
const MARGIN: u64 = 32;

/// Checks that a file system has this much free space. One that does not report its size, such as ramfs, counts as large enough.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] with both numbers; other errors if the file system cannot be queried. The directory itself need
/// not exist.
pub fn ensure_room(directory: &Path, needed_bytes: u64) -> io::Result<()> {
    let Some(free_bytes) = free_bytes(directory)? else { return Ok(()) };
    let wanted = needed_bytes.saturating_add(needed_bytes / MARGIN);
    if free_bytes >= wanted {
        return Ok(());
    }
    let why = format!(
        "{free_bytes} bytes are free and at least {wanted} are needed; make room, or name another directory"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

fn free_bytes(directory: &Path) -> io::Result<Option<u64>> {
    let directory = std::path::absolute(directory)?;
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let disk = statvfs(there)?;
    Ok((disk.blocks() > 0).then(|| disk.blocks_available().saturating_mul(disk.fragment_size())))
}

/// Like [`ensure_room`], for the selected part of a snapshot. Reads the trees only if the whole snapshot would not fit, because
/// holes and excluded files need no space.
pub(super) async fn ensure_for(
    snapshot: &SnapshotReader,
    options: &RestoreOptions,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    let target = options.target.clone();
    let failed =
        move |cause| RepositoryError::Path { path: target.clone(), action: "restore into", cause };
    if let Some(manifest) = snapshot.manifest().await?
        && ensure_room(
            &options.target,
            manifest.tree.size_bytes.saturating_add(manifest.size_bytes()),
        )
        .is_ok()
    {
        return Ok(());
    }
    let (reader, options, cancel) = (snapshot.clone(), options.clone(), cancel.clone());
    let target = options.target.clone();
    let needed = blocking(move || needed_bytes(reader, &options, &cancel)).await?;
    ensure_room(&target, needed).map_err(failed)
}

/// The minimum size. A hole is a repeated blob of zeros, so a blob equal to the previous one is not counted.
fn needed_bytes(
    snapshot: SnapshotReader,
    options: &RestoreOptions,
    cancel: &CancellationToken,
) -> Result<u64, RepositoryError> {
    let selection = Selection::of(&options.include, &options.exclude, options.without_own_files)?;
    let mut walk = Walk::new(snapshot, selection, PathBuf::from("/"))?;
    let mut needed = 0u64;
    loop {
        let window = walk.window()?;
        if window.is_empty() {
            return Ok(needed);
        }
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        for item in &window {
            let mut last = None;
            for blob in item.blobs.iter().filter(|blob| last.replace(blob.id) != Some(blob.id)) {
                needed = needed.saturating_add(blob.plain_length());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers_before_the_directory_exists() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("not/there");
        ensure_room(&target, 1).unwrap();
        let error = ensure_room(&target, u64::MAX / 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(
            error
                .to_string()
                .contains("bytes are free and at least 9511602413006487550 are needed"),
            "{error}"
        );
        assert!(!target.exists());
    }
}
