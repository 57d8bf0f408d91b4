//! What happens around a job: it is announced, and however it ends, the ledger, the metrics and whoever is to be told hear of it.
//!
//! [`Monitor::start`] stands before a job and [`Running::end`] behind it, outside of everything that can fail: no repository,
//! a wrong password, a cancellation and a panic are ends like any other. A process that is killed says nothing more; its check
//! sees a start without an end. Nobody who cannot be reached fails a job, or holds it up for longer than a bounded time.

mod end;
mod healthchecks;
mod notifiers;
mod post;
mod redact;
mod settings;
mod tail;
mod unit;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use reqwest::Client;
use serde::Serialize;
use tokio::task::JoinSet;

pub(crate) use self::post::{client as http_client, send as http_send};
pub use self::{
    end::{Ended, EndedPart},
    settings::{
        HealthchecksSettings, Monitoring, NtfySettings, PrometheusSettings, WebhookSettings, When,
    },
    tail::LogTail,
};
use self::{
    healthchecks::{Healthchecks, Ping, Signal},
    notifiers::{Notice, Notifier, Ntfy, Webhook, tell},
    redact::Redactor,
};
use crate::{
    engine::ledger::{EventKind, Ledger, LedgerError},
    ground::{Exit, RunId},
    operate::{
        config::{Config, RepositoryNames, secret::Environment},
        metrics,
    },
};

/// A job that is about to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is.
    pub kind: EventKind,
    /// Its id.
    pub run: RunId,
    /// The repositories it writes to or looks at, in words; an event is recorded for each.
    pub repositories: Vec<String>,
    /// The sources it is about, or the mirrors: what has a check of its own.
    pub parts: Vec<String>,
    /// Whether these are fewer than all. Then its good end says nothing of the others, and the job's own check stays as it is.
    pub is_narrowed: bool,
}

/// How telling someone went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Who, in words; never an address that is a secret.
    pub whom: String,
    /// Why it did not arrive; `None` when it did.
    pub error: Option<String>,
}

impl Told {
    /// Whether it arrived.
    #[must_use]
    pub fn arrived(&self) -> bool {
        self.error.is_none()
    }
}

/// Everybody who hears of the jobs of a config.
pub struct Monitor<'a> {
    config: &'a Config,
    environment: &'a Environment,
    log: LogTail,
    healthchecks: Option<Healthchecks>,
    client: Option<Client>,
    notifiers: Vec<Box<dyn Notifier>>,
    /// Who should be told and cannot be: a secret is missing, say.
    problems: Vec<Told>,
}

impl<'a> Monitor<'a> {
    /// Reads the secrets of all who are told. One that cannot be had is a warning, and the others are told.
    #[must_use]
    pub fn new(config: &'a Config, environment: &'a Environment, log: LogTail) -> Self {
        let settings = &config.settings.monitoring;
        let mut problems = Vec::new();
        let mut failed =
            |why: String| problems.push(Told { whom: "monitoring".into(), error: Some(why) });
        let mut healthchecks = None;
        if let Some(settings) = &settings.healthchecks {
            match Healthchecks::new(settings, environment) {
                Ok((made, missing)) => {
                    healthchecks = Some(made);
                    missing
                        .into_iter()
                        .map(|why| format!("healthchecks: {why}"))
                        .for_each(&mut failed);
                }
                Err(why) => failed(format!("healthchecks: {why}")),
            }
        }
        let mut notifiers: Vec<Box<dyn Notifier>> = Vec::new();
        for (at, webhook) in settings.webhook.iter().enumerate() {
            match Webhook::new(at + 1, webhook, environment) {
                Ok(webhook) => notifiers.push(Box::new(webhook)),
                Err(why) => failed(why),
            }
        }
        for ntfy in &settings.ntfy {
            match Ntfy::new(ntfy, environment) {
                Ok(ntfy) => notifiers.push(Box::new(ntfy)),
                Err(why) => failed(why),
            }
        }
        let client = if notifiers.is_empty() {
            None
        } else {
            post::client(notifiers::TIMEOUT).map_err(&mut failed).ok()
        };
        Self { config, environment, log, healthchecks, client, notifiers, problems }
    }

    /// Announces a job. The announcement travels while the job runs.
    pub fn start(&self, job: Job) -> Running<'_> {
        for problem in &self.problems {
            tracing::warn!(
                error = problem.error.as_deref(),
                "somebody will not be told how this ends"
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

    /// Announces a job, does its work, and says how it ended; `ended` tells how, of what the work gave back. A panic is told as a failure
    /// and goes on.
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
                // It goes on to whoever called, so what the ledger says is of no use any more.
                let _ = running
                    .end(Ended::failed(Exit::Failed, format!("the program panicked: {said}")))
                    .await;
                resume_unwind(panic)
            }
        }
    }

    /// Tells everybody that this is a test. Checks get a log entry, which changes nothing about them.
    pub async fn test(&self) -> Vec<Told> {
        let message =
            format!("this is a test of kaleem-dr on {}", self.config.settings.host_name());
        let mut told = self.problems.clone();
        if let Some(healthchecks) = &self.healthchecks {
            let ping = |check| Ping { check, signal: Signal::Log, body: message.clone() };
            told.extend(
                healthchecks
                    .send(None, healthchecks.tested().into_iter().map(ping).collect())
                    .await,
            );
        }
        told.extend(self.tell(&self.notice(When::Test, "notify test", Exit::Done, &message)).await);
        told
    }

    /// Tells that a systemd unit failed, also where it could not even begin: its job's check gets a fail.
    ///
    /// # Errors
    /// When the unit is none of ours, as a sentence.
    pub async fn unit_failed(&self, unit: &str) -> Result<Vec<Told>, String> {
        let job = unit::job_of(unit).ok_or_else(|| {
            format!("`{unit}` is no unit of ours: they are kaleem-dr-JOB.service")
        })?;
        let message = format!(
            "the unit {unit} failed on {}; `journalctl -u {unit}` tells more",
            self.config.settings.host_name()
        );
        let mut told = self.problems.clone();
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
            told.extend(
                healthchecks
                    .send(None, healthchecks.of(names).into_iter().map(ping).collect())
                    .await,
            );
        }
        told.extend(
            self.tell(&self.notice(When::Failure, &job.word, Exit::Failed, &message)).await,
        );
        Ok(told)
    }

    /// Whether there is somebody to tell.
    #[must_use]
    pub fn has_somebody(&self) -> bool {
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
            message: Redactor::of(self.environment).clean(message),
        }
    }

    async fn tell(&self, notice: &Notice) -> Vec<Told> {
        let Some(client) = &self.client else { return Vec::new() };
        let telling: Vec<_> =
            self.notifiers.iter().map(|notifier| tell(&**notifier, client, notice)).collect();
        stream::iter(telling).buffered(8).filter_map(std::future::ready).collect().await
    }

    /// Whether the newest job of such a kind, in a repository that the config has, did not end well. Without a ledger, nobody knows.
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

