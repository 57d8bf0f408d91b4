//! restic's locks, which rustic_core neither writes nor honours.
//!
//! A lock is the object `locks/<SHA-256 of its bytes>`: sealed JSON with time, kind, host, process and owner (restic,
//! `doc/design.rst`, "Locks"). Shared locks stand beside each other; an exclusive one stands alone. A lock is stale when it
//! is older than 30 minutes, or its process is gone from this host; ours are renewed every five minutes. Without them, a
//! `restic prune` from an old cron line deletes the packs a running backup has written.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nix::{errno::Errno, sys::signal, unistd};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{error::RepositoryError, seal::SealKey, store::ObjectStore};
use crate::{digest::ByteDigest, host};

const DIRECTORY: &str = "locks";
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(30);
const RENEW_EVERY: Duration = Duration::from_mins(5);
/// Between writing a lock and looking again whether another came in between (restic waits the same).
const SETTLE: Duration = Duration::from_millis(200);

/// What a lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Others may hold shared locks too: backup, restore, check.
    Shared,
    /// Nobody else: forget and prune.
    Exclusive,
}

/// A lock as it lies in a repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LockFile {
    #[serde(with = "restic_time")]
    time: Timestamp,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

/// restic writes local times with an offset; any RFC 3339 time is read.
mod restic_time {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&time.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl LockFile {
    fn ours(kind: LockKind) -> Self {
        Self {
            time: Timestamp::now(),
            exclusive: kind == LockKind::Exclusive,
            hostname: host::name(),
            username: host::user(),
            pid: unistd::Pid::this().as_raw(),
            uid: unistd::getuid().as_raw(),
            gid: unistd::getgid().as_raw(),
        }
    }

    fn is_stale(&self) -> bool {
        if Timestamp::now().duration_since(self.time) > STALE_AFTER {
            return true;
        }
        // A process of another user answers EPERM: it lives.
        self.hostname == host::name() && self.pid > 0 && signal::kill(unistd::Pid::from_raw(self.pid), None) == Err(Errno::ESRCH)
    }

