//! `oplog`: saves the change logs of sources, so that any moment between two backups can be restored.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Site, SiteError, watched::Watched};
use crate::{
    engine::{
        ledger::EventKind,
        repository::{Repository, RepositoryError, SaveError, SnapshotId},
    },
    ground::{Exit, RunId, SourceName, error_chain},
    operate::{
        job::{SliceCopies, SliceJob, SliceReport, SlicesOf, copy_slices, save_slice},
        metrics,
        monitor::{Ended, EndedPart, Job},
    },
    recovery::change_log::reach,
};

/// Time after which a round is recorded and notified again although nothing has changed.
const HEARTBEAT: SignedDuration = SignedDuration::from_hours(1);

/// Options of [`Site::oplog`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Oplog {
    /// Id of the round; a new one by default.
    pub run: Option<RunId>,
    /// Sources with a change log; those of `[oplog]` in the config if empty.
    pub sources: Vec<SourceName>,
}

impl Oplog {
    /// One slice of each of these sources, or of those of the config if the list is empty.
    #[must_use]
    pub fn of(sources: Vec<SourceName>) -> Self {
        Self { run: None, sources }
    }

    /// The job of this round, with this id.
    #[must_use]
    pub fn job(&self, site: &Site, run: RunId) -> Job {
        let sources = self.wanted(site);
        let is_narrowed =
            site.config().settings.oplog.sources.iter().any(|source| !sources.contains(source));
        let parts = sources.iter().map(ToString::to_string).collect();
        site.job(EventKind::Oplog, run, parts, is_narrowed)
    }

    fn wanted<'a>(&'a self, site: &'a Site) -> &'a [SourceName] {
        if self.sources.is_empty() { &site.config().settings.oplog.sources } else { &self.sources }
    }
}

/// The result of one source in a round.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SliceOutcome {
    /// The source.
    pub source: SourceName,
    /// Its slice; `None` if it failed.
    pub report: Option<SliceReport>,
    /// Why it failed.
    pub error: Option<String>,
    /// Its copies in secondary repositories: of this slice, and of earlier ones that a point there needs.
    pub copies: Vec<SliceCopies>,
    /// Its exit status: 3 if a copy is missing.
    pub exit: Exit,
}

impl SliceOutcome {
    /// The first reason why copies are missing.
    fn missing_copy(&self) -> Option<String> {
        self.copies.iter().find_map(|copies| {
            let error = copies.error.as_ref()?;
            Some(format!("repository {}: {error}", copies.repository))
        })
    }
}

/// The report of [`Site::oplog`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OplogRound {
    /// Id of the round.
    pub run: RunId,
    /// The result of each source.
    pub slices: Vec<SliceOutcome>,
    /// Exit status: that of the failure if all failed for the same reason, otherwise 3 if some failed, or have a gap.
    pub exit: Exit,
}

impl From<&OplogRound> for Ended {
    fn from(round: &OplogRound) -> Self {
        let part = |slice: &SliceOutcome| {
            let report = slice.report.as_ref();
            let gap = report.and_then(|report| report.gap.clone());
            let cut = report.and_then(|report| report.breaks.first());
            EndedPart {
                name: slice.source.to_string(),
                exit: slice.exit,
                message: slice
                    .error
                    .clone()
                    .or(gap)
                    .or_else(|| cut.map(|cut| format!("entry {}: {}", cut.at, cut.why)))
                    .or_else(|| slice.missing_copy()),
                seconds: report.map_or(0.0, |report| {
                    report.finished.duration_since(report.started).as_secs_f64()
                }),
            }
        };
        Self { parts: round.slices.iter().map(part).collect(), ..Self::new(round.exit, round) }
    }
}

impl Site {
    /// Saves a slice of the change log of each source, and proves it. A source that fails does not keep the others from being
    /// saved: see [`OplogRound::exit`].
    ///
    /// # Errors
    /// [`SiteError::Config`] if no source is named, or one does not exist; if the repository cannot be opened or the history not
    /// written.
    pub async fn oplog(&self, wanted: &Oplog) -> Result<OplogRound, SiteError> {
        self.until_cancelled(Box::pin(self.oplog_round(wanted))).await
    }

    async fn oplog_round(&self, wanted: &Oplog) -> Result<OplogRound, SiteError> {
        let sources = wanted.wanted(self);
        if sources.is_empty() {
            return Err(SiteError::Config(
                "no source is named: run `kaleem-dr oplog SOURCE`, or set oplog.sources in the config"
                    .to_owned(),
            ));
        }
        let (sources, unavailable) = self.sources(sources)?;
        let run = wanted.run.unwrap_or_default();
        let repository = self.repository().await?;
        let mut slices: Vec<SliceOutcome> =
            unavailable.into_iter().map(|of| failed(of.source, of.why, Exit::Usage)).collect();
        for source in sources {
            let mut job =
                SliceJob::new(repository.clone(), source.clone(), self.config.settings.host_name());
            (job.run, job.patience) = (run, self.patience);
            job.tags.clone_from(&self.config.settings.backup.tags);
            let name = source.name().clone();
            slices.push(match save_slice(&job, &self.progress, &self.cancel).await {
                Ok(report) => {
                    let exit = report.exit;
                    let (report, copies) = (Some(report), Vec::new());
                    SliceOutcome { source: name, report, error: None, copies, exit }
                }
                Err(error) => {
                    if self.cancel.is_cancelled() {
                        return Err(error.into());
                    }
                    let exit = Exit::from(&error);
                    failed(name, error_chain(&error), exit)
                }
            });
        }
        self.record_slices(&repository, &slices).await?;
        self.copy_slices(&repository, &mut slices).await?;
        Ok(OplogRound { run, exit: exit(&slices), slices })
    }