/// `backup/mongo`.
fn check_of(kind: EventKind, part: &str) -> String {
    format!("{}/{part}", kind.word())
}

/// A job that was announced.
#[must_use = "a job that was announced must be ended"]
pub struct Running<'a> {
    monitor: &'a Monitor<'a>,
    job: Job,
    started: Timestamp,
    starting: JoinSet<Vec<Told>>,
    was_failing: bool,
}

impl Running<'_> {
    /// Says how it ended: to the ledger, where the job did not do so itself, to the metrics, to whoever is told.
    ///
    /// # Errors
    /// When the ledger cannot be written: then the job did not end well. Everybody was told so.
    pub async fn end(mut self, ended: Ended) -> Result<(), LedgerError> {
        let finished = Timestamp::now();
        let mut ended = ended.completed(&self.job);
        let recorded = self.record(&ended, finished);
        if let Err(error) = &recorded {
            ended.spoil(&crate::ground::error_chain(error));
        }
        let redactor = Redactor::of(self.monitor.environment);
        let summary = redactor.clean(&ended.summary(&self.job, self.started, finished));
        let notice = Notice {
            run: Some(self.job.run.to_string()),
            started: Some(self.started),
            finished,
            sources: ended.notice_parts(&redactor),
            ..self.monitor.notice(self.event(&ended), self.job.kind.word(), ended.exit, &summary)
        };
        let log = redactor.clean(&self.monitor.log.text());
        let pings = self.pings(&ended, &summary, &log, &redactor);
        let starting = std::mem::take(&mut self.starting);
        let run = self.job.run;
        let (checked, told, published) = tokio::join!(
            self.monitor.ping_after(starting, run, pings),
            self.monitor.tell(&notice),
            metrics::publish(self.monitor.config, self.monitor.environment),
        );
        for told in checked.iter().chain(&told) {
            if let Some(error) = &told.error {
                tracing::warn!(whom = %told.whom, %error, "could not be told how the job ended");
            }
        }
        for error in published {
            tracing::warn!(%error, "the metrics could not be published");
        }
        recorded
    }

    fn record(&self, ended: &Ended, finished: Timestamp) -> Result<(), LedgerError> {
        if ended.is_recorded {
            return Ok(());
        }
        let ledger = Ledger::open(&self.monitor.config.settings.state_directory)?;
        ledger.trim(self.monitor.config.settings.ledger, finished)?;
        if ledger.has(self.job.run)? {
            return Ok(());
        }
        let redactor = Redactor::of(self.monitor.environment);
        self.job.repositories.iter().try_for_each(|repository| {
            ledger.record(&ended.event(&self.job, repository, self.started, finished, &redactor))
        })
    }

    fn event(&self, ended: &Ended) -> When {
        match ended.exit {
            Exit::Done if self.was_failing => When::Recovery,
            Exit::Done => When::Success,
            _ => When::Failure,
        }
    }

    /// The job's check hears how all of it ended, each part's check how that part did.
    fn pings(&self, ended: &Ended, summary: &str, log: &str, redactor: &Redactor) -> Vec<Ping> {
        let Some(healthchecks) = &self.monitor.healthchecks else { return Vec::new() };
        let (kind, code) = (self.job.kind, ended.exit.code());
        // What is shared, or is about more than this job was, does not turn green by this job alone.
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
    /// Pings when the announcement has arrived, or has had time to: an end must not overtake its start.
    async fn ping_after(
        &self,
        mut starting: JoinSet<Vec<Told>>,
        run: RunId,
        pings: Vec<Ping>,
    ) -> Vec<Told> {
        let Some(healthchecks) = &self.healthchecks else { return Vec::new() };
        let mut told = Vec::new();
        if let Ok(Some(Ok(started))) =
            tokio::time::timeout(healthchecks.timeout, starting.join_next()).await
        {
            told = started;
        }
        starting.abort_all();
        // Once a server has not answered for so long, the dead man's switch is all there is.
        let longest: Duration = post::longest(healthchecks.timeout);
        match tokio::time::timeout(longest, healthchecks.send(Some(run), pings)).await {
            Ok(ended) => told.extend(ended),
            Err(_) => told.push(Told {
                whom: "healthchecks".into(),
                error: Some("it does not answer".into()),
            }),
        }
        told
    }
}
