//! Notices of the ends of jobs, the trait of those who deliver them, and the notifiers of a config.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    Delivery, Monitoring, Only, Severity, When, chat::Chat, email::Email, ntfy::Ntfy,
    pagerduty::PagerDuty, post, telegram::Telegram, webhook::Webhook,
};
use crate::{
    ground::{Exit, error_chain, host::HostName},
    operate::config::secret::{Environment, SecretRef, SecretString},
};

/// Maximum wait for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Hours after which people are notified again of a failure that has not changed.
pub(super) const PEOPLE: u32 = 4;

/// The end of a job as sent to a notifier; a webhook receives it as JSON. Secrets are removed from
/// its texts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Notice {
    /// The event: `failure`, `success`, `recovery` or `test`.
    pub event: When,
    /// The name of the job's kind, as in [`crate::engine::ledger::EventKind::word`].
    pub job: String,
    /// Host that the job ran on.
    pub host: String,
    /// Id of the run; `None` for a job that did not run.
    pub run: Option<String>,
    /// The end of the job.
    pub exit: Exit,
    /// The end of the job as an exit status.
    pub exit_code: u8,
    /// Start of the job; `None` if it did not run.
    pub started: Option<Timestamp>,
    /// End of the job, by this machine's clock.
    pub finished: Timestamp,
    /// The end of each source or mirror.
    pub sources: Vec<NoticePart>,
    /// The severity of that end.
    pub severity: Severity,
    /// A few lines for people.
    pub message: String,
    /// The report of a drill or a recovery as an HTML page, if there is one.
    #[serde(skip)]
    pub report: Option<Arc<str>>,
}

/// The end of one source or mirror of a job.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NoticePart {
    /// Its name in the config.
    pub source: String,
    /// Exit status of the source, as a number.
    pub exit_code: u8,
    /// Why it did not end well; `None` if it did.
    pub message: Option<String>,
}

impl Notice {
    /// Reports whether a recipient with these events receives the notice. Every recipient receives
    /// a test, and a recovery is also a success.
    #[must_use]
    pub fn is_for(&self, on: &[When]) -> bool {
        match self.event {
            When::Test => true,
            When::Recovery => on.contains(&When::Recovery) || on.contains(&When::Success),
            event => on.contains(&event),
        }
    }

    /// The host, the job and its end, on one line.
    #[must_use]
    pub fn title(&self) -> String {
        let end = match self.event {
            When::Failure if self.severity == Severity::Warning => "is not complete",
            When::Failure => "failed",
            When::Recovery => "works again",
            When::Success => "ended well",
            When::Test => "can be heard",
        };
        format!("{}: {} {end}", self.host, self.job)
    }

    /// The exit status with the failed parts: two failures of a job with the same value count as one that has not changed.
    #[must_use]
    pub fn failure(&self) -> String {
        let failed = self.sources.iter().filter(|part| part.exit_code != 0);
        let parts = failed.map(|part| format!(" {}={}", part.source, part.exit_code));
        self.exit_code.to_string() + &parts.collect::<String>()
    }
}

impl Severity {
    /// The severity of the end of a job with these parts.
    pub(super) fn of(exit: Exit, parts: &[NoticePart]) -> Self {
        let is_mild = |code: u8| {
            [Exit::Done, Exit::Partial, Exit::Locked, Exit::Temporary, Exit::Cancelled]
                .iter()
                .any(|exit| exit.code() == code)
        };
        match exit {
            Exit::Done => Self::Info,
            _ if is_mild(exit.code()) && parts.iter().all(|part| is_mild(part.exit_code)) => {
                Self::Warning
            }
            _ => Self::Critical,
        }
    }
}

/// The notices that a recipient wants.
pub(super) struct Wanted {
    on: Vec<When>,
    only: Only,
    repeat: SignedDuration,
}

impl Wanted {
    /// `repeat_hours` is the default of this kind of recipient.
    pub(super) fn new(on: &[When], only: &Only, repeat_hours: u32) -> Self {
        let repeat = SignedDuration::from_hours(only.repeat_hours.unwrap_or(repeat_hours).into());
        Self { on: on.to_vec(), only: only.clone(), repeat }
    }

