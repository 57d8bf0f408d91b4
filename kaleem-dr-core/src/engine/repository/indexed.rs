//! The packs named by a set of index files: of this repository, or of a mirror of it, which is encrypted with the same key.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use super::{Repository, RepositoryError, blocking, store::ObjectStore};

/// Index files read at once.
const AT_ONCE: usize = 8;

/// The packs that index files name.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexedPacks {
    /// Those with blobs in use, by their names.
    pub(crate) live: HashSet<String>,
    /// Those that a later prune deletes.
    pub(crate) marked: HashSet<String>,
}

impl IndexedPacks {
    /// Reports whether an index file names this pack.
    pub(crate) fn names(&self, pack: &str) -> bool {
        self.live.contains(pack) || self.marked.contains(pack)
    }
}

/// An index file, as far as packs go (restic, `doc/design.rst`, "Indexing"; `packs_to_delete` is rustic's).
#[derive(Deserialize)]
struct IndexFile {
    #[serde(default)]
    packs: Vec<IndexPack>,
    #[serde(default)]
    packs_to_delete: Vec<IndexPack>,
}

#[derive(Deserialize)]
struct IndexPack {
    id: String,
}

impl Repository {
    /// The packs that these index files name; `keys` are those of objects in `store`.
    ///
    /// # Errors
    /// [`RepositoryError::Damaged`] with the name of an index file that cannot be decrypted or parsed; errors of the store.
    pub(crate) async fn indexed_packs(
        &self,
        store: &dyn ObjectStore,
        keys: Vec<String>,
    ) -> Result<IndexedPacks, RepositoryError> {
        let mut reads = futures::stream::iter(keys)
            .map(|key| async move {
                let encrypted = store.read(&key, None).await?;
                let repository_key = self.0.key.clone();
                blocking(move || {
                    let damaged =
                        |why: String| RepositoryError::Damaged { object: key.clone(), why };
                    let json = repository_key
                        .decrypt_file(&encrypted)
                        .map_err(|error| damaged(error.to_string()))?;
                    serde_json::from_slice::<IndexFile>(&json)
                        .map_err(|error| damaged(error.to_string()))
                })
                .await
            })
            .buffer_unordered(AT_ONCE);
        let mut found = IndexedPacks::default();
        while let Some(index) = reads.try_next().await? {
            found.live.extend(index.packs.into_iter().map(|pack| pack.id));
            found.marked.extend(index.packs_to_delete.into_iter().map(|pack| pack.id));
        }
        Ok(found)
    }
}
