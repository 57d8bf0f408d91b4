//! Inserts documents into a collection: raw `insert` commands, several in parallel, nothing decoded
//! and nothing skipped.
//!
//! The driver's `insert_many` cannot send `bypassEmptyTsReplacement`, without which a server
//! replaces a top-level `Timestamp(0, 0)` with the current time; so the command is assembled as
//! bytes.

use std::{sync::Arc, time::Duration};

use bson::{Document, RawDocumentBuf, cstr, rawdoc};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use kaleem_dr_core::ground::SourceError;
use tokio::task::JoinSet;

use super::{destination::Destination, loaded::Loaded, merge, mixed_schema};
use crate::mongodb::{
    dump::DocumentSplitter,
    server::{Connection, is_passing, reply},
};

/// Attempts to insert a batch again after a temporary failure.
const TRIES: u32 = 6;

/// Inserts every document of a stream whose pieces may have any length. `advance` receives the
/// number of bytes inserted.
///
/// # Errors
/// The stream's own errors, and the server's first error, which names the collection. Nothing is
/// skipped.
pub(crate) async fn load<S>(
    connection: &Arc<Connection>,
    to: &Destination,
    mut stream: S,
    advance: impl Fn(u64),
) -> Result<Loaded, SourceError>
where
    S: Stream<Item = Result<Bytes, SourceError>> + Unpin,
{
    let mut inserts = Inserts {
        connection,
        to: Arc::new(to.clone()),
        running: JoinSet::new(),
        loaded: Loaded::default(),
        advance,
    };
    let result = fill(&mut inserts, &mut stream).await;
    // After a failure the other inserts are stopped and awaited, so that no write happens after the
    // error is returned.
    inserts.running.shutdown().await;
    result.map(|()| inserts.loaded)
}

async fn fill<S, A: Fn(u64)>(
    inserts: &mut Inserts<'_, A>,
    stream: &mut S,
) -> Result<(), SourceError>
where
    S: Stream<Item = Result<Bytes, SourceError>> + Unpin,
{
    let namespace = format!("{}.{}", inserts.to.database, inserts.to.collection);
    let malformed = |why: String| {
        SourceError::Point(format!("the data for {namespace} is malformed: {why}").into())
    };
    let mut splitter = DocumentSplitter::default();
    let mut batch = Batch::new(&inserts.to);
    let mut arrived = inserts.to.arrived.map_or(0, |arrived| arrived.first);
    while let Some(piece) = stream.next().await {
        splitter.push(&piece?);
        while let Some(document) = splitter.next().map_err(malformed)? {
            if arrived > 0 {
                arrived -= 1;
                continue;
            }
            if !batch.has_room_for(&document) {
                inserts.begin(std::mem::replace(&mut batch, Batch::new(&inserts.to))).await?;
            }
            batch.add(&document);
        }
    }
    splitter.finish().map_err(malformed)?;
    if batch.documents > 0 {
        inserts.begin(batch).await?;
    }
    while !inserts.running.is_empty() {
        inserts.end_one().await?;
    }
    Ok(())
}

/// The outcome of one batch.
struct Batched {
    loaded: Loaded,
    /// Bytes of the stream in this batch.
    read_bytes: u64,
}

struct Inserts<'a, A> {
    connection: &'a Arc<Connection>,
    to: Arc<Destination>,
    running: JoinSet<Result<Batched, SourceError>>,
    loaded: Loaded,
    advance: A,
}

impl<A: Fn(u64)> Inserts<'_, A> {
    async fn begin(&mut self, batch: Batch) -> Result<(), SourceError> {
        let workers = if self.to.ordered { 1 } else { self.to.writes.workers.get() };
        while self.running.len() >= workers {
            self.end_one().await?;
        }
        self.running.spawn(insert(self.connection.clone(), self.to.clone(), batch));
        Ok(())
    }

    async fn end_one(&mut self) -> Result<(), SourceError> {
        match self.running.join_next().await {
            Some(Ok(inserted)) => {
                let Batched { loaded, read_bytes } = inserted?;
                self.loaded.add(loaded);
                (self.advance)(read_bytes);
                Ok(())
            }
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => Err(SourceError::Cancelled),
            None => Ok(()),
        }
    }
}