    pub(super) fn has(&self, notice: &Notice) -> bool {
        let is_bad_enough = notice.event != When::Failure
            || self.only.severity.is_none_or(|least| notice.severity >= least);
        let is_of_job = self.only.jobs.is_empty() || self.only.jobs.contains(&notice.job);
        notice.event == When::Test || notice.is_for(&self.on) && is_of_job && is_bad_enough
    }

    pub(super) fn repetition(&self) -> Repetition {
        Repetition { after: self.repeat, recovers_what_was_sent: self.only.severity.is_some() }
    }
}

/// The treatment of notices that were sent before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repetition {
    /// Time after which a failure that has not changed is sent again; zero sends each one.
    pub after: SignedDuration,
    /// Send a recovery only from a failure that was sent.
    pub recovers_what_was_sent: bool,
}

/// A recipient of notifications about the ends of jobs. A program that embeds the library adds its
/// own with [`Site::with_notifier`](crate::Site::with_notifier).
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Name of the notifier for logs and for `notify test`; never a secret URL.
    fn name(&self) -> String;

    /// Reports whether to deliver this notice; all notices by default.
    fn wants(&self, _notice: &Notice) -> bool {
        true
    }

    /// The treatment of notices that it has sent before; by default, everything is sent.
    fn repetition(&self) -> Repetition {
        Repetition::default()
    }

    /// Delivers a notice. A delivery that takes longer than half a minute is dropped, so that it
    /// cannot delay a job for long.
    ///
    /// # Errors
    /// Why the delivery failed, as a sentence without a secret. The error is logged and fails no
    /// job.
    async fn deliver(&self, notice: &Notice) -> Result<(), String>;
}

/// Delivers a notice to one notifier, if it wants it.
pub(crate) async fn notify(notifier: &dyn Notifier, notice: &Notice) -> Option<Delivery> {
    if !notifier.wants(notice) {
        return None;
    }
    let delivered = tokio::time::timeout(post::longest(TIMEOUT), notifier.deliver(notice)).await;
    let error = delivered.unwrap_or_else(|_| Err("no answer in time".to_owned())).err();
    Some(Delivery { recipient: notifier.name(), error })
}

/// The notifiers of a config. A secret that cannot be read becomes a sentence, and the other
/// notifiers are used.
pub(crate) fn notifiers(
    settings: &Monitoring,
    host: &HostName,
    environment: &Environment,
) -> (Vec<Arc<dyn Notifier>>, Vec<String>) {
    let (mut made, mut failed) = (Vec::new(), Vec::new());
    let client = match post::client(TIMEOUT) {
        Ok(client) => client,
        Err(why) => return (made, vec![why]),
    };
    let mut add = |notifier: Result<Arc<dyn Notifier>, String>| match notifier {
        Ok(notifier) => made.push(notifier),
        Err(why) => failed.push(why),
    };
    for (at, webhook) in settings.webhook.iter().enumerate() {
        add(Webhook::new(at + 1, webhook, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for topic in &settings.ntfy {
        add(Ntfy::new(topic, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for email in &settings.email {
        add(Email::new(email, host, environment).map(|it| Arc::new(it) as _));
    }
    for (at, chat) in settings.chat.iter().enumerate() {
        add(Chat::new(at + 1, chat, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for chat in &settings.telegram {
        add(Telegram::new(chat, environment, client.clone()).map(|it| Arc::new(it) as _));
    }
    for (at, service) in settings.pagerduty.iter().enumerate() {
        add(PagerDuty::new(at + 1, service, environment, client.clone())
            .map(|it| Arc::new(it) as _));
    }
    (made, failed)
}

/// The secret of a recipient.
pub(super) fn secret(
    recipient: &str,
    place: &SecretRef,
    environment: &Environment,
) -> Result<SecretString, String> {
    environment.secret(place).map_err(|error| format!("{recipient}: {}", error_chain(&error)))
}
