//! The operations of an object store, independent of its medium.

use super::StoreError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use std::{fmt, ops::Range};

/// Number of small objects read in parallel.
const READ_CONCURRENCY: usize = 16;
/// Number of concurrent deletions in stores without batches.
const DELETE_CONCURRENCY: usize = 8;

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Its key, such as `data/ab/ab12…`.
    pub key: String,
    /// Size of the object, in bytes.
    pub size_bytes: u64,
    /// Time of the last change, if the store reports it.
    pub modified: Option<Timestamp>,
    /// The service's ETag, without quotes; after a plain write, the MD5 of the content in hex. `None` on disk.
    pub etag: Option<String>,
}

impl Object {
    /// An object without modification time and `ETag`.
    #[must_use]
    pub fn new(key: impl Into<String>, size_bytes: u64) -> Self {
        Self { key: key.into(), size_bytes, modified: None, etag: None }
    }
}

/// Bytes by key: the seven operations that a store must implement. Keys are `/`-separated and relative to the store's root.
#[async_trait]
pub trait BasicStore: fmt::Debug + Send + Sync + 'static {
    /// Describes the store as text, without credentials.
    fn location(&self) -> String;

    /// Lists all objects below a directory, at any depth, in no particular order. A directory that does not exist is empty or not
    /// found, depending on whether the store has directories.
    ///
    /// # Errors
    /// If any part of the listing failed: an incomplete list is never returned.
    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError>;

    /// An object's bytes, or a range of them.
    ///
    /// # Errors
    /// [`StoreError::is_not_found`] if the object does not exist; an error when the range reaches beyond its end.
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError>;

    /// Writes an object atomically, replacing an existing one: readers see all of the old one or all of the new one.
    ///
    /// # Errors
    /// If it cannot be written.
    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError>;

    /// Begins an object that is written piece by piece, for those too large for memory.
    ///
    /// # Errors
    /// If it cannot be begun.
    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Deletes an object; one that does not exist is not an error.
    ///
    /// # Errors
    /// If it cannot be deleted.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// The size of an object in bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// If the store does not respond.
    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError>;
}

/// A store of a repository: the seven operations, and five with a default, which a store overrides if it can do better (decision
/// 11). `impl ObjectStore for MyStore {}` uses all defaults.
#[async_trait]
pub trait ObjectStore: BasicStore {
    /// Reports whether each call crosses a network, so that writes are slow and more data should be kept ready for them.
    fn is_remote(&self) -> bool {
        false
    }

    /// Reports whether nothing can be deleted through this store: locks then expire, or are ended by later ones.
    fn keeps_everything(&self) -> bool {
        false
    }

    /// Reads many small objects completely, in the order of their keys.
    ///
    /// # Errors
    /// As [`BasicStore::read`], of any of them.
    async fn read_many(&self, keys: Vec<String>) -> Result<Vec<Bytes>, StoreError> {
        read_each(self, keys).await
    }

    /// Writes an object that a crash may lose until the next [`BasicStore::write`] to this store has ended: a pack that no index
    /// names yet. Stores that would not benefit from the delay write it at once.
    ///
    /// # Errors
    /// If it cannot be written.
    async fn write_deferred(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        self.write(key, content).await
    }

    /// Deletes many objects; those that do not exist are not an error. Uses batches if the store supports them.
    ///
    /// # Errors
    /// If one cannot be deleted; others may already be.
    async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let deletions = keys.into_iter().map(|key| async move { self.delete(&key).await });
        futures::stream::iter(deletions).buffer_unordered(DELETE_CONCURRENCY).try_collect().await
    }
}

/// Many objects, one read each, in the order of their keys.
pub(super) async fn read_each(
    store: &(impl BasicStore + ?Sized),
    keys: Vec<String>,
) -> Result<Vec<Bytes>, StoreError> {
    let reads = keys.into_iter().map(|key| async move { store.read(&key, None).await });
    futures::stream::iter(reads).buffered(READ_CONCURRENCY).try_collect().await
}

/// An object being written to a store. It is not visible before [`ObjectWriter::finish`]; dropped or aborted, it leaves nothing
/// behind.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Adds bytes.
    ///
    /// # Errors
    /// If they cannot be written.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the complete object visible.
    ///
    /// # Errors
    /// If this fails; the object is then not visible.
    async fn finish(&mut self) -> Result<(), StoreError>;

    /// Aborts the write and removes what was written.
    async fn abort(&mut self);
}
