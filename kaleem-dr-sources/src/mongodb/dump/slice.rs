//! Slices of the oplog, saved between captures, which extend a capture to any later moment.
//!
//! Only entries that a majority has are read, so that none is rolled back. A slice begins with the entry that the one before it
//! ended with. If the server no longer has that entry, or has another one at its time, entries are missing in between: the slice
//! then begins with the oldest entry of the server, and says so.

use std::path::PathBuf;

use async_trait::async_trait;
use bson::{RawDocumentBuf, Timestamp, doc};
use kaleem_dr_core::{
    engine::{
        artifact::Capture,
        change_log::{LogBreak, LogPosition, LogSpan},
        manifest::{Consistency, ConsistencyGrade, ServerInfo},
    },
    ground::{ArtifactPath, SourceError, digest::ByteDigest},
    recovery::{
        point::{Origin, PointReader},
        source::{ChangeLog, LogExtent, SliceStart},
    },
};

use super::{
    documents::DocumentSplitter,
    moment::Moment,
    oplog::{FILE, copy_entries, namespaces},
    pieces::DocumentWriter,
    position::{ACTION, edge},
};
use crate::mongodb::{
    oplog::{Filter, Window, parse, time},
    server::{Connection, Topology, listing::Scope},
};

/// The directory of a slice's only artifact.
const ROOT: &str = "mongo-oplog-slice";

/// The path of the entries in a slice.
pub(crate) fn path() -> String {
    format!("/{ROOT}/{FILE}")
}

/// The name of a slice in messages; `None` for another point.
pub(crate) fn in_words(point: &PointReader) -> Option<String> {
    match point.origin() {
        Origin::Snapshot(reader) if reader.snapshot().sliced().is_some() => {
            Some(format!("slice {}", reader.snapshot().id().short()))
        }
        _ => None,
    }
}

/// A server's time as a position in its change log.
pub(crate) fn position(at: Timestamp) -> LogPosition {
    LogPosition { seconds: at.time, increment: at.increment }
}

/// A position in a change log as a server's time.
pub(crate) fn timestamp(at: LogPosition) -> Timestamp {
    Timestamp { time: at.seconds, increment: at.increment }
}

/// The oplog of a replica set.
pub(crate) struct Oplog<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) scope: &'a Scope,
}

impl Oplog<'_> {
    /// The whole entry at a time; the first one if several share it.
    async fn entry_at(&self, at: Timestamp) -> Result<Option<RawDocumentBuf>, SourceError> {
        let find = doc! {
            "find": "oplog.rs", "filter": { "ts": at }, "limit": 1, "readConcern": { "level": "majority" },
        };
        let found = self.connection.list_raw("local", find, ACTION).await?;
        Ok(found.into_iter().next())
    }

    /// Returns where the slice begins, and the reason why it continues nothing if it does not.
    async fn begin(&self, start: &SliceStart) -> Result<(Timestamp, Option<String>), SourceError> {
        let after = timestamp(start.after);
        let found = self.entry_at(after).await?;
        let is_there = match (&start.anchor, &found) {
            (Some(anchor), Some(entry)) => ByteDigest::of(entry.as_bytes()) == *anchor,
            (None, _) => edge(self.connection, 1).await? <= after,
            (Some(_), None) => false,
        };
        if is_there {
            return Ok((after, None));
        }
        let oldest = edge(self.connection, 1).await?;
        let why = if found.is_some() {
            format!(
                "the oplog has another entry at {} than the last slice: the server was restored or resynchronised, or it is another one",
                start.after
            )
        } else if oldest > after {
            format!(
                "the oplog begins at {} and no longer reaches back to {}, the end of the last slice: make it larger (replSetResizeOplog), \
                 or save slices more often",
                position(oldest),
                start.after
            )
        } else {
            format!(
                "the oplog has no entry at {}, the end of the last slice: the server was restored or resynchronised, or it is another one",
                start.after
            )
        };
        Ok((
            oldest,
            Some(format!(
                "{why}. Moments between the two cannot be restored until the next backup"
            )),
        ))
    }

    async fn refuse_other_topologies(&self) -> Result<ServerInfo, SourceError> {
        let facts = self.connection.facts().await?;
        let why = match facts.topology {
            Topology::ReplicaSet => {
                return Ok(ServerInfo::new("MongoDB", facts.version));
            }
            Topology::Standalone => {
                "is a standalone server, which has no oplog; a replica set with one member has one"
            }
            Topology::Sharded => {
                "is a sharded cluster, whose shards have an oplog each and no common one: slices of it are not supported"
            }
        };
        Err(SourceError::Unsupported(format!("{} {why}", self.connection.server())))
    }
}

