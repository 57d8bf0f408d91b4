//! `restore files`: restores files of any snapshot, including those of other programs.

use std::path::PathBuf;

use super::{Site, SiteError, parts::released};
use crate::{
    engine::repository::{SnapshotReader, select},
    recovery::restore::{FilesReport, RestoreOptions, restore_files},
};

/// Destination of [`Site::restore_files`]: in place or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesTarget {
    /// Below this directory, next to the live files.
    Directory(PathBuf),
    /// At their original paths, overwriting existing files.
    InPlace,
}

/// Options of [`Site::restore_files`]: snapshot, selection and destination.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilesRestore {
    /// `latest`, or the id prefix of a snapshot.
    pub snapshot: String,
    /// Destination: in place, or a directory.
    pub target: FilesTarget,
    /// Only these paths or globs; everything if empty.
    pub include: Vec<String>,
    /// Paths or globs to leave out.
    pub exclude: Vec<String>,
    /// Reads restored files back and compares them.
    pub verify: bool,
    /// Lists what would be restored, and writes nothing.
    pub dry_run: bool,
}

impl FilesRestore {
    /// Restores everything of the newest snapshot, and reads it back.
    #[must_use]
    pub fn to(target: FilesTarget) -> Self {
        Self {
            snapshot: "latest".into(),
            target,
            include: Vec::new(),
            exclude: Vec::new(),
            verify: true,
            dry_run: false,
        }
    }
}

impl Site {
    /// Restores files of a snapshot. Before existing files are overwritten, `agree` is called with
    /// the plan; `None` if it returned false. Files that could not be restored are in the report.
    ///
    /// # Errors
    /// [`SiteError::Refused`] for a restore in place from another host's snapshot, unless that host
    /// was named; [`SiteError::NothingMatches`]; if the snapshot does not exist, or the target is
    /// unusable.
    pub async fn restore_files(
        &self,
        wanted: FilesRestore,
        agree: impl AsyncFnOnce(&FilesReport) -> bool,
    ) -> Result<Option<FilesReport>, SiteError> {
        let restoring = async {
            let repository = self.repository().await?;
            // A shared lock, so that no prune deletes what is read.
            let lock = self.wait_for(repository.lock_to_read(self.patience)).await?;
            let done = async {
                let snapshots = repository.snapshots().await?;
                let chosen = select(&snapshots, &wanted.snapshot, &self.identity.scope)?;
                if wanted.target == FilesTarget::InPlace {
                    self.identity
                        .refuse_replacing_from(&chosen.id().short(), chosen.host())
                        .map_err(SiteError::Refused)?;
                }
                let snapshot = repository.read(chosen).await?;
                self.restore_files_of(&snapshot, wanted, agree).await
            }
            .await;
            released(lock, done).await
        };
        self.until_cancelled(Box::pin(restoring)).await
    }

    async fn restore_files_of(
        &self,
        snapshot: &SnapshotReader,
        wanted: FilesRestore,
        agree: impl AsyncFnOnce(&FilesReport) -> bool,
    ) -> Result<Option<FilesReport>, SiteError> {
        let in_place = wanted.target == FilesTarget::InPlace;
        let mut options = RestoreOptions {
            target: match wanted.target {
                FilesTarget::Directory(directory) => directory,
                FilesTarget::InPlace => "/".into(),
            },
            include: wanted.include,
            exclude: wanted.exclude,
            without_own_files: in_place,
            overwrite: in_place,
            verify: wanted.verify,
            dry_run: true,
        };
        let (progress, cancel) = (&self.progress, &self.cancel);
        if in_place && !wanted.dry_run {
            let plan = restore_files(snapshot, &options, progress, cancel).await?;
            if !agree(&plan).await {
                return Ok(None);
            }
        }
        options.dry_run = wanted.dry_run;
        let report = restore_files(snapshot, &options, progress, cancel).await?;
        if report.is_empty() {
            let snapshot = snapshot.snapshot();
            let of = snapshot.source().map(|source| format!(" of source {source}"));
            return Err(SiteError::NothingMatches(format!(
                "no file in snapshot {}{} matches the selection",
                snapshot.id().short(),
                of.unwrap_or_default()
            )));
        }
        Ok(Some(report))
    }
}
