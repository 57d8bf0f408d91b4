//! Compares files on disk with a snapshot: content, kind, owner, mode, times, links. Writes nothing.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{fcntl::OFlag, unistd::geteuid};
use rustic_core::repofile::{Node, NodeType};

use super::{FilesReport, Item, RestoreOptions, Selection, Walk, content::verify};
use crate::{
    CancellationToken,
    engine::repository::{RepositoryError, SnapshotReader, blocking, go_mode},
    ground::progress::{ProgressSink, Unit},
};

/// Compares a restored tree with the snapshot: everything that the options select must exist under their target as it was
/// captured. In the report, `verified` counts the equal paths, and `problems` lists the others. Additional files are ignored.
///
/// # Errors
/// If the snapshot cannot be read.
pub async fn compare_files(
    snapshot: &SnapshotReader,
    options: &RestoreOptions,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<FilesReport, RepositoryError> {
    let selection = Selection::of(&options.include, &options.exclude, options.without_own_files)?;
    let stage = progress.begin("comparing files", Unit::Bytes, None);
    let (reader, target) = (snapshot.clone(), options.target.clone());
    let mut walk = blocking(move || Walk::new(reader, selection, target)).await?;
    let (mut report, mut first_names) = (FilesReport::default(), HashMap::new());
    loop {
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        let (bar, token) = (stage.clone(), cancel.clone());
        let (more, next_walk, next_report, names) = blocking(move || {
            let window = walk.window()?;
            for item in window.iter().take_while(|_| !token.is_cancelled()) {
                compare_one(item, &mut report, &mut first_names, &token);
                bar.advance(item.size_bytes());
            }
            Ok((!window.is_empty(), walk, report, first_names))
        })
        .await?;
        (walk, report, first_names) = (next_walk, next_report, names);
        if !more {
            stage.finish();
            return Ok(report);
        }
    }
}

fn compare_one(
    item: &Item,
    report: &mut FilesReport,
    first_names: &mut HashMap<(u64, u64), PathBuf>,
    cancel: &CancellationToken,
) {
    match &item.node.node_type {
        NodeType::File => {
            report.files += 1;
            report.size_bytes += item.size_bytes();
        }
        NodeType::Dir => report.directories += 1,
        _ => report.others += 1,
    }
    match is_equal(item, first_names, cancel) {
        Ok(()) => report.verified += 1,
        Err(error) => report.problem(&item.target, error.to_string()),
    }
}

fn is_equal(
    item: &Item,
    first_names: &mut HashMap<(u64, u64), PathBuf>,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let (path, node) = (&item.target, &item.node);
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let same_kind = match &node.node_type {
        NodeType::File => kind.is_file(),
        NodeType::Dir => kind.is_dir(),
        NodeType::Symlink { .. } => kind.is_symlink(),
        NodeType::Fifo => kind.is_fifo(),
        NodeType::Socket => kind.is_socket(),
        NodeType::Chardev { .. } => kind.is_char_device(),
        NodeType::Dev { .. } => kind.is_block_device(),
    };
    if !same_kind {
        return Err(io::Error::other("it is of another kind"));
    }
    attributes(path, node, &found)?;
    if kind.is_symlink() && fs::read_link(path)? != node.node_type.to_link() {
        return Err(io::Error::other("it leads elsewhere"));
    }
    if !kind.is_file() {
        return Ok(());
    }
    if let Some(inode) = item.inode() {
        let first = first_names.entry(inode).or_insert_with(|| path.clone());
        if fs::symlink_metadata(&*first)?.ino() != found.ino() {
            return Err(io::Error::other(format!(
                "it is no longer a hard link to {}",
                first.display()
            )));
        }
    }
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    verify(&file, &item.blobs, cancel)
}

fn attributes(path: &Path, node: &Node, found: &fs::Metadata) -> io::Result<()> {
    let meta = &node.meta;
    let differs = |what: &str, expected: String, found: String| {
        Err(io::Error::other(format!("{what} {found}, but it was captured with {expected}")))
    };
    if let Some(mode) = meta.mode.filter(|_| !node.is_symlink()) {
        let (mut expected, mode) = (go_mode::to_unix(mode) & 0o7777, found.mode() & 0o7777);
        // A set-id bit is dropped if the file could not be given to its owner.
        if !geteuid().is_root() && (meta.uid, meta.gid) != (Some(found.uid()), Some(found.gid())) {
            expected &= 0o1777;
        }
        if expected != mode {
            return differs("its mode is", format!("{expected:o}"), format!("{mode:o}"));
        }
    }
    // Only root may give files away.
    if geteuid().is_root()
        && (meta.uid, meta.gid) != (Some(found.uid()), Some(found.gid()))
        && meta.uid.is_some()
    {
        return differs(
            "its owner is",
            format!("{:?}:{:?}", meta.uid, meta.gid),
            format!("{}:{}", found.uid(), found.gid()),
        );
    }
    if let Some(mtime) = meta.mtime {
        let time = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        if mtime.as_nanosecond() != time {
            return differs("its time is", mtime.as_nanosecond().to_string(), time.to_string());
        }
    }
    for attribute in &meta.extended_attributes {
        let value = xattr::get(path, &attribute.name)?;
        // Trusted and security attributes need root.
        if value != attribute.value && geteuid().is_root() {
            return Err(io::Error::other(format!(
                "its extended attribute {} is another",
                attribute.name
            )));
        }
    }
    Ok(())
}

/// Changes one byte in the middle of a file and keeps its times, so that only its content shows the damage. Returns the byte's
/// offset. For negative controls, on our own copies.
///
/// # Errors
/// If the file is empty, or cannot be written.
pub fn turn_a_byte(path: &Path) -> io::Result<u64> {
    let before = fs::symlink_metadata(path)?;
    if before.len() == 0 {
        return Err(io::Error::other("it is empty"));
    }
    let (at, mut byte) = (before.len() / 2, [0]);
    let file = OpenOptions::new().read(true).write(true).open(path).or_else(|error| {
        // The file is not writable, but the copy belongs to us, so we can change its permissions.
        let mut mode = before.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, before.mode() | 0o600);
        fs::set_permissions(path, mode).map_err(|_| error)?;
        OpenOptions::new().read(true).write(true).open(path)
    })?;
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x01], at)?;
    file.set_permissions(before.permissions())?;
    keep_times(&file, &before)?;
    Ok(at)
}

fn keep_times(file: &File, before: &fs::Metadata) -> io::Result<()> {
    let times =
        fs::FileTimes::new().set_modified(before.modified()?).set_accessed(before.accessed()?);
    file.set_times(times)
}
