//! Stores that break one property each: the suite must catch every one of them.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use kaleem_dr_core::engine::repository::store::{
    BasicStore, Object, ObjectStore, ObjectWriter, StoreError,
};

/// The property that a store breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// An object is visible before it is whole.
    TornWrites,
    /// What a writer wrote stays when it is given up.
    WritersThatLeave,
    /// A listing ends after the first page.
    FirstPageOnly,
    /// A listing has what begins with the directory's name.
    ListsByPrefix,
    /// A range beyond the end gives what there is.
    ShortRanges,
    /// An object that does not exist is an error like any other.
    AbsenceIsAnError,
    /// The deletion of an object that does not exist is an error.
    DeletesOnlyWhatExists,
    /// A deletion does nothing.
    KeepsWhatIsDeleted,
    /// Many objects come in the order of their names.
    SortsWhatItReads,
    /// A deletion of many ends after a batch.
    FirstBatchOnly,
    /// A deferred write is never made.
    DropsDeferredWrites,
    /// An overwrite keeps the first content.
    NeverOverwrites,
}

/// A store with a flaw, in front of a good one.
#[derive(Debug)]
pub struct Flawed {
    inner: Arc<dyn ObjectStore>,
    flaw: Flaw,
}

impl Flawed {
    pub fn new(inner: Arc<dyn ObjectStore>, flaw: Flaw) -> Self {
        Self { inner, flaw }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }
}

#[async_trait]
impl BasicStore for Flawed {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        if self.has(Flaw::ListsByPrefix) {
            let all = self.inner.list(".").await?;
            return Ok(all
                .into_iter()
                .filter(|object| object.key.starts_with(directory))
                .collect());
        }
        let mut objects = self.inner.list(directory).await?;
        if self.has(Flaw::FirstPageOnly) {
            objects.truncate(1000);
        }
        Ok(objects)
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let size = self.inner.size(key).await?;
        match (range, size) {
            (Some(range), Some(size)) if self.has(Flaw::ShortRanges) && range.end > size => {
                self.inner.read(key, Some(range.start.min(size)..size)).await
            }
            (_, None) if self.has(Flaw::AbsenceIsAnError) => {
                Err(StoreError::new("read", key, self.location(), false, "it went wrong"))
            }
            (range, _) => self.inner.read(key, range).await,
        }
    }

    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        if self.has(Flaw::NeverOverwrites) && self.inner.size(key).await?.is_some() {
            return Ok(());
        }
        if self.has(Flaw::TornWrites) {
            let whole = content.concat();
            let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
            self.inner.write(key, vec![half]).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.inner.write(key, content).await
    }

    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        if self.has(Flaw::WritersThatLeave) {
            let (store, key) = (self.inner.clone(), key.to_owned());
            return Ok(Box::new(LeavingWriter { store, key, written: Vec::new() }));
        }
        self.inner.writer(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if self.has(Flaw::KeepsWhatIsDeleted) {
            return Ok(());
        }
        if self.has(Flaw::DeletesOnlyWhatExists) && self.inner.size(key).await?.is_none() {
            return Err(StoreError::new("delete", key, self.location(), true, "it does not exist"));
        }
        self.inner.delete(key).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.inner.size(key).await
    }
}

#[async_trait]
impl ObjectStore for Flawed {
    async fn read_many(&self, mut keys: Vec<String>) -> Result<Vec<Bytes>, StoreError> {
        if self.has(Flaw::SortsWhatItReads) {
            keys.sort();
        }
        let mut all = Vec::new();
        for key in keys {
            all.push(self.read(&key, None).await?);
        }
        Ok(all)
    }

    async fn write_deferred(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        if self.has(Flaw::DropsDeferredWrites) {
            return Ok(());
        }
        self.inner.write_deferred(key, content).await
    }

    async fn delete_many(&self, mut keys: Vec<String>) -> Result<(), StoreError> {
        if self.has(Flaw::FirstBatchOnly) {
            keys.truncate(700);
        }
        for key in keys {
            self.delete(&key).await?;
        }
        Ok(())
    }
}

/// A writer whose every piece is visible at once.
struct LeavingWriter {
    store: Arc<dyn ObjectStore>,
    key: String,
    written: Vec<Bytes>,
}

#[async_trait]
impl ObjectWriter for LeavingWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.written.push(bytes);
        self.store.write(&self.key, self.written.clone()).await
    }

    async fn finish(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn abort(&mut self) {}
}
