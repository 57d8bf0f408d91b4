//! A store that records its calls, so that a test can assert their order and number.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use kaleem_dr_core::engine::repository::store::{
    BasicStore, Object, ObjectStore, ObjectWriter, StoreError,
};

/// One call: its name and the key or directory it was for. A call for many objects is recorded once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: &'static str,
    pub key: String,
    /// Size of what was read; 0 for other calls.
    pub bytes: u64,
}

/// A store in front of another one. It records each call when it ended well, in that order.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<dyn ObjectStore>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    /// In front of this store.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, calls: Arc::default() }
    }

    /// The calls since the last look.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().expect("no call panics"))
    }

    fn note<T>(
        &self,
        name: &'static str,
        keys: &[String],
        ended: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if ended.is_ok() {
            let mut calls = self.calls.lock().expect("no call panics");
            calls.extend(keys.iter().map(|key| Call { name, key: key.clone(), bytes: 0 }));
        }
        ended
    }
}

#[async_trait]
impl BasicStore for Recorder {
    fn location(&self) -> String {
        self.inner.location()
    }
    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        self.note("list", &[directory.to_owned()], self.inner.list(directory).await)
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let read = self.note("read", &[key.to_owned()], self.inner.read(key, range).await)?;
        let mut calls = self.calls.lock().expect("no call panics");
        if let Some(call) = calls.iter_mut().rfind(|call| call.name == "read" && call.key == key) {
            call.bytes = read.len() as u64;
        }
        Ok(read)
    }
    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        self.note("write", &[key.to_owned()], self.inner.write(key, content).await)
    }
    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let (inner, recorder) = (self.inner.writer(key).await?, self.clone());
        Ok(Box::new(RecordedWriter { inner, recorder, key: key.to_owned() }))
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.note("delete", &[key.to_owned()], self.inner.delete(key).await)
    }
    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.note("size", &[key.to_owned()], self.inner.size(key).await)
    }
}

#[async_trait]
impl ObjectStore for Recorder {
    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
    async fn read_many(&self, keys: Vec<String>) -> Result<Vec<Bytes>, StoreError> {
        self.note("read_many", &keys, self.inner.read_many(keys.clone()).await)
    }
    async fn write_deferred(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        self.note(
            "write_deferred",
            &[key.to_owned()],
            self.inner.write_deferred(key, content).await,
        )
    }
    async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        self.note("delete_many", &keys, self.inner.delete_many(keys.clone()).await)
    }
}

/// Recorded as `write` when it is finished.
struct RecordedWriter {
    inner: Box<dyn ObjectWriter>,
    recorder: Recorder,
    key: String,
}

#[async_trait]
impl ObjectWriter for RecordedWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.write(bytes).await
    }
    async fn finish(&mut self) -> Result<(), StoreError> {
        let finished = self.inner.finish().await;
        self.recorder.note("write", std::slice::from_ref(&self.key), finished)
    }
    async fn abort(&mut self) {
        self.inner.abort().await;
    }
}
