//! The documents of `backup`: a line for each source in restic's form, then one for the run.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    engine::manifest::{ConsistencyGrade, Incomplete},
    ground::{RunId, SnapshotId, SourceName},
    operate::job::{RunReport, SourceReport},
};

/// A line of `backup --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "message_type", rename_all = "lowercase")]
pub enum BackupLine {
    /// A source that failed: it has no snapshot.
    Error(FailedSource),
    /// A source with its snapshot.
    Summary(Box<SourceSummary>),
    /// The run with all details; the last line.
    Run(Box<BackupRun>),
}

impl BackupLine {
    /// The lines of a run, in order.
    #[must_use]
    pub fn of(report: &RunReport) -> Vec<Self> {
        let source = |source: &SourceReport| match &source.error {
            Some(error) => Self::Error(FailedSource {
                error: SourceError { message: error.clone() },
                during: "backup",
                item: source.source.clone(),
            }),
            None => Self::Summary(Box::new(SourceSummary::of(report, source))),
        };
        let run = BackupRun { report: report.clone(), exit_code: report.exit.code() };
        report.sources.iter().map(source).chain([Self::Run(Box::new(run))]).collect()
    }
}

/// A source that failed, as restic's `error`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FailedSource {
    /// The error.
    pub error: SourceError,
    /// Always `backup`.
    pub during: &'static str,
    /// Name of the source.
    pub item: SourceName,
}

/// The error of a source.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceError {
    /// The error with its causes, as one line.
    pub message: String,
}

/// A source with its snapshot, as restic's `summary`, with additional fields.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceSummary {
    /// Everything was read, but nothing was written.
    pub dry_run: bool,
    /// Number of new files.
    pub files_new: u64,
    /// Number of changed files.
    pub files_changed: u64,
    /// Number of unchanged files.
    pub files_unmodified: u64,
    /// Uncompressed size of the blobs that were new to the repository, in bytes.
    pub data_added: u64,
    /// Data added to the repository, as stored, in bytes.
    pub data_added_packed: u64,
    /// Number of files.
    pub total_files_processed: u64,
    /// Size of the captured data, in bytes.
    pub total_bytes_processed: u64,
    /// Duration of the work on the source, in seconds.
    pub total_duration: f64,
    /// Its snapshot; `null` in a dry run.
    pub snapshot_id: Option<SnapshotId>,
    /// Name of the source.
    pub source: SourceName,
    /// Id of the run.
    pub run: RunId,
    /// Consistency grade of the data.
    pub consistency: Option<ConsistencyGrade>,
    /// The moment that the data belong to.
    pub consistent_at: Option<Timestamp>,
    /// Parts that could not be captured.
    pub incomplete: Vec<Incomplete>,
    /// Data of its last snapshot that the repository had lost and this run stored again.
    pub healed: Option<String>,
}

impl SourceSummary {
    fn of(run: &RunReport, source: &SourceReport) -> Self {
        Self {
            dry_run: run.dry_run,
            files_new: source.files_new,
            files_changed: source.files_changed,
            files_unmodified: source.files_unmodified,
            data_added: source.new_blob_bytes,
            data_added_packed: source.added_bytes,
            total_files_processed: source.files_new
                + source.files_changed
                + source.files_unmodified,
            total_bytes_processed: source.size_bytes,
            total_duration: source.seconds,
            snapshot_id: source.snapshot,
            source: source.source.clone(),
            run: run.run,
            consistency: source.consistency,
            consistent_at: source.consistent_at,
            incomplete: source.incomplete.clone(),
            healed: source.healed.clone(),
        }
    }
}

/// A run with all details.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BackupRun {
    /// The report.
    #[serde(flatten)]
    pub report: RunReport,
    /// Exit status of the run, as a number.
    pub exit_code: u8,
}
