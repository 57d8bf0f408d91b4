//! Reads a file of a snapshot from any offset.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{RepositoryError, SnapshotReader, TreeEntry, blocking, reader::BlobPlace};

/// Blobs that are read ahead of a caller at most: a request for a range must not plan the rest of a large file.
const WINDOW: usize = 16;

/// A file of a snapshot, read from the current offset on. Every blob is checked against its id.
#[derive(Debug)]
pub struct FileReader {
    reader: SnapshotReader,
    places: Vec<BlobPlace>,
    /// Offset in the file of each blob, and the length of the file, in bytes.
    starts: Vec<u64>,
    offset: u64,
    /// Bytes that were read and not returned yet.
    rest: Bytes,
    /// Reads ahead of `rest`; `None` after a seek.
    pieces: Option<mpsc::Receiver<Result<Bytes, RepositoryError>>>,
}

impl SnapshotReader {
    /// Opens a file of this snapshot, at its beginning. Other entries have no content.
    ///
    /// # Errors
    /// If the index lacks a part of its content.
    pub async fn open_file(&self, entry: &TreeEntry) -> Result<FileReader, RepositoryError> {
        let (reader, node) = (self.clone(), entry.node.clone());
        let places = blocking(move || reader.places(&node)).await?;
        let mut starts = Vec::with_capacity(places.len() + 1);
        let mut end = 0;
        for place in &places {
            starts.push(end);
            end += place.plain_length();
        }
        starts.push(end);
        let reader = self.clone();
        Ok(FileReader { reader, places, starts, offset: 0, rest: Bytes::new(), pieces: None })
    }
}

impl FileReader {
    /// Length of the content, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// The current offset, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Continues at another offset, which may be after the end.
    pub fn seek(&mut self, offset: u64) {
        if offset != self.offset {
            (self.offset, self.rest, self.pieces) = (offset, Bytes::new(), None);
        }
    }

    /// The next bytes, at most `limit`; none at the end.
    ///
    /// # Errors
    /// If a part cannot be read, or is not what was stored.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, RepositoryError> {
        while self.rest.is_empty() {
            if self.offset >= self.size_bytes() {
                return Ok(Bytes::new());
            }
            let pieces = match &mut self.pieces {
                Some(pieces) => pieces,
                none => {
                    let at = self.starts.partition_point(|start| *start <= self.offset) - 1;
                    let mut pieces = self.reader.stream_places(
                        self.places[at..self.places.len().min(at + WINDOW)].to_vec(),
                    );
                    // The blob that contains the offset, without what is before it.
                    let first =
                        pieces.recv().await.unwrap_or_else(|| Err(RepositoryError::Cancelled))?;
                    let before =
                        usize::try_from(self.offset - self.starts[at]).unwrap_or(usize::MAX);
                    self.rest = first.slice(before.min(first.len())..);
                    *none = Some(pieces);
                    continue;
                }
            };
            match pieces.recv().await {
                Some(piece) => self.rest = piece?,
                // The window has ended.
                None => self.pieces = None,
            }
        }
        let read = self.rest.split_to(limit.min(self.rest.len()));
        self.offset += read.len() as u64;
        Ok(read)
    }
}
