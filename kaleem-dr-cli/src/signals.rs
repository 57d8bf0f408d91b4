//! SIGINT and SIGTERM: whatever a command waits for, it ends within two seconds, with status 130.
//!
//! The first signal cancels: work that watches the token ends by itself, cleanly. Other work is
//! dropped after a second, which releases its locks and removes its temporary files. The monitor
//! then has the rest of the two seconds to report the end. Blocking threads are not waited for:
//! they end with the process. The second signal ends the process at once.

use std::{io, thread, time::Duration};

use kaleem_dr_core::{CancellationToken, ground::Exit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Time that work has to end by itself after a cancellation.
pub const WORK: Duration = Duration::from_secs(1);
/// Time limit for the whole shutdown, including the report of the end.
pub const COMMAND: Duration = Duration::from_millis(1500);
/// After this time, the process exits even if a thread that must not block does. A lock that is
/// left behind is recognised as stale, because its process is dead.
const LAST_RESORT: Duration = Duration::from_millis(1850);

/// A signal that arrives this soon after the first is not a second one from the operator.
const SAME: Duration = Duration::from_millis(300);

/// The signals that end a command. None that arrives after [`Signals::install`] is lost.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Cancels at the first signal, and ends the process at the second.
    pub async fn cancel(mut self, cancel: CancellationToken) {
        self.next().await;
        tracing::warn!("cancelling; send the signal again to exit at once");
        // A separate thread, because all threads of the runtime may be blocked.
        thread::spawn(|| {
            thread::sleep(LAST_RESORT);
            end_now();
        });
        cancel.cancel();
        // timeout(1) and some supervisors send it twice, to the process and to its group: the
        // second one does not count.
        let same = tokio::time::sleep(SAME);
        tokio::pin!(same);
        loop {
            tokio::select! {
                () = &mut same => break,
                () = self.next() => {}
            }
        }
        self.next().await;
        end_now();
    }
}

fn end_now() -> ! {
    std::process::exit(i32::from(Exit::Cancelled.code()))
}

/// Returns the result of the work, or a failure if it continues for longer than this after a
/// cancellation; the work is dropped then.
pub async fn within<T>(
    grace: Duration,
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let overdue = async {
        cancel.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        biased;
        result = work => result,
        () = overdue => Err(Failure::cancelled()),
    }
}
