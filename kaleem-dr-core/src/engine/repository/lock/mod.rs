//! restic's locks, which rustic_core neither writes nor honours.
//!
//! A lock is the object `locks/<SHA-256 of its bytes>`: encrypted JSON with time, kind, host, process and owner (restic,
//! `doc/design.rst`, "Locks"). Shared locks are compatible with each other; an exclusive one excludes all others. Ours are
//! renewed every five minutes. Without them, a `restic prune` from an old cron line deletes the packs that a running backup has
//! written.
//!
//! Another program's lock is removed automatically only if its holder is certainly dead ([`LockVerdict::Dead`]). For all others
//! we wait or refuse, as restic does; with `unlock` the operator declares them left over.

mod file;
mod judge;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::{file::LockVerdict, judge::LockInfo};
use self::{
    file::{LockFile, uptime},
    judge::refuse_others,
};
use super::{
    crypto::RepositoryKey,
    error::RepositoryError,
    mended::Mended,
    store::{ObjectStore, StoreError},
};
use crate::ground::digest::ByteDigest;

const DIRECTORY: &str = "locks";
/// A lock that was not renewed for this long is left over, by restic's rule.
const STALE_AFTER: Duration = Duration::from_mins(30);
const RENEW_EVERY: Duration = Duration::from_mins(5);
/// Time between writing a lock and checking for another one written in between (as in restic).
const SETTLE: Duration = Duration::from_millis(200);
/// Time between two checks while waiting for a lock.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Limit for the time that a dropped lock blocks its thread.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The kind of a lock, which determines the operations that others may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Others may also hold shared locks: backup, restore, check.
    Shared,
    /// No other lock: forget and prune.
    Exclusive,
}

/// The conditions under which an operation may begin although its lock could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    Never,
    /// If nothing can be written: the operation only reads.
    Writes,
    /// If the disk is full: the operation frees space.
    Room,
}

impl Without {
    fn allows(self, error: &StoreError) -> bool {
        match self {
            Self::Never => false,
            Self::Writes => error.takes_no_writes(),
            Self::Room => error.is_full(),
        }
    }
}

/// A lock that we hold. It is renewed until [`Lock::release`] removes it, as does a drop (after a panic).
#[derive(Debug)]
#[must_use = "the repository stays locked until the lock is released"]
pub struct Lock {
    shared: Arc<Shared>,
    renewal: Option<JoinHandle<()>>,
    released: bool,
}

/// The state shared by the lock, its renewal and the gates below it.
#[derive(Debug)]
pub(crate) struct Shared {
    store: Arc<dyn ObjectStore>,
    key: RepositoryKey,
    kind: LockKind,
    runtime: Handle,
    objects: tokio::sync::Mutex<Objects>,
    /// Cancelled when the lock is lost.
    lost: CancellationToken,
    /// Cancelled to stop the renewal.
    done: CancellationToken,
    /// Time at which it was last known to exist, in milliseconds since `began`.
    seen: AtomicU64,
    began: Instant,
    /// The damage found and repaired under this lock.
    pub(crate) mended: tokio::sync::OnceCell<Mended>,
}

/// The objects of one lock.
#[derive(Debug, Default)]
struct Objects {
    /// All names that may exist in the store, the current one last. Empty for an operation without a lock.
    names: Vec<String>,
    /// The earlier ones, if nothing can be deleted.
    ended: Vec<String>,
    /// Time at which the current one was written, by [`uptime`].
    written: Duration,
}

