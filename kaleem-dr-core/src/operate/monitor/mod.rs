//! Monitoring of jobs: each job is announced, and however it ends, its end goes to the ledger, the
//! metrics and every notifier.
//!
//! [`Monitor::start`] is called before a job and [`Running::end`] after it, outside of everything
//! that can fail: a missing repository, a wrong password, a cancellation and a panic are ends like
//! any other. A killed process reports nothing more; its check sees a start without an end. A
//! notifier that cannot be reached neither fails a job nor delays it beyond a fixed time.

mod body;
mod chat;
mod email;
mod end;
mod faults;
mod healthchecks;
mod notice;
mod notifier;
mod notifiers;
mod ntfy;
mod pagerduty;
mod post;
mod redact;
mod repetitions;
mod running;
mod settings;
mod tail;
mod telegram;
mod unit;
mod webhook;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinSet;

pub use self::{
    end::{Ended, EndedPart},
    notice::{Notice, NoticePart},
    notifier::{Notifier, Repetition},
    running::Running,
    settings::{
        ChatService, ChatSettings, EmailSecurity, EmailSettings, HealthchecksSettings, Monitoring,
        NtfySettings, Only, PagerDutySettings, PrometheusSettings, Severity, TelegramSettings,
        WebhookSettings, When,
    },
    tail::LogTail,
};
pub(crate) use self::{
    faults::fault,
    post::{client as http_client, send as http_send},
    redact::Redactor,
};
use self::{
    healthchecks::{Healthchecks, Ping, Signal},
    notifier::notify,
    notifiers::notifiers,
    repetitions::Repetitions,
};
use crate::{
    engine::ledger::{EventKind, Ledger, LedgerError},
    ground::{Exit, RunId},
    operate::config::{Config, RepositoryNames, secret::Environment},
};

/// A job that is about to run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// Kind of the job; its word names the checks.
    pub kind: EventKind,
    /// Id of the job, under which its end is recorded.
    pub run: RunId,
    /// Locations of the repositories that it uses; each gets an event.
    pub repositories: Vec<String>,
    /// Its sources or mirrors, which have checks of their own.
    pub parts: Vec<String>,
    /// These are fewer than all. Then a good end says nothing about the others, and the
    /// job's own check is not changed.
    pub is_narrowed: bool,
}

impl Job {
    /// A job on these repositories, given by location, that covers all sources or mirrors.
    #[must_use]
    pub fn of(kind: EventKind, run: RunId, repositories: Vec<String>) -> Self {
        Self { kind, run, repositories, parts: Vec::new(), is_narrowed: false }
    }
}

/// The delivery of a notice or a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Delivery {
    /// Name of the notifier or check; never a secret URL.
    #[serde(rename = "whom")]
    pub recipient: String,
    /// Why the delivery failed; `None` if it succeeded.
    pub error: Option<String>,
}

impl Delivery {
    /// Reports whether the delivery succeeded.
    #[must_use]
    pub fn arrived(&self) -> bool {
        self.error.is_none()
    }

    /// The exit status of deliveries: 7 if one failed.
    #[must_use]
    pub fn exit_of(deliveries: &[Self]) -> Exit {
        if deliveries.iter().all(Self::arrived) { Exit::Done } else { Exit::Unreachable }
    }
}

/// All recipients of notifications about the jobs of a config.
pub struct Monitor<'a> {
    config: &'a Config,
    environment: &'a Environment,
    log: LogTail,
    healthchecks: Option<Healthchecks>,
    notifiers: Vec<Arc<dyn Notifier>>,
    /// Configured recipients that cannot be notified, for example because a secret is missing.
    problems: Vec<Delivery>,
}

impl<'a> Monitor<'a> {
    /// Reads the secrets of every notifier. A notifier whose secret cannot be read causes a
    /// warning, and the others are notified.
    #[must_use]
    pub fn new(config: &'a Config, environment: &'a Environment, log: LogTail) -> Self {
        let settings = &config.settings.monitoring;
        let mut failed: Vec<String> = Vec::new();
        let mut healthchecks = None;
        if let Some(settings) = &settings.healthchecks {
            match Healthchecks::new(settings, environment) {
                Ok((made, missing)) => {
                    healthchecks = Some(made);
                    failed.extend(missing.into_iter().map(|why| format!("healthchecks: {why}")));
                }
                Err(why) => failed.push(format!("healthchecks: {why}")),
            }
        }
        let (notifiers, more) = notifiers(settings, &config.settings.host_name(), environment);
        let problem = |why| Delivery { recipient: "monitoring".into(), error: Some(why) };
        let problems = failed.into_iter().chain(more).map(problem).collect();
        Self { config, environment, log, healthchecks, notifiers, problems }
    }

    /// Adds notifiers that no config names.
    #[must_use]
    pub fn with_notifiers(mut self, notifiers: &[Arc<dyn Notifier>]) -> Self {
        self.notifiers.extend(notifiers.iter().cloned());
        self
    }

