use std::ops::Range;

use async_trait::async_trait;
use rustic_core::repofile::MasterKey;
use tokio::sync::Semaphore;

use super::*;
use crate::engine::repository::store::{
    AppendOnly, BasicStore, Object, ObjectWriter, OpendalStore,
};

/// A directory whose writes are answered when there is a permit.
#[derive(Debug)]
struct Slow {
    store: OpendalStore,
    permits: Semaphore,
    waiting: Semaphore,
}

#[async_trait]
impl BasicStore for Slow {
    fn location(&self) -> String {
        self.store.location()
    }
    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        self.store.list(directory).await
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.store.read(key, range).await
    }
    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        // The object is there before the answer: whoever stops waiting for that has written it all the same.
        self.store.write(key, content).await?;
        self.waiting.add_permits(1);
        self.permits.acquire().await.unwrap().forget();
        Ok(())
    }
    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.store.writer(key).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.store.size(key).await
    }
}

impl ObjectStore for Slow {}

struct Place {
    directory: tempfile::TempDir,
    slow: Arc<Slow>,
    key: RepositoryKey,
}

impl Place {
    fn new(permits: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(DIRECTORY)).unwrap();
        let store = OpendalStore::directory(directory.path()).unwrap();
        let slow =
            Arc::new(Slow { store, permits: Semaphore::new(permits), waiting: Semaphore::new(0) });
        Self { directory, slow, key: RepositoryKey::new(MasterKey::new()) }
    }

    async fn take(&self, kind: LockKind) -> Result<Lock, RepositoryError> {
        Lock::acquire(self.slow.clone(), self.key.clone(), kind, Duration::ZERO, Without::Never)
            .await
    }

    async fn locks(&self) -> usize {
        self.slow.list(DIRECTORY).await.unwrap().len()
    }

    /// Writes a shared lock of another host, which cannot delete it.
    async fn of_another_host(&self, edit: impl FnOnce(&mut LockFile)) -> String {
        let mut lock = LockFile::ours(LockKind::Shared);
        (lock.hostname, lock.append_only) = ("another".into(), true);
        edit(&mut lock);
        let encrypted = self.key.encrypt(&serde_json::to_vec(&lock).unwrap());
        let name = format!("{DIRECTORY}/{}", ByteDigest::of(&encrypted));
        self.slow.write(&name, vec![Bytes::from(encrypted)]).await.unwrap();
        name
    }

    async fn is_locked(&self) -> bool {
        match self.take(LockKind::Exclusive).await {
            Ok(lock) => {
                lock.release().await.unwrap();
                false
            }
            Err(RepositoryError::Locked { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until that many writes were begun.
    async fn writes_begun(&self, count: u32) {
        self.slow.waiting.acquire_many(count).await.unwrap().forget();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_the_renewal_and_leaves_no_lock() {
    let place = Place::new(1);
    let mut lock = place.take(LockKind::Shared).await.unwrap();
    place.writes_begun(1).await;
    lock.renewal = Some(tokio::spawn(renew(lock.shared.clone(), Duration::ZERO)));
    place.writes_begun(1).await;
    let release = tokio::spawn(lock.release());
    place.slow.permits.add_permits(1);
    release.await.unwrap().unwrap();
    assert_eq!(place.locks().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_given_up_while_it_is_taken_leaves_nothing() {
    let place = Place::new(0);
    let slow = place.slow.clone();
    let key = place.key.clone();
    let taking = tokio::spawn(async move {
        Lock::acquire(slow, key, LockKind::Shared, Duration::ZERO, Without::Never).await
    });
    place.writes_begun(1).await;
    taking.abort();
    place.slow.permits.add_permits(8);
    assert!(taking.await.unwrap_err().is_cancelled());
    assert_eq!(place.locks().await, 0);
    // It does not block the next one.
    place.take(LockKind::Exclusive).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lock_is_one_lock_and_a_removed_one_is_lost() {
    let place = Place::new(100);
    let lock = place.take(LockKind::Exclusive).await.unwrap();
    let first = lock.shared.objects.lock().await.names.clone();
    let renewed = tokio::spawn(renew(lock.shared.clone(), Duration::from_millis(1)));
    place.writes_begun(5).await;
    lock.shared.done.cancel();
    renewed.await.unwrap();
    let now = lock.shared.objects.lock().await.names.clone();
    assert!(now.len() == 1 && now != first, "{first:?} {now:?}");
    lock.confirm().await.unwrap();
    place.slow.delete(&now[0]).await.unwrap();
    lock.shared().confirm_within(Duration::from_hours(1)).await.expect("it was seen just now");
    assert!(matches!(
        lock.shared().confirm_within(Duration::ZERO).await,
        Err(RepositoryError::LockLost { .. })
    ));
    assert!(lock.lost().is_cancelled());
    lock.release().await.unwrap();
    assert_eq!(place.locks().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_its_host_cannot_delete_ends_with_a_later_one_or_by_age() {
    let place = Place::new(100);
    let lock = place.of_another_host(|_| ()).await;
    assert!(place.is_locked().await);
    // Neither another host nor a lock of a host that deletes its own ends it.
    let ends = || vec![lock.clone()];
    let foreign = place.of_another_host(|lock| {
        (lock.hostname, lock.ends, lock.is_end) = ("third".into(), ends(), true);
    });
    foreign.await;
    place.of_another_host(|lock| (lock.append_only, lock.ends) = (false, ends())).await;
    assert!(place.is_locked().await);
    for object in place.slow.list(DIRECTORY).await.unwrap() {
        if object.key != lock {
            place.slow.delete(&object.key).await.unwrap();
        }
    }
    place.of_another_host(|lock| (lock.ends, lock.is_end) = (ends(), true)).await;
    assert!(!place.is_locked().await);
    assert_eq!(place.locks().await, 0, "the host that can delete them has");

    // A renewed lock ends the one before, and counts itself.
    let first = place.of_another_host(|_| ()).await;
    let renewed = place.of_another_host(|lock| lock.ends = vec![first]).await;
    assert!(place.is_locked().await);
    let an_hour_ago = std::time::SystemTime::now() - Duration::from_hours(1);
    let file = std::fs::File::options().write(true).open(place.directory.path().join(&renewed));
    file.unwrap().set_modified(an_hour_ago).unwrap();
    assert!(!place.is_locked().await, "its host died");

    // A lock that its host deletes never ends like this.
    let normal = place.of_another_host(|lock| lock.append_only = false).await;
    place.of_another_host(|lock| (lock.ends, lock.is_end) = (vec![normal], true)).await;
    assert!(place.is_locked().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_or_renewed_lock_of_a_store_that_keeps_everything_has_ended() {
    let place = Place::new(100);
    let store = Arc::new(AppendOnly::new(place.slow.clone()));
    let taken =
        Lock::acquire(store, place.key.clone(), LockKind::Shared, Duration::ZERO, Without::Never);
    let lock = taken.await.unwrap();
    let renewed = tokio::spawn(renew(lock.shared.clone(), Duration::from_millis(1)));
    place.writes_begun(4).await;
    lock.shared.done.cancel();
    renewed.await.unwrap();
    let now = lock.shared.objects.lock().await.names.clone();
    assert_eq!(now.len(), 1, "the earlier ones have ended: {now:?}");
    // This process runs, so only what the locks say can end them.
    assert!(place.is_locked().await);
    lock.release().await.unwrap();
    assert!(place.locks().await > 1, "nothing could be deleted");
    assert!(!place.is_locked().await);
    assert_eq!(place.locks().await, 0);
}
