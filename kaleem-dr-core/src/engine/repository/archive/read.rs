//! The threads that read files: they cut, hash, compress, encrypt and pack what is new.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender},
    },
};

use rustic_core::{BlobId, DataId, IndexedFullStatus};

use super::{
    chunker::Chunker,
    packer::{Encoder, Packer, id_of},
};
use crate::{
    engine::{
        artifact::{CaptureState, Entry, EntryKind},
        repository::RepositoryError,
    },
    ground::progress::StageProgress,
};

/// A file to read.
pub(super) struct Job {
    /// Its place in a directory.
    pub(super) place: (u64, usize),
    pub(super) path: PathBuf,
    pub(super) kind: EntryKind,
    pub(super) declared_bytes: u64,
}

/// A file that was read.
pub(super) struct Read {
    pub(super) place: (u64, usize),
    /// `None` if it could not be read; the capture's state has the reason.
    pub(super) content: Option<Content>,
}

/// The blobs of a file, in order.
pub(super) struct Content {
    pub(super) blobs: Vec<DataId>,
    pub(super) size_bytes: u64,
}

/// Reads files, in a thread of its own.
pub(super) struct Reader<'a> {
    pub(super) engine: &'a rustic_core::Repository<IndexedFullStatus>,
    pub(super) state: &'a Arc<CaptureState>,
    pub(super) packer: &'a Packer<'a>,
    pub(super) encoder: Encoder<'a>,
    pub(super) chunker: Chunker,
    pub(super) progress: &'a dyn StageProgress,
}

/// A failure while a file is cut.
enum Failure {
    /// The file cannot be read, and is left out.
    File,
    Repository(RepositoryError),
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        // The reader has recorded it.
        Self::File
    }
}

impl Reader<'_> {
    /// Reads files until there are no more, or one fails for a reason other than its own.
    pub(super) fn run(
        mut self,
        jobs: &Mutex<Receiver<Vec<Job>>>,
        done: &Sender<Result<Vec<Read>, RepositoryError>>,
    ) {
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { return };
            let read: Result<Vec<Read>, RepositoryError> =
                batch.into_iter().map(|job| self.read(job)).collect();
            let failed = read.is_err();
            // The receiver is gone only after a failure.
            if done.send(read).is_err() || failed {
                return;
            }
        }
    }

    fn read(&mut self, job: Job) -> Result<Read, RepositoryError> {
        let Job { place, path, kind, declared_bytes } = job;
        match self.content(path, kind, declared_bytes) {
            Ok(content) => Ok(Read { place, content: Some(content) }),
            Err(Failure::File) if self.state.is_given_up() => Err(given_up()),
            Err(Failure::File) => Ok(Read { place, content: None }),
            Err(Failure::Repository(error)) => Err(error),
        }
    }

    fn content(
        &mut self,
        path: PathBuf,
        kind: EntryKind,
        declared_bytes: u64,
    ) -> Result<Content, Failure> {
        let file = Entry::open(kind, path, declared_bytes, self.state.clone())?;
        let mut blobs = Vec::new();
        let (engine, packer, encoder) = (self.engine, self.packer, &mut self.encoder);
        let progress = self.progress;
        let size_bytes = self.chunker.cut(file, declared_bytes, |plain| {
            let id = id_of(plain);
            let blob = DataId::from(BlobId::from(id));
            if engine.get_index_entry(&blob).is_err() {
                packer.add(id, plain, encoder).map_err(Failure::Repository)?;
            }
            blobs.push(blob);
            progress.advance(plain.len() as u64);
            Ok::<(), Failure>(())
        })?;
        Ok(Content { blobs, size_bytes })
    }
}

/// The source or the operator has ended the capture.
pub(super) fn given_up() -> RepositoryError {
    RepositoryError::NotCommitted("the capture was given up".into())
}
