//! A restore into a scratch target, its negative control, and what a check of the format found.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::difference::Difference;
use crate::ground::{
    failpoint::{self, Step},
    finding::Finding,
};

/// Where a rehearsal may make things of its own, and how it names them.
#[derive(Clone, Debug)]
pub struct ScratchTarget {
    /// Names everything of this rehearsal: `kdr_drill_` and a ULID in lower case. Good as a database, virtual host or collection.
    pub name: String,
    /// An empty directory of its own; whoever made it removes it.
    pub directory: PathBuf,
    /// Whether what was restored is then damaged in one place and compared once more: see [`Control`].
    pub control: bool,
}

impl ScratchTarget {
    /// A source says that it has filled the target, and compares next. It is here that tests make a debug build die.
    pub fn filled(&self) {
        failpoint::pass(Step::Scratch);
    }
}

/// The negative control of a rehearsal: the scratch was damaged on purpose, and the same comparison had to see it. One that
/// does not see it proves nothing by finding the rest equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What was done to the copy: `deleted one document of users`.
    pub damage: String,
    /// What the comparison found then. Empty means that it is blind.
    pub found: Vec<Difference>,
    /// How long it took.
    pub seconds: f64,
}

impl Control {
    /// Whether the comparison saw the damage.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        !self.found.is_empty()
    }
}

/// What a deep check of a point found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inspection {
    /// What was looked at and is well, one sentence each.
    pub checked: Vec<String>,
    /// What is wrong or worth knowing.
    pub findings: Vec<Finding>,
}

impl Inspection {
    /// Whether something was looked at, and nothing of it is an error.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !self.checked.is_empty() && !self.findings.iter().any(|finding| finding.is_error())
    }
}
