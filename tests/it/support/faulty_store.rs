//! A store in which one call fails.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use kaleem_dr_core::engine::repository::store::{
    BasicStore, Object, ObjectStore, ObjectWriter, StoreError,
};

/// A store whose nth call fails, and is not carried out.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    fails_at: u64,
    calls: AtomicU64,
}

impl FaultyStore {
    /// Around a store. Calls count from one; with zero, none fails.
    pub fn new(inner: Arc<dyn ObjectStore>, fails_at: u64) -> Self {
        Self { inner, fails_at, calls: AtomicU64::new(0) }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn pass(&self, action: &'static str, key: &str) -> Result<(), StoreError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call == self.fails_at {
            return Err(StoreError::new(action, key, self.location(), false, "an injected fault"));
        }
        Ok(())
    }
}

#[async_trait]
impl BasicStore for FaultyStore {
    fn location(&self) -> String {
        self.inner.location()
    }
    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        self.pass("list", directory)?;
        self.inner.list(directory).await
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.pass("read", key)?;
        self.inner.read(key, range).await
    }
    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        self.pass("write", key)?;
        self.inner.write(key, content).await
    }
    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.pass("write", key)?;
        self.inner.writer(key).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.pass("delete", key)?;
        self.inner.delete(key).await
    }
    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.pass("stat", key)?;
        self.inner.size(key).await
    }
}

/// Each object of a call for many is a call of its own, so that each can fail.
impl ObjectStore for FaultyStore {}
