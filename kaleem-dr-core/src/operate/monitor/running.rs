//! A job in progress, and the report of its end.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::{
    Delivery, Ended, Job, Monitor, Notice, Severity, When, check_of,
    healthchecks::{Ping, Signal},
    post,
    redact::Redactor,
};
use crate::{
    engine::ledger::{EventKind, Ledger, LedgerError},
    ground::{Exit, RunId, error_chain, language::Language},
    operate::{history::History, metrics, report::ProofReport},
};

/// A job that was announced.
#[must_use = "a job that was announced must be ended"]
pub struct Running<'a> {
    pub(super) monitor: &'a Monitor<'a>,
    pub(super) job: Job,
    pub(super) started: Timestamp,
    pub(super) starting: JoinSet<Vec<Delivery>>,
    pub(super) was_failing: bool,
}

impl Running<'_> {
    /// Reports its end: to the ledger if the job is not recorded yet, to the metrics, and to every
    /// notifier.
    ///
    /// # Errors
    /// If the ledger cannot be written: then the job did not end well, which the notifiers report.
    pub async fn end(mut self, ended: Ended) -> Result<(), LedgerError> {
        let finished = Timestamp::now();
        let mut ended = ended.completed(&self.job);
        let recorded = self.record(&ended, finished);
        if let Err(error) = &recorded {
            ended.spoil(&error_chain(error));
        }
        let redactor = Redactor::of(self.monitor.environment);
        let summary = redactor.clean(&ended.summary(&self.job, self.started, finished));
        let parts = ended.notice_parts(&redactor);
        let notice = Notice {
            run: Some(self.job.run.to_string()),
            started: Some(self.started),
            finished,
            severity: Severity::of(ended.exit, &parts),
            sources: parts,
            report: self.report(),
            ..self.monitor.notice(self.event(&ended), self.job.kind.word(), ended.exit, &summary)
        };
        let log = redactor.clean(&self.monitor.log.text());
        let pings = self.pings(&ended, &summary, &log, &redactor);
        let starting = std::mem::take(&mut self.starting);
        let run = self.job.run;
        let (checked, notified, published) = tokio::join!(
            self.monitor.ping_after(starting, run, pings),
            self.monitor.notify(&notice),
            metrics::publish(self.monitor.config, self.monitor.environment),
        );
        for delivery in checked.iter().chain(&notified) {
            if let Some(error) = &delivery.error {
                tracing::warn!(whom = %delivery.recipient, %error, "could not be notified of the end of the job");
            }
        }
        for error in published {
            tracing::warn!(%error, "the metrics could not be published");
        }
        recorded
    }

    fn record(&self, ended: &Ended, finished: Timestamp) -> Result<(), LedgerError> {
        let settings = &self.monitor.config.settings;
        let redactor = Redactor::of(self.monitor.environment);
        let event = |place| ended.event(&self.job, place, self.started, finished, &redactor);
        let events = self.job.repositories.iter().map(|place| event(place));
        History::open(&settings.state_directory)?.ended(self.job.run, settings.ledger, events)
    }

    /// The report of a drill or a recovery, if there is a recipient at all.
    fn report(&self) -> Option<Arc<str>> {
        let has_report = matches!(self.job.kind, EventKind::Drill | EventKind::Recover);
        if !has_report || self.monitor.notifiers.is_empty() {
            return None;
        }
        let settings = &self.monitor.config.settings;
        let ledger = Ledger::open(&settings.state_directory).ok()?;
        let run = self.job.run.to_string();
        // A drill that did not begin has none.
        let report = ProofReport::load(&ledger, Some(&run), &settings.objectives).ok()?;
        Some(report.to_html(Language::En).into())
    }

    fn event(&self, ended: &Ended) -> When {
        match ended.exit {
            Exit::Done if self.was_failing => When::Recovery,
            Exit::Done => When::Success,
            _ => When::Failure,
        }
    }

    /// The job's check receives the overall end; each part's check receives the end of that part.
    fn pings(&self, ended: &Ended, summary: &str, log: &str, redactor: &Redactor) -> Vec<Ping> {
        let Some(healthchecks) = &self.monitor.healthchecks else { return Vec::new() };
        let (kind, code) = (self.job.kind, ended.exit.code());
        // A check that is shared, or covers more than this job did, is not set to success by this
        // job alone.
        let others_fail =
            || healthchecks.is_shared() && self.monitor.is_failing(|other| other != kind.word());
        let signal = if code == 0 && (self.job.is_narrowed || others_fail()) {
            Signal::Log
        } else {
            Signal::End(code)
        };
        let of_job = healthchecks.of([kind.word().to_owned()]);
        let mut pings: Vec<Ping> = of_job
            .into_iter()
            .map(|check| Ping { check, signal, body: format!("{log}{summary}") })
            .collect();
        for part in &ended.parts {
            let line = redactor.clean(&part.line());
            for check in healthchecks.of([check_of(kind, &part.name)]) {
                pings.push(Ping {
                    check,
                    signal: Signal::End(part.exit.code()),
                    body: format!("{log}{line}\n"),
                });
            }
        }
        pings
    }
}

impl Monitor<'_> {
    /// Waits until the announcement has arrived, or its time is over, then pings: an end must not
    /// overtake its start.
    async fn ping_after(
        &self,
        mut starting: JoinSet<Vec<Delivery>>,
        run: RunId,
        pings: Vec<Ping>,
    ) -> Vec<Delivery> {
        let Some(healthchecks) = &self.healthchecks else { return Vec::new() };
        let mut deliveries = Vec::new();
        if let Ok(Some(Ok(started))) =
            tokio::time::timeout(healthchecks.timeout, starting.join_next()).await
        {
            deliveries = started;
        }
        starting.abort_all();
        // If a server has not answered for so long, only its dead man's switch is left.
        let longest: Duration = post::longest(healthchecks.timeout);
        match tokio::time::timeout(longest, healthchecks.send(Some(run), pings)).await {
            Ok(ended) => deliveries.extend(ended),
            Err(_) => deliveries.push(Delivery {
                recipient: "healthchecks".into(),
                error: Some("it does not answer".into()),
            }),
        }
        deliveries
    }
}
