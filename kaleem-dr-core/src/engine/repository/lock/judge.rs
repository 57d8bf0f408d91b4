//! Lists, judges and removes the locks in a repository, including those of other programs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    super::{Repository, RepositoryError, crypto::RepositoryKey, names, store::ObjectStore},
    DIRECTORY, Lock, LockKind, STALE_AFTER, Without,
    file::{LockFile, LockVerdict, parse},
};

/// A lock in a repository, ours or another program's.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LockInfo {
    /// Key of its object in the store.
    pub object: String,
    /// Host of the holder, as the lock names it.
    pub host: String,
    /// User of the holder, as the lock names it.
    pub user: String,
    /// Process id of the holder.
    pub pid: i32,
    /// True if it excludes all other locks.
    pub is_exclusive: bool,
    /// Time at which it was acquired or last renewed, by its holder's clock; `None` if it cannot be read.
    pub time: Option<Timestamp>,
    /// Age in seconds, by the store's clock; `None` if unknown.
    pub age_seconds: Option<i64>,
    /// The state of its holder.
    pub verdict: LockVerdict,
    /// True if it is left over: its holder is dead, or has not renewed it for half an hour by the store's clock.
    pub is_stale: bool,
    /// A description of the holder.
    pub holder: String,
}

impl LockInfo {
    /// `now` is the store's time.
    fn of(found: Found, now: Option<Timestamp>) -> Self {
        let age = found.modified.zip(now).map(|(written, now)| now.duration_since(written));
        let is_old = age.is_some_and(is_old);
        let (verdict, holder) = (found.verdict(), found.describe());
        let age_seconds = age.map(|age| age.as_secs().max(0));
        let (object, is_stale) = (
            found.object,
            verdict == LockVerdict::Dead || (verdict != LockVerdict::Running && is_old),
        );
        match found.content {
            Ok(lock) => Self {
                object,
                host: lock.hostname,
                user: lock.username,
                pid: lock.pid,
                is_exclusive: lock.exclusive,
                time: Some(lock.time),
                age_seconds,
                verdict,
                is_stale,
                holder,
            },
            Err(_) => Self {
                object,
                host: String::new(),
                user: String::new(),
                pid: 0,
                is_exclusive: false,
                time: None,
                age_seconds,
                verdict,
                is_stale,
                holder,
            },
        }
    }
}

/// A lock as it was found.
struct Found {
    object: String,
    modified: Option<Timestamp>,
    content: Result<LockFile, String>,
    /// Its holder could not delete it, and has written that it is over.
    is_over: bool,
}

impl Found {
    fn verdict(&self) -> LockVerdict {
        if self.is_over {
            return LockVerdict::Dead;
        }
        self.content.as_ref().map_or(LockVerdict::Unreadable, LockFile::verdict)
    }

    /// Reports whether its holder cannot delete it, so that it expires.
    fn expires(&self) -> bool {
        self.content.as_ref().is_ok_and(|lock| lock.append_only)
    }

    fn describe(&self) -> String {
        match &self.content {
            Ok(lock) => lock.describe(),
            Err(why) => format!("{}, which cannot be read: {why}", self.object),
        }
    }
}

fn is_old(age: SignedDuration) -> bool {
    Duration::try_from(age).is_ok_and(|age| age > STALE_AFTER)
}

impl Repository {
    /// Acquires one of restic's locks; waits up to `patience` for other holders.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`] with the holder.
    pub async fn lock(&self, kind: LockKind, patience: Duration) -> Result<Lock, RepositoryError> {
        if kind == LockKind::Exclusive {
            self.refuse_if_append_only("delete anything")?;
        }
        Lock::acquire(self.0.store.clone(), self.0.key.clone(), kind, patience, Without::Never)
            .await
    }

    /// Acquires a shared lock for an operation that only reads. If none can be written (a read-only mount, a key with read access
    /// only, a full disk), it warns and continues without one, unless an exclusive lock exists.
    ///
    /// # Errors
    /// As [`Repository::lock`].
    pub async fn lock_to_read(&self, patience: Duration) -> Result<Lock, RepositoryError> {
        if self.0.is_lockless {
            return Ok(self.absent_lock());
        }
        Lock::acquire(
            self.0.store.clone(),
            self.0.key.clone(),
            LockKind::Shared,
            patience,
            Without::Writes,
        )
        .await
    }

    /// Acquires an exclusive lock for an operation that frees space. On a full disk it continues without one, unless another
    /// lock exists: no other program can write to that disk either.
    ///
    /// # Errors
    /// As [`Repository::lock`].
    pub async fn lock_to_free(&self, patience: Duration) -> Result<Lock, RepositoryError> {
        self.refuse_if_append_only("free space")?;
        Lock::acquire(
            self.0.store.clone(),
            self.0.key.clone(),
            LockKind::Exclusive,
            patience,
            Without::Room,
        )
        .await
    }

    fn absent_lock(&self) -> Lock {
        Lock::absent(self.0.store.clone(), self.0.key.clone(), LockKind::Shared)
    }

