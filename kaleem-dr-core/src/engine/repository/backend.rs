//! The object store as rustic_core's back end, with the gate in between.
//!
//! rustic_core is blocking and calls from threads of its own; the store is async. Each call is spawned onto the runtime, and its
//! result received over a channel: this works on any thread, whereas `block_on` would panic on a worker of the runtime.

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    RepositoryError,
    backpressure::Backpressure,
    lock,
    lock::Lock,
    names::is_object_name,
    object_key::key_of,
    store::{ObjectStore, StoreError, StoreErrorKind},
};
use crate::ground::{digest::ByteDigest, error_chain, failpoint, failpoint::Step};

/// Before a deletion, our lock must have been seen within this time.
const LOCK_SEEN_WITHIN: Duration = Duration::from_secs(10);

/// Time that a running call may continue after a cancellation. In a store that responds, the operation then completes; one that
/// does not respond does not block the program.
const LAST_CALL: Duration = Duration::from_millis(500);

/// Decides which operations of rustic_core reach the store.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Once raised, every call fails: rustic_core has no cancellation and hides reader errors.
    pub(crate) poison: Arc<AtomicBool>,
    /// Snapshot files are kept back instead of being written.
    withhold: bool,
    /// Bytes written to the store: packs and index files.
    written: AtomicU64,
    /// Slows the reads of a capture while a pack is being written.
    backpressure: Option<Backpressure>,
    /// Confirmed before anything is removed.
    lock: Option<Arc<lock::Shared>>,
    /// Ids of damaged index files, which are hidden.
    hidden: Mutex<HashSet<Id>>,
    cancel: CancellationToken,
}

impl Gate {
    /// Everything passes until the operator cancels.
    pub(crate) fn open(cancel: CancellationToken) -> Arc<Self> {
        Arc::new(Self { cancel, ..Self::default() })
    }

    /// Everything passes until the operator cancels; deletions pass only while the lock is held.
    pub(crate) fn under(lock: &Lock, cancel: CancellationToken) -> Arc<Self> {
        Arc::new(Self { lock: Some(lock.shared()), cancel, ..Self::default() })
    }

    /// Hides these index files from now on.
    pub(crate) fn hide(&self, indexes: impl IntoIterator<Item = Id>) {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).extend(indexes);
    }

    fn hides(&self, id: &Id) -> bool {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Withholds snapshots; everything else passes.
    pub(crate) fn withholding(cancel: CancellationToken) -> Arc<Self> {
        Arc::new(Self { withhold: true, cancel, ..Self::default() })
    }

    /// The same for a capture, with backpressure on its reads.
    pub(crate) fn capturing(cancel: CancellationToken, backpressure: Backpressure) -> Arc<Self> {
        Arc::new(Self {
            withhold: true,
            backpressure: Some(backpressure),
            cancel,
            ..Self::default()
        })
    }

    /// Bytes written through this gate.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn check(&self) -> RusticResult<()> {
        if self.cancel.is_cancelled() {
            return Err(RusticError::new(ErrorKind::Other, "cancelled"));
        }
        if self.poison.load(Ordering::SeqCst) {
            return Err(RusticError::new(
                ErrorKind::Other,
                "the operation was given up after an earlier error",
            ));
        }
        Ok(())
    }
}

/// A store as rustic_core's back end.
#[derive(Clone)]
pub(crate) struct Backend {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    gate: Arc<Gate>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Backend {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, runtime: Handle, gate: Arc<Gate>) -> Self {
        Self { store, runtime, gate }
    }

    fn wait<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> RusticResult<T> {
        self.wait_for(call)?.map_err(backend_error)
    }

