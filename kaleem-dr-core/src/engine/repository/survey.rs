//! Compares the index files with the existing packs, by name and length.
//!
//! The index is read before the packs are listed: a writer writes packs before the index that names them, so every pack in an
//! index read earlier must be in the listing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use rustic_core::{
    Id,
    repofile::{IndexFile, IndexPack},
};

use super::{
    Repository, RepositoryError, blocking, crypto::RepositoryKey, lock::Lock, mended::Mended,
    names, object_key,
};
use crate::{CancellationToken, ground::digest::ByteDigest};

/// Number of index files read in parallel.
const AT_ONCE: usize = 8;

/// The state of the packs.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// All readable index files, by key, with the packs that they name.
    pub(crate) files: BTreeMap<String, Vec<Id>>,
    /// Index files that cannot be read: key, and reason.
    pub(crate) damaged: Vec<(String, String)>,
    /// All packs that an index file names.
    pub(crate) packs: HashMap<Id, Indexed>,
    /// Those of them that do not exist as the index describes them.
    pub(crate) lost: BTreeMap<Id, Loss>,
    /// Existing packs that no index file names, with their sizes in bytes.
    pub(crate) unindexed: BTreeMap<Id, u64>,
}

/// The index entry of a pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexed {
    pub(crate) size_bytes: u32,
    /// True if it is marked for deletion: no snapshot needed it.
    pub(crate) is_marked: bool,
}

/// The way in which a pack is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Missing,
    /// Its length is `.0`, but `.1` according to the index.
    Length(u64, u32),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it does not exist"),
            Self::Length(found, expected) => {
                write!(f, "it is {found} bytes long, and {expected} by the index")
            }
        }
    }
}

