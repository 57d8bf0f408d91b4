//! Named steps of a run at which a debug build can be made to die or freeze, so that tests can prove that every crash is
//! harmless. In a release build this is nothing.

/// A step of a run, in the order of a run.
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
    /// A mirror has just got, or lost, an object.
    Replicate,
    /// A rehearsal has filled its scratch target.
    Scratch,
}

/// Passes a step. `KALEEM_DR_FAILPOINT=capture=kill` (or `=stop`) kills or freezes a debug build there;
/// `capture=kill:3` at the third time.
#[cfg(debug_assertions)]
pub(crate) fn pass(step: Step) {
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    static PASSED: AtomicU32 = AtomicU32::new(0);
    let Ok(wanted) = std::env::var("KALEEM_DR_FAILPOINT") else { return };
    let Some((name, action)) = wanted.split_once('=') else { return };
    if !name.eq_ignore_ascii_case(&format!("{step:?}")) {
        return;
    }
    let (action, nth) = action.split_once(':').map_or((action, 1), |(action, nth)| (action, nth.parse().unwrap_or(1)));
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == nth {
        let signal = if action == "stop" { Signal::SIGSTOP } else { Signal::SIGKILL };
        // A failed kill would let the test go on and fail; there is nothing else to do about it.
        let _ = kill(Pid::this(), signal);
        // The signal may arrive a moment later.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn pass(_step: Step) {}