impl Lock {
    /// Acquires a lock. Removes locks of dead processes. Waits up to `patience` for other holders. If dropped while waiting, it
    /// leaves nothing behind.
    pub(crate) async fn acquire(
        store: Arc<dyn ObjectStore>,
        key: RepositoryKey,
        kind: LockKind,
        patience: Duration,
        without: Without,
    ) -> Result<Self, RepositoryError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match Self::try_acquire(&store, &key, kind).await {
                Err(RepositoryError::Locked { holder })
                    if tokio::time::Instant::now() < deadline =>
                {
                    tracing::info!(%holder, "waiting for the repository's lock");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(RepositoryError::Store(error)) if without.allows(&error) => {
                    refuse_others(&store, &key, kind, None).await?;
                    tracing::warn!(
                        error = %crate::ground::error_chain(&error),
                        "no lock can be written there; continuing without one: do not prune this repository in the meantime"
                    );
                    return Ok(Self::absent(store, key, kind));
                }
                result => return result,
            }
        }
    }

    async fn try_acquire(
        store: &Arc<dyn ObjectStore>,
        key: &RepositoryKey,
        kind: LockKind,
    ) -> Result<Self, RepositoryError> {
        refuse_others(store, key, kind, None).await?;
        let mut lock = Self::absent(store.clone(), key.clone(), kind);
        let refused = match lock.write_first().await {
            Ok(name) => {
                tokio::time::sleep(SETTLE).await;
                refuse_others(store, key, kind, Some(&name)).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = refused {
            // The reason for the refusal matters more than a failure to remove the lock.
            let removed = lock.release().await;
            if let Err(left) = removed
                && !matches!(error, RepositoryError::Store(_))
            {
                tracing::warn!(error = %crate::ground::error_chain(&left), "our lock could not be removed");
            }
            return Err(error);
        }
        lock.renewal = Some(tokio::spawn(renew(lock.shared.clone(), RENEW_EVERY)));
        Ok(lock)
    }

    /// In a task of its own, so that a caller that gives up the lock can wait for the end of the write and remove its result.
    async fn write_first(&self) -> Result<String, RepositoryError> {
        let shared = self.shared.clone();
        let writing = tokio::spawn(async move {
            let mut objects = shared.objects.lock().await;
            shared.write(&mut objects).await
        });
        writing
            .await
            .map_err(|panic| RepositoryError::Engine { action: "lock", cause: panic.into() })?
    }

    /// Work without a lock in the store.
    pub(crate) fn absent(store: Arc<dyn ObjectStore>, key: RepositoryKey, kind: LockKind) -> Self {
        let shared = Shared {
            store,
            key,
            kind,
            runtime: Handle::current(),
            objects: tokio::sync::Mutex::default(),
            lost: CancellationToken::new(),
            done: CancellationToken::new(),
            seen: AtomicU64::new(0),
            began: Instant::now(),
            mended: tokio::sync::OnceCell::new(),
        };
        Self { shared: Arc::new(shared), renewal: None, released: false }
    }

    /// Reports whether others can see the lock; without one, operations only read, or free space.
    pub async fn is_written(&self) -> bool {
        !self.shared.objects.lock().await.names.is_empty()
    }

    /// Resolves when the lock is lost.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.shared.lost.clone()
    }

    /// The state that a gate checks before it allows a deletion.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Confirms that the lock still exists. Must be called before anything that other programs must consider safe.
    pub(crate) async fn confirm(&self) -> Result<(), RepositoryError> {
        self.shared.confirm().await
    }

    /// Removes the lock. Waits for a renewal in progress, so that none is left behind.
    ///
    /// # Errors
    /// If the object cannot be removed: `unlock` can do this later.
    pub async fn release(mut self) -> Result<(), RepositoryError> {
        self.shared.done.cancel();
        if let Some(renewal) = &mut self.renewal {
            // It can only fail by a panic, which has been reported.
            let _ = renewal.await;
        }
        let removed = self.shared.remove_all().await;
        self.released = true;
        removed
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // Reached after a panic, an early return or a dropped future. A thread of its own may block on the runtime; this one may
        // be a worker of it.
        let (shared, renewal) = (self.shared.clone(), self.renewal.take());
        let removal = std::thread::spawn(move || {
            // Cancelled here and not on the thread that drops: a worker of the runtime would queue the renewal behind itself,
            // where no other worker can take it while this one waits for us.
            shared.done.cancel();
            let runtime = shared.runtime.clone();
            let removal = async move {
                if let Some(renewal) = renewal {
                    let _ = renewal.await;
                }
                shared.remove_all().await
            };
            // The time-out must be created within the runtime, because it needs its clock.
            runtime.block_on(async { tokio::time::timeout(LAST_WORDS, removal).await })
        });
        if !matches!(removal.join(), Ok(Ok(Ok(())))) {
            tracing::warn!(
                "the repository's lock could not be removed; `kaleem-dr unlock` does so"
            );
        }
    }
}

impl Shared {
    /// Rewrites the lock. Its name is known before it is written, so that the result of an interrupted write can be removed.
    async fn write(&self, objects: &mut Objects) -> Result<String, RepositoryError> {
        let written = uptime().unwrap_or_default();
        let name = self.write_as(objects, LockFile::ours(self.kind)).await?;
        objects.written = written;
        self.note();
        Ok(name)
    }

