//! How fresh the backups are.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    repository::{Snapshot, SnapshotId},
    source::SourceName,
};

/// One source's newest snapshot, and whether it is fresh enough.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    /// The source.
    pub source: SourceName,
    /// Its newest snapshot from this host; `None` when there is none.
    pub snapshot: Option<SnapshotId>,
    /// When it was taken.
    pub time: Option<Timestamp>,
    /// How old it is.
    pub age_seconds: Option<i64>,
    /// Whether the source gave everything.
    pub whole: bool,
    /// Whether it is missing or older than the limit.
    pub stale: bool,
}

/// Looks at each source's newest snapshot of `host`.
#[must_use]
pub fn status(
    snapshots: &[Snapshot],
    sources: &[SourceName],
    host: &str,
    limit: SignedDuration,
    now: Timestamp,
) -> Vec<SourceStatus> {
    sources
        .iter()
        .map(|source| {
            let newest = snapshots
                .iter()
                .filter(|snapshot| snapshot.is_ours() && snapshot.host() == host && snapshot.source().as_ref() == Some(source))
                .max_by_key(|snapshot| snapshot.time().timestamp());
            let time = newest.map(|snapshot| snapshot.time().timestamp());
            let age = time.map(|time| now.duration_since(time));
            SourceStatus {
                source: source.clone(),
                snapshot: newest.map(Snapshot::id),
                time,
                age_seconds: age.map(|age| age.as_secs()),
                whole: newest.is_some_and(Snapshot::is_whole),
                stale: age.is_none_or(|age| age > limit),
            }
        })
        .collect()
}