#[async_trait]
impl ChangeLog for Oplog<'_> {
    fn root(&self) -> PathBuf {
        PathBuf::from("/").join(ROOT)
    }

    fn scope(&self) -> String {
        self.scope.fingerprint()
    }

    async fn extent(&self) -> Result<LogExtent, SourceError> {
        self.refuse_other_topologies().await?;
        let (oldest, newest) =
            futures::try_join!(edge(self.connection, 1), edge(self.connection, -1))?;
        Ok(LogExtent::new(position(oldest), position(newest)))
    }

    async fn capture_slice(
        &self,
        start: &SliceStart,
        out: &mut Capture,
    ) -> Result<(), SourceError> {
        out.set_server(self.refuse_other_topologies().await?);
        let newest = edge(self.connection, -1).await?;
        let (after, gap) = self.begin(start).await?;
        let window = Window { after, to: newest.max(after) };
        let path = ArtifactPath::join([ROOT, FILE])
            .map_err(|error| SourceError::Unsupported(error.to_string()))?;
        let mut to = DocumentWriter::new(out.artifact(path.clone()).await?);
        let none = Moment::none();
        let mut filter = Filter::of_slice(self.scope, &none);
        let mut breaks: Vec<LogBreak> = Vec::new();
        copy_entries(self.connection, &window, true, &namespaces(self.scope), &mut to, |entry| {
            match filter.keep(entry) {
                Ok(kept) => Ok(kept),
                Err(why) => {
                    breaks.push(LogBreak { at: position(time(entry)?), why });
                    Ok(None)
                }
            }
        })
        .await?;
        to.finish().await?;
        let last = self.entry_at(window.to).await?.ok_or_else(|| {
            SourceError::artifact(
                &path,
                "the newest entry is gone: did the server lose its primary?",
            )
        })?;
        out.set_consistency(
            Consistency::new(ConsistencyGrade::PointInTime, position(window.to).time())
                .because("a slice of the oplog"),
        );
        out.set_change_log(LogSpan {
            anchor: ByteDigest::of(last.as_bytes()),
            gap,
            breaks,
            ..LogSpan::of_base(self.scope(), position(window.after), position(window.to))
        });
        Ok(())
    }

    async fn inspect_slice(&self, slice: &PointReader) -> Result<u64, SourceError> {
        inspect(slice).await
    }
}

/// Reads a slice completely, and parses each entry. Returns their number.
pub(crate) async fn inspect(slice: &PointReader) -> Result<u64, SourceError> {
    let path = path();
    let odd = |why: String| SourceError::Point(format!("{path} is malformed: {why}").into());
    let (mut reader, mut splitter) = (slice.artifact(&path).await?, DocumentSplitter::default());
    let (mut entries, mut last) = (0, Timestamp { time: 0, increment: 0 });
    while let Some(piece) = reader.next().await? {
        splitter.push(&piece);
        while let Some(entry) = splitter.next().map_err(odd)? {
            let entry: &bson::RawDocument =
                bson::RawDocument::from_bytes(&entry).map_err(|error| odd(error.to_string()))?;
            let at = time(entry).map_err(odd)?;
            if at < last {
                return Err(odd(format!("the entry at {} follows a later one", position(at))));
            }
            parse(entry).map_err(|why| odd(format!("the entry at {} {why}", position(at))))?;
            (entries, last) = (entries + 1, at);
        }
    }
    splitter.finish().map_err(odd)?;
    Ok(entries)
}
