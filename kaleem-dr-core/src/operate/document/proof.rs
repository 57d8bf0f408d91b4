//! The documents of `verify`, `drill` and `report`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    operate::report::ProofReport,
    recovery::{drill::DrillReport, verify::VerifyReport},
};

/// A line of `verify --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "message_type", rename_all = "lowercase")]
pub enum VerificationLine {
    /// A verified point.
    Verification {
        /// The result.
        #[serde(flatten)]
        report: Box<VerifyReport>,
        /// The requested level is fully proven.
        is_proven: bool,
    },
}

impl From<&VerifyReport> for VerificationLine {
    fn from(report: &VerifyReport) -> Self {
        Self::Verification { report: Box::new(report.clone()), is_proven: report.is_proven() }
    }
}

/// The line of `drill --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "message_type", rename_all = "lowercase")]
pub enum DrillLine {
    /// A drill.
    Drill {
        /// Exit status of the drill, as a number.
        exit_code: u8,
        /// SHA-256 of the report's text in the chain of reports.
        hash: String,
        /// The report.
        report: Box<DrillReport>,
    },
}

impl DrillLine {
    /// The line of a drill whose report has this hash.
    #[must_use]
    pub fn of(report: &DrillReport, hash: &str) -> Self {
        Self::Drill {
            exit_code: report.exit.code(),
            hash: hash.to_owned(),
            report: Box::new(report.clone()),
        }
    }
}

/// The line of `report --json`: a report with the state of the chain up to it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "message_type", rename_all = "lowercase")]
pub enum Chained {
    /// A report of the chain.
    Report {
        /// SHA-256 of the report's text, which the next report contains.
        hash: String,
        /// Faults of the chain up to this report, one sentence each.
        broken_links: Vec<String>,
        /// The report.
        report: Box<DrillReport>,
    },
}

impl From<&ProofReport> for Chained {
    fn from(report: &ProofReport) -> Self {
        Self::Report {
            hash: report.hash().to_owned(),
            broken_links: report.broken_links().to_vec(),
            report: Box::new(report.drill().clone()),
        }
    }
}
