//! `history`, `report` and `metrics`: read the history of this host.

use super::{Site, SiteError};
use crate::{
    engine::ledger::PastEvent,
    operate::{
        job::rebuild,
        metrics::{self, Value},
        report::ProofReport,
    },
};

impl Site {
    /// The newest jobs of this host, newest first.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn past(&self, last: usize) -> Result<Vec<PastEvent>, SiteError> {
        Ok(self.history()?.ledger().history(last)?)
    }

    /// Adds the runs of the snapshots in the config's repositories to a history that was lost.
    /// Returns the number of runs for each repository; if one cannot be opened, the others are
    /// still read.
    ///
    /// # Errors
    /// If the history cannot be opened.
    pub async fn rebuild_past(&self) -> Result<Vec<(String, Result<usize, SiteError>)>, SiteError> {
        let history = self.history()?;
        let host = self.config.settings.host_name();
        let mut added = Vec::new();
        for name in self.config.settings.repository.keys() {
            let reading = async {
                let repository = self.open_named(name).await?;
                let snapshots = repository.snapshots().await?;
                let place = repository.location();
                Ok(rebuild(history.ledger(), &place, &snapshots, host.as_str())?)
            };
            added.push((name.clone(), self.until_cancelled(Box::pin(reading)).await));
        }
        Ok(added)
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
