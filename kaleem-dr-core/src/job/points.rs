//! Recovery points: what each run left.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::RunId;
use crate::{
    CancellationToken,
    point::PointReader,
    progress::ProgressSink,
    repository::{Repository, RepositoryError, Snapshot, SnapshotId},
    source::SourceName,
};

/// What one run left.
#[derive(Clone, Debug, Serialize)]
pub struct RecoveryPoint {
    /// The run.
    pub run: RunId,
    /// Host it ran on.
    pub host: String,
    /// When its first snapshot was taken.
    pub time: Timestamp,
    /// Its snapshots by source.
    pub snapshots: BTreeMap<SourceName, SnapshotId>,
    /// Sources that the config names and this point lacks, or holds only in part.
    pub missing: Vec<SourceName>,
}

impl RecoveryPoint {
    /// Whether every source of the config is in it, whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Groups snapshots of ours by run, newest first. `wanted` are the sources a complete point has.
#[must_use]
pub fn recovery_points(snapshots: &[Snapshot], wanted: &[SourceName]) -> Vec<RecoveryPoint> {
    let mut points: BTreeMap<RunId, (RecoveryPoint, Vec<SourceName>)> = BTreeMap::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.is_ours()) {
        let (Some(run), Some(source)) = (snapshot.run(), snapshot.source()) else { continue };
        let time = snapshot.time().timestamp();
        let (point, whole) = points.entry(run).or_insert_with(|| {
            let point =
                RecoveryPoint { run, host: snapshot.host().to_owned(), time, snapshots: BTreeMap::new(), missing: Vec::new() };
            (point, Vec::new())
        });
        point.time = point.time.min(time);
        if snapshot.is_whole() {
            whole.push(source.clone());
        }
        point.snapshots.insert(source, snapshot.id());
    }
    let mut points: Vec<RecoveryPoint> = points
        .into_values()
        .map(|(mut point, whole)| {
            point.missing = wanted.iter().filter(|source| !whole.contains(source)).cloned().collect();
            point
        })
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.time));
    points
}

/// Opens a source's snapshot for reading: of the newest run that has one, or of a run or snapshot named by the beginning of its id.
///
/// # Errors
/// When none matches, several do, or it cannot be read.
pub async fn open_point(
    repository: &Repository,
    source: &SourceName,
    wanted: &str,
    progress: &std::sync::Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<PointReader, RepositoryError> {
    let snapshot = find_snapshot(repository, source, wanted).await?;
    PointReader::open(repository.read(&snapshot).await?, progress.clone(), cancel.clone()).await
}

/// The snapshot that [`open_point`] opens.
///
/// # Errors
/// When none matches, or several do.
pub async fn find_snapshot(repository: &Repository, source: &SourceName, wanted: &str) -> Result<Snapshot, RepositoryError> {
    let snapshots = repository.snapshots().await?;
    let mut of_source = snapshots.iter().filter(|snapshot| snapshot.is_ours() && snapshot.source().as_ref() == Some(source));
    let matches = |snapshot: &&Snapshot| {
        snapshot.id().to_string().starts_with(wanted)
            || snapshot.run().is_some_and(|run| run.to_string().starts_with(&wanted.to_uppercase()))
    };
    let found = if wanted == "latest" {
        of_source.max_by_key(|snapshot| snapshot.time().timestamp())
    } else {
        let first = of_source.find(matches);
        let more = of_source.filter(matches).count();
        if more > 0 {
            return Err(RepositoryError::Ambiguous { wanted: wanted.to_owned(), count: more + 1 });
        }
        first
    };
    found.cloned().ok_or_else(|| RepositoryError::NoSnapshot { wanted: format!("{wanted} of source {source}") })
}
