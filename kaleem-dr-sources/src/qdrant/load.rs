//! Creates a collection from a snapshot, and removes it again.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::try_unfold;
use jiff::Timestamp;
use kaleem_dr_core::{
    CancellationToken,
    ground::{
        SourceError, error_chain,
        progress::{StageProgress, Unit},
    },
    recovery::point::{ArtifactReader, PointReader},
};
use reqwest::Body;

use super::{client::QdrantClient, contents::Stored};

/// Creates collections from a point's snapshots, and keeps track of them.
pub(super) struct Loader<'a> {
    client: &'a QdrantClient,
    point: &'a PointReader,
    /// Collections that were, or may have been, created.
    made: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(client: &'a QdrantClient, point: &'a PointReader) -> Self {
        Self { client, point, made: Vec::new(), warnings: Vec::new() }
    }

    /// Creates the collection `target`, which must not exist, and checks that it has content.
    pub(super) async fn load(&mut self, stored: &Stored, target: &str) -> Result<(), SourceError> {
        let client = self.client;
        let taken = client.collections().await?.iter().any(|name| name == target)
            || client.aliases().await?.iter().any(|alias| alias.alias_name == target);
        if taken {
            return Err(SourceError::Refused(format!(
                "{target} has appeared on {} in the meantime; choose another name",
                client.server()
            )));
        }
        self.made.push(target.to_owned());
        let description = &stored.description;
        if description.is_sharded_by_key() {
            // If the collection does not exist, Qdrant accepts such a snapshot with status 200 and
            // creates no shard.
            let keys = description.shard_keys()?;
            client.create_collection(target, &description.definition()).await?;
            for (key, shards) in keys {
                client.create_shard_key(target, key, shards).await?;
            }
        }
        let file_name = format!("kaleem-dr-{}.snapshot", Timestamp::now().as_nanosecond());
        let uploaded = self.upload(stored, target, &file_name).await;
        // Whether it succeeded or not, the upload stays in the server's snapshot directory until it
        // is deleted.
        if let Err(error) = self.remove_upload(target, &file_name).await {
            self.warnings.push(format!(
                "the uploaded file {file_name} was left in the snapshot directory of {target} on the server: {}",
                error_chain(&error)
            ));
        }
        uploaded?;
        self.look_for_nothing(stored, target).await
    }

    /// Detects a success reported by the server that restored nothing.
    async fn look_for_nothing(&self, stored: &Stored, target: &str) -> Result<(), SourceError> {
        let action = format!("restore collection {target}");
        let nothing = |what: &str| {
            self.client.failed(
                &action,
                format!(
                    "it accepted the upload and reported success, but the collection has {what}"
                ),
            )
        };
        if self.client.describe(target).await?.is_none() {
            return Err(nothing("not been created"));
        }
        if self.client.shards(target).await?.is_empty() {
            return Err(nothing("no shards"));
        }
        if stored.description.points.about().is_some_and(|points| points > 0)
            && self.client.count(target).await? == 0
        {
            return Err(nothing("no points"));
        }
        Ok(())
    }

    async fn upload(
        &self,
        stored: &Stored,
        target: &str,
        file_name: &str,
    ) -> Result<(), SourceError> {
        let record = &stored.snapshot;
        let stage = self.point.progress().begin(
            &format!("upload {target}"),
            Unit::Bytes,
            Some(record.size_bytes),
        );
        let failure = Arc::new(Mutex::new(None));
        let source = Upload {
            reader: self.point.artifact(&record.path).await?,
            stage: stage.clone(),
            cancel: self.point.cancellation(),
            failure: failure.clone(),
        };
        let body = Body::wrap_stream(try_unfold(source, Upload::next));
        let uploaded =
            self.client.upload(target, file_name, &record.sha256, record.size_bytes, body).await;
        stage.finish();
        // The error that broke the body is more useful than the fact that it broke.
        let why = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        why.map_or(uploaded, Err)
    }

    async fn remove_upload(&self, target: &str, file_name: &str) -> Result<(), SourceError> {
        for file in self.client.snapshots(target).await? {
            if file.name == file_name {
                self.client.delete_snapshot(target, file_name).await?;
            }
        }
        Ok(())
    }

    /// Excludes a collection from the removal after a failure.
    pub(super) fn keep(&mut self, target: &str) {
        self.made.retain(|made| made != target);
    }

    /// Removes one collection created by this restore.
    pub(super) async fn remove(&mut self, target: &str) -> Result<(), SourceError> {
        self.client.delete_collection(target).await?;
        if self.client.collections().await?.iter().any(|name| name == target) {
            return Err(self
                .client
                .failed(&format!("delete collection {target}"), "it still exists"));
        }
        self.keep(target);
        Ok(())
    }

    /// Removes every collection created by this restore: a broken collection makes every later full
    /// snapshot of the server fail. Returns `after`, extended with what could not be removed.
    pub(super) async fn remove_all(&mut self, after: SourceError) -> SourceError {
        let mut left = Vec::new();
        for target in std::mem::take(&mut self.made) {
            match self.remove(&target).await {
                Ok(()) => {
                    tracing::info!(collection = target, "removed a collection of a failed restore");
                }
                Err(error) => {
                    tracing::warn!(collection = target, error = %error_chain(&error), "cannot remove a collection of a failed restore");
                    left.push(target);
                }
            }
        }
        if left.is_empty() {
            return after;
        }
        let action =
            format!("remove {} after a failed restore; delete it by hand", left.join(", "));
        self.client.failed(&action, format!("the restore failed: {}", error_chain(&after)))
    }
}

/// An artifact as the body of a request.
struct Upload {
    reader: ArtifactReader,
    stage: Arc<dyn StageProgress>,
    cancel: CancellationToken,
    failure: Arc<Mutex<Option<SourceError>>>,
}

impl Upload {
    /// An incomplete body is never accepted as a snapshot; so a cancellation ends it here, which
    /// the server notices.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        let piece = self
            .cancel
            .run_until_cancelled(self.reader.next())
            .await
            .unwrap_or(Err(SourceError::Cancelled));
        match piece {
            Ok(Some(bytes)) => {
                self.stage.advance(bytes.len() as u64);
                Ok(Some((bytes, self)))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).replace(error);
                Err(std::io::Error::other("the snapshot could not be read"))
            }
        }
    }
}
