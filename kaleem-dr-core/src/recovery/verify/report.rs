//! The result of a verification.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "ledger")]
use crate::engine::ledger::Proof;
#[cfg(feature = "ledger")]
use crate::ground::RunId;
use crate::{
    engine::{manifest::Incomplete, repository::SnapshotId},
    ground::{Exit, ProofLevel, finding::Finding, stopwatch::Stage},
    recovery::source::Control,
};

/// The result of a verification.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The verified snapshot or file, as shown to the operator.
    pub point: String,
    /// The source of the point, if known.
    pub source: Option<String>,
    /// The snapshot; `None` for a file.
    pub snapshot: Option<SnapshotId>,
    /// Host that it was captured on.
    #[serde(default)]
    pub host: Option<String>,
    /// The time that its data represent, if the manifest has it.
    pub consistent_at: Option<Timestamp>,
    /// Size of the source's data in it, in bytes.
    pub size_bytes: u64,
    /// The level that the verification was asked to prove.
    pub wanted: ProofLevel,
    /// The highest level proven, which includes those below it. An incomplete point is never proven.
    pub proven: Option<ProofLevel>,
    /// Parts that its capture had to leave out, or a rehearsal could not compare.
    #[serde(default)]
    pub incomplete: Vec<Incomplete>,
    /// Highest level proven for the existing parts of an incomplete point.
    #[serde(default)]
    pub held: Option<ProofLevel>,
    /// The reason why it could not be verified at all. Nothing is then known of it.
    #[serde(default)]
    pub error: Option<Untried>,
    /// Checks that found the point valid.
    pub checked: Vec<String>,
    /// Problems, and facts worth knowing.
    pub findings: Vec<Finding>,
    /// Stages with their durations, in order.
    pub stages: Vec<Stage>,
    /// Duration of the restore into the scratch target, in seconds, with its comparison and without the negative control.
    pub restore_seconds: Option<f64>,
    /// The negative control of that restore.
    pub control: Option<Control>,
    /// Duration of all of it, in seconds.
    pub seconds: f64,
}

impl VerifyReport {
    /// Converts it into a proof for the ledger; `None` for a file, or if the snapshot has no time that its data represent.
    #[cfg(feature = "ledger")]
    #[must_use]
    pub fn proof(&self, run: RunId, repository: &str, at: Timestamp) -> Option<Proof> {
        Some(Proof {
            run,
            source: self.source.as_deref()?.parse().ok()?,
            host: self.host.clone().unwrap_or_default(),
            repository: repository.to_owned(),
            snapshot: self.snapshot?,
            consistent_at: self.consistent_at?,
            at,
            wanted: self.wanted,
            proven: self.proven,
            size_bytes: self.size_bytes,
            restore_seconds: self.restore_seconds,
        })
    }

    /// The initial report of a point.
    pub(crate) fn of(point: String, source: Option<String>, wanted: ProofLevel) -> Self {
        Self {
            point,
            source,
            snapshot: None,
            host: None,
            consistent_at: None,
            size_bytes: 0,
            wanted,
            proven: None,
            incomplete: Vec::new(),
            held: None,
            error: None,
            checked: Vec::new(),
            findings: Vec::new(),
            stages: Vec::new(),
            restore_seconds: None,
            control: None,
            seconds: 0.0,
        }
    }

    /// The report of a source whose point could not be verified at all.
    #[cfg(feature = "operate")]
    pub(crate) fn untried(
        source: &crate::SourceName,
        wanted: ProofLevel,
        exit: Exit,
        why: String,
    ) -> Self {
        Self {
            error: Some(Untried { exit, why }),
            ..Self::of(format!("source {source}"), Some(source.to_string()), wanted)
        }
    }

    /// Reports whether the requested level is fully proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven.is_some_and(|proven| proven >= self.wanted)
    }

    /// The exit status: 4 if something is wrong, 3 if the existing parts are right but incomplete.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.error {
            Some(untried) => untried.exit,
            None if self.is_proven() => Exit::Done,
            None if self.held.is_some_and(|held| held >= self.wanted) => Exit::Partial,
            None => Exit::NotVerified,
        }
    }
}

/// The reason why a source's point could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Untried {
    /// Kind of the failure, as the exit status that it would cause alone.
    pub exit: Exit,
    /// The reason, with its causes, as one line.
    pub why: String,
}
