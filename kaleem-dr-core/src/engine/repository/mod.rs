//! A restic-format repository: open or create it, lock it, save to it, read it back, keep it small and intact.
//!
//! Every method is async and runs rustic_core's blocking work on the runtime's blocking threads. This module and the artifact
//! pipe are the only boundaries between the two.

mod archive;
mod backend;
mod backpressure;
#[cfg(feature = "s3")]
mod bucket;
mod check;
mod commit;
mod contents;
mod copy;
mod crypto;
mod engine_error;
mod entries;
mod error;
mod feed;
mod file_reader;
mod forget;
mod indexed;
mod keep_slices;
mod keep_span;
mod key;
mod listing;
mod location;
mod lock;
mod make_room;
mod mended;
pub mod names;
mod object_key;
mod objects;
mod pack;
mod prepared;
mod progress_bars;
mod proof;
mod prune;
mod reach;
mod reader;
mod record;
mod repair;
mod retention;
mod save;
mod selector;
mod snapshot;
pub mod store;
mod survey;
mod tree_entry;
mod tree_threads;
mod whole_pack;

use self::{location::lay_out, progress_bars::Bars};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytesize::ByteSize;
use rustic_core::{
    ConfigOptions, Credentials, IndexedFullStatus, KeyOptions, OpenStatus, RepositoryBackends,
    RepositoryOptions, repofile::MasterKey,
};
use tokio::runtime::Handle;

#[cfg(feature = "s3")]
pub use self::bucket::{BucketReport, check_bucket, check_lifecycle};
#[cfg(feature = "operate")]
pub(crate) use self::copy::tags_for;
#[cfg(test)]
pub(crate) use self::snapshot::{snapshot_for_tests, snapshot_for_tests_with};
use self::{
    backend::{Backend, Gate},
    crypto::RepositoryKey,
    store::{AppendOnly, ObjectStore},
};
pub use self::{
    check::{CheckReport, ReadData, Remedy},
    copy::{ChunkerParams, CopiedSnapshot, CopyFailure, CopyOptions, CopyReport},
    entries::{EntryWalk, TreeEntry, TreeEntryKind},
    error::{HostNewest, RepositoryError},
    file_reader::FileReader,
    forget::{Rewritten, may_be_forgotten},
    keep_span::{InvalidKeepSpan, KeepSpan},
    key::{DerivedKeys, KeyId, KeyInfo, KeyOwner, vet as vet_key},
    listing::{SnapshotListing, UnreadableSnapshot},
    location::{Access, Location},
    lock::{Lock, LockInfo, LockKind, LockVerdict},
    objects::{FileWalk, TreeFile},
    prune::{PruneOptions, PruneReport, Pruned, RepositoryStats},
    reader::SnapshotReader,
    record::{Record, RecordKind},
    repair::{IndexRepair, LostSnapshot, RepairedSnapshot, SnapshotRepair},
    retention::{ForgetGroup, ForgetReason, ForgetReport, Retention, RetentionScope},
    save::{SaveError, SaveOptions, Saved},
    selector::{Newest, PointSelector},
    snapshot::{
        INCOMPLETE_TAG, OWN_TAG, PINNED_TAG, Snapshot, SnapshotId, is_of_the_future, select,
    },
};
pub(crate) use self::{
    entries::in_order,
    indexed::IndexedPacks,
    objects::hashes_to_name,
    proof::{Depth, Proof},
    reader::{BlobPlace, pick, runs},
    tree_entry::go_mode,
};
use crate::{
    CancellationToken,
    ground::progress::{ProgressSink, Silent},
};

/// Options for a new repository.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct InitOptions {
    /// restic's format: 2 compresses, 1 is for restic before 0.14.
    pub version: u32,
    /// Size at which a data pack is complete, in bytes. Two or three are in memory while a snapshot is written.
    pub pack_bytes: u32,
}

impl Default for InitOptions {
    /// Format 2 and restic's packs of 16 MiB. rustic_core's own, 32 MiB that grow with the repository, let memory grow too.
    fn default() -> Self {
        Self { version: 2, pack_bytes: 16 << 20 }
    }
}

/// An open repository. Clones share it.
#[derive(Clone, Debug)]
pub struct Repository(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    key: RepositoryKey,
    /// The key file that the password opened.
    key_id: KeyId,
    id: String,
    version: u32,
    chunker: ChunkerParams,
    cache_directory: Option<PathBuf>,
    runtime: Handle,
    /// Read-only operations take no lock, and ignore the locks of others.
    is_lockless: bool,
}

impl Repository {
    /// Creates a repository and opens it. `version` is restic's: 2 compresses, 1 is for restic before 0.14.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`]; errors of the store.
    pub async fn init(access: &Access, version: u32) -> Result<Self, RepositoryError> {
        if let Some(path) = access.location.directory() {
            lay_out(path)?;
        }
        Self::init_in(
            access.location.store()?,
            access,
            InitOptions { version, ..InitOptions::default() },
        )
        .await
    }