impl Repository {
    /// Reads every index file, then lists the packs.
    ///
    /// # Errors
    /// If either cannot be listed or the store fails. Damage is in the survey.
    pub(crate) async fn survey(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Survey, RepositoryError> {
        let store = &self.0.store;
        let mut survey = Survey::default();
        let listed = names::objects(&**store, "index").await?;
        let mut reads = futures::stream::iter(listed)
            .map(|object| async move {
                self.read_index(&object.key).await.map(|read| (object.key, read))
            })
            .buffer_unordered(AT_ONCE);
        while let Some((key, read)) = reads.try_next().await? {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            match read {
                Some(Ok(file)) => survey.add(key, &file),
                Some(Err(why)) => survey.damaged.push((key, why)),
                // It was removed after it was listed.
                None => {}
            }
        }
        drop(reads);
        let packs = names::objects(&**store, "data").await?;
        survey.compare(packs.into_iter().filter_map(|object| {
            Some((object_key::id_of(&object.key).parse().ok()?, object.size_bytes))
        }));
        Ok(survey)
    }

    /// Reads an index file: `None` if it no longer exists; the inner error describes damage.
    pub(crate) async fn read_index(
        &self,
        key: &str,
    ) -> Result<Option<Result<IndexFile, String>>, RepositoryError> {
        let encrypted = match self.0.store.read(key, None).await {
            Ok(encrypted) => encrypted,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (key, name) = (self.0.key.clone(), key.to_owned());
        blocking(move || Ok(Some(open_index(&key, &name, &encrypted)))).await
    }

    /// Before a capture, removes lost packs from the index, so that their blobs are stored again, as after restic's
    /// `repair index`. Runs once per lock, because the packs found under the lock stay.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] if every pack is lost: more likely, a disk is not mounted.
    pub(crate) async fn mended(
        &self,
        lock: &Lock,
        cancel: &CancellationToken,
    ) -> Result<Mended, RepositoryError> {
        let shared = lock.shared();
        shared.mended.get_or_try_init(|| self.mend(lock, cancel)).await.cloned()
    }

    async fn mend(
        &self,
        lock: &Lock,
        cancel: &CancellationToken,
    ) -> Result<Mended, RepositoryError> {
        let survey = self.survey(cancel).await?;
        for (key, why) in &survey.damaged {
            tracing::warn!(%key, %why, "skipping a damaged index file; `kaleem-dr repair index` rebuilds it");
        }
        let damaged = survey
            .damaged
            .iter()
            .filter_map(|(key, _)| object_key::id_of(key).parse().ok())
            .collect();
        if !survey.lost.is_empty() {
            survey.guard(&self.location())?;
            tracing::warn!(
                packs = survey.lost.len(),
                "packs that the index names are lost; what this run needs of them is stored again; `kaleem-dr check` shows what else needs them"
            );
            self.drop_from_index(&survey, lock).await?;
        }
        let stored_bytes = survey.packs.values().map(|pack| u64::from(pack.size_bytes)).sum();
        Ok(Mended { damaged, stored_bytes })
    }

    /// Writes index files without the lost packs, then removes those that name them.
    pub(crate) async fn drop_from_index(
        &self,
        survey: &Survey,
        lock: &Lock,
    ) -> Result<(), RepositoryError> {
        let stale = survey
            .files
            .iter()
            .filter(|(_, packs)| packs.iter().any(|pack| survey.lost.contains_key(pack)));
        for (key, _) in stale {
            let Some(Ok(mut file)) = self.read_index(key).await? else { continue };
            let kept = |pack: &IndexPack| !survey.lost.contains_key(&pack.id.into_inner());
            file.packs.retain(kept);
            file.packs_to_delete.retain(kept);
            file.supersedes = None;
            self.replace_index(Some(file), std::slice::from_ref(key), lock).await?;
        }
        Ok(())
    }

    /// Writes an index file, then removes those that it replaces.
    pub(crate) async fn replace_index(
        &self,
        file: Option<IndexFile>,
        old: &[String],
        lock: &Lock,
    ) -> Result<(), RepositoryError> {
        if let Some(file) =
            file.filter(|file| !file.packs.is_empty() || !file.packs_to_delete.is_empty())
        {
            let (key, bytes) = self.encrypted_index(&file)?;
            self.0.store.write(&key, vec![bytes]).await?;
        }
        lock.confirm().await?;
        for key in old {
            self.0.store.delete(key).await?;
        }
        Ok(())
    }

    /// An index file, with its key.
    pub(crate) fn encrypted_index(
        &self,
        file: &IndexFile,
    ) -> Result<(String, Bytes), RepositoryError> {
        let json = serde_json::to_vec(file).map_err(|cause| RepositoryError::Engine {
            action: "write an index to",
            cause: cause.into(),
        })?;
        let encrypted = Bytes::from(self.0.key.encrypt_file(&json, self.0.version));
        Ok((format!("index/{}", ByteDigest::of(&encrypted)), encrypted))
    }
}

impl Survey {
    fn add(&mut self, key: String, file: &IndexFile) {
        let mut named = Vec::with_capacity(file.packs.len());
        let marked = file.packs_to_delete.iter().map(|pack| (pack, true));
        for (pack, is_marked) in file.packs.iter().map(|pack| (pack, false)).chain(marked) {
            let id = pack.id.into_inner();
            let size_bytes = pack.pack_size();
            named.push(id);
            self.packs
                .entry(id)
                .and_modify(|known| known.is_marked &= is_marked)
                .or_insert(Indexed { size_bytes, is_marked });
        }
        self.files.insert(key, named);
    }

    fn compare(&mut self, there: impl Iterator<Item = (Id, u64)>) {
        let mut seen = HashSet::new();
        for (id, size_bytes) in there {
            match self.packs.get(&id) {
                None => {
                    self.unindexed.insert(id, size_bytes);
                }
                Some(indexed) => {
                    seen.insert(id);
                    if u64::from(indexed.size_bytes) != size_bytes {
                        self.lost.insert(id, Loss::Length(size_bytes, indexed.size_bytes));
                    }
                }
            }
        }
        let missing = self.packs.keys().filter(|id| !seen.contains(*id));
        self.lost.extend(missing.map(|id| (*id, Loss::Missing)));
    }

    /// A repository without any of its packs is more likely to lack a disk than to have lost them: nothing may be written in its
    /// place.
    pub(crate) fn guard(&self, location: &str) -> Result<(), RepositoryError> {
        let missing = self.lost.values().filter(|loss| **loss == Loss::Missing).count();
        if missing > 0 && missing == self.packs.len() {
            return Err(RepositoryError::Guarded(format!(
                "none of the {missing} packs that the index of {location} names exists: is a disk not mounted below it? \
                 `kaleem-dr repair --from MIRROR --missing` brings lost packs back"
            )));
        }
        Ok(())
    }
}

/// The content of an index file.
pub(crate) fn open_index(
    repository_key: &RepositoryKey,
    key: &str,
    encrypted: &[u8],
) -> Result<IndexFile, String> {
    if encrypted.is_empty() {
        return Err("it is empty".into());
    }
    if ByteDigest::of(encrypted) != object_key::id_of(key) {
        return Err("its content does not hash to its name".into());
    }
    let plain = repository_key.decrypt_file(encrypted).map_err(|error| error.to_string())?;
    serde_json::from_slice(&plain).map_err(|error| format!("it is not an index file: {error}"))
}

/// Ids of unreadable index files, for an engine to skip. Blocking.
pub(crate) fn damaged_indexes(
    backend: &dyn rustic_core::ReadBackend,
    key: &RepositoryKey,
) -> Result<Vec<(Id, String)>, Box<rustic_core::RusticError>> {
    let mut damaged = Vec::new();
    for (id, _) in backend.list_with_size(rustic_core::FileType::Index)? {
        let why = match backend.read_full(rustic_core::FileType::Index, &id) {
            Ok(encrypted) => open_index(key, &id.to_hex(), &encrypted).err(),
            Err(error)
                if super::engine_error::store_error_kind(&error)
                    .is_some_and(super::store::StoreErrorKind::is_loss) =>
            {
                Some("its content does not hash to its name".into())
            }
            Err(error) => return Err(error),
        };
        damaged.extend(why.map(|why| (id, why)));
    }
    Ok(damaged)
}

/// The key of a pack.
pub(crate) fn pack_key(id: &Id) -> String {
    super::object_key::key_of(rustic_core::FileType::Pack, id)
}