    fn wait_for<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> RusticResult<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let cancel = self.gate.cancel.clone();
        self.runtime.spawn(async move {
            let given_up = async {
                cancel.cancelled().await;
                tokio::time::sleep(LAST_CALL).await;
            };
            tokio::select! {
                // The waiting thread is gone only if it died, and then the result is not needed.
                result = call => drop(sender.send(result)),
                () = given_up => {}
            }
        });
        receiver.recv().map_err(|_| {
            RusticError::new(
                ErrorKind::Backend,
                "the call was given up: cancelled, or the async runtime has shut down",
            )
        })
    }

    /// A deletion cannot be undone: our lock must have been visible to others all the time.
    fn confirm_lock(&self) -> RusticResult<()> {
        let Some(lock) = self.gate.lock.clone() else { return Ok(()) };
        self.wait_for(async move { lock.confirm_within(LOCK_SEEN_WITHIN).await })?.map_err(
            |error| match error {
                RepositoryError::Store(error) => backend_error(error),
                lost => RusticError::new(ErrorKind::Other, error_chain(&lost)),
            },
        )
    }
}

fn backend_error(error: StoreError) -> Box<RusticError> {
    let said = error_chain(&error);
    RusticError::with_source(ErrorKind::Backend, said, error)
}

impl ReadBackend for Backend {
    fn location(&self) -> String {
        self.store.location()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.gate.check()?;
        let store = self.store.clone();
        if kind == FileType::Config {
            let size = self.wait(async move { store.size("config").await })?;
            return Ok(size.map(|size| (Id::default(), short(size))).into_iter().collect());
        }
        let directory = kind.dirname();
        let objects = self.wait(async move { store.list(directory).await })?;
        Ok(objects
            .iter()
            .filter_map(|object| {
                // Files of other programs are ignored.
                let id = is_object_name(&object.key)
                    .then(|| object.key.rsplit('/').next()?.parse::<Id>().ok())??;
                let shown = kind != FileType::Index || !self.gate.hides(&id);
                shown.then(|| (id, short(object.size_bytes)))
            })
            .collect())
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        self.gate.check()?;
        let (store, key) = (self.store.clone(), key_of(kind, id));
        let bytes = self.wait({
            let key = key.clone();
            async move { store.read(&key, None).await }
        })?;
        if kind != FileType::Config && ByteDigest::of(&bytes) != id.to_hex().as_str() {
            let error = StoreError::new(
                "read",
                &key,
                self.store.location(),
                false,
                "its content does not hash to its name",
            )
            .with_kind(StoreErrorKind::Short);
            return Err(backend_error(error));
        }
        Ok(bytes)
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        self.gate.check()?;
        let (store, key) = (self.store.clone(), key_of(kind, id));
        let range = u64::from(offset)..u64::from(offset) + u64::from(length);
        self.wait(async move { store.read(&key, Some(range)).await })
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        key_of(kind, id)
    }
}

impl WriteBackend for Backend {
    fn create(&self) -> RusticResult<()> {
        Ok(())
    }

    fn write_bytes(
        &self,
        kind: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        self.gate.check()?;
        if kind == FileType::Snapshot && self.gate.withhold {
            return Ok(());
        }
        let (store, key, size) = (self.store.clone(), key_of(kind, id), content.size());
        let _writing = self
            .gate
            .backpressure
            .as_ref()
            .filter(|_| kind == FileType::Pack)
            .map(|backpressure| backpressure.writing(size as u64));
        self.wait(async move {
            // It is used only once an index names it: the store makes it durable before it writes the index.
            if kind == FileType::Pack {
                store.write_deferred(&key, content.into_vec()).await
            } else {
                store.write(&key, content.into_vec()).await
            }
        })?;
        self.gate.written.fetch_add(size as u64, Ordering::Relaxed);
        match kind {
            FileType::Pack => failpoint::pass(Step::Pack),
            FileType::Index => failpoint::pass(Step::Index),
            _ => {}
        }
        Ok(())
    }

    fn remove(&self, kind: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        self.gate.check()?;
        self.confirm_lock()?;
        let (store, key) = (self.store.clone(), key_of(kind, id));
        self.wait(async move { store.delete(&key).await })?;
        match kind {
            FileType::Snapshot => failpoint::pass(Step::Forget),
            FileType::Pack | FileType::Index => failpoint::pass(Step::Prune),
            _ => {}
        }
        Ok(())
    }
}

/// Repository files are below 4 GiB by format; one that is not shows as damaged by its size.
fn short(size_bytes: u64) -> u32 {
    u32::try_from(size_bytes).unwrap_or(u32::MAX)
}
