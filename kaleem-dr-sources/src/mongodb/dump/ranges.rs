//! Reads one large collection in parallel ranges of `_id`, and returns them in order.
//!
//! The ranges use `min` and `max` on the index of `_id`, not `$gte` and `$lt`: those compare only
//! within one BSON type, so documents whose `_id` has another type would be missed between two
//! ranges. The first range has no lower and the last no upper bound, so every document is in
//! exactly one range, whatever the cuts are.

use std::collections::VecDeque;

use bson::{Bson, doc};
use kaleem_dr_core::ground::SourceError;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    batch::Batch,
    range::{Range, between},
    reader::{CollectionReader, Read, has_plain_ids},
};
use crate::mongodb::server::{Connection, listing::CollectionSpec};

/// Target size of a range, in bytes: what can be read ahead, so that no reader waits long for its
/// turn.
const RANGE_BYTES: u64 = 16 << 20;
/// Limit for the number of ranges: cuts are kept in memory.
const MOST_RANGES: u64 = 4096;
/// Samples per range: more samples make the ranges more equal.
const SAMPLES: u64 = 8;
/// Number of ranges read in parallel.
const READERS: usize = 3;
/// Number of replies that each range may read ahead.
const REPLIES_AHEAD: usize = 1;

/// Cuts a collection of `threshold` bytes or more into ranges; `None` if it is smaller, or if its
/// order or index does not allow it.
pub(crate) async fn split(
    connection: &Connection,
    spec: &CollectionSpec,
    threshold: u64,
) -> Result<Option<Vec<Range>>, SourceError> {
    if threshold == 0 || !has_plain_ids(spec) {
        return Ok(None);
    }
    let action = format!("split {} into ranges", spec.namespace());
    let stats = connection.run(&spec.database, doc! { "collStats": &spec.name }, &action).await;
    let size = match stats {
        Ok(stats) => whole(stats.get("size")),
        Err(error @ SourceError::Unreachable { .. }) => return Err(error),
        // A user may be allowed to read a collection, but not its statistics.
        Err(_) => return Ok(None),
    };
    if size < threshold {
        return Ok(None);
    }
    let count = (size / RANGE_BYTES.min(threshold)).clamp(2, MOST_RANGES);
    let sample = doc! {
        "aggregate": &spec.name, "cursor": {}, "pipeline": [
            { "$sample": { "size": i64::try_from(count * SAMPLES).unwrap_or(i64::MAX) } }, { "$project": { "_id": 1 } }, { "$sort": { "_id": 1 } },
        ],
    };
    // Any cuts are correct; these have roughly the same length.
    let sampled = connection.list(&spec.database, sample, &action).await?;
    let mut ids: Vec<Bson> =
        sampled.into_iter().filter_map(|mut document| document.remove("_id")).collect();
    // Compared as bytes: NaN is not equal to itself.
    ids.dedup_by_key(|id| bson::serialize_to_vec(&doc! { "": id.clone() }).ok());
    let step = ids.len().div_ceil(usize::try_from(count).unwrap_or(1)).max(1);
    Ok(Some(between(ids.into_iter().step_by(step).skip(1).collect())))
}

fn whole(number: Option<&Bson>) -> u64 {
    match number {
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // A size in bytes; `as` saturates.
        Some(Bson::Double(number)) => *number as u64,
        _ => 0,
    }
}

/// Reads ranges at once and gives their batches in the order of the ranges.
pub(crate) struct RangedReader {
    read: Read,
    waiting: VecDeque<Range>,
    /// The output of each range being read, first range first.
    open: VecDeque<mpsc::Receiver<Piece>>,
    /// Aborted when the reader is dropped.
    readers: JoinSet<()>,
}

enum Piece {
    Batch(Batch),
    Failed(SourceError),
    /// Sent after the last batch. A channel that closes without it means an incomplete range.
    End,
}

impl RangedReader {
    pub(crate) fn new(read: Read, ranges: Vec<Range>) -> Self {
        Self { read, waiting: ranges.into(), open: VecDeque::new(), readers: JoinSet::new() }
    }

    /// The next batch; `None` after the last one of the last range.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        loop {
            while self.open.len() < READERS
                && let Some(range) = self.waiting.pop_front()
            {
                let (pieces, receiver) = mpsc::channel(REPLIES_AHEAD);
                self.readers.spawn(read_range(self.read.clone(), range, pieces));
                self.open.push_back(receiver);
            }
            let Some(first) = self.open.front_mut() else { return Ok(None) };
            match first.recv().await {
                Some(Piece::Batch(batch)) => return Ok(Some(batch)),
                Some(Piece::Failed(error)) => return Err(error),
                Some(Piece::End) => {
                    self.open.pop_front();
                    // Reaps the finished reader and frees its memory.
                    while self.readers.try_join_next().is_some() {}
                }
                None => {
                    let action = format!("read {}", self.read.spec.namespace());
                    return Err(self.read.connection.odd_answer(
                        &action,
                        "the reader of a range stopped before the end of the range",
                    ));
                }
            }
        }
    }
}

async fn read_range(read: Read, range: Range, pieces: mpsc::Sender<Piece>) {
    let end = match feed(&read, &range, &pieces).await {
        Ok(()) => Piece::End,
        Err(error) => Piece::Failed(error),
    };
    // The receiver is gone if the capture has failed elsewhere.
    let _ = pieces.send(end).await;
}

async fn feed(read: &Read, range: &Range, pieces: &mpsc::Sender<Piece>) -> Result<(), SourceError> {
    let mut reader = CollectionReader::open(read.clone(), Some(range)).await?;
    while let Some(batch) = reader.next().await? {
        if pieces.send(Piece::Batch(batch)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