    /// Copies slices to the secondary repositories of the config. One that fails is recorded in the outcomes of all sources.
    async fn copy_slices(
        &self,
        repository: &Repository,
        slices: &mut [SliceOutcome],
    ) -> Result<(), SiteError> {
        let sources: Vec<SourceName> = slices
            .iter()
            .filter(|slice| slice.report.is_some())
            .map(|of| of.source.clone())
            .collect();
        if sources.is_empty() {
            return Ok(());
        }
        let settings = &self.config.settings;
        let wanted = SlicesOf {
            host: &settings.host_name(),
            sources: &sources,
            within: settings.retention.keep_slices_within,
        };
        for secondary in self.secondary_repositories().await? {
            let mut copies = copy_slices(
                repository,
                &secondary,
                &wanted,
                self.patience,
                &self.progress,
                &self.cancel,
            )
            .await;
            if self.cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled.into());
            }
            for slice in slices.iter_mut() {
                let Some(copies) = copies.remove(&slice.source) else { continue };
                if let Some(error) = &copies.error {
                    tracing::error!(source = %slice.source, repository = %copies.repository, %error, "slices were not copied");
                    slice.exit = if slice.exit == Exit::Done { Exit::Partial } else { slice.exit };
                }
                slice.copies.push(copies);
            }
        }
        Ok(())
    }

    /// Records proven slices, and the moments that recovery points reach with them.
    async fn record_slices(
        &self,
        repository: &Repository,
        slices: &[SliceOutcome],
    ) -> Result<(), SiteError> {
        let (history, place) = (self.history()?, repository.location());
        for report in slices.iter().filter_map(|slice| slice.report.as_ref()) {
            if let Some(snapshot) = report.snapshot {
                history.ledger().record_slice(&place, snapshot, Timestamp::now())?;
            }
        }
        let proven: BTreeSet<SnapshotId> = history.ledger().proven_slices(&place)?;
        let host = self.config.settings.host_name();
        let reached = reach(&repository.snapshots().await?, host.as_str(), &proven);
        Ok(history.ledger().set_reach(&place, &reached)?)
    }
}

fn failed(source: SourceName, error: String, exit: Exit) -> SliceOutcome {
    tracing::error!(%source, %error, "the change log was not saved");
    SliceOutcome { source, report: None, error: Some(error), copies: Vec::new(), exit }
}

fn exit(slices: &[SliceOutcome]) -> Exit {
    let first = slices.first().map_or(Exit::Done, |slice| slice.exit);
    if slices.iter().all(|slice| slice.exit == first) { first } else { Exit::Partial }
}

impl Watched<'_> {
    /// Runs [`Site::oplog`]. Notified and recorded in the history is a round that ends otherwise than the one before it, and one
    /// an hour; metrics are published after each.
    ///
    /// # Errors
    /// As [`Site::oplog`]; if the end cannot be recorded.
    pub async fn oplog(self, mut wanted: Oplog) -> Result<OplogRound, SiteError> {
        let (site, run) = (self.0, *wanted.run.get_or_insert_default());
        let done = site.oplog(&wanted).await;
        if site.cancel.is_cancelled() && done.is_err() {
            return done;
        }
        let exit = done.as_ref().map_or_else(Exit::from, |round| round.exit);
        if self.is_told(exit)? {
            for error in metrics::publish(&site.config, &site.environment).await {
                tracing::warn!(%error, "the metrics could not be published");
            }
            return done;
        }
        let ended = |done: &Result<OplogRound, SiteError>| match done {
            Ok(round) => round.into(),
            Err(error) => Ended::failed(Exit::from(error), error_chain(error)),
        };
        site.watched(wanted.job(site, run), async { done }, ended).await
    }

    /// Reports whether the history has a recent round of this repository that ended the same way.
    fn is_told(self, exit: Exit) -> Result<bool, SiteError> {
        let (now, place) = (Timestamp::now(), self.0.place());
        let events = self.0.history()?.ledger().newest_events(false)?;
        Ok(events.iter().any(|event| {
            event.kind == EventKind::Oplog.word()
                && Some(&event.repository) == place.as_ref()
                && event.exit == exit.code()
                && now.duration_since(event.finished) < HEARTBEAT
        }))
    }

    /// Runs [`Watched::oplog`] every time this much time has passed, until it is cancelled; `each` learns of each round. A round
    /// that fails is repeated at the next time.
    ///
    /// # Errors
    /// [`SiteError::Config`] if no source is named, or one does not exist.
    pub async fn follow_oplog(
        self,
        wanted: &Oplog,
        every: Duration,
        mut each: impl FnMut(&Result<OplogRound, SiteError>),
    ) -> Result<(), SiteError> {
        let cancel = &self.0.cancel;
        loop {
            let began = Instant::now();
            let done = self.oplog(Oplog::of(wanted.sources.clone())).await;
            if cancel.is_cancelled() {
                return Ok(());
            }
            if let Err(error @ SiteError::Config(_)) = done {
                return Err(error);
            }
            each(&done);
            let rest = every.saturating_sub(began.elapsed());
            if cancel.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
                return Ok(());
            }
        }
    }
}

impl From<SaveError> for SiteError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Source(error) => error.into(),
            SaveError::Repository(error) => error.into(),
        }
    }
}
