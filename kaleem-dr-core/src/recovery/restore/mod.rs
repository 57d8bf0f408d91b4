//! Restores a snapshot's files to disk, with constant memory; overwrites nothing unless requested.
//!
//! Files are processed in windows: the blobs of a window are read in runs of neighbouring blobs, several at once, and written to
//! their places. Blocks of zeros become holes. Attributes follow the content; those of directories come last, because every write
//! in a directory changes its time. With verification, each file is read back and compared blob by blob.

mod compare;
mod content;
mod disk;
mod room;
mod selection;
mod walk;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use ulid::Ulid;

use self::disk::Disk;
pub use self::{
    compare::{compare_files, turn_a_byte},
    room::ensure_room,
};
pub(crate) use self::{
    content::write_sparsely,
    selection::Selection,
    walk::{Item, Walk},
};
use crate::{
    CancellationToken,
    engine::manifest::{ArtifactRecord, TreeTotals},
    engine::repository::{RepositoryError, SnapshotReader, blocking},
    ground::{
        Exit,
        progress::{ProgressSink, Unit},
    },
};

/// Limit for the problems and notes that a report lists. The rest is only counted.
const LISTED: usize = 10_000;

/// The selection and options of a restore.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Directory under which the snapshot's paths are created.
    pub target: PathBuf,
    /// Restore only what is under these absolute paths of the snapshot, or matches these globs; empty for everything.
    pub include: Vec<String>,
    /// Exclude what matches these globs (against the whole path, or only the name if the glob has no `/`).
    pub exclude: Vec<String>,
    /// Leave out `/.kaleem-dr` and `/RESTORE.md`.
    pub without_own_files: bool,
    /// Overwrite existing files. Otherwise a target that is not empty is refused.
    pub overwrite: bool,
    /// Read every file back and compare it.
    pub verify: bool,
    /// Count what would be restored; write nothing.
    pub dry_run: bool,
}

impl RestoreOptions {
    /// Restores everything to an empty or new directory, and reads it back for comparison.
    #[must_use]
    pub fn new(target: PathBuf) -> Self {
        Self {
            target,
            include: Vec::new(),
            exclude: Vec::new(),
            without_own_files: false,
            overwrite: false,
            verify: true,
            dry_run: false,
        }
    }
}

/// The result of restoring files.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct FilesReport {
    /// Number of regular files written.
    pub files: u64,
    /// Further names of those files (hard links).
    pub links: u64,
    /// Number of directories, created or already there.
    pub directories: u64,
    /// Symbolic links, pipes, sockets, devices.
    pub others: u64,
    /// Size of the files, in bytes.
    pub size_bytes: u64,
    /// Files read back and found equal.
    pub verified: u64,
    /// Files that could not be restored, lack an attribute, or differ when read back.
    pub problems: Vec<FileProblem>,
    /// Number of problems beyond those listed.
    pub more_problems: u64,
    /// Events worth knowing that are not failures: directories that made way.
    pub notes: Vec<FileProblem>,
    /// Attributes that only root can set and that were not set, with the number of paths.
    pub roots_only: BTreeMap<String, u64>,
    /// Number of notes beyond those listed.
    pub more_notes: u64,
}

impl FilesReport {
    /// Reports whether the selection matched nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files + self.links + self.others + self.directories == 0 && self.problems.is_empty()
    }

    /// The report of files that were only read.
    pub(crate) fn of_read(trees: &TreeTotals, artifacts: &[ArtifactRecord]) -> Self {
        let files = trees.files + artifacts.len() as u64;
        let of_artifacts: u64 = artifacts.iter().map(|artifact| artifact.size_bytes).sum();
        Self {
            files,
            directories: trees.directories,
            others: trees.others,
            size_bytes: trees.size_bytes + of_artifacts,
            verified: files,
            ..Self::default()
        }
    }

    /// The totals of the restored trees, counted as a manifest counts them: each hard link as a file.
    #[must_use]
    pub fn totals(&self) -> TreeTotals {
        TreeTotals {
            files: self.files + self.links,
            directories: self.directories,
            others: self.others,
            size_bytes: self.size_bytes,
        }
    }

    /// The exit status: 3 if a file could not be restored as it was.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Done } else { Exit::Partial }
    }

    /// The attributes that were not set because only root can set them, as one sentence each.
    pub fn left_to_root(&self) -> impl Iterator<Item = String> + '_ {
        let sentence = |(what, paths): (&String, &u64)| {
            format!("only root can set the {what} of {paths} paths, so it was not set")
        };
        self.roots_only.iter().map(sentence)
    }

    pub(crate) fn problem(&mut self, path: &Path, why: String) {
        list(&mut self.problems, &mut self.more_problems, path, why);
    }

    pub(crate) fn note(&mut self, path: &Path, why: String) {
        list(&mut self.notes, &mut self.more_notes, path, why);
    }
}

