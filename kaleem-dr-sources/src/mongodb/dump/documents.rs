//! Documents as raw bytes: read from a collection in batches, or split from a stream. Nothing is
//! decoded in either case.

use bson::{RawBsonRef, doc};
use bytes::{Bytes, BytesMut};
use mongodb::raw_batch_cursor::RawBatch;

use crate::mongodb::server::{
    Connection,
    listing::{BUCKETS, CollectionKind, CollectionSpec},
};

/// Target size of one reply, in bytes. Replies of four collections in parallel, each with the next
/// one in flight, stay under 40 MB.
pub(super) const REPLY_BYTES: u64 = 4 << 20;
/// Documents per reply if the server does not report their average size.
const BATCH_DOCUMENTS: u32 = 500;
/// The largest document of a server, 16 MiB, plus the overhead that it allows for internal ones.
const LARGEST_DOCUMENT: usize = (16 << 20) + (16 << 10);
/// The smallest document, in bytes: its length and terminator.
const SMALLEST_DOCUMENT: usize = 5;

/// The collection that contains the data, and the option that the command needs for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataPlace {
    pub(crate) collection: String,
    /// `rawData: true`: reads and writes a time series' buckets under the series' own name.
    pub(crate) raw_data: bool,
}

impl DataPlace {
    /// The place of a collection's documents; `None` for a view.
    pub(crate) fn of(spec: &CollectionSpec, viewless_time_series: bool) -> Option<Self> {
        let place = |collection, raw_data| Some(Self { collection, raw_data });
        match spec.kind {
            CollectionKind::View => None,
            CollectionKind::Collection => place(spec.name.clone(), false),
            CollectionKind::TimeSeries if viewless_time_series => place(spec.name.clone(), true),
            CollectionKind::TimeSeries => place(format!("{BUCKETS}{}", spec.name), false),
        }
    }
}

/// Estimates the number of documents of this collection in a reply of the target size. The server itself splits replies over 16
/// MB.
pub(super) async fn batch_documents(
    connection: &Connection,
    database: &str,
    collection: &str,
) -> u32 {
    let stats = connection
        .run(database, doc! { "collStats": collection }, "read the size of a collection")
        .await
        // A user may be allowed to read a collection, but not its statistics.
        .unwrap_or_default();
    let average = match stats.get("avgObjSize") {
        Some(bson::Bson::Int32(size)) => u64::try_from(*size).unwrap_or(0),
        Some(bson::Bson::Int64(size)) => u64::try_from(*size).unwrap_or(0),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // A size in bytes; `as` saturates.
        Some(bson::Bson::Double(size)) => *size as u64,
        _ => 0,
    };
    let documents = REPLY_BYTES
        .checked_div(average)
        .map_or(BATCH_DOCUMENTS.into(), |documents| documents.clamp(2, 100_000));
    u32::try_from(documents).unwrap_or(BATCH_DOCUMENTS)
}

/// Returns the bytes of every document of a batch without copying them.
///
/// # Errors
/// The reason, if the batch is not an array of complete documents.
pub(crate) fn documents(
    batch: &RawBatch,
) -> Result<impl Iterator<Item = Result<&[u8], String>>, String> {
    let array = batch.doc_slices().map_err(|error| error.to_string())?;
    Ok(array.into_iter().map(|element| match element.map_err(|error| error.to_string())? {
        RawBsonRef::Document(document) => Ok(document.as_bytes()),
        other => {
            Err(format!("a batch contains a {:?} instead of a document", other.element_type()))
        }
    }))
}

/// Splits documents from bytes that arrive in pieces of any length.
#[derive(Debug, Default)]
pub(crate) struct DocumentSplitter {
    pending: BytesMut,
    taken: u64,
}

impl DocumentSplitter {
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// Returns the next complete document, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The reason, if what follows cannot be a document.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, String> {
        let Some(length) = self.pending.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if !(SMALLEST_DOCUMENT..=LARGEST_DOCUMENT).contains(&length) {
            return Err(format!(
                "at byte {} a document has a declared length of {length} bytes",
                self.taken
            ));
        }
        if self.pending.len() < length {
            return Ok(None);
        }
        if self.pending[length - 1] != 0 {
            return Err(format!(
                "the document at byte {} does not end at its declared length",
                self.taken
            ));
        }
        self.taken += length as u64;
        Ok(Some(self.pending.split_to(length).freeze()))
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// The reason, if it ends inside a document.
    pub(crate) fn finish(self) -> Result<(), String> {
        if self.pending.is_empty() {
            Ok(())
        } else {
            Err(format!("it ends inside the document at byte {}", self.taken))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(payload: usize) -> Vec<u8> {
        bson::serialize_to_vec(&doc! { "_id": 1, "p": "x".repeat(payload) }).unwrap()
    }

    /// A small generator with a seed, so that a failure can be repeated.
    fn random(state: &mut u64) -> usize {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).unwrap()
    }

    #[test]
    fn documents_come_out_whole_however_the_stream_is_cut() {
        for seed in 0..200_u64 {
            let mut state = seed;
            let documents: Vec<Vec<u8>> =
                (0..random(&mut state) % 20).map(|_| document(random(&mut state) % 3000)).collect();
            let stream = documents.concat();
            let mut splitter = DocumentSplitter::default();
            let (mut rest, mut seen) = (stream.as_slice(), Vec::new());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(1 + random(&mut state) % 2000));
                rest = after;
                splitter.push(piece);
                while let Some(document) = splitter.next().unwrap() {
                    seen.push(document.to_vec());
                }
            }
            assert_eq!(seen, documents, "seed {seed}");
            splitter.finish().unwrap();
        }
    }

    #[test]
    fn a_truncated_or_inconsistent_stream_is_an_error() {
        let whole = document(10);
        let mut cut = DocumentSplitter::default();
        cut.push(&whole[..whole.len() - 1]);
        assert_eq!(cut.next(), Ok(None));
        assert!(cut.finish().unwrap_err().contains("inside the document at byte 0"));

        for length in [0_u32, 4, u32::MAX, 17 << 20] {
            let mut splitter = DocumentSplitter::default();
            splitter.push(&whole);
            assert!(splitter.next().unwrap().is_some());
            splitter.push(&length.to_le_bytes());
            assert!(
                splitter.next().unwrap_err().contains(&format!("at byte {}", whole.len())),
                "{length}"
            );
        }
        let mut unterminated = DocumentSplitter::default();
        unterminated.push(&[5, 0, 0, 0, 1]);
        assert!(unterminated.next().is_err());
    }
}
