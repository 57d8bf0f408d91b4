//! One reply of a cursor.

use mongodb::raw_batch_cursor::RawBatch;

use super::documents::{REPLY_BYTES, documents};

/// A reply without the documents that were returned before.
pub(crate) struct Batch {
    reply: RawBatch,
    given: usize,
}

impl Batch {
    /// A reply whose first `given` documents were returned before.
    pub(super) fn new(reply: RawBatch, given: usize) -> Self {
        Self { reply, given }
    }

    /// Returns the bytes of every document without copying them.
    ///
    /// # Errors
    /// The reason, if the reply is not an array of complete documents.
    pub(crate) fn documents(&self) -> Result<impl Iterator<Item = Result<&[u8], String>>, String> {
        Ok(documents(&self.reply)?.skip(self.given))
    }

    /// Reports whether it contains documents of many megabytes, so that the next one should not be in memory at the same time.
    pub(super) fn is_oversized(&self) -> bool {
        self.reply.as_raw_document().as_bytes().len() as u64 > 2 * REPLY_BYTES
    }
}