    /// Like [`Repository::init`], but in a given store; the location in `access` is ignored.
    ///
    /// # Errors
    /// As [`Repository::init`].
    pub async fn init_in(
        store: Arc<dyn ObjectStore>,
        access: &Access,
        options: InitOptions,
    ) -> Result<Self, RepositoryError> {
        Self::make(store, access, options, None).await
    }

    /// Like [`Repository::init`], but cuts files in the same places as another repository: copies from it and direct saves then
    /// share their blobs.
    ///
    /// # Errors
    /// As [`Repository::init`].
    pub async fn init_like(
        access: &Access,
        version: u32,
        like: &Self,
    ) -> Result<Self, RepositoryError> {
        if let Some(path) = access.location.directory() {
            lay_out(path)?;
        }
        let options = InitOptions { version, ..InitOptions::default() };
        Self::make(access.location.store()?, access, options, Some(like.0.chunker.clone())).await
    }

    async fn make(
        store: Arc<dyn ObjectStore>,
        access: &Access,
        InitOptions { version, pack_bytes }: InitOptions,
        chunker: Option<ChunkerParams>,
    ) -> Result<Self, RepositoryError> {
        if store.size("config").await?.is_some() {
            return Err(RepositoryError::AlreadyExists { location: store.location() });
        }
        let master = MasterKey::new();
        let (name, file) = {
            let (master, password) = (master.clone(), access.password.clone());
            blocking(move || key::key_file(&master, &password, &KeyOwner::here())).await?
        };
        // The key first, because the config makes the location a repository.
        store.write(&name, vec![file]).await?;
        let (runtime, backing) = (Handle::current(), store.clone());
        blocking(move || {
            let engine =
                unopened(backing, runtime, Gate::open(CancellationToken::new()), None, &silent())?;
            let (credentials, keys) = (Credentials::Masterkey(master), KeyOptions::default());
            let made = if let Some(chunker) = chunker {
                let mut config = chunker.config(version)?;
                config.datapack_size = Some(pack_bytes);
                config.datapack_growfactor = Some(0);
                engine.init_with_config(&credentials, &keys, config)
            } else {
                // Half of restic's largest blob: few are larger, and those determine how much memory is used (decision 8).
                let config = ConfigOptions::default()
                    .set_version(version)
                    .set_datapack_size(ByteSize(pack_bytes.into()))
                    .set_chunk_max_size(ByteSize::mib(4))
                    .set_datapack_growfactor(0_u32);
                engine.init(&credentials, &keys, &config)
            };
            made.map_err(RepositoryError::engine("initialise"))
        })
        .await?;
        Self::open_in(store, access).await
    }

    /// Opens a repository, created by us, restic or rustic.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`], [`RepositoryError::WrongPassword`]; errors of the store.
    pub async fn open(access: &Access) -> Result<Self, RepositoryError> {
        if let Some(path) = access.location.directory()
            && !path.join("config").exists()
        {
            return Err(RepositoryError::NotFound { location: path.display().to_string() });
        }
        Self::open_in(access.location.store()?, access).await
    }