    /// If nothing can be deleted, the written lock ends all earlier ones.
    async fn write_as(
        &self,
        objects: &mut Objects,
        mut lock: LockFile,
    ) -> Result<String, RepositoryError> {
        if self.store.keeps_everything() {
            lock.append_only = true;
            lock.ends.clone_from(&objects.ended);
            lock.ends.extend(objects.names.iter().cloned());
        }
        let json = serde_json::to_vec(&lock)
            .map_err(|cause| RepositoryError::Engine { action: "lock", cause: cause.into() })?;
        let encrypted = self.key.encrypt(&json);
        let name = format!("{DIRECTORY}/{}", ByteDigest::of(&encrypted));
        // Inserted before the current one, which stays current if this fails.
        objects.names.insert(objects.names.len().saturating_sub(1), name.clone());
        self.store.write(&name, vec![Bytes::from(encrypted)]).await?;
        objects.names.retain(|other| *other != name);
        objects.names.push(name.clone());
        objects.ended = lock.ends;
        Ok(name)
    }

    /// Confirms that the lock exists, unless this was confirmed within `recently`.
    pub(crate) async fn confirm_within(&self, recently: Duration) -> Result<(), RepositoryError> {
        let seen = Duration::from_millis(self.seen.load(Ordering::Relaxed));
        if !self.lost.is_cancelled() && self.began.elapsed().saturating_sub(seen) <= recently {
            return Ok(());
        }
        self.confirm().await
    }

    async fn confirm(&self) -> Result<(), RepositoryError> {
        let objects = self.objects.lock().await;
        let Some(name) = objects.names.last() else { return Ok(()) };
        if self.lost.is_cancelled() || self.store.size(name).await?.is_none() {
            self.lost.cancel();
            return Err(RepositoryError::LockLost {
                why: "it was removed from the repository".into(),
            });
        }
        if objects.is_overdue() {
            self.lost.cancel();
            return Err(RepositoryError::LockLost {
                why: "it could not be renewed in time".into(),
            });
        }
        self.note();
        Ok(())
    }

    fn note(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.store(now, Ordering::Relaxed);
    }

    /// Removes every object of the lock. A remaining lock blocks all other programs, so this is retried.
    async fn remove_all(&self) -> Result<(), RepositoryError> {
        let mut objects = self.objects.lock().await;
        if self.store.keeps_everything() && !objects.names.is_empty() {
            let mut end = LockFile::ours(self.kind);
            end.is_end = true;
            self.write_as(&mut objects, end).await?;
        }
        let mut tries = 3;
        while let Some(name) = objects.names.last() {
            match self.store.delete(name).await {
                Ok(()) => {
                    objects.names.pop();
                    continue;
                }
                Err(error) if tries == 0 || error.takes_no_writes() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "the repository's lock could not be removed; trying again");
                }
            }
            tries -= 1;
            tokio::time::sleep(SETTLE).await;
        }
        Ok(())
    }
}

impl Objects {
    /// Reports whether others may consider it left over by now. The clock may be set; the uptime also counts the time that a
    /// machine was suspended.
    fn is_overdue(&self) -> bool {
        uptime().is_some_and(|now| now.saturating_sub(self.written) > STALE_AFTER)
    }
}

async fn renew(shared: Arc<Shared>, every: Duration) {
    loop {
        tokio::select! {
            () = shared.done.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        // Not interrupted from here on: a release of the lock waits for it.
        let mut objects = shared.objects.lock().await;
        let Some(current) = objects.names.last().cloned() else { return };
        // The process was frozen for too long, or `restic unlock --remove-all` removed the lock: a prune may be running by now.
        let gone = matches!(shared.store.size(&current).await, Ok(None));
        if gone || objects.is_overdue() {
            tracing::error!("the repository's lock was lost; the operation is given up");
            shared.lost.cancel();
            return;
        }
        if let Err(error) = shared.write(&mut objects).await {
            tracing::warn!(error = %crate::ground::error_chain(&error), "the repository's lock could not be renewed; trying again");
        }
        // All except the newest, including earlier ones that could not be removed at their time.
        let mut old = objects.names.clone();
        old.pop();
        for name in old {
            match shared.store.delete(&name).await {
                Ok(()) => objects.names.retain(|other| *other != name),
                Err(error) => {
                    tracing::warn!(%error, "an old lock could not be removed; trying again");
                }
            }
        }
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_lock(bytes: &[u8]) {
    if let Ok(lock) = file::parse(bytes) {
        let _ = (lock.verdict(), lock.describe());
    }
}

#[cfg(test)]
mod tests;