    fn describe(&self) -> String {
        let age = Timestamp::now().duration_since(self.time).as_secs().max(0);
        format!(
            "process {} of {}@{}, {} since {age} s",
            self.pid,
            self.username,
            self.hostname,
            if self.exclusive { "exclusively" } else { "shared" }
        )
    }
}

/// A lock that stands in a repository, whoever holds it.
#[derive(Clone, Debug, Serialize)]
pub struct StandingLock {
    /// Its host.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Whether it allows nobody else.
    pub is_exclusive: bool,
    /// When it was taken or last renewed.
    pub time: Timestamp,
    /// Whether its process is gone, or has not renewed it for half an hour.
    pub is_stale: bool,
    /// All of that in words.
    pub holder: String,
}

/// Reads every lock, and touches none.
pub(super) async fn standing(store: &Arc<dyn ObjectStore>, key: &SealKey) -> Result<Vec<StandingLock>, RepositoryError> {
    let mut standing = Vec::new();
    for object in list(store).await? {
        if let Some(lock) = read(store, key, &object).await? {
            standing.push(StandingLock {
                host: lock.hostname.clone(),
                pid: lock.pid,
                is_exclusive: lock.exclusive,
                time: lock.time,
                is_stale: lock.is_stale(),
                holder: lock.describe(),
            });
        }
    }
    Ok(standing)
}

/// A lock that we hold. It is renewed while it lives; [`Lock::release`] removes it, and so does a drop (on panic).
#[derive(Debug)]
#[must_use = "the repository stays locked until the lock is released"]
pub struct Lock {
    shared: Arc<Shared>,
    renewal: JoinHandle<()>,
    released: bool,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn ObjectStore>,
    key: SealKey,
    kind: LockKind,
    runtime: Handle,
    current: tokio::sync::Mutex<Held>,
    lost: CancellationToken,
}

#[derive(Debug)]
struct Held {
    name: String,
    time: Timestamp,
}

impl Lock {
    /// Takes a lock. Stale locks of others are removed on the way. With `patience`, waits that long for others to end.
    pub(crate) async fn acquire(
        store: Arc<dyn ObjectStore>,
        key: SealKey,
        kind: LockKind,
        patience: Duration,
    ) -> Result<Self, RepositoryError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match Self::try_acquire(&store, &key, kind).await {
                Ok(held) => {
                    let shared = Arc::new(Shared {
                        store,
                        key,
                        kind,
                        runtime: Handle::current(),
                        current: tokio::sync::Mutex::new(held),
                        lost: CancellationToken::new(),
                    });
                    let renewal = tokio::spawn(renew(shared.clone()));
                    return Ok(Self { shared, renewal, released: false });
                }
                Err(RepositoryError::Locked { holder }) if tokio::time::Instant::now() < deadline => {
                    tracing::info!(%holder, "waiting for the repository's lock");
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_acquire(store: &Arc<dyn ObjectStore>, key: &SealKey, kind: LockKind) -> Result<Held, RepositoryError> {
        refuse_others(store, key, kind, None).await?;
        let held = write(store, key, kind).await?;
        tokio::time::sleep(SETTLE).await;
        if let Err(error) = refuse_others(store, key, kind, Some(&held.name)).await {
            remove(store, &held.name).await?;
            return Err(error);
        }
        Ok(held)
    }

    /// Resolves when the lock is lost.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.shared.lost.clone()
    }

    /// Proves that the lock still stands: to be asked before anything that others must see as safe.
    pub(crate) async fn confirm(&self) -> Result<(), RepositoryError> {
        let held = self.shared.current.lock().await;
        if self.shared.lost.is_cancelled() || self.shared.store.size(&held.name).await?.is_none() {
            return Err(RepositoryError::LockLost { why: "it was removed from the repository".into() });
        }
        if Timestamp::now().duration_since(held.time) > STALE_AFTER {
            return Err(RepositoryError::LockLost { why: "it could not be renewed in time".into() });
        }
        Ok(())
    }

    /// Removes the lock.
    ///
    /// # Errors
    /// When the object cannot be removed; it then goes stale in 30 minutes, or at once on this host when we end.
    pub async fn release(mut self) -> Result<(), RepositoryError> {
        self.released = true;
        self.renewal.abort();
        let held = self.shared.current.lock().await;
        remove(&self.shared.store, &held.name).await
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.released {
            return;
        }
        // Reached on a panic or an early return. A thread of its own may block on the runtime; this one may be a worker of it.
        let shared = self.shared.clone();
        let removal = std::thread::spawn(move || {
            shared.runtime.clone().block_on(async move {
                let held = shared.current.lock().await;
                tokio::time::timeout(Duration::from_secs(10), shared.store.delete(&held.name)).await
            })
        });
        if !matches!(removal.join(), Ok(Ok(Ok(())))) {
            tracing::warn!("the repository's lock could not be removed; it goes stale by itself");
        }
    }
}

/// A lock that stays is in everybody's way for half an hour, so this is worth more than one try.
async fn remove(store: &Arc<dyn ObjectStore>, name: &str) -> Result<(), RepositoryError> {
    let mut tries = 3;
    loop {
        match store.delete(name).await {
            Ok(()) => return Ok(()),
            Err(error) if tries == 0 => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "the repository's lock could not be removed; trying again"),
        }
        tries -= 1;
        tokio::time::sleep(SETTLE).await;
    }
}

async fn write(store: &Arc<dyn ObjectStore>, key: &SealKey, kind: LockKind) -> Result<Held, RepositoryError> {
    let lock = LockFile::ours(kind);
    let json = serde_json::to_vec(&lock).map_err(|cause| RepositoryError::Engine { action: "lock", cause: cause.into() })?;
    let sealed = key.seal(&json);
    let name = format!("{DIRECTORY}/{}", ByteDigest::of(&sealed));
    store.write(&name, vec![Bytes::from(sealed)]).await?;
    Ok(Held { name, time: lock.time })
}

/// Fails when a lock that is not `own` forbids `kind`; removes those that are stale.
async fn refuse_others(
    store: &Arc<dyn ObjectStore>,
    key: &SealKey,
    kind: LockKind,
    own: Option<&str>,
) -> Result<(), RepositoryError> {
    for object in list(store).await? {
        if own == Some(object.as_str()) {
            continue;
        }
        let Some(lock) = read(store, key, &object).await? else { continue };
        if lock.is_stale() {
            tracing::info!(lock = %lock.describe(), "removing a stale lock");
            store.delete(&object).await?;
        } else if lock.exclusive || kind == LockKind::Exclusive {
            return Err(RepositoryError::Locked { holder: lock.describe() });
        }
    }
    Ok(())
}

/// Reads a lock; `None` when its holder removed or renewed it while we looked.
async fn read(store: &Arc<dyn ObjectStore>, key: &SealKey, object: &str) -> Result<Option<LockFile>, RepositoryError> {
    let sealed = match store.read(object, None).await {
        Ok(sealed) => sealed,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let damaged = |why: String| RepositoryError::Damaged { object: object.to_owned(), why };
    let json = key.open_file(&sealed).map_err(|error| damaged(error.to_string()))?;
    serde_json::from_slice(&json).map(Some).map_err(|error| damaged(error.to_string()))
}

async fn list(store: &Arc<dyn ObjectStore>) -> Result<Vec<String>, RepositoryError> {
    match store.list(DIRECTORY).await {
        Ok(objects) => Ok(objects.into_iter().map(|object| object.key).collect()),
        // A repository that another tool made may have no such directory until its first lock.
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

async fn renew(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let mut held = shared.current.lock().await;
        // Frozen past its life, or removed by `restic unlock --remove-all`: somebody may be pruning by now.
        let gone = matches!(shared.store.size(&held.name).await, Ok(None));
        if gone || Timestamp::now().duration_since(held.time) > STALE_AFTER {
            tracing::error!("the repository's lock was lost; the operation is given up");
            shared.lost.cancel();
            return;
        }
        match write(&shared.store, &shared.key, shared.kind).await {
            Ok(renewed) => {
                let old = std::mem::replace(&mut *held, renewed);
                if let Err(error) = shared.store.delete(&old.name).await {
                    tracing::warn!(%error, "the old lock could not be removed");
                }
            }
            Err(error) => tracing::warn!(%error, "the repository's lock could not be renewed; trying again"),
        }
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_lock(bytes: &[u8]) {
    if let Ok(lock) = serde_json::from_slice::<LockFile>(bytes) {
        let _ = (lock.is_stale(), lock.describe());
    }
}
