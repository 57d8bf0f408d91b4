//! The bytes of one path of a snapshot: a file as it is, a directory as a tar.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    CancellationToken,
    engine::repository::{RepositoryError, SnapshotReader, TreeEntry, TreeEntryKind},
    ground::{
        SourceError,
        progress::{ProgressSink, Unit},
    },
    recovery::{
        staged::{Sink, to_new_file},
        tarball::{TarOf, write_tar_of},
    },
};

/// The path that was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dumped {
    /// Number of bytes written: of the file, or of the tar.
    pub size_bytes: u64,
    /// True if the path is a directory, so that a tar was written.
    pub is_tar: bool,
}

/// Writes a file of a snapshot, or a directory as a tar with names relative to it. Each blob is compared with its id before it is
/// written. With `files_only`, a directory is refused.
///
/// # Errors
/// If the path does not exist or has no content; if content is damaged, after a part of it was written; [`SourceError::Output`] if
/// the output cannot be written.
pub async fn dump(
    snapshot: &SnapshotReader,
    path: &Path,
    files_only: bool,
    out: Box<dyn Write + Send>,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<Dumped, SourceError> {
    let entry = match path {
        path if path == Path::new("/") => None,
        path => Some(snapshot.entry(path).await.map_err(point)?),
    };
    let is_tar = entry.as_ref().is_none_or(|entry| entry.kind() == TreeEntryKind::Directory);
    if is_tar && files_only {
        return Err(SourceError::Refused(format!(
            "{} is a directory, and a terminal cannot show its tar: redirect the output, or name a file with --target",
            path.display()
        )));
    }
    let mut sink = Sink::new(out, false);
    let written = match &entry {
        Some(entry) if !is_tar => {
            Box::pin(file(snapshot, entry, &mut sink, progress, cancel)).await
        }
        entry => {
            let directory = entry.as_ref().map_or(Path::new("/"), |entry| &entry.path);
            let of = TarOf { directory, without_own_files: false };
            let tar = Box::pin(write_tar_of(snapshot, &of, &mut sink, progress, cancel));
            let tar = cancel.run_until_cancelled(tar).await;
            tar.unwrap_or(Err(SourceError::Cancelled)).map(drop)
        }
    };
    match written {
        Ok(()) => Ok(Dumped { size_bytes: sink.finish().await?, is_tar }),
        // Only `finish` returns the reason.
        Err(SourceError::Aborted) => sink.finish().await.and(Err(SourceError::Aborted)),
        // The reader of the output may not read any more.
        Err(SourceError::Cancelled) => Err(SourceError::Cancelled),
        Err(error) => {
            sink.abandon().await;
            Err(error)
        }
    }
}

/// Like [`dump`], into a file with access for its owner only, which appears once it is complete.
///
/// # Errors
/// As [`dump`]; [`SourceError::Refused`] if a file of that name exists.
pub async fn dump_to(
    snapshot: &SnapshotReader,
    path: &Path,
    target: &Path,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<Dumped, SourceError> {
    to_new_file(target, |out| dump(snapshot, path, false, out, progress, cancel)).await
}

async fn file(
    snapshot: &SnapshotReader,
    entry: &TreeEntry,
    out: &mut Sink,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<(), SourceError> {
    let path: PathBuf = entry.path.clone();
    if let Some(target) = entry.link_target() {
        return Err(SourceError::Unsupported(format!(
            "{} is a symbolic link to {}: dump that path instead",
            path.display(),
            target.display()
        )));
    }
    if entry.kind() != TreeEntryKind::File {
        let kind = entry.kind().as_str();
        return Err(SourceError::Unsupported(format!(
            "{} has no content: it is of the type {kind}",
            path.display()
        )));
    }
    let stage = progress.begin("reading the file", Unit::Bytes, Some(entry.size_bytes()));
    let places = snapshot.places(&entry.node).map_err(point)?;
    let wanted = places.len();
    let mut content = snapshot.stream_places(places);
    let (mut pieces, mut size_bytes) = (0, 0);
    while let Some(piece) =
        cancel.run_until_cancelled(content.recv()).await.ok_or(SourceError::Cancelled)?
    {
        let piece = piece.map_err(point)?;
        pieces += 1;
        size_bytes += piece.len() as u64;
        stage.advance(piece.len() as u64);
        out.write(piece).await?;
    }
    if pieces != wanted || size_bytes != entry.size_bytes() {
        return Err(point(RepositoryError::Damaged {
            object: path.display().to_string(),
            why: format!(
                "its content has {size_bytes} bytes, but its entry has {}",
                entry.size_bytes()
            ),
        }));
    }
    stage.finish();
    Ok(())
}

fn point(error: RepositoryError) -> SourceError {
    match error {
        RepositoryError::Cancelled => SourceError::Cancelled,
        error => SourceError::Point(error.into()),
    }
}
