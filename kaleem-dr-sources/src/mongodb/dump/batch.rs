//! One reply of a cursor: documents as raw bytes.

use mongodb::raw_batch_cursor::RawBatch;

use super::documents::{REPLY_BYTES, documents};

/// A reply, less the documents that were given before.
pub(crate) struct Batch {
    reply: RawBatch,
    given: usize,
}

impl Batch {
    /// A reply of which so many documents at its beginning were given before.
    pub(super) fn new(reply: RawBatch, given: usize) -> Self {
        Self { reply, given }
    }

    /// The bytes of every document, not copied.
    ///
    /// # Errors
    /// A sentence, when the reply is no array of whole documents.
    pub(crate) fn documents(&self) -> Result<impl Iterator<Item = Result<&[u8], String>>, String> {
        Ok(documents(&self.reply)?.skip(self.given))
    }

    /// Whether it is so large that its successor should not be in memory with it: it holds documents of many megabytes.
    pub(super) fn is_oversized(&self) -> bool {
        self.reply.as_raw_document().as_bytes().len() as u64 > 2 * REPLY_BYTES
    }
}
