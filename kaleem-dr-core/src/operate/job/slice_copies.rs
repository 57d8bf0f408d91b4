//! Copies the slices of a change log into a secondary repository, so that the points there reach the same moments.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use super::SecondaryRepository;
use crate::{
    CancellationToken,
    engine::{
        change_log::LogPosition,
        repository::{
            CopyOptions, CopyReport, KeepSpan, LockKind, Repository, RepositoryError, Snapshot,
            SnapshotId,
        },
    },
    ground::{RunId, SourceName, error_chain, host::HostName, progress::ProgressSink},
};

/// The slices of one source that were copied to a secondary repository.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SliceCopies {
    /// Name of the repository in the config.
    pub repository: String,
    /// Slices that were copied.
    pub slices: usize,
    /// Bytes that they added there.
    pub added_bytes: u64,
    /// Why some or all copies are missing.
    pub error: Option<String>,
}

/// The slices that are to be copied.
pub(crate) struct SlicesOf<'a> {
    /// The host that they belong to.
    pub(crate) host: &'a HostName,
    /// The sources that they belong to.
    pub(crate) sources: &'a [SourceName],
    /// Slices that are older than this, counted from the newest, stay behind: retention would remove them there.
    pub(crate) within: Option<KeepSpan>,
}

/// Copies the slices that a point in the secondary repository needs and that it lacks. Returns the result of each source.
///
/// A slice before the oldest point there is not copied. Slices of a source without a point there are copied after its first one.
pub(crate) async fn copy_slices(
    from: &Repository,
    to: &SecondaryRepository,
    wanted: &SlicesOf<'_>,
    patience: Duration,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> BTreeMap<SourceName, SliceCopies> {
    let copying = async {
        let destination = to.repository.as_ref().map_err(Clone::clone)?;
        copied(from, (destination, &to.tags), wanted, patience, progress, cancel)
            .await
            .map_err(|error| error_chain(&error))
    };
    let (copied, error) = match copying.await {
        Ok(copied) => (copied, None),
        Err(error) => (Copied::default(), Some(error)),
    };
    let Copied { slices, report } = copied;
    let of = |source: &SourceName| {
        let is_of = |id: SnapshotId| slices.get(&id) == Some(source);
        let made: Vec<_> = report.copied.iter().filter(|copy| is_of(copy.from)).collect();
        let failed = report.failed.iter().find(|failed| is_of(failed.snapshot));
        let copies = SliceCopies {
            repository: to.name.clone(),
            slices: made.len(),
            added_bytes: made.iter().map(|copy| copy.added_bytes).sum(),
            error: error.clone().or_else(|| failed.map(|failed| failed.error.clone())),
        };
        (source.clone(), copies)
    };
    wanted.sources.iter().map(of).collect()
}

/// The slices that were to be copied, with their sources, and the report.
#[derive(Default)]
struct Copied {
    slices: HashMap<SnapshotId, SourceName>,
    report: CopyReport,
}

async fn copied(
    from: &Repository,
    (to, tags): (&Repository, &[String]),
    wanted: &SlicesOf<'_>,
    patience: Duration,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<Copied, RepositoryError> {
    let missing = missing(&from.snapshots().await?, &to.snapshots().await?, wanted);
    if missing.is_empty() {
        return Ok(Copied::default());
    }
    let here = from.lock(LockKind::Shared, patience).await?;
    let there = match to.lock(LockKind::Shared, patience).await {
        Ok(there) => there,
        Err(error) => {
            here.release().await?;
            return Err(error);
        }
    };
    let options = CopyOptions { tags: tags.to_vec(), dry_run: false };
    let copied = from.copy_to(to, &missing, &options, (&here, &there), progress, cancel).await;
    let released = (here.release().await, there.release().await);
    let report = copied?;
    released.0?;
    released.1?;
    let slices = missing.iter().filter_map(|slice| Some((slice.id(), slice.sliced()?))).collect();
    Ok(Copied { slices, report })
}

/// The slices that the destination lacks, of those that its points need.
fn missing(from: &[Snapshot], to: &[Snapshot], wanted: &SlicesOf<'_>) -> Vec<Snapshot> {
    let mine =
        |snapshot: &&Snapshot| snapshot.host() == wanted.host.as_str() && snapshot.is_whole();
    let mut missing = Vec::new();
    for source in wanted.sources {
        let slices = |of: &[Snapshot]| -> Vec<Snapshot> {
            let slices = of.iter().filter(mine);
            slices.filter(|slice| slice.sliced().as_ref() == Some(source)).cloned().collect()
        };
        let bases = to
            .iter()
            .filter(mine)
            .filter(|point| point.is_ours() && point.source().as_ref() == Some(source));
        let oldest: Option<LogPosition> =
            bases.filter_map(|point| Some(point.log_span()?.after)).min();
        let Some(oldest) = oldest else { continue };
        let there: HashSet<_> = slices(to).iter().map(identity).collect();
        let here = slices(from);
        let newest = here.iter().map(Snapshot::time).max_by_key(|time| time.timestamp());
        let limit = wanted
            .within
            .zip(newest)
            .and_then(|(within, newest)| Some(newest.checked_sub(within.span()).ok()?.timestamp()));
        missing.extend(
            here.iter()
                .filter(|slice| {
                    slice.log_span().is_none_or(|span| span.to > oldest)
                        && limit.is_none_or(|limit| slice.time().timestamp() >= limit)
                        && !there.contains(&identity(slice))
                })
                .cloned(),
        );
    }
    missing
}

/// A slice and its copies have the same run and time.
fn identity(slice: &Snapshot) -> (Option<RunId>, Timestamp) {
    (slice.run(), slice.time().timestamp())
}
