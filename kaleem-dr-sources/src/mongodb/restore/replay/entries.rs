//! Reads the entries that a restore replays, one by one: those of the point's own oplog, then those of the slices that lead from
//! the point to a later moment.

use bson::{RawDocument, Timestamp};
use bytes::Bytes;
use kaleem_dr_core::{
    ground::SourceError,
    recovery::point::{ArtifactReader, LogTail, PointReader},
};

use super::Log;
use crate::mongodb::{
    dump::{DocumentSplitter, slice},
    oplog::{End, Operation, parse, time},
};

/// The entries of a log, in order.
pub(super) struct Entries<'a> {
    /// Artifacts to read, each with the point that contains it. The point's own oplog is first.
    parts: std::vec::IntoIter<(&'a PointReader, String)>,
    now: Option<Part>,
    tail: Option<Tail>,
}

/// An artifact that is being read.
struct Part {
    reader: ArtifactReader,
    /// `None` after the end.
    splitter: Option<DocumentSplitter>,
    /// The artifact, or the slice, in words.
    name: String,
    is_slice: bool,
    /// The time of the last entry read here, and the number of entries with this time: on some servers, those of a transaction
    /// share one.
    last: (Timestamp, usize),
}

/// Selects entries of slices.
struct Tail {
    /// The point represents this time; of earlier entries, only those of transactions in progress count.
    from: Timestamp,
    until: Timestamp,
    /// The point's own oplog contains what is needed of transactions in progress.
    has_transactions: bool,
    /// The last entry of the slices before, as in [`Part::last`].
    last: (Timestamp, usize),
}

/// The use of an entry in a replay.
enum Use {
    Take(Box<Operation>),
    Skip,
    /// It is not before the moment to restore.
    End,
}

impl<'a> Entries<'a> {
    pub(super) fn of(point: &'a PointReader, log: &Log) -> Self {
        let own = log.oplog.as_ref().map(|oplog| (point, oplog.path.clone()));
        let slices = point.log().into_iter().flat_map(|tail| &tail.slices);
        let parts: Vec<_> =
            own.into_iter().chain(slices.map(|slice| (slice, slice::path()))).collect();
        let tail = point.log().map(|LogTail { from, until, .. }| Tail {
            from: slice::timestamp(*from),
            until: slice::timestamp(*until),
            has_transactions: log.oplog.is_some(),
            last: (Timestamp { time: 0, increment: 0 }, 0),
        });
        Self { parts: parts.into_iter(), now: None, tail }
    }

    /// The operation of the next entry; `None` at the end.
    ///
    /// # Errors
    /// [`SourceError::Refused`] if the entry cannot be replayed.
    pub(super) async fn next(&mut self) -> Result<Option<Operation>, SourceError> {
        loop {
            let Some(part) = &mut self.now else {
                let Some((point, path)) = self.parts.next() else { return Ok(None) };
                self.now = Some(Part::open(point, path).await?);
                continue;
            };
            let Some(bytes) = part.next().await? else {
                if let (true, Some(tail)) = (part.is_slice, &mut self.tail) {
                    tail.last = tail.last.max(part.last);
                }
                self.now = None;
                continue;
            };
            let entry = RawDocument::from_bytes(&bytes).map_err(|error| part.odd(error))?;
            let at = time(entry).map_err(|why| part.odd(why))?;
            part.last = if part.last.0 == at { (at, part.last.1 + 1) } else { (at, 1) };
            let operation = || {
                parse(entry).map_err(|why| {
                    SourceError::Refused(format!(
                        "the oplog cannot be replayed: its entry ({}, {}) {why}",
                        at.time, at.increment
                    ))
                })
            };
            let used = match &self.tail {
                Some(tail) if part.is_slice => tail.uses(part.last, operation)?,
                _ => Use::Take(Box::new(operation()?)),
            };
            match used {
                Use::Take(operation) => return Ok(Some(*operation)),
                Use::Skip => {}
                Use::End => return Ok(None),
            }
        }
    }
}

