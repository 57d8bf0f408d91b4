//! SIGINT and SIGTERM: a command ends within two seconds, whatever it waits for, and with 130.
//!
//! The first signal cancels: work that hears of it ends by itself, cleanly. Work that does not is dropped after a second, which
//! releases its locks and removes its temporary files. The monitor then has what is left of the two seconds to report the end.
//! Blocking threads are not waited for: they end with the process. The second signal ends the process at once.

use std::{io, thread, time::Duration};

use kaleem_dr_core::{CancellationToken, ground::Exit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// After a cancellation, how long work may take to end by itself.
pub const WORK: Duration = Duration::from_secs(1);
/// How long all of it may take, with the report of its end.
pub const COMMAND: Duration = Duration::from_millis(1500);
/// Then the process ends even where a thread that must not block does. A lock that is left then is known to be of a dead process.
const LAST_RESORT: Duration = Duration::from_millis(1850);

/// A signal that comes so soon after the first is not the operator's second.
const SAME: Duration = Duration::from_millis(300);

/// The signals that end a command. None that comes after [`Signals::install`] is lost.
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

    /// Cancels at the first signal and ends the process at the second.
    pub async fn cancel(mut self, cancel: CancellationToken) {
        self.next().await;
        tracing::warn!("ending; once more to end at once");
        // A thread of its own: the runtime's may all be blocked.
        thread::spawn(|| {
            thread::sleep(LAST_RESORT);
            end_now();
        });
        cancel.cancel();
        // timeout(1) and some supervisors send it twice, to the process and to its group: that is still the first.
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

/// What the work gives, or a failure when it goes on for longer than this after a cancellation; it is dropped then.
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
