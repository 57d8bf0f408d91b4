//! All snapshots of a repository, and the files that could not be read.

use serde::Serialize;

use super::{
    Repository, RepositoryError,
    backend::Gate,
    blocking, names, object_key, silent,
    snapshot::{Snapshot, SnapshotId},
};
use crate::CancellationToken;

/// The files of `snapshots/`: those that can be read, and the others.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SnapshotListing {
    /// All readable snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Files that could not be read.
    pub unreadable: Vec<UnreadableSnapshot>,
}

/// A snapshot file that is empty, damaged or encrypted with another key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnreadableSnapshot {
    /// Its key in the store.
    pub object: String,
    /// The defect of the file, as one sentence.
    pub why: String,
}

impl Repository {
    /// All readable snapshots, oldest first. Warns of each one that cannot be read.
    ///
    /// # Errors
    /// If they cannot be listed, or the store fails.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError> {
        if self.0.cache_directory.is_some() {
            // Most of them are in the engine's cache.
            let repository = self.clone();
            let cached = blocking(move || {
                let engine = repository.engine(Gate::open(CancellationToken::new()), &silent())?;
                let files = engine
                    .get_all_snapshots()
                    .map_err(RepositoryError::engine("read the snapshots of"))?;
                Ok(files.into_iter().map(Snapshot::new).collect::<Vec<_>>())
            });
            if let Ok(mut snapshots) = cached.await {
                snapshots.sort_by_key(|snapshot| snapshot.time().timestamp());
                return Ok(snapshots);
            }
        }
        let listing = self.snapshot_listing().await?;
        for UnreadableSnapshot { object, why } in &listing.unreadable {
            tracing::warn!(%object, %why, "a snapshot is damaged and passed over; see `kaleem-dr check`");
        }
        Ok(listing.snapshots)
    }

    /// All snapshot files, read from the repository itself.
    ///
    /// # Errors
    /// If they cannot be listed, or the store fails.
    pub async fn snapshot_listing(&self) -> Result<SnapshotListing, RepositoryError> {
        let listed = names::objects(&*self.0.store, "snapshots").await?;
        let keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
        let encrypted = match self.0.store.read_many(keys.clone()).await {
            Ok(encrypted) => encrypted.into_iter().map(Some).collect(),
            // One was forgotten after they were listed.
            Err(error) if error.is_not_found() => self.read_those_left(&keys).await?,
            Err(error) => return Err(error.into()),
        };
        let key = self.0.key.clone();
        blocking(move || {
            let mut listing = SnapshotListing::default();
            for (name, encrypted) in keys.into_iter().zip(encrypted) {
                let Some(encrypted) = encrypted else { continue };
                let opened = match object_key::id_of(&name).parse::<SnapshotId>() {
                    Ok(id) => Snapshot::open(&key, id, &encrypted),
                    Err(error) => Err(error.to_string()),
                };
                match opened {
                    Ok(snapshot) => listing.snapshots.push(snapshot),
                    Err(why) => listing.unreadable.push(UnreadableSnapshot { object: name, why }),
                }
            }
            listing.snapshots.sort_by_key(|snapshot| snapshot.time().timestamp());
            Ok(listing)
        })
        .await
    }

    async fn read_those_left(
        &self,
        keys: &[String],
    ) -> Result<Vec<Option<bytes::Bytes>>, RepositoryError> {
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            all.push(match self.0.store.read(key, None).await {
                Ok(encrypted) => Some(encrypted),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            });
        }
        Ok(all)
    }
}
