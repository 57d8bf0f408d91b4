//! `history`, `report` and `metrics`: the history of this host, read.

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
    /// When the history cannot be read.
    pub fn past(&self, last: usize) -> Result<Vec<PastEvent>, SiteError> {
        Ok(self.history()?.ledger().history(last)?)
    }

    /// Adds the runs that left snapshots in the config's repositories to a history that was lost. Gives the number of runs for each
    /// repository; one that cannot be opened does not keep the others from being read.
    ///
    /// # Errors
    /// When the history cannot be opened.
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

    /// The proof report of a drill, named by the beginning of its id; of the newest without one.
    ///
    /// # Errors
    /// When there is no such drill, or the history cannot be read.
    pub fn proof_report(&self, run: Option<&str>) -> Result<ProofReport, SiteError> {
        let objectives = &self.config.settings.objectives;
        Ok(ProofReport::load(self.history()?.ledger(), run, objectives)?)
    }

    /// The values of all metrics.
    ///
    /// # Errors
    /// When the history or the alarms cannot be read.
    pub fn metrics(&self) -> Result<Vec<Value>, SiteError> {
        Ok(metrics::values(&self.config, &self.environment)?)
    }

    /// The same in Prometheus' text format.
    ///
    /// # Errors
    /// As [`Site::metrics`].
    pub fn metrics_text(&self) -> Result<String, SiteError> {
        Ok(metrics::text(&self.config, &self.environment)?)
    }
}
