//! The records of jobs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::ground::{Exit, RunId, SnapshotId, SourceName};

/// The kind of work that an event records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// A run: sources captured into snapshots.
    Backup,
    /// A pass of a mirror.
    Replicate,
    /// Objects restored from a replica.
    Repair,
    /// Snapshots copied into a repository of another id.
    Copy,
    /// Points proven, except by a drill.
    Verify,
    /// Points restored into scratch targets and compared, with their negative controls.
    Drill,
    /// A check of a repository's structure or bytes.
    Check,
    /// Snapshots forgotten by retention, outside of a backup.
    Forget,
    /// Unneeded data deleted, outside of a backup.
    Prune,
    /// A slice of a change log saved.
    Oplog,
    /// Everything recovered, on a new machine or after a loss.
    Recover,
}

impl EventKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 11] = [
        Self::Backup,
        Self::Replicate,
        Self::Repair,
        Self::Copy,
        Self::Verify,
        Self::Drill,
        Self::Check,
        Self::Forget,
        Self::Prune,
        Self::Oplog,
        Self::Recover,
    ];

    /// The name, which is also that of the command.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Replicate => "replicate",
            Self::Repair => "repair",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Drill => "drill",
            Self::Check => "check",
            Self::Forget => "forget",
            Self::Prune => "prune",
            Self::Oplog => "oplog",
            Self::Recover => "recover",
        }
    }
}

/// One finished piece of work, successful or not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Id of the run; the events of one job share it.
    pub run: RunId,
    /// Kind of the work; `history` prints its word.
    pub kind: EventKind,
    /// Name of the repository that it wrote to, without credentials.
    pub repository: String,
    /// Start of the work, by this machine's clock.
    pub started: Timestamp,
    /// End of the work, by this machine's clock.
    pub finished: Timestamp,
    /// Exit status of the work.
    pub exit: Exit,
    /// The report, as `--json` prints it.
    pub report: Value,
    /// The result of each source in each repository; empty for work on a repository as a whole.
    pub parts: Vec<Part>,
}

impl Event {
    /// Work of a moment that ended well, without a report and without parts.
    pub fn new(run: RunId, kind: EventKind, repository: impl Into<String>, at: Timestamp) -> Self {
        Self {
            run,
            kind,
            repository: repository.into(),
            started: at,
            finished: at,
            exit: Exit::Done,
            report: Value::Null,
            parts: Vec::new(),
        }
    }
}

/// The result of one source in one repository.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// Name of the source in the config.
    pub source: SourceName,
    /// Name of the repository, without credentials.
    pub repository: String,
    /// The created or examined snapshot.
    pub snapshot: Option<SnapshotId>,
    /// Its result, as an exit status.
    pub exit: u8,
    /// End of the work on this part.
    pub finished: Timestamp,
    /// Duration of the work on this part, in seconds.
    pub seconds: f64,
    /// Size of the source's data, in bytes.
    pub size_bytes: u64,
    /// Data added to the repository, in bytes.
    pub added_bytes: u64,
    /// Time that its data represent.
    pub consistent_at: Option<Timestamp>,
}

impl Part {
    /// A part that ended well, of which nothing else is known.
    pub fn new(source: SourceName, repository: impl Into<String>, finished: Timestamp) -> Self {
        Self {
            source,
            repository: repository.into(),
            snapshot: None,
            exit: Exit::Done.code(),
            finished,
            seconds: 0.0,
            size_bytes: 0,
            added_bytes: 0,
            consistent_at: None,
        }
    }
}

/// A part read from the ledger, with the kind of its event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PastPart {
    /// Kind of the work: `backup`, `drill`, …
    pub kind: String,
    /// The result of the source in that repository.
    #[serde(flatten)]
    pub part: Part,
}

/// An event read from the ledger.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct PastEvent {
    /// Id of the run; the events of one job share it.
    pub run: RunId,
    /// Kind of the work: `backup`, `replicate`, …
    pub kind: String,
    /// Name of the repository that it wrote to, without credentials.
    pub repository: String,
    /// Start of the work, by this machine's clock.
    pub started: Timestamp,
    /// End of the work, by this machine's clock.
    pub finished: Timestamp,
    /// Exit status of the work.
    pub exit: u8,
    /// Report of the work, as JSON.
    pub report: Value,
}
