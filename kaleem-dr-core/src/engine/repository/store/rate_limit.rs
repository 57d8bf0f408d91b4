//! A rate limit, in bytes a second, that all bodies of a store share.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::access::Rate;

/// Size of a slice, in bytes: small, so that concurrent bodies take turns.
pub(super) const SLICE_BYTES: usize = 64 << 10;

/// A limit that clones share.
#[derive(Clone, Debug)]
pub(super) struct RateLimit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rate: Rate,
    /// Time at which everything let through so far is within the rate.
    free_at: Mutex<Instant>,
}

impl RateLimit {
    pub(super) fn new(rate: Rate) -> Self {
        Self(Arc::new(Shared { rate, free_at: Mutex::new(Instant::now()) }))
    }

    /// Reserves the place of a slice in the queue; the slice may pass at the returned time.
    fn reserve(&self, bytes: usize) -> Instant {
        let mut free_at = self.0.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = (*free_at).max(Instant::now());
        let nanoseconds = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.0.rate.get());
        *free_at = mine + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        mine
    }
}

/// The turn of one body: polled to ready once for each of its slices.
#[derive(Debug)]
pub(super) struct Turn {
    limit: Option<RateLimit>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Turn {
    pub(super) fn new(limit: Option<RateLimit>) -> Self {
        Self { limit, waiting: None }
    }

    /// Reports whether there is a limit at all.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Ready when a slice of this length may pass. The first poll reserves its place.
    pub(super) fn poll(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = &self.limit else { return Poll::Ready(()) };
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limit.reserve(bytes))));
        ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_under_way_together_share_one_limit() {
        let limit = RateLimit::new(Rate::bytes_per_second(1 << 20).unwrap());
        let other = limit.clone();
        let first = limit.reserve(SLICE_BYTES);
        let last = (1..16)
            .flat_map(|_| [limit.reserve(SLICE_BYTES), other.reserve(SLICE_BYTES)])
            .last()
            .unwrap();
        // 31 slices; each waits until those before it have had their time.
        let waited = last - first;
        let wanted = Duration::from_micros(62_500) * 30;
        assert!(waited >= wanted && waited < wanted + Duration::from_secs(1), "{waited:?}");
    }
}
