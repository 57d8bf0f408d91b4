//! A store for a host whose key may add objects, and may neither delete nor overwrite any.
//!
//! The service enforces that; this wrapper lets a run work with such a key. Locks stay where they are, because they expire or are
//! ended by a later lock. Any other deletion is an error before it is sent. A write that is refused because an earlier attempt, of
//! which the response was lost, has created the object succeeds if the object has the same content.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::{BasicStore, Object, ObjectStore, ObjectWriter, StoreError, StoreErrorKind};

/// The directory of objects that a run leaves behind instead of deleting them.
const LOCKS: &str = "locks/";

/// A store in front of another one.
#[derive(Debug)]
pub(crate) struct AppendOnly(Arc<dyn ObjectStore>);

impl AppendOnly {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self(inner)
    }

    /// The result of a write: right if the object has this content already.
    async fn written(
        &self,
        key: &str,
        content: &[Bytes],
        result: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Err(error) = result else { return Ok(()) };
        if !matches!(error.kind(), StoreErrorKind::Denied | StoreErrorKind::Condition) {
            return Err(error);
        }
        match self.0.read(key, None).await {
            Ok(found) if found == content.concat() => Ok(()),
            _ => Err(error),
        }
    }

    fn refused(&self, key: &str) -> StoreError {
        StoreError::new(
            "delete",
            key,
            self.location(),
            false,
            "this host only adds to the repository (`append_only = true` in the config); run this on the host that forgets and prunes",
        )
    }
}

#[async_trait]
impl BasicStore for AppendOnly {
    fn location(&self) -> String {
        self.0.location()
    }

    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        self.0.list(directory).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.0.read(key, range).await
    }

    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        let result = self.0.write(key, content.clone()).await;
        self.written(key, &content, result).await
    }

    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.0.writer(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if key.starts_with(LOCKS) { Ok(()) } else { Err(self.refused(key)) }
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.0.size(key).await
    }
}

#[async_trait]
impl ObjectStore for AppendOnly {
    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    fn keeps_everything(&self) -> bool {
        true
    }

    async fn read_many(&self, keys: Vec<String>) -> Result<Vec<Bytes>, StoreError> {
        self.0.read_many(keys).await
    }

    async fn write_deferred(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        let result = self.0.write_deferred(key, content.clone()).await;
        self.written(key, &content, result).await
    }

    async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        match keys.iter().find(|key| !key.starts_with(LOCKS)) {
            Some(key) => Err(self.refused(key)),
            None => Ok(()),
        }
    }
}
