//! Documents about what a repository contains: `status`, `points`, `snapshots`.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    engine::repository::Snapshot,
    ground::{RunId, SnapshotId, SourceName},
    operate::{job::SourceStatus, site::SiteStatus, tripwire::Alarm},
    recovery::points::RecoveryPoint,
};

/// A source in a repository: its freshness, its proofs, and its alarm.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StatusLine {
    /// Freshness and proofs.
    #[serde(flatten)]
    pub status: SourceStatus,
    /// The active alarm of the source on this host.
    pub alarm: Option<Alarm>,
}

impl StatusLine {
    /// A line for each repository and source.
    #[must_use]
    pub fn of(status: &SiteStatus) -> Vec<Self> {
        let line = |source: &SourceStatus| Self {
            status: source.clone(),
            alarm: status
                .alarms
                .iter()
                .find(|alarm| alarm.source == source.standing.source)
                .cloned(),
        };
        status.sources.iter().map(line).collect()
    }
}

/// A recovery point: the snapshots of one run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Point {
    /// Its snapshots.
    #[serde(flatten)]
    pub point: RecoveryPoint,
    /// It contains a whole snapshot of every source of the config.
    pub complete: bool,
}

impl From<&RecoveryPoint> for Point {
    fn from(point: &RecoveryPoint) -> Self {
        Self { point: point.clone(), complete: point.is_complete() }
    }
}

/// A snapshot as in `restic snapshots --json`, with additional fields.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SnapshotLine {
    /// Time of the snapshot.
    pub time: Timestamp,
    /// The paths that it contains.
    pub paths: Vec<PathBuf>,
    /// Host that it was captured on.
    pub hostname: String,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Name and version of the program that made it.
    pub program_version: String,
    /// Id of the snapshot.
    pub id: SnapshotId,
    /// Snapshot that it was copied or rewritten from.
    pub original: Option<SnapshotId>,
    /// The first eight digits of its id.
    pub short_id: String,
    /// Source of the snapshot, if kaleem-dr made it.
    pub source: Option<SourceName>,
    /// Run that created it, if kaleem-dr made it.
    pub run: Option<RunId>,
    /// Size of its content before deduplication, in bytes.
    pub size_bytes: Option<u64>,
    /// Data that it added to the repository, as stored, in bytes.
    pub added_bytes: Option<u64>,
}

impl From<&Snapshot> for SnapshotLine {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            time: snapshot.time().timestamp(),
            paths: snapshot.paths(),
            hostname: snapshot.host().to_owned(),
            tags: snapshot.tags(),
            program_version: snapshot.program().to_owned(),
            id: snapshot.id(),
            original: snapshot.original(),
            short_id: snapshot.id().short(),
            source: snapshot.source(),
            run: snapshot.run(),
            size_bytes: snapshot.size_bytes(),
            added_bytes: snapshot.added_bytes(),
        }
    }
}
