//! Objects on disk that are made durable later, many at once.
//!
//! A pack is of no use before an index names it, so it need not survive a crash before that index is written. To sync each one as it
//! comes would stall the pipeline at every pack, and packs queue up in memory behind the stall. Here they are written, renamed into
//! place and remembered; whatever the store writes next in the plain way makes all of them durable first.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use ulid::Ulid;

/// Objects that may wait: at 16 MiB a pack, a gibibyte that the system has mostly written back by itself meanwhile.
const MOST: usize = 64;

/// The objects of one store that are not durable yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Late(Arc<Mutex<Vec<PathBuf>>>);

impl Late {
    /// Writes an object whole: readers see all of it or nothing. Blocking.
    pub(super) fn write(&self, root: &Path, temporary: &Path, key: &str, content: &[Bytes]) -> io::Result<()> {
        let target = root.join(key);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir_all(temporary)?;
        let scratch = temporary.join(format!("{}.{}", key.replace('/', "-"), Ulid::generate()));
        let written = fill(&scratch, content).and_then(|()| fs::rename(&scratch, &target));
        if written.is_err() {
            // What failed says more than that half of it could not be taken away.
            let _ = fs::remove_file(&scratch);
        }
        written?;
        let mut waiting = self.waiting();
        waiting.push(target);
        let full = waiting.len() >= MOST;
        drop(waiting);
        if full { self.sync() } else { Ok(()) }
    }

    /// Makes everything durable that was written so far, files and then the names in their directories. Blocking.
    pub(super) fn sync(&self) -> io::Result<()> {
        let files = std::mem::take(&mut *self.waiting());
        let synced = sync_all(&files);
        if synced.is_err() {
            // They are still not durable, and the next try must not take them for it.
            self.waiting().extend(files);
        }
        synced
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fill(path: &Path, content: &[Bytes]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    content.iter().try_for_each(|piece| file.write_all(piece))
}

fn sync_all(files: &[PathBuf]) -> io::Result<()> {
    let mut directories = BTreeSet::new();
    for path in files {
        match File::open(path) {
            // Prune may have taken it away again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?.sync_all()?,
        }
        directories.extend(path.parent());
    }
    directories.into_iter().try_for_each(|directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_late_is_there_at_once_and_waits_until_it_is_synced() {
        let home = tempfile::tempdir().unwrap();
        let (late, temporary) = (Late::default(), home.path().join("tmp"));
        let content = [Bytes::from_static(b"a pack "), Bytes::from_static(b"in pieces")];
        late.write(home.path(), &temporary, "data/ab/abcd", &content).unwrap();
        assert_eq!(fs::read(home.path().join("data/ab/abcd")).unwrap(), b"a pack in pieces");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
        assert!(!late.is_empty());
        late.sync().unwrap();
        assert!(late.is_empty());
        for n in 0..MOST {
            late.write(home.path(), &temporary, &format!("data/cd/{n}"), &content).unwrap();
        }
        assert!(late.is_empty(), "never more than {MOST} wait");
    }

    #[test]
    fn a_failed_sync_leaves_them_waiting() {
        let home = tempfile::tempdir().unwrap();
        let late = Late::default();
        late.write(home.path(), &home.path().join("tmp"), "data/ab/abcd", &[Bytes::from_static(b"x")]).unwrap();
        // Its place is no directory any more: opening the file fails otherwise than by its absence.
        fs::remove_dir_all(home.path().join("data/ab")).unwrap();
        fs::write(home.path().join("data/ab"), b"").unwrap();
        late.sync().unwrap_err();
        assert!(!late.is_empty());
    }
}