impl Tail {
    /// Decides over an entry with this time and number among those of the same time. Slices overlap by the entries at their ends.
    fn uses(
        &self,
        (at, number): (Timestamp, usize),
        operation: impl FnOnce() -> Result<Operation, SourceError>,
    ) -> Result<Use, SourceError> {
        if at >= self.until {
            return Ok(Use::End);
        }
        if (at, number) <= self.last {
            return Ok(Use::Skip);
        }
        if at > self.from {
            return Ok(Use::Take(Box::new(operation()?)));
        }
        if self.has_transactions {
            return Ok(Use::Skip);
        }
        Ok(match operation()? {
            // The point contains what was committed by then.
            Operation::Transaction(mut part) => {
                if part.end == End::Committed {
                    part.end = End::Aborted;
                }
                Use::Take(Box::new(Operation::Transaction(part)))
            }
            _ => Use::Skip,
        })
    }
}

impl Part {
    async fn open(point: &PointReader, path: String) -> Result<Self, SourceError> {
        Ok(Self {
            reader: point.artifact(&path).await?,
            splitter: Some(DocumentSplitter::default()),
            is_slice: path == slice::path(),
            name: slice::in_words(point).unwrap_or(path),
            last: (Timestamp { time: 0, increment: 0 }, 0),
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let Some(mut splitter) = self.splitter.take() else { return Ok(None) };
            match splitter.next().map_err(|why| self.odd(why))? {
                Some(entry) => {
                    self.splitter = Some(splitter);
                    return Ok(Some(entry));
                }
                None => match self.reader.next().await.map_err(|error| self.named(error))? {
                    Some(piece) => {
                        splitter.push(&piece);
                        self.splitter = Some(splitter);
                    }
                    None => splitter.finish().map_err(|why| self.odd(why))?,
                },
            }
        }
    }

    fn odd(&self, why: impl std::fmt::Display) -> SourceError {
        SourceError::Point(format!("{} is malformed: {why}", self.name).into())
    }

    /// The error with the name of the slice: all slices have the same artifact.
    fn named(&self, error: SourceError) -> SourceError {
        match error {
            SourceError::Point(cause) if self.is_slice => {
                SourceError::Point(format!("{}: {cause}", self.name).into())
            }
            error => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongodb::oplog::Part as TransactionPart;

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 1 }
    }

    fn of_transaction(end: End) -> Operation {
        let operations = Vec::new();
        Operation::Transaction(TransactionPart {
            key: vec![1],
            operations,
            end,
            is_continued: true,
        })
    }

    #[test]
    fn slices_are_replayed_from_the_point_to_the_moment_without_repetition() {
        let tail = Tail { from: at(10), until: at(20), has_transactions: false, last: (at(12), 2) };
        let group = || Operation::Group(Vec::new());
        let of = |tail: &Tail, time: u32, number: usize, operation: Operation| match tail
            .uses((at(time), number), || Ok(operation))
            .unwrap()
        {
            Use::Take(operation) => match *operation {
                Operation::Transaction(part) => format!("{:?}", part.end),
                _ => "taken".to_owned(),
            },
            Use::Skip => "skipped".to_owned(),
            Use::End => "end".to_owned(),
        };
        let plain = |tail: &Tail, time, number| of(tail, time, number, group());
        assert_eq!(plain(&tail, 12, 2), "skipped", "the slice before contains it");
        assert_eq!(plain(&tail, 12, 3), "taken", "a later entry with the same time");
        assert_eq!(plain(&tail, 19, 1), "taken");
        assert_eq!(plain(&tail, 20, 1), "end");
        let first = Tail { last: (at(0), 0), ..tail };
        assert_eq!(plain(&first, 9, 1), "skipped", "the point contains it");
        assert_eq!(of(&first, 9, 1, of_transaction(End::Open)), "Open");
        assert_eq!(of(&first, 9, 1, of_transaction(End::Committed)), "Aborted");
        assert_eq!(of(&first, 11, 1, of_transaction(End::Committed)), "Committed");
        let own = Tail { has_transactions: true, ..first };
        assert_eq!(of(&own, 9, 1, of_transaction(End::Open)), "skipped");
    }
}
