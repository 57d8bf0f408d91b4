//! Records what verifications and drills have shown: in the history of this host, and as evidence in
//! the repository.

use std::time::Duration;

use super::{Site, SiteError};
use crate::{
    engine::{
        ledger::{ChainedReport, Proof},
        repository::Repository,
    },
    ground::{RunId, error_chain},
    operate::evidence::{Shown, keep},
    recovery::{drill::DrillReport, verify::VerifyReport},
};

/// Minimum wait for the lock of another program, because the proof exists already and would be lost to a fleet.
const PATIENCE: Duration = Duration::from_mins(1);

impl Site {
    /// Records the results of verifications.
    ///
    /// # Errors
    /// If the history cannot be written. That they could not be kept in the repository is a warning.
    pub(super) async fn record_proofs(
        &self,
        run: RunId,
        repository: &Repository,
        reports: &[VerifyReport],
    ) -> Result<(), SiteError> {
        let proofs = self.history()?.proofs(run, &repository.location(), reports)?;
        self.keep_evidence(run, &proofs, None).await;
        Ok(())
    }

    /// Records a drill or a recovery.
    ///
    /// # Errors
    /// As [`Site::record_proofs`].
    pub(super) async fn record_drill(
        &self,
        report: &mut DrillReport,
    ) -> Result<ChainedReport, SiteError> {
        let (chained, proofs) = self.history()?.drill(report)?;
        self.keep_evidence(report.run, &proofs, Some(&chained)).await;
        Ok(chained)
    }

    /// Keeps evidence in the selected repository; of a mirror, in the repository that it mirrors,
    /// because a mirror receives only what its origin has.
    async fn keep_evidence(&self, run: RunId, proofs: &[Proof], report: Option<&ChainedReport>) {
        if !self.locks || (proofs.is_empty() && report.is_none()) {
            return;
        }
        let keeping = async {
            let repository = match &self.access {
                Some(_) => self.repository().await?,
                None => self.open_named(self.origin()?).await?,
            };
            let shown = Shown { host: &self.identity.host, run, proofs, report };
            let patience = self.patience.max(PATIENCE);
            Ok(keep(&repository, shown, patience, &self.progress, &self.cancel).await?)
        };
        match self.cancel.run_until_cancelled(Box::pin(keeping)).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) => {
                let error: SiteError = error;
                tracing::warn!(
                    error = %error_chain(&error),
                    "the proofs are in the history of this host, but could not be kept in the repository"
                );
            }
        }
    }

    /// The selected repository, or the one that it mirrors.
    fn origin(&self) -> Result<&str, SiteError> {
        let (mut name, mut settings) = self.chosen_repository()?;
        // The config has no cycle of more mirrors than repositories.
        for _ in 0..self.config.settings.repository.len() {
            let Some(of) = &settings.mirror_of else { break };
            (name, settings) = self.named(of)?;
        }
        Ok(name)
    }
}
