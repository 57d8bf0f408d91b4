//! Objects that are written piece by piece.

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    super::{ObjectWriter, StoreError, integrity::PartDigests, opendal_error, temporary::Unplaced},
    OpendalStore,
};
use crate::ground::{failpoint, failpoint::Step};

/// An object written to a bucket in parts.
pub(super) struct BucketWriter {
    pub(super) writer: opendal::Writer,
    pub(super) store: OpendalStore,
    pub(super) key: String,
    /// Digests of the content sent; `None` once finished.
    pub(super) digests: Option<PartDigests>,
}

#[async_trait]
impl ObjectWriter for BucketWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        // As in `OpendalStore::write`: OpenDAL would never get past an empty piece.
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(digests) = &mut self.digests {
            digests.update(&bytes);
        }
        self.writer.write(bytes).await.map_err(self.store.failed("write", &self.key))
    }

    async fn finish(&mut self) -> Result<(), StoreError> {
        let meta = self.writer.close().await.map_err(self.store.failed("write", &self.key))?;
        if let Some(digests) = self.digests.take() {
            self.store.confirm(&self.key, &meta, &digests.finish(), &[]).await?;
        }
        failpoint::reach(Step::Write).await;
        Ok(())
    }

    async fn abort(&mut self) {
        if let Err(error) = self.writer.abort().await {
            let why = opendal_error::in_words(&error);
            tracing::debug!(key = %self.key, %why, "a partly written object could not be removed");
        }
    }
}

/// An object that is being written to disk, in a file next to its place.
pub(super) struct DiskWriter {
    /// `None` once it is finished or aborted: its file has then been renamed or removed.
    pub(super) unplaced: Option<Unplaced>,
    pub(super) store: OpendalStore,
    pub(super) key: String,
}

#[async_trait]
impl ObjectWriter for DiskWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let Some(mut unplaced) = self.unplaced.take() else { return Ok(()) };
        let written =
            tokio::task::spawn_blocking(move || unplaced.add(&bytes).map(|()| unplaced)).await;
        self.unplaced = Some(self.store.ended(&self.key, written)?);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), StoreError> {
        let gone = || {
            StoreError::new(
                "write",
                &self.key,
                self.store.location.clone(),
                false,
                "it failed before",
            )
        };
        let unplaced = self.unplaced.take().ok_or_else(gone)?;
        self.store.ended(
            &self.key,
            tokio::task::spawn_blocking(move || unplaced.place_durably()).await,
        )?;
        failpoint::reach(Step::Write).await;
        Ok(())
    }

    async fn abort(&mut self) {
        self.unplaced = None;
    }
}
