//! The election of the host that prunes a shared repository: whoever takes the exclusive lock first
//! prunes and leaves a record of it; the others find the record and are done.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    CancellationToken,
    engine::repository::{
        Lock, PruneOptions, PruneReport, Pruned, Record, RecordKind, Repository, RepositoryError,
        Snapshot, SnapshotId, is_of_the_future,
    },
    ground::{error_chain, host::HostName, progress::ProgressSink},
};

/// Minimum wait for the locks of other hosts, for work that one of them may be doing already.
pub(crate) const ELECTED_PATIENCE: Duration = Duration::from_mins(30);

/// Reports whether snapshots of several hosts are in the repository.
#[must_use]
pub fn is_shared(snapshots: &[Snapshot]) -> bool {
    let mut hosts = snapshots.iter().filter(|snapshot| snapshot.is_ours()).map(Snapshot::host);
    hosts.next().is_some_and(|first| hosts.any(|host| host != first))
}

/// The newest prune that a record names; a date in the future does not count.
#[must_use]
pub fn last_prune(snapshots: &[Snapshot], now: Timestamp) -> Option<Pruned> {
    let records = Record::among(snapshots, RecordKind::Prune);
    // Oldest first.
    let newest = records.into_iter().rfind(|record| !is_of_the_future(record.time, now))?;
    Some(Pruned::new(newest.host, newest.time))
}

/// A prune of a repository that other hosts may have pruned. The lock must be exclusive, and the
/// snapshots were listed under it.
pub(crate) struct ElectedPrune<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) snapshots: &'a [Snapshot],
    pub(crate) host: &'a HostName,
    /// Time after a prune in which another one is unnecessary; zero to prune in any case.
    pub(crate) every: Duration,
    pub(crate) lock: &'a Lock,
    pub(crate) progress: &'a Arc<dyn ProgressSink>,
    pub(crate) cancel: &'a CancellationToken,
}

impl ElectedPrune<'_> {
    /// The report if a host has pruned the shared repository recently; `None` if this one has to.
    pub(crate) fn done_by_another(&self) -> Option<PruneReport> {
        if !is_shared(self.snapshots) {
            return None;
        }
        let now = Timestamp::now();
        let every = SignedDuration::try_from(self.every).unwrap_or(SignedDuration::MAX);
        let last = last_prune(self.snapshots, now)?;
        let is_recent = now.duration_since(last.time) < every;
        (!self.every.is_zero() && is_recent).then(|| PruneReport::unnecessary(last))
    }

    /// Prunes, unless a host has done so recently, and leaves the record.
    pub(crate) async fn run(&self, options: PruneOptions) -> Result<PruneReport, RepositoryError> {
        if let Some(done) = self.done_by_another() {
            return Ok(done);
        }
        let Self { repository, lock, progress, cancel, .. } = self;
        let report = repository.prune(options, lock, progress, cancel).await?;
        self.note(&report).await;
        Ok(report)
    }

    /// Records a prune of a shared repository in place of the one before it. A failure is a warning:
    /// another host then prunes as well.
    pub(crate) async fn note(&self, report: &PruneReport) {
        if !is_shared(self.snapshots) {
            return;
        }
        let noted = async {
            let old: Vec<SnapshotId> = Record::among(self.snapshots, RecordKind::Prune)
                .into_iter()
                .map(|record| record.snapshot)
                .collect();
            let text = json!({ "format": 1, "report": report }).to_string();
            let Self { repository, host, lock, progress, cancel, .. } = self;
            repository.add_host_record(RecordKind::Prune, host, text, lock).await?;
            repository.remove_records(&old, lock, progress, cancel).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(error = %error_chain(&error), "the prune could not be recorded for other hosts");
        }
    }
}
