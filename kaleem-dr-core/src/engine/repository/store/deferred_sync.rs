//! Makes objects on disk durable later, many at once.
//!
//! A pack is used only once an index names it, so it need not survive a crash before that index is written. Syncing each pack
//! separately would stall the pipeline, and packs would queue up in memory. Here they are written, renamed into place and
//! remembered. A background thread makes them durable, some at a time, so that the disk is never far behind; the next ordinary
//! write of the store waits for all of them first.

use std::{
    collections::BTreeSet,
    fs::File,
    io, mem,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::temporary::Temporary;
use crate::ground::durable_file::sync_directory;

/// Objects are synced together once they are as many bytes, which is two packs, or as many objects.
const BATCH_BYTES: usize = 32 << 20;
const BATCH_OBJECTS: usize = 64;

/// Objects of one store that are written and not yet synced. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct DeferredSync(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Written and not synced.
    files: Vec<PathBuf>,
    /// Their length.
    bytes: usize,
    /// The previous batch, which is being synced.
    behind: Option<JoinHandle<io::Result<()>>>,
    /// The error of a failed sync. The kernel reports a failed sync once and may then treat the lost bytes as written, so no
    /// later sync is trusted.
    failed: Option<io::Error>,
}

impl DeferredSync {
    /// Writes an object atomically: readers see all of it or nothing. Waits only if the batch before the last one is not durable
    /// yet. Blocking.
    pub(super) fn write(
        &self,
        temporary: &Temporary,
        key: &str,
        content: &[Bytes],
    ) -> io::Result<()> {
        let mut unplaced = temporary.begin(key)?;
        content.iter().try_for_each(|piece| unplaced.add(piece))?;
        let target = unplaced.place()?;
        let mut waiting = self.waiting();
        waiting.files.push(target);
        waiting.bytes += content.iter().map(Bytes::len).sum::<usize>();
        if waiting.files.len() < BATCH_OBJECTS && waiting.bytes < BATCH_BYTES {
            return Ok(());
        }
        waiting.join()?;
        let batch = waiting.take();
        waiting.behind = Some(thread::spawn(move || sync_all(&batch)));
        Ok(())
    }

    /// Makes everything written so far durable: files, and then their names in the directories. Blocking.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut waiting = self.waiting();
        waiting.join()?;
        let files = waiting.take();
        waiting.note(sync_all(&files))
    }

    /// Reports whether no write is pending.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.waiting();
        waiting.files.is_empty() && waiting.behind.is_none() && waiting.failed.is_none()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Vec<PathBuf> {
        self.bytes = 0;
        mem::take(&mut self.files)
    }

    /// Waits for the batch being synced.
    fn join(&mut self) -> io::Result<()> {
        let synced = self
            .behind
            .take()
            .map_or(Ok(()), |behind| behind.join().expect("syncing files does not panic"));
        self.note(synced)
    }

    /// Keeps the first failure forever.
    fn note(&mut self, synced: io::Result<()>) -> io::Result<()> {
        self.failed = self.failed.take().or(synced.err());
        match &self.failed {
            Some(error) => Err(io::Error::new(
                error.kind(),
                format!("earlier writes could not be made durable: {error}"),
            )),
            None => Ok(()),
        }
    }
}

fn sync_all(files: &[PathBuf]) -> io::Result<()> {
    let mut directories = BTreeSet::new();
    for path in files {
        match File::open(path) {
            // Prune may have removed it again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?.sync_all()?,
        }
        directories.extend(path.parent());
    }
    directories.into_iter().try_for_each(sync_directory)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn a_deferred_write_is_visible_at_once_and_pending_until_synced() {
        let home = tempfile::tempdir().unwrap();
        let (deferred, temporary) =
            (DeferredSync::default(), Temporary::of(home.path().to_path_buf()));
        let content = [Bytes::from_static(b"a pack "), Bytes::from_static(b"in pieces")];
        deferred.write(&temporary, "data/ab/abcd", &content).unwrap();
        assert_eq!(fs::read(home.path().join("data/ab/abcd")).unwrap(), b"a pack in pieces");
        assert_eq!(fs::read_dir(home.path().join("tmp")).unwrap().count(), 0);
        assert!(!deferred.is_empty());
        deferred.sync().unwrap();
        assert!(deferred.is_empty());
        for n in 0..2 * BATCH_OBJECTS {
            deferred.write(&temporary, &format!("data/cd/{n}"), &content).unwrap();
            assert!(deferred.waiting().files.len() < BATCH_OBJECTS, "the rest is being synced");
        }
        let large = [Bytes::from(vec![7; BATCH_BYTES])];
        deferred.write(&temporary, "data/ef/large", &large).unwrap();
        assert!(deferred.waiting().files.is_empty(), "so much does not wait for more");
        assert!(!deferred.is_empty(), "a batch counts until it is known to be durable");
        deferred.sync().unwrap();
        assert!(deferred.is_empty());
    }

    #[test]
    fn a_failed_sync_is_reported_ever_after() {
        let home = tempfile::tempdir().unwrap();
        let deferred = DeferredSync::default();
        deferred
            .write(
                &Temporary::of(home.path().to_path_buf()),
                "data/ab/abcd",
                &[Bytes::from_static(b"x")],
            )
            .unwrap();
        no_directory_any_more(&home.path().join("data/ab"));
        assert!(
            deferred
                .sync()
                .unwrap_err()
                .to_string()
                .starts_with("earlier writes could not be made durable")
        );
        deferred.sync().unwrap_err();
        assert!(!deferred.is_empty());
    }

    #[test]
    fn a_batch_that_failed_in_the_background_is_reported_at_the_next_sync() {
        let home = tempfile::tempdir().unwrap();
        let (deferred, temporary) =
            (DeferredSync::default(), Temporary::of(home.path().to_path_buf()));
        for n in 0..BATCH_OBJECTS - 1 {
            deferred.write(&temporary, &format!("data/ab/{n}"), &[]).unwrap();
        }
        no_directory_any_more(&home.path().join("data/ab"));
        deferred.write(&temporary, "data/cd/cdef", &[]).unwrap();
        assert!(deferred.waiting().files.is_empty(), "they are being synced in the background");
        deferred.sync().unwrap_err();
        deferred.sync().unwrap_err();
    }

    /// To open a file in it then fails otherwise than by the file's absence.
    fn no_directory_any_more(path: &Path) {
        fs::remove_dir_all(path).unwrap();
        fs::write(path, b"").unwrap();
    }
}