async fn insert(
    connection: Arc<Connection>,
    to: Arc<Destination>,
    batch: Batch,
) -> Result<Batched, SourceError> {
    let action = format!("insert into {}.{}", to.database, to.collection);
    let (items, read_bytes) = (batch.documents as u64, batch.size_bytes);
    let command = batch.finish().map_err(|why| connection.odd_answer(&action, why))?;
    if to.merge {
        let loaded = merge::batch(&connection, &to, command).await?;
        return Ok(Batched { loaded, read_bytes });
    }
    // Only the buckets of a time series may have to be sent again.
    let sent = to.series.as_ref().map(|series| (series, command.clone()));
    let mut reply = send(&connection, &to, command, &action).await?;
    let mut expected = items;
    if let Some((series, command)) = sent
        && let Some((again, refused)) =
            mixed_schema::cure(&connection, &to.database, series, &command, &reply).await?
    {
        let accepted = reply::inserted(&reply);
        if accepted + refused != items {
            return Err(connection.odd_answer(
                &action,
                format!("{items} buckets were sent, but the reply counts {accepted} inserted and {refused} rejected"),
            ));
        }
        reply = connection.run_raw(&to.database, again, &action).await?;
        expected = refused;
    }
    match reply::complaint(&reply, expected) {
        None => Ok(Batched {
            loaded: Loaded { items, size_bytes: read_bytes, ..Loaded::default() },
            read_bytes,
        }),
        Some(why) => Err(connection.odd_answer(&action, why)),
    }
}

/// Sends an insert. If a member steps down or a connection breaks, sends it again: documents that have arrived are then refused as
/// duplicates, which the reply no longer shows. What arrived is compared with the point at the end. Buckets of a time series have
/// no unique `_id`, so they are sent once.
async fn send(
    connection: &Connection,
    to: &Destination,
    mut command: RawDocumentBuf,
    action: &str,
) -> Result<Document, SourceError> {
    let database = connection.client().await?.database(&to.database);
    let mut tries = 0;
    loop {
        let sent = async { Ok(database.run_raw_command(command.clone()).await) };
        match connection.answer(action, sent).await? {
            Ok(reply) if tries > 0 || to.arrived.is_some() => {
                return Ok(reply::without_duplicates(reply));
            }
            Ok(reply) => return Ok(reply),
            Err(error) if is_passing(&error) && tries < TRIES && to.series.is_none() => {
                tries += 1;
                tracing::warn!(
                    error = %connection.error(action, &error),
                    "an insert failed; it is tried again"
                );
                if to.ordered && tries == 1 {
                    // An ordered insert would end at the first document that has arrived already.
                    command = unordered(&command)
                        .map_err(|why| connection.odd_answer(action, why.to_string()))?;
                }
                tokio::time::sleep(Duration::from_millis(200 << tries)).await;
            }
            Err(error) => return Err(connection.error(action, &error)),
        }
    }
}

/// The same insert, continued after a document that is refused. The order of the documents stays.
fn unordered(command: &RawDocumentBuf) -> Result<RawDocumentBuf, bson::error::Error> {
    let mut changed = RawDocumentBuf::new();
    for element in command {
        let (key, value) = element?;
        if key == "ordered" {
            changed.append(key, false);
        } else {
            changed.append(key, value);
        }
    }
    Ok(changed)
}

/// An `insert` command under construction, as bytes.
#[derive(Debug)]
struct Batch {
    command: Vec<u8>,
    /// Offset of the documents array in the command.
    array: usize,
    documents: usize,
    size_bytes: u64,
    most_documents: usize,
    most_bytes: usize,
}

