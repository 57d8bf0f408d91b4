//! What a store of objects does, whatever it is made on.

use super::StoreError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use std::{fmt, ops::Range};

/// Small objects that are read at once.
pub(super) const READS_AT_ONCE: usize = 16;
/// Deletions under way at once in stores without batches.
const DELETE_CONCURRENCY: usize = 8;

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key, such as `data/ab/ab12…`.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
    /// When it was written, where the store tells.
    pub modified: Option<Timestamp>,
    /// The service's ETag of it, without quotes; of a plain write the MD5 of its content in hex. `None` on disk.
    pub etag: Option<String>,
}

/// Bytes by key. Keys are `/`-separated and relative to the store's root.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync + 'static {
    /// The store in words, without credentials.
    fn location(&self) -> String;

    /// Whether each call crosses a network, so that writes are slow and more is kept ready for them.
    fn is_remote(&self) -> bool {
        false
    }

    /// Every object below a directory, at any depth, in no order.
    ///
    /// # Errors
    /// When any part of the listing failed: a short list is never returned.
    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError>;

    /// An object's bytes, or a range of them.
    ///
    /// # Errors
    /// [`StoreError::is_not_found`] when there is none; an error when fewer bytes came than were asked for.
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError>;

    /// Many small objects, whole, in the order of their keys.
    ///
    /// # Errors
    /// As [`ObjectStore::read`], of any of them.
    async fn read_many(&self, keys: Vec<String>) -> Result<Vec<Bytes>, StoreError> {
        let reads = keys.into_iter().map(|key| async move { self.read(&key, None).await });
        futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }

    /// Writes an object whole: readers see all of it or nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError>;

    /// Writes an object that may be lost in a crash until the next [`ObjectStore::write`] to this store has ended: a pack that no index
    /// names yet. Stores for which that is no quicker write it at once.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn write_late(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        self.write(key, content).await
    }

    /// Begins an object that comes piece by piece, for those too large to hold in memory.
    ///
    /// # Errors
    /// When it cannot be begun.
    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Removes many objects; those that are not there are no error. In batches, where the store has them.
    ///
    /// # Errors
    /// When one cannot be removed; others may be gone.
    async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let deletions = keys.into_iter().map(|key| async move { self.delete(&key).await });
        futures::stream::iter(deletions).buffer_unordered(DELETE_CONCURRENCY).try_collect().await
    }

    /// An object's length, or `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError>;
}

/// An object on its way into a store. Nobody sees it before [`ObjectWriter::finish`]; dropped or aborted, it never was.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Adds bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the object visible, whole.
    ///
    /// # Errors
    /// When it cannot be.
    async fn finish(&mut self) -> Result<(), StoreError>;

    /// Gives it up, and takes away what was written.
    async fn abort(&mut self);
}
