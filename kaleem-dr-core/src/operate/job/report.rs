//! The report of a run.

use jiff::Timestamp;
use schemars::JsonSchema;
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

/// The report of a run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct RunReport {
    /// Id of the run, also in its snapshots' tags.
    pub run: RunId,
    /// Host that it ran on.
    pub host: String,
    /// Location of the repository, without credentials.
    pub repository: String,
    /// Start of the run, by this machine's clock.
    pub started: Timestamp,
    /// End of the run, by this machine's clock.
    pub finished: Timestamp,
    /// Everything was read, but nothing was written.
    pub dry_run: bool,
    /// A report for each source, in order.
    pub sources: Vec<SourceReport>,
    /// Number of forgotten snapshots; `None` if retention did not run.
    pub forgotten: Option<usize>,
    /// Report of the prune; `None` if it did not run.
    pub prune: Option<PruneReport>,
    /// Error of forget or prune; the snapshots are saved all the same.
    pub retention_error: Option<String>,
    /// A report for each secondary repository.
    #[serde(rename = "further")]
    pub secondaries: Vec<SecondaryReport>,
    /// Active alarms on this host after the run.
    pub alarms: Vec<Alarm>,
    /// Why retention was withheld: an alarm, or snapshots that could not be judged.
    pub withheld: Option<String>,
    /// Why the repository could not be used, if the run continued with a secondary one.
    pub repository_error: Option<String>,
    /// Why the snapshots lack what a new machine needs: the installation, or its sealed secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsealed: Option<String>,
    /// Commands of `backup.hooks.after` that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_error: Option<String>,
    /// Exit status of the run.
    pub exit: Exit,
}

/// The report of one source.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct SourceReport {
    /// Name of the source in the config.
    pub source: SourceName,
    /// Kind of the source: its `type` in the config.
    pub kind: String,
    /// Its snapshot; `None` if it failed, or in a dry run.
    pub snapshot: Option<SnapshotId>,
    /// Error of the source, with its causes; then there is no snapshot.
    pub error: Option<String>,
    /// Size of the captured data, in bytes.
    pub size_bytes: u64,
    /// Bytes added to the repository.
    pub added_bytes: u64,
    /// Number of captured artifacts; 0 for trees of files.
    pub artifacts: usize,
    /// Number of items (documents, definitions) in them, where they are counted.
    pub items: u64,
    /// Number of files captured from trees.
    pub files: u64,
    /// Number of files that were new, changed or unchanged.
    pub files_new: u64,
    /// Number of files that differ from the parent snapshot's: see `files_new`.
    pub files_changed: u64,
    /// Number of files that equal the parent snapshot's: see `files_new`.
    pub files_unmodified: u64,
    /// Uncompressed size of the blobs that were new to the repository, in bytes.
    pub new_blob_bytes: u64,
    /// Data of its last snapshot that the repository had lost and this run stored again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healed: Option<String>,
    /// Consistency grade of the data.
    pub consistency: Option<ConsistencyGrade>,
    /// The moment that the data belong to.
    pub consistent_at: Option<Timestamp>,
    /// Parts that could not be captured.
    pub incomplete: Vec<Incomplete>,
    /// Its staged file, if the config requests one.
    pub staged: Option<StagedFile>,
    /// Why the staged file is missing.
    pub staged_error: Option<String>,
    /// Commands of its `hooks.after` that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook_error: Option<String>,
    /// Its copies in secondary repositories.
    pub copies: Vec<CopyOutcome>,
    /// Duration of the work on it, in seconds.
    pub seconds: f64,
    /// Exit status of the source.
    pub exit: Exit,
}

/// The copy of a source's snapshot in a secondary repository.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct CopyOutcome {
    /// Name of the repository in the config.
    pub repository: String,
    /// Id of the snapshot there.
    pub snapshot: Option<SnapshotId>,
    /// Why the copy is missing.
    pub error: Option<String>,
    /// Bytes that the copy added to that repository.
    pub added_bytes: u64,
}

/// The report of a secondary repository.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct SecondaryReport {
    /// Its name in the config.
    pub repository: String,
    /// Its location; `None` if it could not be opened.
    pub location: Option<String>,
    /// Error of the repository, or of a copy to it.
    pub error: Option<String>,
    /// Bytes that all copies added to that repository.
    pub added_bytes: u64,
    /// Number of forgotten snapshots; `None` if retention did not run.
    pub forgotten: Option<usize>,
    /// Report of the prune; `None` if it did not run.
    pub prune: Option<PruneReport>,
    /// Error of forget or prune in that repository.
    pub retention_error: Option<String>,
}

impl SourceReport {
    /// The snapshot in the first repository that holds it: the run's own, or the secondary one that
    /// replaced it.
    pub(super) fn held(&self) -> Option<SnapshotId> {
        self.snapshot.or_else(|| self.copies.first()?.snapshot)
    }

    /// Reports whether no repository has a snapshot of the source.
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
            hook_error: None,
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
