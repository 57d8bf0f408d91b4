//! Evidence: proofs and drill reports, kept in the repository as records, so that they survive their
//! host and a fleet sees them.
//!
//! A record of proofs contains those of one job; a record of a report has the exact text of the
//! report in the chain of its host, so the hash of its file is the one that the next report
//! contains. Evidence is what a host states about itself: whoever can write to the repository can
//! write it.

mod surplus;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::surplus::surplus;
use crate::{
    CancellationToken,
    engine::{
        ledger::{ChainedReport, Proof},
        repository::{
            Lock, LockKind, Record, RecordKind, Repository, RepositoryError, Snapshot, SnapshotId,
        },
    },
    ground::{RunId, digest::ByteDigest, error_chain, host::HostName, progress::ProgressSink},
};

/// Version of the records' format.
const FORMAT: u32 = 1;
/// Number of superseded records of a host that a job leaves in the repository before it removes
/// them itself, in case no job there forgets or prunes.
const SPARE: usize = 30;

/// The content of a record of proofs.
#[derive(Serialize, Deserialize)]
struct Proven {
    format: u32,
    /// The job that showed them.
    run: RunId,
    proofs: Vec<Proof>,
}

/// Proofs as a record keeps them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeptProofs {
    /// The record.
    pub record: SnapshotId,
    /// The host that wrote it.
    pub host: String,
    /// The proofs of one job.
    pub proofs: Vec<Proof>,
}

/// A drill's report as a record keeps it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeptReport {
    /// The record.
    pub record: SnapshotId,
    /// The host that wrote it.
    pub host: String,
    /// End of the drill; the time of the record if the report does not have one.
    pub finished: Timestamp,
    /// The report in the chain of its host.
    pub report: ChainedReport,
}

/// The evidence in a repository.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Evidence {
    /// Proofs, oldest record first.
    pub proofs: Vec<KeptProofs>,
    /// Reports, oldest record first.
    pub reports: Vec<KeptReport>,
}

impl Evidence {
    /// The evidence among a repository's snapshots. Records that a newer program wrote in another
    /// format are left out.
    #[must_use]
    pub fn among(snapshots: &[Snapshot]) -> Self {
        let proofs = Record::among(snapshots, RecordKind::Proof).into_iter().filter_map(|record| {
            let proven: Proven = serde_json::from_value(record.body).ok()?;
            (proven.format <= FORMAT).then_some(KeptProofs {
                record: record.snapshot,
                host: record.host,
                proofs: proven.proofs,
            })
        });
        let reports = Record::among(snapshots, RecordKind::Report).into_iter();
        Self { proofs: proofs.collect(), reports: reports.filter_map(KeptReport::of).collect() }
    }

    /// The longest unbroken chain of a host's reports that ends with its newest one, oldest first.
    #[must_use]
    pub fn chain(reports: &[KeptReport], host: &str) -> Vec<ChainedReport> {
        let mut own: Vec<&KeptReport> =
            reports.iter().filter(|report| report.host == host).collect();
        own.sort_by_key(|report| report.finished);
        let mut chain: Vec<ChainedReport> = Vec::new();
        let mut next = own.last().copied();
        while let Some(report) = next.filter(|report| !chain.contains(&report.report)) {
            chain.push(report.report.clone());
            let previous = report.report.previous.as_ref();
            next = own.iter().copied().find(|other| Some(&other.report.hash) == previous);
        }
        chain.reverse();
        chain
    }
}

impl KeptReport {
    fn of(record: Record) -> Option<Self> {
        let text = |key: &str| record.body.get(key).and_then(|value| value.as_str());
        let finished = text("finished").and_then(|time| time.parse().ok());
        Some(Self {
            record: record.snapshot,
            finished: finished.unwrap_or(record.time),
            report: ChainedReport {
                run: text("run")?.parse().ok()?,
                previous: text("previous").map(str::to_owned),
                hash: ByteDigest::of(record.text.as_bytes()),
                body: record.text,
            },
            host: record.host,
        })
    }
}

/// The results of a job that are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    /// The host that ran it.
    pub(crate) host: &'a HostName,
    pub(crate) run: RunId,
    pub(crate) proofs: &'a [Proof],
    /// Its report, if it was a drill or a recovery.
    pub(crate) report: Option<&'a ChainedReport>,
}

/// Writes what a job has shown to a repository, under a shared lock. If many records of its host are
/// superseded and no other program uses the repository, removes them.
pub(crate) async fn keep(
    repository: &Repository,
    shown: Shown<'_>,
    patience: Duration,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    if shown.proofs.is_empty() && shown.report.is_none() {
        return Ok(());
    }
    let lock = repository.lock(LockKind::Shared, patience).await?;
    let written = write(repository, shown, &lock).await;
    lock.release().await?;
    written?;
    if repository.is_append_only() {
        return Ok(());
    }
    let own = |snapshots: &[Snapshot]| {
        let mut surplus = surplus(snapshots, Timestamp::now());
        surplus.retain(|(host, _)| host == shown.host.as_str());
        surplus
    };
    if own(&repository.snapshots().await?).len() <= SPARE {
        return Ok(());
    }
    let lock = match repository.lock(LockKind::Exclusive, Duration::ZERO).await {
        // The next job tries again.
        Err(RepositoryError::Locked { .. }) => return Ok(()),
        lock => lock?,
    };
    let removed = async {
        let surplus = own(&repository.snapshots().await?);
        let records: Vec<SnapshotId> = surplus.into_iter().map(|(_, record)| record).collect();
        repository.remove_records(&records, &lock, progress, cancel).await
    }
    .await;
    lock.release().await.and(removed)
}

async fn write(
    repository: &Repository,
    shown: Shown<'_>,
    lock: &Lock,
) -> Result<(), RepositoryError> {
    if !shown.proofs.is_empty() {
        let proven = Proven { format: FORMAT, run: shown.run, proofs: shown.proofs.to_vec() };
        // Plain fields only, so serialisation cannot fail.
        let text = serde_json::to_string(&proven).unwrap_or_default();
        repository.add_host_record(RecordKind::Proof, shown.host, text, lock).await?;
    }
    if let Some(report) = shown.report {
        let text = report.body.clone();
        repository.add_host_record(RecordKind::Report, shown.host, text, lock).await?;
    }
    Ok(())
}

/// Removes the evidence of all hosts that newer evidence supersedes. The lock must be exclusive, and
/// `snapshots` were listed under it. A failure is a warning: forgetting and pruning do not depend on
/// it.
pub(crate) async fn trim(
    repository: &Repository,
    snapshots: &[Snapshot],
    lock: &Lock,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) {
    let surplus = surplus(snapshots, Timestamp::now());
    let records: Vec<SnapshotId> = surplus.into_iter().map(|(_, record)| record).collect();
    if let Err(error) = repository.remove_records(&records, lock, progress, cancel).await {
        tracing::warn!(error = %error_chain(&error), "superseded evidence could not be removed");
    }
}

#[cfg(test)]
mod tests;
