//! What is noted of jobs.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::ground::{Exit, RunId};

/// What kind of work an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// A run of captures.
    Backup,
    /// A pass of a mirror.
    Replicate,
    /// Objects put back from a replica.
    Repair,
    /// Snapshots copied into a repository of another id.
    Copy,
    /// Points proven, short of a drill.
    Verify,
    /// Points restored into scratch targets and compared, with their negative controls.
    Drill,
    /// A look at a repository's structure or bytes.
    Check,
    /// Snapshots forgotten by retention, outside of a backup.
    Forget,
    /// Space given back, outside of a backup.
    Prune,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Backup,
        Self::Replicate,
        Self::Repair,
        Self::Copy,
        Self::Verify,
        Self::Drill,
        Self::Check,
        Self::Forget,
        Self::Prune,
    ];

    /// Its word, which is also the command's name.
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
        }
    }
}

/// One piece of work that ended, well or not.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub run: RunId,
    /// What it was.
    pub kind: EventKind,
    /// Repository it wrote to, in words.
    pub repository: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How it ended.
    pub exit: Exit,
    /// Its report, as `--json` prints it.
    pub report: Value,
    /// What became of each source in each repository; empty for work on a repository as a whole.
    pub parts: Vec<Part>,
}

/// What became of one source in one repository.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The source.
    pub source: String,
    /// The repository, in words.
    pub repository: String,
    /// The snapshot that was made or looked at.
    pub snapshot: Option<String>,
    /// How it ended, as an exit status.
    pub exit: u8,
    /// When it ended.
    pub finished: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Bytes of the source.
    pub size_bytes: u64,
    /// Bytes that were new to the repository.
    pub added_bytes: u64,
    /// The moment its data stand for.
    pub consistent_at: Option<Timestamp>,
}

/// A part as the ledger holds it, with the kind of its event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PastPart {
    /// `backup`, `drill`, …
    pub kind: String,
    /// What became of it.
    #[serde(flatten)]
    pub part: Part,
}

/// An event as the ledger holds it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PastEvent {
    /// Id of the run.
    pub run: String,
    /// `backup`, `replicate`, …
    pub kind: String,
    /// Repository it wrote to, in words.
    pub repository: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Exit status.
    pub exit: u8,
    /// Its report.
    pub report: Value,
}
