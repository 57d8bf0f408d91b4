//! The state of a running capture: updated by its writers and readers, and evaluated by the commit gate.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::engine::{
    change_log::LogSpan,
    manifest::{ArtifactRecord, Consistency, ConsistencyGrade, Incomplete, ServerInfo, TreeTotals},
};

/// The state of a running capture, shared by its writers, its readers and the commit gate.
#[derive(Debug)]
pub(crate) struct CaptureState {
    pub(crate) started: Timestamp,
    poison: Arc<AtomicBool>,
    stop: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(super) opened: u64,
    pub(super) records: BTreeMap<PathBuf, ArtifactRecord>,
    delivered: BTreeMap<PathBuf, u64>,
    /// Actual sizes of files that differ from their declared ones.
    sizes: HashMap<PathBuf, u64>,
    pub(super) entries: u64,
    unreadable: u64,
    pub(super) totals: TreeTotals,
    pub(super) server: Option<ServerInfo>,
    pub(super) consistency: Option<Consistency>,
    pub(super) details: BTreeMap<String, Value>,
    pub(super) incomplete: Vec<Incomplete>,
    pub(super) change_log: Option<LogSpan>,
    spoiled: Option<String>,
}

/// A successful capture, as the commit needs it.
#[derive(Clone, Debug)]
pub(crate) struct CaptureOutcome {
    pub(crate) artifacts: Vec<ArtifactRecord>,
    /// Actual size of every entry whose declared size is wrong.
    pub(crate) sizes: HashMap<PathBuf, u64>,
    /// Files, links and devices that must be in the tree.
    pub(crate) entries: u64,
    pub(crate) tree: TreeTotals,
    pub(crate) server: Option<ServerInfo>,
    pub(crate) consistency: Consistency,
    pub(crate) details: BTreeMap<String, Value>,
    pub(crate) incomplete: Vec<Incomplete>,
    pub(crate) change_log: Option<LogSpan>,
}

impl CaptureState {
    /// The state at the start of a capture. `poison` is set if anything fails.
    pub(super) fn new(poison: Arc<AtomicBool>, stop: CancellationToken) -> Self {
        Self { started: Timestamp::now(), poison, stop, inner: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // After a panic while the lock was held, counters are at worst out of date; the poison flag still blocks the commit.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Records why the capture can no longer be committed; the first reason is kept.
    pub(crate) fn spoil(&self, why: String) {
        self.poison.store(true, Ordering::SeqCst);
        self.lock().spoiled.get_or_insert(why);
    }

    /// Ends the capture's readers, because the repository has failed: its error is reported elsewhere.
    pub(crate) fn give_up(&self) {
        self.poison.store(true, Ordering::SeqCst);
    }

    /// Reports whether the capture was spoiled or cancelled, so that nothing read from now on can reach a snapshot.
    pub(crate) fn is_given_up(&self) -> bool {
        self.poison.load(Ordering::SeqCst) || self.stop.is_cancelled()
    }

    /// Returns an error once the capture has been aborted. rustic_core has no cancellation: it ends early only if its readers
    /// fail.
    pub(super) fn still_wanted(&self) -> io::Result<()> {
        if self.is_given_up() { Err(given_up()) } else { Ok(()) }
    }

    /// The reason why the capture cannot be committed, if it has already failed.
    pub(crate) fn spoiled(&self) -> Option<String> {
        self.lock().spoiled.clone()
    }

    pub(super) fn ended(&self, path: &Path, read: u64, declared: u64, stream: bool) {
        let mut inner = self.lock();
        if stream {
            inner.delivered.insert(path.to_path_buf(), read);
        } else {
            inner.totals.size_bytes = (inner.totals.size_bytes + read).saturating_sub(declared);
        }
        if read != declared {
            inner.sizes.insert(path.to_path_buf(), read);
        }
    }

    pub(super) fn unreadable(&self, path: &Path, error: &io::Error) {
        let mut inner = self.lock();
        inner.unreadable += 1;
        inner.totals.files = inner.totals.files.saturating_sub(1);
        inner
            .incomplete
            .push(Incomplete { what: path.to_string_lossy().into_owned(), why: error.to_string() });
    }

    /// Ends the capture. The error is the reason why it must not be committed.
    pub(crate) fn conclude(&self) -> Result<CaptureOutcome, String> {
        let mut inner = std::mem::take(&mut *self.lock());
        if let Some(why) = inner.spoiled {
            return Err(why);
        }
        if inner.opened != inner.records.len() as u64 {
            return Err(format!(
                "{} artifacts were opened, but {} were completed",
                inner.opened,
                inner.records.len()
            ));
        }
        for (path, record) in &inner.records {
            if inner.delivered.remove(path) != Some(record.size_bytes) {
                return Err(format!("{}: the repository did not read it to its end", record.path));
            }
        }
        let consistency = inner.consistency.unwrap_or(Consistency {
            grade: if inner.records.is_empty() {
                ConsistencyGrade::PerFile
            } else {
                ConsistencyGrade::PerCollection
            },
            at: self.started,
            note: None,
        });
        Ok(CaptureOutcome {
            artifacts: inner.records.into_values().collect(),
            sizes: inner.sizes,
            entries: inner.entries - inner.unreadable,
            tree: inner.totals,
            server: inner.server,
            consistency,
            details: inner.details,
            incomplete: inner.incomplete,
            change_log: inner.change_log,
        })
    }
}

pub(super) fn given_up() -> io::Error {
    // Not `Interrupted`: a reader that meets that tries again.
    io::Error::new(io::ErrorKind::BrokenPipe, "the capture was given up")
}
