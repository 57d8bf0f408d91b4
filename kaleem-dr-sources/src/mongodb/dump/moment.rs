//! The moment that the reads of one capture show, shared by all of them.
//!
//! Reads begin at one cluster time where the server can give one. It keeps the history for that only for a while
//! (`minSnapshotHistoryWindowInSeconds`, five minutes unless set otherwise). Where the capture has a place in the oplog from
//! before its first read, the other reads go on without the snapshot once it is gone, and the oplog up to the end of the last
//! one makes all of them belong to one moment again.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bson::{Document, Timestamp, doc};

/// The moment that reads show.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    /// The cluster time of the snapshot.
    snapshot: Option<Timestamp>,
    /// The place in the oplog from which on all writes are captured too.
    oplog_after: Option<Timestamp>,
    /// The place from which on transactions are followed that were under way at that time.
    transactions_after: Option<Timestamp>,
    left: AtomicBool,
    /// When each collection was seen, after its last read, to be the one that was listed.
    finished: Mutex<BTreeMap<String, Timestamp>>,
}

impl Moment {
    /// Reads show what they find.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Reads show the snapshot at a cluster time, if there is one; the oplog from `oplog_after` on is at hand, if that is given.
    pub(crate) fn new(snapshot: Option<Timestamp>, oplog_after: Option<Timestamp>) -> Self {
        Self { snapshot, oplog_after, transactions_after: oplog_after, ..Self::default() }
    }

    /// Follows transactions from an earlier place on.
    pub(crate) fn with_transactions_after(self, place: Timestamp) -> Self {
        Self { transactions_after: Some(place), ..self }
    }

    /// The place in the oplog from which on it has to be read.
    pub(crate) fn read_oplog_after(&self) -> Option<Timestamp> {
        self.transactions_after
    }

    /// The place in the oplog from which on all writes are captured too.
    pub(crate) fn oplog_after(&self) -> Option<Timestamp> {
        self.oplog_after
    }

    /// Whether the reads belong to one moment only together with the oplog.
    pub(crate) fn needs_oplog(&self) -> bool {
        self.oplog_after.is_some() && (self.snapshot.is_none() || self.is_left())
    }

    fn is_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Makes all further reads go on without the snapshot. `false` where nothing would make them consistent.
    pub(crate) fn leave(&self) -> bool {
        if self.oplog_after.is_none() {
            return false;
        }
        if !self.left.swap(true, Ordering::SeqCst) && self.snapshot.is_some() {
            tracing::info!(
                "the server no longer has the snapshot that this capture began with; it goes on with the oplog"
            );
        }
        true
    }

    /// The `readConcern` of a read. `in_snapshot` is whether the collection can be read in a snapshot at all.
    pub(crate) fn read_concern(&self, in_snapshot: bool) -> Option<Document> {
        match (self.snapshot, self.oplog_after) {
            (Some(at), _) if in_snapshot && !self.is_left() => {
                Some(doc! { "level": "snapshot", "atClusterTime": at })
            }
            // What may be rolled back is not read, and a member that lags behind waits until it is where the oplog begins.
            (_, Some(after)) => Some(doc! { "level": "majority", "afterClusterTime": after }),
            _ => None,
        }
    }

    /// Notes when a collection was read to its end.
    pub(crate) fn finish(&self, namespace: String, at: Timestamp) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace, at);
    }

    /// Whether a collection was still the one that was listed after its last read.
    pub(crate) fn is_finished(&self, namespace: &str) -> bool {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).contains_key(namespace)
    }

    /// Whether a collection was read to its end before a time.
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
    }
}
