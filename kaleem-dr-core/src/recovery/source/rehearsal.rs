//! Types for rehearsals: the scratch target, the negative control, and the result of a format check.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::difference::Difference;
use crate::ground::{
    failpoint::{self, Step},
    finding::Finding,
};

/// The name and directory for a rehearsal's own objects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScratchTarget {
    /// The name of everything in this rehearsal: `kdr_drill_` and a ULID in lower case. Valid as a database, virtual host or
    /// collection.
    pub name: String,
    /// An empty directory for its own use; the creator removes it.
    pub directory: PathBuf,
    /// After the restore, damage the result in one place and compare it again: see [`Control`].
    pub control: bool,
}

impl ScratchTarget {
    /// A target without a negative control.
    pub fn new(name: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), directory: directory.into(), control: false }
    }

    /// Called by a source when it has filled the target and is about to compare. Debug builds can be killed here by a failpoint.
    pub fn filled(&self) {
        failpoint::pass(Step::Scratch);
    }
}

/// The negative control of a rehearsal: the scratch target was damaged on purpose, and the same comparison had to detect it. If
/// it did not, finding the rest equal proves nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Control {
    /// The damage: `deleted one document of users`.
    pub damage: String,
    /// The differences that the comparison found. Empty means that it cannot detect damage.
    pub found: Vec<Difference>,
    /// Duration of the damage and the second comparison, in seconds.
    pub seconds: f64,
}

impl Control {
    /// The damage, and the differences that the comparison found in `seconds`.
    pub fn new(damage: impl Into<String>, found: Vec<Difference>, seconds: f64) -> Self {
        Self { damage: damage.into(), found, seconds }
    }

    /// Reports whether the comparison detected the damage.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        !self.found.is_empty()
    }
}

/// The result of a deep check of a point.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// Checks that found the point valid, as one sentence each.
    pub checked: Vec<String>,
    /// Problems, and facts worth knowing.
    pub findings: Vec<Finding>,
}

impl Inspection {
    /// Reports whether something was checked, and no finding is an error.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !self.checked.is_empty() && !self.findings.iter().any(Finding::is_error)
    }
}
