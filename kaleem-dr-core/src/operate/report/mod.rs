//! Proof reports: the result of a drill for people and auditors, as one HTML page or as Markdown,
//! in English or Arabic.
//!
//! A report is made from the chained JSON text of a drill and from the proofs in the ledger, which
//! are plotted over time. The page is self-contained: it has no scripts, fonts or images, and a
//! policy forbids every request.

mod duration;
mod escape;
mod html;
mod markdown;
mod plot;
mod words;

pub use self::duration::duration;
pub use crate::ground::size::size;
use crate::{
    engine::ledger::{ChainedReport, Ledger, LedgerError, Proof},
    ground::{Exit, RunId, language::Language, moment::moment},
    recovery::{
        drill::{DrillReport, broken_links},
        objectives::Objectives,
    },
};

/// Maximum number of proofs that are plotted.
const PLOTTED: usize = 2000;

/// The data of a report.
#[derive(Clone, Debug)]
pub struct ProofReport {
    drill: DrillReport,
    hash: String,
    /// Number of reports in the chain up to this one.
    length: usize,
    /// Faults of that part of the chain.
    broken: Vec<String>,
    /// Proofs of this repository until the end of the drill, oldest first.
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
    /// The ledger has no drill with that id.
    #[error("the ledger has no report of {0}; `kaleem-dr history` lists the drills")]
    Unknown(String),
    /// A report in the ledger is invalid.
    #[error("the report of {run} cannot be read")]
    Unreadable {
        /// Id of the drill's run.
        run: RunId,
        /// The fault of the report.
        #[source]
        cause: serde_json::Error,
    },
}

impl ProofReport {
    /// Reads the report of a drill, given by the prefix of its run's id, or of the newest drill.
    ///
    /// # Errors
    /// If the ledger cannot be read or does not have the report.
    pub fn load(
        ledger: &Ledger,
        run: Option<&str>,
        objectives: &Objectives,
    ) -> Result<Self, ReportError> {
        let chain = ledger.reports()?;
        let at = match run {
            Some(wanted) => {
                let wanted = wanted.to_uppercase();
                chain.iter().rposition(|report| report.run.to_string().starts_with(&wanted))
            }
            None => chain.len().checked_sub(1),
        };
        let at = at.ok_or_else(|| ReportError::Unknown(run.unwrap_or("any drill").to_owned()))?;
        let ChainedReport { run, hash, body, .. } = &chain[at];
        let drill: DrillReport = serde_json::from_str(body)
            .map_err(|cause| ReportError::Unreadable { run: *run, cause })?;
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

    /// The report of the drill.
    #[must_use]
    pub fn drill(&self) -> &DrillReport {
        &self.drill
    }

    /// SHA-256 of the report's text, which the next report in the chain contains.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Faults of the chain up to this report, one sentence each; empty if it is intact.
    #[must_use]
    pub fn broken_links(&self) -> &[String] {
        &self.broken
    }

    /// The exit status: 4 if the chain is broken.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.broken.is_empty() { Exit::Done } else { Exit::NotVerified }
    }

    /// The report as one HTML page.
    #[must_use]
    pub fn to_html(&self, language: Language) -> String {
        html::page(self, language)
    }

    /// The content of that page, for another page with [`style`].
    #[must_use]
    pub fn to_fragment(&self, language: Language) -> String {
        html::content(self, language)
    }

    /// The report as a page of Markdown.
    #[must_use]
    pub fn to_markdown(&self, language: Language) -> String {
        markdown::document(self, language)
    }

    /// Reports whether everything that was requested is proven, and the chain is intact.
    fn is_proven(&self) -> bool {
        self.drill.exit.code() == 0 && self.broken.is_empty()
    }
}

/// The style of reports and plots: CSS.
#[must_use]
pub fn style() -> &'static str {
    html::style()
}

/// RPO and RTO over time as two HTML figures without scripts and inline styles, from proofs of one
/// repository, oldest first. They need [`style`].
#[must_use]
pub fn over_time(proofs: &[Proof], objectives: &Objectives, language: Language) -> String {
    html::over_time(proofs, objectives, language)
}
