//! What a verification showed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{ledger::Proof, manifest::Incomplete, repository::SnapshotId},
    ground::{Exit, ProofLevel, RunId, SourceName, finding::Finding, stopwatch::Stage},
    recovery::source::Control,
};

/// What a verification showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// What was verified, in words: a snapshot or a file.
    pub point: String,
    /// The source it is of, where that is known.
    pub source: Option<String>,
    /// The snapshot; `None` for a file.
    pub snapshot: Option<SnapshotId>,
    /// The host it was captured on.
    #[serde(default)]
    pub host: Option<String>,
    /// The moment its data stand for, where the manifest tells.
    pub consistent_at: Option<Timestamp>,
    /// Bytes of the source in it.
    pub size_bytes: u64,
    /// The level that was asked for.
    pub wanted: ProofLevel,
    /// The highest level that holds, with all below it. An incomplete point is never proven.
    pub proven: Option<ProofLevel>,
    /// What its capture had to leave out, or a rehearsal could not compare.
    #[serde(default)]
    pub incomplete: Vec<Incomplete>,
    /// Of an incomplete point: the highest level that holds for what is in it.
    #[serde(default)]
    pub held: Option<ProofLevel>,
    /// Why it could not be verified at all. Then nothing is known of it.
    #[serde(default)]
    pub error: Option<Untried>,
    /// What was looked at and is well.
    pub checked: Vec<String>,
    /// What is wrong, or worth knowing.
    pub findings: Vec<Finding>,
    /// What took how long, in order.
    pub stages: Vec<Stage>,
    /// How long the restore into the scratch target took, with its comparison and without the negative control.
    pub restore_seconds: Option<f64>,
    /// The negative control of that restore.
    pub control: Option<Control>,
    /// How long all of it took.
    pub seconds: f64,
}

impl VerifyReport {
    /// It as a proof for the ledger; `None` where it is of a file, or the snapshot does not say of which moment it is.
    #[must_use]
    pub fn proof(&self, run: RunId, repository: &str, at: Timestamp) -> Option<Proof> {
        Some(Proof {
            run: run.to_string(),
            source: self.source.clone()?,
            host: self.host.clone().unwrap_or_default(),
            repository: repository.to_owned(),
            snapshot: self.snapshot?.to_string(),
            consistent_at: self.consistent_at?,
            at,
            wanted: self.wanted,
            proven: self.proven,
            size_bytes: self.size_bytes,
            restore_seconds: self.restore_seconds,
        })
    }

    /// Of a point of which nothing is known yet.
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

    /// Of a source whose point could not be verified at all.
    pub(crate) fn untried(
        source: &SourceName,
        wanted: ProofLevel,
        exit: Exit,
        why: String,
    ) -> Self {
        Self {
            error: Some(Untried { exit, why }),
            ..Self::of(format!("source {source}"), Some(source.to_string()), wanted)
        }
    }

    /// Whether all that was asked for is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven.is_some_and(|proven| proven >= self.wanted)
    }

    /// How it ended: 4 when something is wrong, 3 when what is there is right but incomplete.
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

/// Why a source's point could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Untried {
    /// What kind of failure it is.
    pub exit: Exit,
    /// Why.
    pub why: String,
}
