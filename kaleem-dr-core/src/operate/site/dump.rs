//! `dump`: writes the bytes of one path of a snapshot.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use super::{Site, SiteError, parts::of_repository};
use crate::{
    engine::repository::{RepositoryError, Snapshot, SnapshotReader},
    recovery::{
        look::{self, Dumped},
        view::RepositoryView,
    },
};

/// Destination of [`Site::dump`].
pub enum DumpTo {
    /// This file, which must not exist. It appears once it is complete.
    File(PathBuf),
    /// A stream, for example standard output.
    Stream {
        /// Destination of the data.
        out: Box<dyn Write + Send>,
        /// Refuses directories, whose tar a terminal cannot show.
        is_terminal: bool,
    },
}

/// Options of [`Site::dump`]: the snapshot, a path in it, and the destination.
#[non_exhaustive]
pub struct Dump {
    /// The name of a source, or a snapshot or run. See [`look::named`].
    pub of: String,
    /// Absolute path in the snapshot: a file, or a directory for a tar.
    pub path: PathBuf,
    /// Destination of the data.
    pub to: DumpTo,
}

impl Dump {
    /// A path of the newest whole point of a source, or of a snapshot.
    pub fn new(of: impl Into<String>, path: impl Into<PathBuf>, to: DumpTo) -> Self {
        Self { of: of.into(), path: path.into(), to }
    }
}

impl Site {
    /// Writes a file of a snapshot, or a directory as a tar with names relative to it. Each blob is
    /// compared with its id before it is written. Notes about the choice of the snapshot are logged
    /// as warnings.
    ///
    /// # Errors
    /// If the snapshot or the path does not exist, or the target exists; if the content is damaged,
    /// after a part of it was written to a stream.
    pub async fn dump(&self, wanted: Dump) -> Result<Dumped, SiteError> {
        let Dump { of, path, to } = wanted;
        let dumping = self.looking(async |view: &RepositoryView| {
            let named = self.looked_into(view, Some(&of), "", None).await?;
            named.notes.iter().for_each(|note| tracing::warn!("{note}"));
            let reader = with_path(view, &named.snapshots, &of, &path).await?;
            let (progress, cancel) = (&*self.progress, &self.cancel);
            let dumped = match to {
                DumpTo::File(target) => {
                    look::dump_to(&reader, &path, &target, progress, cancel).await
                }
                DumpTo::Stream { out, is_terminal } => {
                    look::dump(&reader, &path, is_terminal, out, progress, cancel).await
                }
            };
            dumped.map_err(of_repository)
        });
        self.until_cancelled(Box::pin(dumping)).await
    }
}

/// The only one of these snapshots that contains the path.
async fn with_path(
    view: &RepositoryView,
    snapshots: &[Snapshot],
    of: &str,
    path: &Path,
) -> Result<SnapshotReader, SiteError> {
    if let [only] = snapshots {
        return Ok(view.read(only).await?);
    }
    let mut found = Vec::new();
    for snapshot in snapshots {
        let reader = view.read(snapshot).await?;
        match reader.entry(path).await {
            Ok(_) => found.push(reader),
            Err(RepositoryError::NoPath { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let with: Vec<&Snapshot> = found.iter().map(SnapshotReader::snapshot).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let ids: Vec<String> = snapshots.iter().map(|snapshot| snapshot.id().short()).collect();
            let path = path.to_path_buf();
            Err(RepositoryError::NoPath { snapshot: ids.join(" "), path }.into())
        }
        _ => Err(RepositoryError::ambiguous(of, &with).into()),
    }
}
