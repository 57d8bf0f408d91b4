//! `restore files`: files of any snapshot, also of another tool's.

use std::path::PathBuf;

use super::{Site, SiteError, parts::released};
use crate::{
    engine::repository::{SnapshotReader, select},
    recovery::restore::{FilesReport, RestoreOptions, restore_files},
};

/// Where [`Site::restore_files`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesTarget {
    /// Below this directory.
    Directory(PathBuf),
    /// At their real paths, over what is there.
    InPlace,
}

/// What [`Site::restore_files`] restores.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilesRestore {
    /// `latest`, or the beginning of a snapshot's id.
    pub snapshot: String,
    /// Where to.
    pub target: FilesTarget,
    /// Only these paths or globs; everything where none is named.
    pub include: Vec<String>,
    /// Not these paths or globs.
    pub exclude: Vec<String>,
    /// Reads restored files back and compares them.
    pub verify: bool,
    /// Only lists what would be restored.
    pub dry_run: bool,
}

impl FilesRestore {
    /// Everything of the newest snapshot, read back afterwards.
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
    /// Restores files of a snapshot. Before any is written over in place, `agree` is asked with the plan; `None` when it said no. What could
    /// not be restored is in the report.
    ///
    /// # Errors
    /// [`SiteError::Refused`] for a restore in place from another host's snapshot, unless that host was named; [`SiteError::NothingMatches`];
    /// when there is no such snapshot, or the target cannot be used.
    pub async fn restore_files(
        &self,
        wanted: FilesRestore,
        agree: impl AsyncFnOnce(&FilesReport) -> bool,
    ) -> Result<Option<FilesReport>, SiteError> {
        let restoring = async {
            let repository = self.repository().await?;
            // A shared lock: nobody may prune what is read.
            {
                let held = self.wait_for(repository.lock_to_read(self.patience)).await?;
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
                released(held, done).await
            }
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
                "nothing in snapshot {}{} is meant by that",
                snapshot.id().short(),
                of.unwrap_or_default()
            )));
        }
        Ok(Some(report))
    }
}
