//! Frees space in two phases: a prune marks packs without references, and a later prune deletes them.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustic_core::{FileType, LimitOption};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Repository, RepositoryError,
    backend::Gate,
    blocking,
    lock::Lock,
    silent,
    store::{StoreErrorKind, TEMPORARY_DIRECTORY},
};
use crate::{CancellationToken, ground::progress::ProgressSink};

/// Before this time has passed, a writer that honours no locks may still need a marked pack.
pub const KEEP_MARKED: Duration = Duration::from_hours(23);

/// Options for pruning. The default marks packs, and deletes them a day later at the earliest.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Limit for unused data to keep, in percent of the used data.
    pub max_unused_percent: u64,
    /// Limit for the data to repack, in percent of the repository.
    pub max_repack_percent: u64,
    /// Delete immediately instead of only marking. Safe only if every writer honours restic's locks.
    pub instant: bool,
    /// Compute and report only; write nothing.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { max_unused_percent: 5, max_repack_percent: 10, instant: false, dry_run: false }
    }
}

/// The result of pruning, or of its plan.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct PruneReport {
    /// Packs marked now or before, and deleted by this prune.
    pub packs_deleted: u64,
    /// Total size of the deleted packs, in bytes.
    pub bytes_deleted: u64,
    /// Packs marked by this prune, deleted by one at least 23 hours later.
    pub packs_marked: u64,
    /// Size of the packs marked by this prune, including repacked ones, in bytes.
    pub bytes_marked: u64,
    /// Packs rewritten without their unused blobs.
    pub packs_repacked: u64,
    /// Packs in no index: remains of crashed or cancelled runs.
    pub packs_unreferenced: u64,
    /// Total size of the packs that no index names, in bytes.
    pub bytes_unreferenced: u64,
    /// Size of the data that snapshots refer to, in bytes.
    pub bytes_used: u64,
    /// Unused data that are kept, in bytes.
    pub bytes_unused: u64,
    /// True if nothing was written.
    pub dry_run: bool,
    /// The earlier prune that made this one unnecessary: then nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_by: Option<Pruned>,
}

/// A prune of a repository that several hosts share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Pruned {
    /// The host that pruned.
    pub host: String,
    /// End of the prune, by that host's clock.
    pub time: Timestamp,
}

impl Pruned {
    /// A prune of a host that ended at this time.
    pub fn new(host: impl Into<String>, time: Timestamp) -> Self {
        Self { host: host.into(), time }
    }
}

impl PruneReport {
    /// The report of a prune that an earlier one made unnecessary.
    #[must_use]
    pub fn unnecessary(earlier: Pruned) -> Self {
        Self { done_by: Some(earlier), ..Self::default() }
    }

    /// Reports whether no pack is deleted: one that is only marked exists for another 23 hours.
    #[must_use]
    pub fn deletes_nothing(&self) -> bool {
        self.packs_deleted == 0 && self.packs_unreferenced == 0
    }
}

/// The size of a repository.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct RepositoryStats {
    /// Number of snapshots in the repository.
    pub snapshots_count: u64,
    /// Number of blobs in the index.
    pub total_blob_count: u64,
    /// Number of packs in the index.
    pub packs_count: u64,
    /// Size of all objects, in bytes.
    pub total_size: u64,
    /// Uncompressed size of all blobs, in bytes.
    pub total_uncompressed_size: u64,
}

