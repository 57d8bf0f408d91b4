//! The view of the repository: read at most every so often, by one reader, whatever the number of
//! requests. A request never waits for a read, except for the first one.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::{
    ground::error_chain,
    operate::site::{Overview, Site},
};

/// Time that a request waits for the first view.
const FIRST: Duration = Duration::from_secs(10);
/// Time after a failed read before the next.
const RETRY: Duration = Duration::from_secs(10);

/// The view, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The newest view that could be read.
    pub(super) view: Option<Arc<Overview>>,
    /// Why the newest read failed, and when.
    pub(super) problem: Option<Problem>,
}

/// Why a read failed.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// The error with its causes.
    pub(super) why: String,
    /// Time of the failure.
    pub(super) at: Timestamp,
}

/// The view with the wish for a newer one.
pub(super) struct Cache {
    seen: watch::Receiver<Seen>,
    shared: Arc<Shared>,
}

struct Shared {
    wanted: Notify,
    refresh: Duration,
    /// The end of the last read.
    last: Mutex<Option<(Instant, bool)>>,
}

/// Reads the repository when a request wants a newer view.
pub(super) struct Reader {
    site: Site,
    seen: watch::Sender<Seen>,
    shared: Arc<Shared>,
}

impl Shared {
    fn is_due(&self) -> bool {
        match *self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            None => true,
            Some((end, true)) => end.elapsed() >= self.refresh,
            Some((end, false)) => end.elapsed() >= RETRY.min(self.refresh),
        }
    }
}

impl Cache {
    pub(super) fn of(site: Site, refresh_seconds: u32) -> (Self, Reader) {
        let (sender, seen) = watch::channel(Seen::default());
        let shared = Arc::new(Shared {
            wanted: Notify::new(),
            refresh: Duration::from_secs(u64::from(refresh_seconds)),
            last: Mutex::new(None),
        });
        (Self { seen, shared: shared.clone() }, Reader { site, seen: sender, shared })
    }

    /// The view. If it is old, a read begins, and this answer is still the old view.
    pub(super) async fn look(&self) -> Seen {
        if self.shared.is_due() {
            self.shared.wanted.notify_one();
        }
        let mut seen = self.seen.clone();
        let is_known = |seen: &Seen| seen.view.is_some() || seen.problem.is_some();
        // If the time is over, the page shows that nothing is known yet.
        let _ = tokio::time::timeout(FIRST, seen.wait_for(is_known)).await;
        seen.borrow_and_update().clone()
    }
}

impl Reader {
    /// Reads once, and again whenever a request wants it.
    pub(super) async fn run(self) -> Infallible {
        loop {
            if self.shared.is_due() {
                self.read().await;
            }
            self.shared.wanted.notified().await;
        }
    }

    async fn read(&self) {
        let read = self.site.overview().await;
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), read.is_ok()));
        self.seen.send_modify(|seen| match read {
            Ok(view) => *seen = Seen { view: Some(Arc::new(view)), problem: None },
            Err(error) => {
                let why = error_chain(&error);
                tracing::warn!(error = why, "the repository cannot be read");
                seen.problem = Some(Problem { why, at: Timestamp::now() });
            }
        });
    }
}
