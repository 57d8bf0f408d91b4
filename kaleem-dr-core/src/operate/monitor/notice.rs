//! The end of a job as recipients receive it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{Severity, When};
use crate::ground::Exit;

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
