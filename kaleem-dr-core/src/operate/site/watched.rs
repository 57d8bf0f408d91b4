//! Watched verbs: announced before they begin; recorded, published and notified when they end.

use super::{Backup, Drill, MirrorPass, Replicated, Replication, Site, SiteError, Verification};
use crate::{
    engine::ledger::{ChainedReport, LedgerError},
    ground::{Exit, error_chain},
    operate::{
        job::RunReport,
        monitor::{Ended, Job, Monitor},
    },
    recovery::{drill::DrillReport, verify::VerifyReport},
};

/// A site whose jobs are watched, as the program's are: see [`Site::watch`].
#[derive(Clone, Copy)]
pub struct Watched<'a>(pub(super) &'a Site);

impl Site {
    /// Watches the jobs of the site: healthchecks, notifiers, metrics and the history learn of
    /// them.
    #[must_use]
    pub fn watch(&self) -> Watched<'_> {
        Watched(self)
    }

    /// All recipients of notifications about this site's jobs.
    #[must_use]
    pub fn monitor(&self) -> Monitor<'_> {
        Monitor::new(&self.config, &self.environment, self.log.clone())
            .with_notifiers(&self.notifiers)
    }

    /// Does the work of a job. All of its errors are caught here: however it ends, the history, the
    /// metrics and every notifier learn of it. `ended` builds the report of the end from the work's
    /// result.
    ///
    /// # Errors
    /// As the work; if the end of successful work cannot be recorded.
    pub async fn watched<T, E: From<LedgerError>>(
        &self,
        job: Job,
        work: impl Future<Output = Result<T, E>>,
        ended: impl FnOnce(&Result<T, E>) -> Ended,
    ) -> Result<T, E> {
        let (result, recorded) = self.monitor().watch(job, work, ended).await;
        let done = result?;
        recorded?;
        Ok(done)
    }
}

impl Watched<'_> {
    /// Runs [`Site::backup`], watched unless it is a dry run.
    ///
    /// # Errors
    /// As [`Site::backup`]; if the end cannot be recorded.
    pub async fn backup(self, mut backup: Backup) -> Result<RunReport, SiteError> {
        let run = *backup.run.get_or_insert_default();
        let job = backup.job(self.0, run);
        self.run(job, self.0.backup(backup), |report| report.into()).await
    }

    /// Runs [`Site::verify`], watched.
    ///
    /// # Errors
    /// As [`Site::verify`]; if the end cannot be recorded.
    pub async fn verify(self, mut wanted: Verification) -> Result<Vec<VerifyReport>, SiteError> {
        let run = *wanted.run.get_or_insert_default();
        let job = wanted.job(self.0, run);
        self.run(Some(job), self.0.verify(wanted), |reports| reports.as_slice().into()).await
    }

    /// Runs [`Site::drill`], watched.
    ///
    /// # Errors
    /// As [`Site::drill`]; if the end cannot be recorded.
    pub async fn drill(self, mut wanted: Drill) -> Result<(DrillReport, ChainedReport), SiteError> {
        let run = *wanted.run.get_or_insert_default();
        let job = wanted.job(self.0, run);
        self.run(Some(job), self.0.drill(wanted), |(report, _)| report.into()).await
    }

    /// Runs [`Site::replicate`], watched unless it is a dry run.
    ///
    /// # Errors
    /// As [`Site::replicate`]; if the end cannot be recorded.
    pub async fn replicate(
        self,
        wanted: &Replication,
        each: impl FnMut(&MirrorPass),
    ) -> Result<Replicated, SiteError> {
        let mut wanted = wanted.clone();
        let run = *wanted.run.get_or_insert_default();
        let job = wanted.job(self.0, run);
        self.run(job, self.0.replicate(&wanted, each), |report| report.into()).await
    }

    async fn run<T>(
        self,
        job: Option<Job>,
        work: impl Future<Output = Result<T, SiteError>>,
        ended: impl FnOnce(&T) -> Ended,
    ) -> Result<T, SiteError> {
        let Some(job) = job else { return work.await };
        let ended = |result: &Result<T, SiteError>| match result {
            Ok(report) => ended(report),
            Err(error) => Ended::failed(Exit::from(error), error_chain(error)),
        };
        self.0.watched(job, Box::pin(work), ended).await
    }
}