    /// All existing locks, including stale ones. Writes and removes nothing; ages are by this machine's clock.
    ///
    /// # Errors
    /// If they cannot be listed or read.
    pub async fn locks(&self) -> Result<Vec<LockInfo>, RepositoryError> {
        let now = Timestamp::now();
        let found = find(&self.0.store, &self.0.key).await?;
        Ok(found.into_iter().map(|found| LockInfo::of(found, Some(now))).collect())
    }

    /// The locks of other programs, with ages by the store's clock, for which it briefly writes a lock of our own.
    ///
    /// # Errors
    /// If they cannot be listed or read, or a lock cannot be written.
    pub async fn locks_of_others(&self) -> Result<Vec<LockInfo>, RepositoryError> {
        let probe = self.absent_lock();
        let written = probe.write_first().await;
        let found = match &written {
            Ok(_) => find(&self.0.store, &self.0.key).await,
            Err(_) => Ok(Vec::new()),
        };
        let removed = probe.release().await;
        let (name, found) = (written?, found?);
        removed?;
        let now = found.iter().find(|found| found.object == name).and_then(|found| found.modified);
        let others = found.into_iter().filter(|found| found.object != name);
        Ok(others.map(|found| LockInfo::of(found, now)).collect())
    }

    /// Removes locks that were listed before. A lock renewed since then has another name, and is kept.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub async fn remove_locks(&self, locks: &[LockInfo]) -> Result<(), RepositoryError> {
        if !locks.is_empty() {
            self.refuse_if_append_only("remove locks")?;
        }
        for lock in locks {
            tracing::info!(object = %lock.object, holder = %lock.holder, "removing a lock");
            self.0.store.delete(&lock.object).await?;
        }
        Ok(())
    }
}

fn is_expired(lock: &Found, now: Option<Timestamp>) -> bool {
    lock.modified.zip(now).is_some_and(|(written, now)| is_old(now.duration_since(written)))
}

/// Reads all locks without changing any.
async fn find(
    store: &Arc<dyn ObjectStore>,
    key: &RepositoryKey,
) -> Result<Vec<Found>, RepositoryError> {
    let listed = match names::objects(&**store, DIRECTORY).await {
        Ok(listed) => listed,
        // A repository created by another tool may have no such directory until its first lock.
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::with_capacity(listed.len());
    for object in listed {
        let encrypted = match store.read(&object.key, None).await {
            Ok(encrypted) => encrypted,
            // Its holder removed or renewed it in the meantime.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        let content = if encrypted.is_empty() {
            Err("it is empty".to_owned())
        } else {
            key.decrypt_file(&encrypted)
                .map_err(|error| error.to_string())
                .and_then(|plain| parse(&plain))
        };
        found.push(Found {
            object: object.key,
            modified: object.modified,
            content,
            is_over: false,
        });
    }
    mark_ended(&mut found);
    Ok(found)
}

/// Marks the locks that a later lock of the same host ends, and locks that only do this.
fn mark_ended(found: &mut [Found]) {
    let ended: HashSet<(String, String)> = found
        .iter()
        .filter_map(|found| found.content.as_ref().ok())
        .filter(|lock| lock.append_only)
        .flat_map(|lock| lock.ends.iter().map(|name| (lock.hostname.clone(), name.clone())))
        .collect();
    for found in found {
        if let Ok(lock) = &found.content {
            let key = (lock.hostname.clone(), found.object.clone());
            found.is_over = lock.append_only && (lock.is_end || ended.contains(&key));
        }
    }
}

/// Fails if a lock other than `own` forbids `kind`; removes those of dead processes. A lock that cannot be read is judged once
/// `own` exists, by the store's clock: it may be one that is just being written, or one that a power failure left years ago.
pub(super) async fn refuse_others(
    store: &Arc<dyn ObjectStore>,
    key: &RepositoryKey,
    kind: LockKind,
    own: Option<&str>,
) -> Result<(), RepositoryError> {
    let found = find(store, key).await?;
    let now = own.and_then(|own| found.iter().find(|found| found.object == own)?.modified);
    for other in found.iter().filter(|found| own != Some(found.object.as_str())) {
        match (&other.content, other.verdict()) {
            (_, LockVerdict::Dead) if store.keeps_everything() => {}
            (_, LockVerdict::Dead) => {
                tracing::info!(lock = %other.describe(), "removing the lock of a process that has ended");
                if let Err(error) = store.delete(&other.object).await {
                    tracing::warn!(error = %crate::ground::error_chain(&error), "it could not be removed, and is in no one's way");
                }
            }
            // Judged by its age once our own lock shows the store's time.
            (Ok(_), _) if other.expires() && (own.is_none() || is_expired(other, now)) => {}
            (Ok(lock), _) if lock.exclusive || kind == LockKind::Exclusive => {
                return Err(RepositoryError::Locked { holder: other.describe() });
            }
            (Ok(_), _) => {}
            (Err(_), _) => {
                let age = other.modified.zip(now).map(|(written, now)| now.duration_since(written));
                match age {
                    Some(age) if is_old(age) => {
                        tracing::warn!(
                            lock = %other.describe(),
                            "ignoring an old lock that cannot be read; `kaleem-dr unlock` removes it"
                        );
                    }
                    _ if own.is_some() => {
                        return Err(RepositoryError::Locked { holder: other.describe() });
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}
