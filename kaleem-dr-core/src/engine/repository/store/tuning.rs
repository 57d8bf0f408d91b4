//! Time-outs, retries and concurrency of a store.

use std::time::Duration;

/// Time-outs, retries and concurrency of the operations of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// Time limit for a connection.
    pub connect_timeout: Duration,
    /// Time limit for the response to a request without a body.
    pub call_timeout: Duration,
    /// Time limit for one read or write of a body.
    pub io_timeout: Duration,
    /// Attempts after the first, with jitter, for temporary errors.
    pub retries: usize,
    /// Wait before the first retry; it doubles with each.
    pub retry_delay: Duration,
    /// Maximum number of concurrent requests to the store.
    pub concurrency: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_mins(1),
            io_timeout: Duration::from_mins(2),
            retries: 4,
            retry_delay: Duration::from_millis(200),
            concurrency: 32,
        }
    }
}
