//! The trait of those who deliver notices, and what each of them wants.

use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;

use super::{Delivery, Only, When, notice::Notice, post};
use crate::{
    ground::error_chain,
    operate::config::secret::{Environment, SecretRef, SecretString},
};

/// Maximum wait for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Hours after which people are notified again of a failure that has not changed.
pub(super) const PEOPLE: u32 = 4;

/// As [`PEOPLE`], for programs, which recognise repetitions: each one is sent.
pub(super) const PROGRAMS: u32 = 0;

/// A way to deliver notices, whoever wants them.
#[async_trait]
pub(super) trait Deliver: Send + Sync {
    /// As [`Notifier::name`].
    fn name(&self) -> String;

    /// As [`Notifier::deliver`].
    async fn deliver(&self, notice: &Notice) -> Result<(), String>;
}

/// A recipient of the config: the notices that it wants, and the way to it.
pub(super) struct Recipient {
    pub(super) wanted: Wanted,
    pub(super) way: Box<dyn Deliver>,
}

#[async_trait]
impl Notifier for Recipient {
    fn name(&self) -> String {
        self.way.name()
    }

    fn wants(&self, notice: &Notice) -> bool {
        self.wanted.has(notice)
    }

    fn repetition(&self) -> Repetition {
        self.wanted.repetition()
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        self.way.deliver(notice).await
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

    fn has(&self, notice: &Notice) -> bool {
        let is_bad_enough = notice.event != When::Failure
            || self.only.severity.is_none_or(|least| notice.severity >= least);
        let is_of_job = self.only.jobs.is_empty() || self.only.jobs.contains(&notice.job);
        notice.event == When::Test || notice.is_for(&self.on) && is_of_job && is_bad_enough
    }

    fn repetition(&self) -> Repetition {
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

/// The secret of a recipient.
pub(super) fn secret(
    recipient: &str,
    place: &SecretRef,
    environment: &Environment,
) -> Result<SecretString, String> {
    environment.secret(place).map_err(|error| format!("{recipient}: {}", error_chain(&error)))
}