impl Batch {
    fn new(to: &Destination) -> Self {
        let mut head = rawdoc! { "insert": to.collection.as_str(), "ordered": to.ordered };
        for flag in &to.flags {
            head.append(*flag, true);
        }
        head.append(cstr!("writeConcern"), &*to.writes.raw_concern);
        let mut command = head.into_bytes();
        // Replaces its terminator with one more element: an array, type 4, whose length is filled
        // in at the end.
        command.pop();
        command.extend_from_slice(b"\x04documents\0");
        let array = command.len();
        command.extend_from_slice(&[0; 4]);
        let (most_documents, most_bytes) = (to.writes.batch_documents, to.writes.batch_bytes);
        Self { command, array, documents: 0, size_bytes: 0, most_documents, most_bytes }
    }

    fn has_room_for(&self, document: &[u8]) -> bool {
        self.documents == 0
            || (self.documents < self.most_documents
                && self.command.len() + document.len() <= self.most_bytes)
    }

    fn add(&mut self, document: &[u8]) {
        self.command.push(3);
        self.command.extend_from_slice(self.documents.to_string().as_bytes());
        self.command.push(0);
        self.command.extend_from_slice(document);
        self.documents += 1;
        self.size_bytes += document.len() as u64;
    }

    fn finish(mut self) -> Result<RawDocumentBuf, String> {
        self.command.push(0);
        let array_bytes = self.command.len() - self.array;
        self.command.push(0);
        let command_bytes = self.command.len();
        for (at, bytes) in [(self.array, array_bytes), (0, command_bytes)] {
            let bytes = i32::try_from(bytes)
                .map_err(|_| "the insert exceeds the size limit of a message".to_owned())?;
            self.command[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
        }
        RawDocumentBuf::from_bytes(self.command).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};
    use kaleem_dr_core::operate::config::secret::SecretRef;

    use super::*;
    use crate::mongodb::{config::MongoConfig, restore::writes::Writes};

    fn destination() -> Destination {
        Destination {
            database: "d".into(),
            collection: "c".into(),
            ordered: false,
            flags: vec![cstr!("bypassEmptyTsReplacement")],
            merge: false,
            arrived: None,
            series: None,
            writes: Writes::of(&MongoConfig::new(SecretRef::Env("M".into()))),
        }
    }

    #[test]
    fn the_bytes_put_together_are_the_command_meant() {
        let mut batch = Batch::new(&destination());
        let documents: Vec<Document> = (0..12_usize)
            .map(|n| doc! { "_id": i64::try_from(n).unwrap(), "s": "x".repeat(n) })
            .collect();
        for document in &documents {
            batch.add(&bson::serialize_to_vec(document).unwrap());
        }
        let command: Document = (&batch.finish().unwrap()).try_into().unwrap();
        let expected = doc! {
            "insert": "c", "ordered": false, "bypassEmptyTsReplacement": true, "writeConcern": { "w": "majority" },
            "documents": documents.into_iter().map(Bson::Document).collect::<Vec<_>>(),
        };
        assert_eq!(command, expected);
    }

    #[test]
    fn an_ordered_insert_becomes_unordered_and_is_the_same_otherwise() {
        let command = rawdoc! { "insert": "c", "ordered": true, "documents": [ { "_id": 1 } ] };
        let expected = rawdoc! { "insert": "c", "ordered": false, "documents": [ { "_id": 1 } ] };
        assert_eq!(unordered(&command).unwrap(), expected);
    }

    #[test]
    fn a_batch_is_bounded_but_takes_one_document_of_any_size() {
        let large = vec![0; 16 << 20];
        let mut batch = Batch::new(&destination());
        assert!(batch.has_room_for(&large));
        batch.add(&large);
        assert!(!batch.has_room_for(&[0; 5]));
        let mut small = Batch::new(&destination());
        for _ in 0..10_000 {
            assert!(small.has_room_for(&[0; 5]));
            small.add(&[0; 5]);
        }
        assert!(!small.has_room_for(&[0; 5]));
    }
}