/// One path that could not be restored.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FileProblem {
    /// Path in the target, decoded with replacement characters if it is not UTF-8.
    pub path: String,
    /// The problem, as the end of a sentence that begins with the path.
    pub why: String,
}

fn list(listed: &mut Vec<FileProblem>, more: &mut u64, path: &Path, why: String) {
    if listed.len() < LISTED {
        listed.push(FileProblem { path: path.to_string_lossy().into_owned(), why });
    } else {
        *more += 1;
    }
}

/// Restores files of a snapshot. In place, links above the snapshot's configured paths are followed (decision 9), but none below
/// them.
///
/// # Errors
/// [`RepositoryError::Guarded`] if the target is not empty; other errors if the snapshot cannot be read. Paths that cannot be
/// written are in the report: the caller must check [`FilesReport::problems`].
pub async fn restore_files(
    snapshot: &SnapshotReader,
    options: &RestoreOptions,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<FilesReport, RepositoryError> {
    let selection = Selection::of(&options.include, &options.exclude, options.without_own_files)?;
    if !options.overwrite && !options.dry_run && is_occupied(&options.target)? {
        return Err(RepositoryError::Guarded(format!(
            "{} is not empty; choose a new directory, or use --in-place to overwrite it",
            options.target.display()
        )));
    }
    if !options.overwrite && !options.dry_run {
        room::ensure_for(snapshot, options, cancel).await?;
    }
    let stage = progress.begin("restoring files", Unit::Bytes, None);
    let (reader, own_options, own_cancel) = (snapshot.clone(), options.clone(), cancel.clone());
    let (mut walk, mut disk) = blocking(move || {
        let roots = reader
            .snapshot()
            .paths()
            .iter()
            .filter_map(|path| path.strip_prefix("/").ok().map(Path::to_path_buf))
            .collect();
        let walk = Walk::new(reader, selection, own_options.target.clone())?;
        let target = own_options.target.clone();
        let disk = Disk::new(own_options, roots, own_cancel);
        Ok((
            walk,
            disk.map_err(|cause| RepositoryError::Path {
                path: target,
                action: "restore into",
                cause,
            })?,
        ))
    })
    .await?;
    loop {
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
        let written = if options.dry_run {
            Ok(())
        } else {
            content::write(snapshot, &window, &mut failed, &stage, cancel).await
        };
        disk = blocking(move || {
            match &written {
                Ok(()) => disk.complete(&window, failed),
                Err(_) => Disk::discard(&window),
            }
            written.map(|()| disk)
        })
        .await?;
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
    }
    let report = blocking(move || Ok(disk.finish())).await?;
    stage.finish();
    Ok(report)
}

/// A directory in `/var/tmp` that does not exist and whose name cannot be guessed, so that no other user can have created it
/// beforehand.
#[must_use]
pub fn default_target() -> PathBuf {
    // The last 16 characters of a ULID are 80 random bits.
    let random = Ulid::generate().to_string().to_lowercase();
    let now = jiff::Timestamp::now().strftime("%Y%m%d_%H%M%S");
    PathBuf::from(format!("/var/tmp/kaleem_restored_{now}_{}", &random[random.len() - 16..]))
}

/// Reports whether a directory that a restore would write into contains anything, apart from what every new file system contains.
pub(crate) fn is_occupied(target: &Path) -> Result<bool, RepositoryError> {
    match fs::read_dir(target) {
        Ok(entries) => Ok(entries.flatten().any(|entry| entry.file_name() != "lost+found")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => {
            Err(RepositoryError::Path { path: target.to_path_buf(), action: "look into", cause })
        }
    }
}