    /// Announces a job. Delivery of the announcement continues while the job runs.
    pub fn start(&self, job: Job) -> Running<'_> {
        for problem in &self.problems {
            tracing::warn!(
                error = problem.error.as_deref(),
                "a recipient will not be notified of the end of this job"
            );
        }
        let mut starting = JoinSet::new();
        if let Some(healthchecks) = self.healthchecks.clone() {
            let own = (!job.is_narrowed).then(|| job.kind.word().to_owned());
            let checks = healthchecks
                .of(own.into_iter().chain(job.parts.iter().map(|part| check_of(job.kind, part))));
            let ping = |check| Ping { check, signal: Signal::Start, body: String::new() };
            let pings: Vec<Ping> = checks.into_iter().map(ping).collect();
            starting.spawn(async move { healthchecks.send(Some(job.run), pings).await });
        }
        let was_failing = self.is_failing(|kind| kind == job.kind.word());
        Running { monitor: self, job, started: Timestamp::now(), starting, was_failing }
    }

    /// Announces a job, does its work, and reports its end, which `ended` makes from the work's
    /// result. A panic is reported as a failure, and then resumed.
    pub async fn watch<T>(
        &self,
        job: Job,
        work: impl Future<Output = T>,
        ended: impl FnOnce(&T) -> Ended,
    ) -> (T, Result<(), LedgerError>) {
        let running = self.start(job);
        let mut work = pin!(work);
        let caught = poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        });
        match caught.await {
            Ok(result) => {
                let recorded = running.end(ended(&result)).await;
                (result, recorded)
            }
            Err(panic) => {
                let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let said =
                    said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                // The panic continues to the caller, so an error of the ledger no longer matters.
                let _ = running
                    .end(Ended::failed(Exit::Failed, format!("the program panicked: {said}")))
                    .await;
                resume_unwind(panic)
            }
        }
    }

    /// Sends a test to all recipients. Checks receive a log entry, which does not change their
    /// state.
    pub async fn test(&self) -> Vec<Delivery> {
        let message =
            format!("this is a test of kaleem-dr on {}", self.config.settings.host_name());
        let mut deliveries = self.problems.clone();
        if let Some(healthchecks) = &self.healthchecks {
            let ping = |check| Ping { check, signal: Signal::Log, body: message.clone() };
            deliveries.extend(
                healthchecks
                    .send(None, healthchecks.tested().into_iter().map(ping).collect())
                    .await,
            );
        }
        deliveries.extend(
            self.notify(&self.notice(When::Test, "notify test", Exit::Done, &message)).await,
        );
        deliveries
    }

    /// Reports that a systemd unit failed, or failed to start: the check of its job receives a
    /// failure.
    ///
    /// # Errors
    /// A sentence, if the unit does not belong to kaleem-dr.
    pub async fn unit_failed(&self, unit: &str) -> Result<Vec<Delivery>, String> {
        let job = unit::job_of(unit).ok_or_else(|| {
            format!("`{unit}` is not a unit of kaleem-dr: its units are kaleem-dr-JOB.service")
        })?;
        let message = format!(
            "the unit {unit} failed on {}; see `journalctl -u {unit}`",
            self.config.settings.host_name()
        );
        let mut deliveries = self.problems.clone();
        if let Some(healthchecks) = &self.healthchecks {
            let has_parts = matches!(
                job.kind,
                Some(EventKind::Backup | EventKind::Verify | EventKind::Replicate)
            );
            let mut names: Vec<String> =
                job.kind.map(|kind| kind.word().to_owned()).into_iter().collect();
            if let (Some(kind), Some(of)) = (job.kind, &job.of)
                && (has_parts || !healthchecks.has_slugs())
            {
                names.push(check_of(kind, of));
            }
            if names.is_empty() && healthchecks.is_shared() {
                names.push(job.word.clone());
            }
            let ping = |check| Ping { check, signal: Signal::Fail, body: message.clone() };
            deliveries.extend(
                healthchecks
                    .send(None, healthchecks.of(names).into_iter().map(ping).collect())
                    .await,
            );
        }
        deliveries.extend(
            self.notify(&self.notice(When::Failure, &job.word, Exit::Failed, &message)).await,
        );
        Ok(deliveries)
    }

    /// Reports whether there is a recipient.
    #[must_use]
    pub fn has_recipients(&self) -> bool {
        self.healthchecks.is_some() || !self.notifiers.is_empty() || !self.problems.is_empty()
    }

    fn notice(&self, event: When, job: &str, exit: Exit, message: &str) -> Notice {
        Notice {
            event,
            job: job.to_owned(),
            host: self.config.settings.host_name().to_string(),
            run: None,
            exit,
            exit_code: exit.code(),
            started: None,
            finished: Timestamp::now(),
            sources: Vec::new(),
            severity: Severity::of(exit, &[]),
            report: None,
            message: Redactor::of(self.environment).clean(message),
        }
    }

    async fn notify(&self, notice: &Notice) -> Vec<Delivery> {
        let repetitions =
            Repetitions::new(Ledger::open(&self.config.settings.state_directory).ok());
        let due: Vec<_> = self
            .notifiers
            .iter()
            .filter(|notifier| repetitions.is_due(&***notifier, notice))
            .map(|notifier| notify(&**notifier, notice))
            .collect();
        let deliveries: Vec<Delivery> =
            stream::iter(due).buffered(8).filter_map(std::future::ready).collect().await;
        for delivery in deliveries.iter().filter(|delivery| delivery.arrived()) {
            repetitions.record(&delivery.recipient, notice);
        }
        repetitions.end(notice);
        deliveries
    }

    /// Reports whether the newest job of such a kind, in a repository of the config, did not end
    /// well. Without a ledger this is unknown, and counts as no.
    fn is_failing(&self, of: impl Fn(&str) -> bool) -> bool {
        let names = RepositoryNames::of(&self.config.settings, self.environment);
        let events = Ledger::open(&self.config.settings.state_directory)
            .and_then(|ledger| ledger.newest_events(false));
        let known = events.unwrap_or_default();
        known.iter().any(|event| {
            event.exit != 0 && of(&event.kind) && names.name_of(&event.repository).is_some()
        })
    }
}

/// Name of the check of a part: `backup/mongo`.
fn check_of(kind: EventKind, part: &str) -> String {
    format!("{}/{part}", kind.word())
}
