//! Proof reports: what a drill showed, for people and auditors, as one HTML page or as Markdown, in English or Arabic.
//!
//! A report is made from the chained JSON text of a drill and from the proofs in the ledger, which give the plots over time. The page
//! needs nothing but itself: no script, no font, no picture, and a policy that forbids every request.

mod duration;
mod escape;
mod html;
mod markdown;
mod plot;
mod size;
mod words;

use jiff::Timestamp;

pub use self::{duration::duration, size::size};
use crate::{
    engine::ledger::{ChainedReport, Ledger, LedgerError, Proof},
    ground::language::Language,
    recovery::{
        drill::{DrillReport, broken_links},
        objectives::Objectives,
    },
};

/// Proofs that the plots are drawn from.
const PLOTTED: usize = 2000;

/// What a report is made from.
#[derive(Clone, Debug)]
pub struct ProofReport {
    drill: DrillReport,
    hash: String,
    /// Reports in the chain up to this one.
    length: usize,
    /// What is wrong with that part of the chain.
    broken: Vec<String>,
    /// Proofs of this repository until the drill ended, oldest first.
    proofs: Vec<Proof>,
    objectives: Objectives,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No drill of that id is in the ledger.
    #[error("the ledger has no report of {0}; `kaleem-dr history` lists the drills")]
    Unknown(String),
    /// A report in the ledger is not one.
    #[error("the report of {run} cannot be read")]
    Unreadable {
        /// The drill's run.
        run: String,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
}

impl ProofReport {
    /// Reads the report of a drill, named by the beginning of its run's id, or the newest one.
    ///
    /// # Errors
    /// When the ledger cannot be read or has no such report.
    pub fn load(
        ledger: &Ledger,
        run: Option<&str>,
        objectives: &Objectives,
    ) -> Result<Self, ReportError> {
        let chain = ledger.reports()?;
        let at = match run {
            Some(wanted) => {
                chain.iter().rposition(|report| report.run.starts_with(&wanted.to_uppercase()))
            }
            None => chain.len().checked_sub(1),
        };
        let at = at.ok_or_else(|| ReportError::Unknown(run.unwrap_or("any drill").to_owned()))?;
        let ChainedReport { run, hash, body, .. } = &chain[at];
        let drill: DrillReport = serde_json::from_str(body)
            .map_err(|cause| ReportError::Unreadable { run: run.clone(), cause })?;
        let mut proofs = ledger.proofs(PLOTTED)?;
        proofs.retain(|proof| proof.repository == drill.repository && proof.at <= drill.finished);
        proofs.reverse();
        Ok(Self {
            hash: hash.clone(),
            length: at + 1,
            broken: broken_links(&chain[..=at], ledger.chain_start()?.as_deref()),
            proofs,
            objectives: objectives.clone(),
            drill,
        })
    }

    /// What the drill showed.
    #[must_use]
    pub fn drill(&self) -> &DrillReport {
        &self.drill
    }

    /// SHA-256 of the report's text, which the next report in the chain holds.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What is wrong with the chain up to this report, one sentence each; empty when it is whole.
    #[must_use]
    pub fn broken_links(&self) -> &[String] {
        &self.broken
    }

    /// As one HTML page.
    #[must_use]
    pub fn to_html(&self, language: Language) -> String {
        html::page(self, language)
    }

    /// As Markdown.
    #[must_use]
    pub fn to_markdown(&self, language: Language) -> String {
        markdown::document(self, language)
    }

    /// Whether all that was asked for is proven, and the chain is whole.
    fn is_proven(&self) -> bool {
        self.drill.exit.code() == 0 && self.broken.is_empty()
    }
}

/// To the second, in UTC.
fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
