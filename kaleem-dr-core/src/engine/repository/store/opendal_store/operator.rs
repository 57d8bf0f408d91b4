//! The OpenDAL operator of a store: how operations are retried and limited.

use opendal::{
    Operator,
    layers::{ConcurrentLimitLayer, RetryLayer, TimeoutLayer},
};

use super::super::{Tuning, retry::Notice};

/// An operator with time-outs, retries and a limit on concurrency.
pub(super) fn layered(operator: Operator, location: &str, tuning: &Tuning) -> Operator {
    let retries = tuning.retries;
    let notice = Notice { location: location.to_owned(), retries };
    let retry = RetryLayer::new()
        .with_max_times(retries)
        .with_jitter()
        .with_min_delay(tuning.retry_delay)
        .with_notify(notice);
    operator
        .layer(
            TimeoutLayer::new()
                .with_timeout(tuning.call_timeout)
                .with_io_timeout(tuning.io_timeout),
        )
        .layer(retry)
        .layer(ConcurrentLimitLayer::new(tuning.concurrency))
}
