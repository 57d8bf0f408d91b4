//! `history`, `report` and `metrics`: read the history of this host.

use super::{Site, SiteError};
use crate::{
    engine::ledger::{PastEvent, Proof},
    ground::Exit,
    operate::{
        evidence::Evidence,
        job::rebuild,
        metrics::{self, Value},
        report::ProofReport,
    },
};

/// The report of [`Site::rebuild_past`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Each repository of the config with the number of runs that were added, or the reason why it could not be read.
    pub repositories: Vec<(String, Result<usize, SiteError>)>,
    /// Number of proofs that were added from evidence in the repositories.
    pub proofs: usize,
    /// Number of drill reports that were added from there; 0 if the history had reports already.
    pub reports: usize,
    /// Exit status: 3 if a repository could not be read.
    pub exit: Exit,
}

impl Site {
    /// The newest jobs of this host, newest first.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn past(&self, last: usize) -> Result<Vec<PastEvent>, SiteError> {
        Ok(self.history()?.ledger().history(last)?)
    }

    /// Adds the runs of the snapshots in the config's repositories to a history that was lost, and
    /// the proofs and drill reports that were kept there as evidence. If one of them cannot be opened, the others are still read.
    ///
    /// # Errors
    /// If the history cannot be opened.
    pub async fn rebuild_past(&self) -> Result<Rebuilt, SiteError> {
        let history = self.history()?;
        let host = self.config.settings.host_name();
        let mut repositories = Vec::new();
        let mut evidence = Evidence::default();
        for name in self.config.settings.repository.keys() {
            let reading = async {
                let repository = self.open_named(name).await?;
                let snapshots = repository.snapshots().await?;
                let place = repository.location();
                let runs = rebuild(history.ledger(), &place, &snapshots, host.as_str())?;
                Ok((runs, Evidence::among(&snapshots)))
            };
            let read = self.until_cancelled(Box::pin(reading)).await;
            let runs = read.map(|(runs, found)| {
                // A mirror has the records of its origin again.
                evidence.proofs.extend(found.proofs);
                evidence.reports.extend(found.reports);
                runs
            });
            repositories.push((name.clone(), runs));
        }
        let own = evidence.proofs.into_iter().filter(|kept| kept.host == host.as_str());
        let proofs: Vec<Proof> = own.flat_map(|kept| kept.proofs).collect();
        let chain = Evidence::chain(&evidence.reports, host.as_str());
        let (proofs, reports) = history.refill(&proofs, &chain)?;
        let is_whole = repositories.iter().all(|(_, added)| added.is_ok());
        Ok(Rebuilt {
            repositories,
            proofs,
            reports,
            exit: if is_whole { Exit::Done } else { Exit::Partial },
        })
    }

    /// The proof report of a drill, given by id prefix; of the newest drill by default.
    ///
    /// # Errors
    /// If the drill does not exist, or the history cannot be read.
    pub fn proof_report(&self, run: Option<&str>) -> Result<ProofReport, SiteError> {
        let objectives = &self.config.settings.objectives;
        Ok(ProofReport::load(self.history()?.ledger(), run, objectives)?)
    }

    /// The values of all metrics.
    ///
    /// # Errors
    /// If the history or the alarms cannot be read.
    pub fn metrics(&self) -> Result<Vec<Value>, SiteError> {
        Ok(metrics::values(&self.config, &self.environment)?)
    }

    /// The metrics in Prometheus' text format.
    ///
    /// # Errors
    /// As [`Site::metrics`].
    pub fn metrics_text(&self) -> Result<String, SiteError> {
        Ok(metrics::text(&self.config, &self.environment)?)
    }
}
