//! Restores the sources of a plan: each as soon as those before it have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use jiff::Timestamp;

use super::{
    super::{Site, SiteError},
    own_config::OwnConfig,
    planning::request,
};
use crate::{
    engine::repository::{Repository, RepositoryError, Snapshot},
    ground::{Exit, SourceError, SourceName, error_chain, failpoint, failpoint::Step},
    operate::{
        job::{Restoring, plan_restore},
        recover::{
            Entry, Journal, PlannedSource, Recover, RecoveryPlan, State, WholeProgress,
            line_of_error, line_of_restore, line_of_unavailable,
        },
    },
    recovery::{
        drill::SourceDrill,
        points::{ChosenPoint, PointChoice, choose},
        source::{Restorable, RestorePlan},
    },
};

/// A recovery whose plan was accepted.
pub(super) struct Running<'a> {
    /// The site, with the repository that is read.
    pub(super) site: &'a Site,
    pub(super) wanted: &'a Recover,
    pub(super) plan: &'a RecoveryPlan,
    pub(super) repository: &'a Repository,
}

/// The results of the sources.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) results: BTreeMap<SourceName, SourceDrill>,
    pub(super) notes: Vec<String>,
}

impl Running<'_> {
    /// Restores everything that the journal does not have as recovered.
    pub(super) async fn run(&self, journal: &mut Journal) -> Result<Lines, SiteError> {
        let snapshots = self.repository.snapshots().await?;
        let config = OwnConfig::read(self.site, journal.is_interrupted())?;
        let mut lines = Lines::default();
        let mut waiting: Vec<&PlannedSource> = Vec::new();
        for planned in &self.plan.sources {
            let line = journal.entry(&planned.source).and_then(|entry| entry.line.clone());
            match line {
                Some(line) if planned.is_recovered => {
                    lines.results.insert(planned.source.clone(), line);
                }
                _ => waiting.push(planned),
            }
        }
        let size_bytes = waiting.iter().map(|planned| planned.size_bytes).sum();
        let whole = WholeProgress::begin(&self.site.progress, waiting.len(), size_bytes);
        let mut ended: BTreeSet<SourceName> = lines.results.keys().cloned().collect();
        let mut restoring = FuturesUnordered::new();
        loop {
            if !self.site.cancel.is_cancelled() {
                let is_ready = |planned: &&PlannedSource| {
                    planned.after.iter().all(|name| ended.contains(name))
                };
                let (ready, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_ready);
                waiting = later;
                for planned in ready {
                    // Before anything is written, so that what an interruption leaves has a name.
                    let target = planned.plan.as_ref().map(|plan| plan.target.clone());
                    let entry = Entry {
                        point: planned.run,
                        state: State::Begun,
                        target: target.unwrap_or_default(),
                        line: None,
                    };
                    lines.notes.extend(interrupted(journal, planned));
                    journal.record(&planned.source, entry)?;
                    failpoint::pass(Step::Recover);
                    restoring.push(self.source(planned, &snapshots, &whole));
                }
            }
            let Some((planned, line)) = restoring.next().await else { break };
            if self.site.cancel.is_cancelled() {
                // An interrupted source stays begun.
                continue;
            }
            failpoint::pass(Step::Recover);
            let entry = Entry {
                point: planned.run,
                state: if line.exit == Exit::Done { State::Recovered } else { State::Failed },
                target: planned.plan.as_ref().map(|plan| plan.target.clone()).unwrap_or_default(),
                line: Some(line.clone()),
            };
            lines.notes.extend(config.put_back(&planned.source));
            journal.record(&planned.source, entry)?;
            failpoint::pass(Step::Recover);
            tracing::info!(source = %planned.source, exit = line.exit.code(), "recovered");
            ended.insert(planned.source.clone());
            lines.results.insert(planned.source.clone(), line);
        }
        whole.finish();
        if self.site.cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled.into());
        }
        Ok(lines)
    }

    async fn source<'p>(
        &self,
        planned: &'p PlannedSource,
        snapshots: &[Snapshot],
        whole: &WholeProgress,
    ) -> (&'p PlannedSource, SourceDrill) {
        tracing::info!(source = %planned.source, "recovering");
        let began = Instant::now();
        let of = (&planned.source, planned.kind.as_str());
        // Made now: its secret may have been restored with another source.
        let restored = match self.site.source(&planned.source) {
            Ok(source) => Box::pin(self.restored(planned, &*source, snapshots, whole)).await,
            Err(error) => {
                let why = error_chain(&error);
                tracing::error!(source = %planned.source, error = %why, "not recovered");
                return (planned, line_of_unavailable(of, why));
            }
        };
        let line = restored.unwrap_or_else(|error| {
            tracing::error!(source = %planned.source, error = %error_chain(&error), "not recovered");
            line_of_error(of, &error, began.elapsed().as_secs_f64())
        });
        (planned, line)
    }

    async fn restored(
        &self,
        planned: &PlannedSource,
        source: &dyn Restorable,
        snapshots: &[Snapshot],
        whole: &WholeProgress,
    ) -> Result<SourceDrill, SourceError> {
        let began = Instant::now();
        let chosen = self.chosen(planned, snapshots)?;
        let part = whole.part(planned.size_bytes);
        let progress: std::sync::Arc<dyn crate::ground::progress::ProgressSink> = part.clone();
        let point = chosen
            .open(self.repository, &progress, &self.site.cancel)
            .await
            .map_err(|error| SourceError::Point(error.into()))?;
        let plan = match &planned.plan {
            Some(plan) => plan.clone(),
            None => self.unplanned(source, &point, &chosen).await?,
        };
        let report = source.restore(&point, plan).await?;
        part.end();
        let seconds = began.elapsed().as_secs_f64();
        Ok(line_of_restore((&planned.source, source.kind()), &point, &report, seconds))
    }

    /// The point of the plan, in the repository that is read, which may have copies of it.
    fn chosen(
        &self,
        planned: &PlannedSource,
        snapshots: &[Snapshot],
    ) -> Result<ChosenPoint, SourceError> {
        let now = Timestamp::now();
        let hosts = self.site.identity.scope.clone();
        let mut choice = PointChoice::latest(hosts);
        choice.moment = self.wanted.moment.filter(|_| planned.uses_log);
        if let Some(run) = planned.run {
            choice.wanted = run.to_string();
        }
        choose(snapshots, &planned.source, &choice, now)
            .map_err(|error| SourceError::Point(error.into()))
    }

    /// A plan for what could not be planned before the operator agreed. It must not overwrite
    /// anything, unless the options allow that.
    async fn unplanned(
        &self,
        source: &dyn Restorable,
        point: &crate::recovery::point::PointReader,
        chosen: &ChosenPoint,
    ) -> Result<RestorePlan, SourceError> {
        let notes = chosen.notes.clone();
        let restoring = Restoring { notes, ..Restoring::new(source, point, &self.site.identity) };
        let plan = plan_restore(restoring, request(self.wanted, false)).await?;
        if plan.overwrites() && !self.wanted.overwrite_unplanned {
            return Err(SourceError::Refused(format!(
                "it could not be planned before you agreed, and would overwrite what is in {}",
                plan.target
            )));
        }
        Ok(plan)
    }
}

/// A note about what an interrupted attempt may have left next to the live data.
fn interrupted(journal: &Journal, planned: &PlannedSource) -> Option<String> {
    let entry = journal.entry(&planned.source)?;
    let left = entry.state == State::Begun && !entry.target.is_empty();
    let target = planned.plan.as_ref().map(|plan| plan.target.as_str());
    (left && target != Some(entry.target.as_str())).then(|| {
        format!(
            "source {}: an interrupted attempt may have left {} incomplete; remove it",
            planned.source, entry.target
        )
    })
}
