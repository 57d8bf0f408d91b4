//! Exclusive locks on files of this machine (`flock(2)`). The kernel releases one when its holder drops it or dies.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Deref,
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::CancellationToken;

/// Time between two attempts to take a lock if the wait must be cancellable; `flock` itself is not.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// A file locked by this process until the value is dropped.
#[derive(Debug)]
#[must_use = "the file is unlocked when this is dropped"]
pub(crate) struct FileLock(Flock<File>);

impl Deref for FileLock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

/// Locks a file, which is created if it does not exist, and waits for the current holder. Blocking.
///
/// # Errors
/// If the file cannot be opened or locked.
pub(crate) fn wait(path: &Path) -> io::Result<FileLock> {
    Flock::lock(open(path)?, FlockArg::LockExclusive)
        .map(FileLock)
        .map_err(|(_, errno)| errno.into())
}

/// Like [`wait`], but can be cancelled: then returns `None`. Calls `on_wait` once if the lock has another holder.
///
/// # Errors
/// If the file cannot be opened or locked.
pub(crate) async fn wait_cancellable(
    path: &Path,
    cancel: &CancellationToken,
    on_wait: impl FnOnce(),
) -> io::Result<Option<FileLock>> {
    let mut on_wait = Some(on_wait);
    loop {
        if let Some(lock) = try_lock(open(path)?)? {
            return Ok(Some(lock));
        }
        if let Some(on_wait) = on_wait.take() {
            on_wait();
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_EVERY) => {}
            () = cancel.cancelled() => return Ok(None),
        }
    }
}

/// Locks an open file without waiting; `None` if the lock has another holder.
///
/// # Errors
/// If it cannot be locked for another reason.
pub(crate) fn try_lock(file: File) -> io::Result<Option<FileLock>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(FileLock(lock))),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
    };

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const AT_LAST: Duration = Duration::from_mins(1);

    #[test]
    fn a_second_holder_waits_for_the_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("alarms.lock");
        let first = wait(&path).unwrap();
        assert!(try_lock(File::open(&path).unwrap()).unwrap().is_none());
        let (sender, has_it) = mpsc::channel();
        let second = thread::spawn(move || {
            let lock = wait(&path).unwrap();
            sender.send(()).unwrap();
            drop(lock);
        });
        has_it.recv_timeout(SOON).unwrap_err();
        drop(first);
        has_it.recv_timeout(AT_LAST).unwrap();
        second.join().unwrap();
    }

    #[tokio::test]
    async fn a_cancellable_wait_takes_the_lock_when_it_is_free() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("writer.lock");
        let first = wait(&path).unwrap();
        let waits = Arc::new(AtomicUsize::new(0));
        let (cancel, counted) = (CancellationToken::new(), waits.clone());
        let mut second = tokio::spawn({
            let path = path.clone();
            async move {
                wait_cancellable(&path, &cancel, move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                })
                .await
            }
        });
        // Longer than one attempt: the notice comes once.
        tokio::time::timeout(2 * RETRY_EVERY + SOON, &mut second).await.unwrap_err();
        assert_eq!(waits.load(Ordering::SeqCst), 1);
        drop(first);
        let lock = tokio::time::timeout(AT_LAST, second).await.unwrap().unwrap().unwrap();
        assert!(lock.is_some());
        assert!(try_lock(File::open(&path).unwrap()).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_cancelled_wait_ends_without_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("writer.lock");
        let first = wait(&path).unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(wait_cancellable(&path, &cancel, || {}).await.unwrap().is_none());
        drop(first);
        assert!(wait_cancellable(&path, &cancel, || {}).await.unwrap().is_some(), "it is free");
    }
}
