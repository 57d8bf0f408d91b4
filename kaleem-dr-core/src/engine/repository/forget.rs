//! Forgets snapshots, and pins those that must be kept.

use std::sync::Arc;

use jiff::{Timestamp, Zoned};
use rustic_core::repofile::DeleteOption;

use super::{
    Repository, RepositoryError, commit,
    lock::Lock,
    retention::{ForgetReport, Retention, RetentionScope},
    snapshot::{PINNED_TAG, Snapshot, SnapshotId},
};
use crate::{CancellationToken, ground::progress::ProgressSink};

/// A snapshot that was pinned or unpinned. Its file is rewritten, so its id changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Rewritten {
    /// Id before the change; that file is deleted.
    pub from: SnapshotId,
    /// Id after the change; equal to `from` if nothing changed.
    pub to: SnapshotId,
}

impl Repository {
    /// Forgets snapshots by policy. The lock must be exclusive.
    ///
    /// # Errors
    /// As [`Retention::plan`]; also if a snapshot cannot be removed.
    pub async fn forget(
        &self,
        retention: &Retention,
        scope: &RetentionScope,
        dry_run: bool,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<ForgetReport, RepositoryError> {
        let mut report = retention.plan(self.snapshots().await?, scope, &Zoned::now())?;
        if dry_run {
            return Ok(report);
        }
        let ids: Vec<SnapshotId> =
            report.groups.iter().flat_map(|group| group.remove.iter().map(Snapshot::id)).collect();
        self.forget_snapshots(&ids, lock, progress, cancel).await?;
        report.dry_run = false;
        Ok(report)
    }

    /// Forgets these snapshots without applying any guard; that is up to the caller. The lock must be exclusive.
    ///
    /// # Errors
    /// If one cannot be removed; others may already be.
    pub async fn forget_snapshots(
        &self,
        ids: &[SnapshotId],
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<(), RepositoryError> {
        if ids.is_empty() {
            return Ok(());
        }
        lock.confirm().await?;
        let (progress, ids): (_, Vec<_>) = (progress.clone(), ids.iter().map(|id| id.0).collect());
        self.guarded(lock, cancel, move |repository, gate| {
            let engine = repository.engine(gate, &progress)?;
            engine.delete_snapshots(&ids).map_err(RepositoryError::engine("forget snapshots of"))
        })
        .await
    }

    /// Pins a snapshot, so that no policy of ours forgets it, or unpins it. Stock restic sees the tag `pinned`
    /// (`forget --keep-tag pinned`). The new file is written before the old one is removed. The lock must be exclusive.
    ///
    /// # Errors
    /// If the snapshot cannot be written or removed.
    pub async fn set_pinned(
        &self,
        snapshot: &Snapshot,
        pinned: bool,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<Rewritten, RepositoryError> {
        let from = snapshot.id();
        if snapshot.is_pinned() == pinned {
            return Ok(Rewritten { from, to: from });
        }
        let mut file = snapshot.file.clone();
        let mut tags: Vec<String> =
            snapshot.tags().into_iter().filter(|tag| tag != PINNED_TAG).collect();
        if pinned {
            tags.push(PINNED_TAG.to_owned());
        }
        file.tags = tags.join(",").parse().map_err(|_| {
            RepositoryError::NotCommitted(format!(
                "a tag of snapshot {} is not valid",
                from.short()
            ))
        })?;
        file.delete = if pinned { DeleteOption::Never } else { DeleteOption::NotSet };
        file.original.get_or_insert(from.0);
        let (to, _) = commit::publish(self, &file, lock).await?;
        self.forget_snapshots(&[from], lock, progress, cancel).await?;
        Ok(Rewritten { from, to })
    }
}

/// Checks that a snapshot may be forgotten just by naming it.
///
/// # Errors
/// [`RepositoryError::Guarded`] if it is pinned, or the last whole one of its source and host that is not dated in the future.
pub fn may_be_forgotten(
    snapshot: &Snapshot,
    among: &[Snapshot],
    now: Timestamp,
) -> Result<(), RepositoryError> {
    let short = snapshot.id().short();
    if snapshot.is_protected() {
        return Err(RepositoryError::Guarded(format!(
            "snapshot {short} is protected against deletion; run `kaleem-dr snapshot unpin {short}` first"
        )));
    }
    let is_good = |of: &Snapshot| of.is_ours() && of.is_whole() && !of.is_of_the_future(now);
    let same = |other: &&Snapshot| {
        other.id() != snapshot.id()
            && other.host() == snapshot.host()
            && other.source() == snapshot.source()
            && is_good(other)
    };
    if is_good(snapshot) && !among.iter().any(|other| same(&other)) {
        return Err(RepositoryError::Guarded(format!(
            "snapshot {short} is the last good one of its source on host {}; it is not forgotten",
            snapshot.host()
        )));
    }
    Ok(())
}
