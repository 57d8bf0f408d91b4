//! What a run reports.

use jiff::Timestamp;
use serde::Serialize;

use super::StagedFile;
use crate::{
    engine::{
        manifest::{ConsistencyGrade, Incomplete},
        repository::{PruneReport, SnapshotId},
    },
    ground::{Exit, RunId, SourceName},
    operate::tripwire::Alarm,
    recovery::source::Unavailable,
};

/// What a run did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RunReport {
    /// Its id.
    pub run: RunId,
    /// Host it ran on.
    pub host: String,
    /// Repository, in words.
    pub repository: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// One line a source, in order.
    pub sources: Vec<SourceReport>,
    /// Snapshots forgotten; `None` when none was to be.
    pub forgotten: Option<usize>,
    /// What prune did; `None` when it was not to run.
    pub prune: Option<PruneReport>,
    /// Why retention failed, where it did.
    pub retention_error: Option<String>,
    /// What became of each secondary repository.
    #[serde(rename = "further")]
    pub secondaries: Vec<SecondaryReport>,
    /// Alarms that stand on this host after the run.
    pub alarms: Vec<Alarm>,
    /// Why retention was not run although it was wanted, or nobody can tell whether the snapshots are normal.
    pub withheld: Option<String>,
    /// Why the repository could not be used although the run went on with a secondary one.
    pub repository_error: Option<String>,
    /// How it all ended.
    pub exit: Exit,
}

/// What became of one source.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SourceReport {
    /// Its name.
    pub source: SourceName,
    /// Its kind.
    pub kind: String,
    /// Its snapshot; `None` when it failed, or in a dry run.
    pub snapshot: Option<SnapshotId>,
    /// Why it failed.
    pub error: Option<String>,
    /// Bytes captured.
    pub size_bytes: u64,
    /// Bytes added to the repository.
    pub added_bytes: u64,
    /// Artifacts captured.
    pub artifacts: usize,
    /// Items (documents, definitions) in those, where they are counted.
    pub items: u64,
    /// Files captured from trees.
    pub files: u64,
    /// Files that were new, changed, unchanged.
    pub files_new: u64,
    /// See `files_new`.
    pub files_changed: u64,
    /// See `files_new`.
    pub files_unmodified: u64,
    /// Plain bytes that were new to the repository.
    pub new_blob_bytes: u64,
    /// What the repository had lost of its last snapshot, where this run stored it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healed: Option<String>,
    /// How far the data belong to one moment.
    pub consistency: Option<ConsistencyGrade>,
    /// Which moment.
    pub consistent_at: Option<Timestamp>,
    /// What had to be left out.
    pub incomplete: Vec<Incomplete>,
    /// Its staged file.
    pub staged: Option<StagedFile>,
    /// Why there is no staged file although there should be.
    pub staged_error: Option<String>,
    /// What became of it in each secondary repository.
    pub copies: Vec<CopyOutcome>,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub exit: Exit,
}

/// What became of a source's snapshot in a secondary repository.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CopyOutcome {
    /// The repository's name in the config.
    pub repository: String,
    /// Its id there.
    pub snapshot: Option<SnapshotId>,
    /// Why it is not there.
    pub error: Option<String>,
    /// Bytes it added there.
    pub added_bytes: u64,
}

/// What became of a secondary repository.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SecondaryReport {
    /// Its name in the config.
    pub repository: String,
    /// Where it is, in words; `None` when it could not be opened.
    pub location: Option<String>,
    /// Why it, or a snapshot in it, is not as it should be.
    pub error: Option<String>,
    /// Bytes that were added.
    pub added_bytes: u64,
    /// Snapshots forgotten; `None` when none was to be.
    pub forgotten: Option<usize>,
    /// What prune did; `None` when it was not to run.
    pub prune: Option<PruneReport>,
    /// Why retention failed, where it did.
    pub retention_error: Option<String>,
}

impl SourceReport {
    /// The snapshot in the repository that holds it first: the run's own, or the one that stood in for it.
    pub(super) fn held(&self) -> Option<SnapshotId> {
        self.snapshot.or_else(|| self.copies.first()?.snapshot)
    }

    /// Whether no repository has a snapshot of it.
    pub(super) fn is_lost(&self) -> bool {
        self.error.is_some() && self.held().is_none()
    }

    pub(super) fn empty(source: SourceName, kind: String) -> Self {
        Self {
            source,
            kind,
            snapshot: None,
            error: None,
            size_bytes: 0,
            added_bytes: 0,
            artifacts: 0,
            items: 0,
            files: 0,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            new_blob_bytes: 0,
            healed: None,
            consistency: None,
            consistent_at: None,
            incomplete: Vec::new(),
            staged: None,
            staged_error: None,
            copies: Vec::new(),
            seconds: 0.0,
            exit: Exit::Done,
        }
    }

    pub(super) fn unavailable(source: &Unavailable) -> Self {
        let mut report = Self::empty(source.source.clone(), source.kind.clone());
        report.error = Some(format!("source {}: {}", source.source, source.why));
        report.exit = Exit::Usage;
        report
    }
}
