//! The moment of a capture, shared by all of its reads.
//!
//! If the server supports it, reads use one cluster time. The server keeps the history for this only for a while
//! (`minSnapshotHistoryWindowInSeconds`, by default five minutes). If the capture recorded a place in the oplog before its first
//! read, the remaining reads continue without the snapshot once it has expired, and the oplog up to the end of the last read
//! brings all of them to one moment again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bson::{Document, Timestamp, doc};

/// The moment to which the reads belong.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    /// The cluster time of the snapshot.
    snapshot: Option<Timestamp>,
    /// The place in the oplog after which all writes are captured too.
    oplog_after: Option<Timestamp>,
    /// The place after which entries of transactions are needed that were in progress when the capture began.
    transactions_after: Option<Timestamp>,
    left: AtomicBool,
    /// For each collection, the time after its last read at which it was still the listed one.
    finished: Mutex<BTreeMap<String, Timestamp>>,
    /// Collections that were gone before their last read.
    lost: Mutex<BTreeSet<String>>,
}

impl Moment {
    /// Reads are independent of each other.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Reads use the snapshot at this cluster time, if there is one. All writes after `oplog_after`, if given, are captured too.
    pub(crate) fn new(snapshot: Option<Timestamp>, oplog_after: Option<Timestamp>) -> Self {
        Self { snapshot, oplog_after, transactions_after: oplog_after, ..Self::default() }
    }

    /// Also follows transactions from an earlier place on.
    pub(crate) fn with_transactions_after(self, place: Timestamp) -> Self {
        Self { transactions_after: Some(place), ..self }
    }

    /// The place after which the oplog must be read.
    pub(crate) fn read_oplog_after(&self) -> Option<Timestamp> {
        self.transactions_after
    }

    /// The place in the oplog after which all writes are captured too.
    pub(crate) fn oplog_after(&self) -> Option<Timestamp> {
        self.oplog_after
    }

    /// Reports whether the reads belong to one moment only together with the oplog.
    pub(crate) fn needs_oplog(&self) -> bool {
        self.oplog_after.is_some() && (self.snapshot.is_none() || self.is_left())
    }

    fn is_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Makes all further reads continue without the snapshot. Returns `false` if no oplog would make them consistent.
    pub(crate) fn leave(&self) -> bool {
        if self.oplog_after.is_none() {
            return false;
        }
        if !self.left.swap(true, Ordering::SeqCst) && self.snapshot.is_some() {
            tracing::info!(
                "the server no longer has the snapshot that this capture began with; continuing with the oplog"
            );
        }
        true
    }

    /// Reports whether a read uses the snapshot; `in_snapshot` is true if the server can read the collection in a snapshot.
    pub(crate) fn reads_snapshot(&self, in_snapshot: bool) -> bool {
        in_snapshot && self.snapshot.is_some() && !self.is_left()
    }

    /// The `readConcern` of a read; `in_snapshot` is true if the server can read the collection in a snapshot.
    pub(crate) fn read_concern(&self, in_snapshot: bool) -> Option<Document> {
        match (self.snapshot, self.oplog_after) {
            (Some(at), _) if self.reads_snapshot(in_snapshot) => {
                Some(doc! { "level": "snapshot", "atClusterTime": at })
            }
            // Reads no data that may be rolled back. A member that lags behind waits until it has reached the start of the oplog.
            (_, Some(after)) => Some(doc! { "level": "majority", "afterClusterTime": after }),
            _ => None,
        }
    }

    /// Records that a collection was gone before its last read: only the oplog determines its content. Returns `false` if there is
    /// no oplog.
    pub(crate) fn lose(&self, namespace: String) -> bool {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace);
        self.leave()
    }

    /// Records the time at which a collection was completely read, unless it was [lost](Self::lose).
    pub(crate) fn finish(&self, namespace: String, at: Timestamp) {
        if self.lost.lock().unwrap_or_else(PoisonError::into_inner).contains(&namespace) {
            return;
        }
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace, at);
    }

    /// Reports whether a collection was still the listed one after its last read.
    pub(crate) fn is_finished(&self, namespace: &str) -> bool {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).contains_key(namespace)
    }

    /// Reports whether a collection was completely read before a time.
    pub(crate) fn is_finished_before(&self, namespace: &str, time: Timestamp) -> bool {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.get(namespace).is_some_and(|at| *at < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_leave_the_snapshot_only_where_the_oplog_takes_over() {
        let (at, after) =
            (Timestamp { time: 7, increment: 3 }, Timestamp { time: 7, increment: 2 });
        let snapshot = doc! { "level": "snapshot", "atClusterTime": at };
        let majority = doc! { "level": "majority", "afterClusterTime": after };
        let alone = Moment::new(Some(at), None);
        assert!(!alone.leave());
        assert_eq!(alone.read_concern(true), Some(snapshot.clone()));
        assert_eq!(alone.read_concern(false), None);

        let both = Moment::new(Some(at), Some(after));
        assert_eq!(both.read_concern(true), Some(snapshot));
        assert_eq!(
            both.read_concern(false),
            Some(majority.clone()),
            "a capped one of an old server"
        );
        assert!(!both.needs_oplog() && both.leave() && both.needs_oplog());
        assert_eq!(both.read_concern(true), Some(majority));
        assert_eq!(Moment::none().read_concern(true), None);
        assert!(!Moment::none().needs_oplog() && Moment::new(None, Some(after)).needs_oplog());
    }

    #[test]
    fn a_collection_is_finished_from_its_time_on() {
        let time = |increment| Timestamp { time: 7, increment };
        let moment = Moment::new(None, Some(time(1)));
        moment.finish("d.a".into(), time(5));
        assert!(moment.is_finished_before("d.a", time(6)));
        assert!(!moment.is_finished_before("d.a", time(5)));
        assert!(!moment.is_finished_before("d.b", time(9)));
        assert!(moment.lose("d.b".into()));
        moment.finish("d.b".into(), time(5));
        assert!(!moment.is_finished("d.b"), "what was gone once was not completely read");
    }
}
