//! Which notices have been sent before.

use jiff::SignedDuration;

use super::{When, notice::Notice, notifier::Notifier};
use crate::engine::ledger::Ledger;

/// The failures that each recipient was notified of. Without a ledger, everything is sent.
pub(super) struct Repetitions(Option<Ledger>);

impl Repetitions {
    pub(super) fn new(ledger: Option<Ledger>) -> Self {
        Self(ledger)
    }

    /// Reports whether to send a notice that the recipient wants.
    pub(super) fn is_due(&self, notifier: &dyn Notifier, notice: &Notice) -> bool {
        let Some(ledger) = &self.0 else { return true };
        let known = || ledger.notified(&notifier.name(), &notice.job);
        let repetition = notifier.repetition();
        match notice.event {
            When::Test | When::Success => true,
            // What cannot be read counts as not sent.
            When::Recovery => !repetition.recovers_what_was_sent || !matches!(known(), Ok(None)),
            When::Failure if repetition.after.is_zero() => true,
            When::Failure => known().ok().flatten().is_none_or(|(failure, at)| {
                let age = notice.finished.duration_since(at);
                // A unit that fails says no more than the failure of its job that was sent before.
                let is_new = notice.run.is_some() && failure != notice.failure();
                is_new || age < SignedDuration::ZERO || age >= repetition.after
            }),
        }
    }

    /// Records that a recipient received a notice.
    pub(super) fn record(&self, recipient: &str, notice: &Notice) {
        if let Some(ledger) = &self.0
            && notice.event == When::Failure
            && let Err(error) =
                ledger.record_notified(recipient, (&notice.job, &notice.failure()), notice.finished)
        {
            tracing::warn!(%error, "the failure will be sent again");
        }
    }

    /// Forgets the failures of a job that ended well.
    pub(super) fn end(&self, notice: &Notice) {
        if let Some(ledger) = &self.0
            && matches!(notice.event, When::Recovery | When::Success)
            && let Err(error) = ledger.clear_notified(&notice.job)
        {
            tracing::warn!(%error, "the next failure may not be sent if it equals the last one");
        }
    }
}