impl Repository {
    /// Prunes the repository. The lock must be exclusive.
    ///
    /// # Errors
    /// If the plan finds the repository damaged, or something cannot be written or removed.
    pub async fn prune(
        &self,
        options: PruneOptions,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<PruneReport, RepositoryError> {
        let listing = self.snapshot_listing().await?;
        if let Some(unreadable) = listing.unreadable.first() {
            return Err(RepositoryError::Guarded(format!(
                "{} is damaged ({}): what it needs would be treated as garbage. `kaleem-dr repair --from MIRROR` restores it; \
                 `kaleem-dr repair snapshots --forget` gives it up",
                unreadable.object, unreadable.why
            )));
        }
        if !options.dry_run {
            self.clear_half_written().await?;
        }
        match self.prune_once(options, lock, progress, cancel).await {
            Err(error) if error.is_full() && !options.dry_run => {
                tracing::warn!("the repository is full; what no snapshot needs is deleted at once");
                let freed = self.make_room(lock, progress, cancel).await?;
                let mut report = self.prune_once(options, lock, progress, cancel).await?;
                report.packs_deleted += freed.packs;
                report.bytes_deleted += freed.bytes;
                Ok(report)
            }
            Err(error @ RepositoryError::Engine { .. })
                if error.store_error_kind().is_none_or(StoreErrorKind::is_loss) =>
            {
                Err(self.why_not_pruned(error, cancel).await)
            }
            result => result,
        }
    }

    async fn prune_once(
        &self,
        options: PruneOptions,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<PruneReport, RepositoryError> {
        let progress = progress.clone();
        self.guarded(lock, cancel, move |repository, gate| {
            let engine = repository.engine(gate, &progress)?;
            let mut how = rustic_core::PruneOptions::default();
            how.max_unused = limit(options.max_unused_percent);
            how.max_repack = limit(options.max_repack_percent);
            how.instant_delete = options.instant;
            how.keep_delete =
                jiff::Span::new().seconds(i64::try_from(KEEP_MARKED.as_secs()).unwrap_or(i64::MAX));
            let plan =
                engine.prune_plan(&how).map_err(RepositoryError::engine("plan the prune of"))?;
            let report = report(&plan.stats, options);
            if !options.dry_run {
                engine.prune(&how, plan).map_err(RepositoryError::engine("prune"))?;
            }
            Ok(report)
        })
        .await
    }

    /// If the engine could not plan because the repository has lost data, returns an error that names the losses and the repair.
    async fn why_not_pruned(
        &self,
        error: RepositoryError,
        cancel: &CancellationToken,
    ) -> RepositoryError {
        match self.survey(cancel).await {
            Ok(survey) if !survey.damaged.is_empty() || !survey.lost.is_empty() => {
                RepositoryError::Guarded(format!(
                    "{} index files are damaged and {} packs are lost: pruning now could lose more. `kaleem-dr check` lists them and \
                 their repairs",
                    survey.damaged.len(),
                    survey.lost.len()
                ))
            }
            _ => error,
        }
    }

    /// Removes objects that a killed process was writing. No other program writes: the lock is exclusive.
    async fn clear_half_written(&self) -> Result<(), RepositoryError> {
        match self.0.store.list(TEMPORARY_DIRECTORY).await {
            Ok(objects) => {
                for object in objects {
                    self.0.store.delete(&object.key).await?;
                }
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Determines the size of the repository.
    ///
    /// # Errors
    /// If a listing or the index cannot be read.
    pub async fn stats(&self) -> Result<RepositoryStats, RepositoryError> {
        let repository = self.clone();
        blocking(move || {
            let engine = repository.engine(Gate::open(CancellationToken::new()), &silent())?;
            let files = engine.infos_files().map_err(RepositoryError::engine("list"))?;
            let index =
                engine.infos_index().map_err(RepositoryError::engine("read the index of"))?;
            let snapshots = files
                .repo
                .iter()
                .find(|info| info.tpe == FileType::Snapshot)
                .map_or(0, |info| info.count);
            Ok(RepositoryStats {
                snapshots_count: snapshots,
                total_blob_count: index.blobs.iter().map(|info| info.count).sum(),
                packs_count: index.packs.iter().map(|info| info.count).sum(),
                total_size: files.repo.iter().map(|info| info.size).sum(),
                total_uncompressed_size: index.blobs.iter().map(|info| info.data_size).sum(),
            })
        })
        .await
    }
}

/// rustic_core divides by the difference to 100 percent.
fn limit(percent: u64) -> LimitOption {
    if percent < 100 { LimitOption::Percentage(percent) } else { LimitOption::Unlimited }
}

fn report(stats: &rustic_core::PruneStats, options: PruneOptions) -> PruneReport {
    let size = stats.size_sum();
    let marked = (stats.packs.unused + stats.packs.repack, size.remove + size.repack);
    let (deleted, marked) = if options.instant {
        ((marked.0 + stats.packs_to_delete.remove, marked.1 + stats.size_to_delete.remove), (0, 0))
    } else {
        ((stats.packs_to_delete.remove, stats.size_to_delete.remove), marked)
    };
    PruneReport {
        packs_deleted: deleted.0,
        bytes_deleted: deleted.1,
        packs_marked: marked.0,
        bytes_marked: marked.1,
        packs_repacked: stats.packs.repack,
        packs_unreferenced: stats.packs_unref,
        bytes_unreferenced: stats.size_unref,
        bytes_used: size.used,
        bytes_unused: size.unused_after_prune(),
        dry_run: options.dry_run,
        done_by: None,
    }
}
