//! Named steps of a run at which a debug build can be killed, frozen or delayed, so that tests can prove that every crash is
//! harmless and every wait can be cancelled. Release builds compile this to nothing.

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A source is writing artifacts.
    Capture,
    /// A pack has just been written.
    Pack,
    /// An index file has just been written.
    Index,
    /// Everything but the snapshot is in the repository.
    BeforeRelease,
    /// The snapshot has just been written.
    AfterRelease,
    /// A snapshot has just been forgotten.
    Forget,
    /// Prune has just removed a pack or an index file.
    Prune,
    /// An object of a mirror has just been written or deleted.
    Replicate,
    /// A rehearsal has filled its scratch target.
    Scratch,
    /// An object is about to be read from a store.
    Read,
    /// An object has just been written to a store, whatever it is: a lock, a key, a snapshot, an object of a mirror.
    Write,
    /// An object has just been deleted from a store.
    Delete,
    /// An event is about to be recorded in the ledger.
    Ledger,
    /// The alarms have just been written.
    Alarms,
    /// A recovery is about to begin a source, or has just ended a step.
    Recover,
}

/// Passes a step. `KALEEM_DR_FAILPOINT=capture=kill` kills a debug build there; `stop` freezes it, `hang` never returns.
/// `capture=kill:3` acts at the third time, `any=kill:3` at the third step of any name.
#[cfg(debug_assertions)]
pub(crate) fn pass(step: Step) {
    if acts(step) == Some(Action::Hang) {
        loop {
            std::thread::park();
        }
    }
}

/// The same for async code, where a thread must not be blocked: a future that never completes can be dropped.
#[cfg(debug_assertions)]
pub(crate) async fn reach(step: Step) {
    if acts(step) == Some(Action::Hang) {
        std::future::pending::<()>().await;
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn pass(_step: Step) {}

#[cfg(not(debug_assertions))]
pub(crate) async fn reach(_step: Step) {}

/// The action left to the caller at a step.
#[cfg(debug_assertions)]
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Hang,
}

/// Returns the action requested for this step at this time, if any. Kills and freezes the process here.
#[cfg(debug_assertions)]
fn acts(step: Step) -> Option<Action> {
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    static PASSED: AtomicU32 = AtomicU32::new(0);
    let wanted = std::env::var("KALEEM_DR_FAILPOINT").ok()?;
    let (name, action) = wanted.split_once('=')?;
    if name != "any" && !name.eq_ignore_ascii_case(&format!("{step:?}")) {
        return None;
    }
    let (action, nth) = action
        .split_once(':')
        .map_or((action, 1), |(action, nth)| (action, nth.parse().unwrap_or(1)));
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 != nth {
        return None;
    }
    tracing::warn!(?step, "failpoint reached");
    if action == "hang" {
        return Some(Action::Hang);
    }
    let signal = if action == "stop" { Signal::SIGSTOP } else { Signal::SIGKILL };
    // If the kill failed, the test would continue and fail; nothing else can be done here.
    let _ = kill(Pid::this(), signal);
    // The signal may arrive a moment later.
    std::thread::sleep(std::time::Duration::from_millis(50));
    None
}