    /// Like [`Repository::open`], but in a given store; the location in `access` is ignored.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn open_in(
        store: Arc<dyn ObjectStore>,
        access: &Access,
    ) -> Result<Self, RepositoryError> {
        let store: Arc<dyn ObjectStore> =
            if access.append_only { Arc::new(AppendOnly::new(store)) } else { store };
        if store.size("config").await?.is_none() {
            return Err(RepositoryError::NotFound { location: store.location() });
        }
        let (master, key_id) =
            key::open_with(&store, &access.password, &access.derived_keys).await?;
        let (runtime, backing) = (Handle::current(), store.clone());
        let (key, id, version, chunker) = blocking(move || {
            let engine =
                unopened(backing, runtime, Gate::open(CancellationToken::new()), None, &silent())?;
            let engine = engine
                .open(&Credentials::Masterkey(master))
                .map_err(RepositoryError::engine("open"))?;
            let config = engine.config();
            let id = config.id.into_inner().to_hex().to_string();
            Ok((RepositoryKey::new(engine.key()), id, config.version, ChunkerParams::of(config)))
        })
        .await?;
        let runtime = Handle::current();
        let cache_directory = access.cache_directory.clone();
        Ok(Self(Arc::new(Inner {
            store,
            key,
            key_id,
            id,
            version,
            chunker,
            cache_directory,
            runtime,
            is_lockless: false,
        })))
    }

    /// The repository's id: 64 hex digits, the same in every mirror of it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The key that the password opened.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.0.key_id
    }

    /// Format version, 1 or 2.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.version
    }

    /// The location as text, without credentials.
    #[must_use]
    pub fn location(&self) -> String {
        self.0.store.location()
    }

    /// Reports whether this host only adds to the repository.
    #[must_use]
    pub fn is_append_only(&self) -> bool {
        self.0.store.keeps_everything()
    }

    /// The refusal of work that deletes, by a host that only adds.
    fn refuse_if_append_only(&self, work: &str) -> Result<(), RepositoryError> {
        if !self.is_append_only() {
            return Ok(());
        }
        Err(RepositoryError::Guarded(format!(
            "this host only adds to {} (`append_only = true` in the config), so it cannot {work}; run this on the host that forgets and prunes",
            self.location()
        )))
    }

    /// The same repository, without its cache.
    fn without_cache(&self) -> Self {
        Self(Arc::new(Inner { cache_directory: None, ..(*self.0).clone() }))
    }

    /// The same repository, for an operator who knows that no program prunes it: [`Repository::lock_to_read`] takes no lock and
    /// ignores those of others.
    #[must_use]
    pub fn without_locks(&self) -> Self {
        Self(Arc::new(Inner { is_lockless: true, ..(*self.0).clone() }))
    }

    /// rustic_core's repository behind a gate. Blocking.
    fn engine(
        &self,
        gate: Arc<Gate>,
        progress: &Arc<dyn ProgressSink>,
    ) -> Result<rustic_core::Repository<OpenStatus>, RepositoryError> {
        let inner = &self.0;
        unopened(
            inner.store.clone(),
            inner.runtime.clone(),
            gate,
            inner.cache_directory.as_deref(),
            progress,
        )?
        .open(&Credentials::Masterkey(inner.key.master()))
        .map_err(RepositoryError::engine("open"))
    }

    /// The same repository with its index in memory, 48 bytes per blob. Damaged index files are skipped with a warning: what only
    /// they name shows as lost where it is needed. Blocking.
    pub(crate) fn indexed(
        &self,
        gate: Arc<Gate>,
        progress: &Arc<dyn ProgressSink>,
    ) -> Result<rustic_core::Repository<IndexedFullStatus>, RepositoryError> {
        let failed = || RepositoryError::engine("read the index of");
        let error = match self.engine(gate.clone(), progress)?.to_indexed() {
            Ok(engine) => return Ok(engine),
            Err(error) => error,
        };
        if engine_error::store_error_kind(&error).is_some_and(|kind| !kind.is_loss()) {
            return Err(failed()(error));
        }
        let backend = Backend::new(self.0.store.clone(), self.0.runtime.clone(), gate.clone());
        let damaged = survey::damaged_indexes(&backend, &self.0.key).map_err(failed())?;
        if damaged.is_empty() {
            return Err(failed()(error));
        }
        for (id, why) in &damaged {
            tracing::warn!(index = %id.to_hex().as_str(), %why, "skipping a damaged index file; see `kaleem-dr check`");
        }
        gate.hide(damaged.into_iter().map(|(id, _)| id));
        self.engine(gate, progress)?.to_indexed().map_err(failed())
    }

    /// Runs a blocking operation under a lock and a cancellation; a lost lock or a cancellation closes the gate.
    async fn guarded<T: Send + 'static>(
        &self,
        lock: &Lock,
        cancel: &CancellationToken,
        work: impl FnOnce(Self, Arc<Gate>) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let stop = cancel.child_token();
        let gate = Gate::under(lock, stop.clone());
        let repository = self.clone();
        let lost = lock.lost();
        let work = blocking(move || work(repository, gate));
        tokio::pin!(work);
        let result = tokio::select! {
            result = &mut work => result,
            () = lost.cancelled() => {
                stop.cancel();
                work.await
            }
        };
        match result {
            Err(_) if cancel.is_cancelled() => Err(RepositoryError::Cancelled),
            Err(_) if lock.lost().is_cancelled() => {
                lock.confirm().await.and(Err(RepositoryError::Cancelled))
            }
            result => result,
        }
    }
}

/// Writes the file of a snapshot, whose content need not exist.
#[cfg(test)]
pub(crate) async fn publish_for_tests(repository: &Repository, snapshot: &Snapshot, lock: &Lock) {
    commit::publish(repository, &snapshot.file, lock).await.unwrap();
}

fn silent() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}

/// Runs blocking work outside the runtime's workers. A panic in it (rustic_core has a few) becomes an error.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, RepositoryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            let cause = match error.try_into_panic() {
                Ok(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    text.or_else(|| panic.downcast_ref::<&str>().copied())
                        .unwrap_or("it panicked")
                        .to_owned()
                }
                Err(error) => error.to_string(),
            };
            Err(RepositoryError::Engine { action: "work on", cause: cause.into() })
        }
    }
}

fn unopened(
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    gate: Arc<Gate>,
    cache_directory: Option<&Path>,
    progress: &Arc<dyn ProgressSink>,
) -> Result<rustic_core::Repository<()>, RepositoryError> {
    let options = match cache_directory {
        Some(directory) => RepositoryOptions::default().cache_dir(directory.to_path_buf()),
        None => RepositoryOptions::default().no_cache(true),
    };
    let backends = RepositoryBackends::new(Arc::new(Backend::new(store, runtime, gate)), None);
    rustic_core::Repository::new_with_progress(&options, &backends, Bars(progress.clone()))
        .map_err(RepositoryError::engine("reach"))
}

#[cfg(feature = "fuzzing")]
pub(crate) use self::{key::fuzz_key_file, lock::fuzz_lock};
