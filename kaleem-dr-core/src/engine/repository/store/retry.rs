//! Logs one line for each failed attempt that is retried: operation, object, error, number of the attempt, time until the next.

use std::time::Duration;

use opendal::layers::{RetryEvent, RetryInterceptor};

use super::opendal_error;

/// Logs a retry in place of OpenDAL, whose own line is the debug form of its error: the whole response with its headers, and a
/// backtrace.
pub(super) struct Notice {
    pub(super) location: String,
    pub(super) retries: usize,
}

impl RetryInterceptor for Notice {
    fn intercept(&self, event: RetryEvent<'_>) {
        let key = opendal_error::context(event.err, "path").unwrap_or_default();
        let attempts = (usize::try_from(event.attempt).unwrap_or(usize::MAX), self.retries);
        let operation = event.op.into_static();
        note(
            operation,
            &key,
            &self.location,
            &opendal_error::in_words(event.err),
            attempts,
            event.retry_after,
        );
    }
}

/// The line. `attempt` counts from 1.
pub(super) fn note(
    what: &str,
    key: &str,
    location: &str,
    why: &str,
    (attempt, retries): (usize, usize),
    pause: Duration,
) {
    let why = opendal_error::one_line(why);
    let (attempts, pause) = (retries + 1, pause.as_secs_f64());
    tracing::warn!(
        "cannot {what} {key} in {location}: {why}; attempt {attempt} of {attempts}, the next in {pause:.1} s"
    );
}

/// The pause after an attempt, which doubles with each.
#[cfg(feature = "s3")]
pub(super) fn pause(first: Duration, attempt: usize) -> Duration {
    first.saturating_mul(1 << attempt.saturating_sub(1).min(10))
}
