use std::ops::Range;

use async_trait::async_trait;
use rustic_core::repofile::MasterKey;
use tokio::sync::Semaphore;

use super::*;
use crate::engine::repository::store::{BasicStore, Object, ObjectWriter, OpendalStore};

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
    _directory: tempfile::TempDir,
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
        Self { _directory: directory, slow, key: RepositoryKey::new(MasterKey::new()) }
    }

    async fn take(&self, kind: LockKind) -> Result<Lock, RepositoryError> {
        Lock::acquire(self.slow.clone(), self.key.clone(), kind, Duration::ZERO, Without::Never)
            .await
    }

    async fn locks(&self) -> usize {
        self.slow.list(DIRECTORY).await.unwrap().len()
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
