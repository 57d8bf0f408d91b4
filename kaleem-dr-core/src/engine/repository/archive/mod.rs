//! Archives the files of this host: walks their entries once, reads what changed in a few threads, and stores blobs, trees and
//! index files.
//!
//! rustic_core's archiver hands each entry from thread to thread, and prepares each file for cutting at a cost that is far above
//! that of reading a small one. Streams of sources still take that way; here, entries come in batches, and everything that
//! concerns one file happens in one thread.

mod chunker;
mod packer;
mod read;
mod rolling;
mod tree;

use std::{
    collections::HashSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustic_core::{
    IndexedFullStatus, TreeId,
    jiff::Zoned,
    repofile::{BlobType, ConfigFile, SnapshotSummary},
};
use tokio::sync::mpsc::{Receiver, error::TryRecvError};

use self::{
    chunker::Chunker,
    packer::{Encoder, Indexer, Output, Packer},
    read::{Job, Read, Reader, given_up},
    tree::{Reuse, Trees},
};
use super::{RepositoryError, backend::Backend, crypto::RepositoryKey, feed::node, reach::Lost};
use crate::{
    engine::artifact::{CaptureState, Entry, EntryKind},
    ground::{failpoint, failpoint::Step, progress::StageProgress},
};

/// Limit for the threads that read files; each may hold a pack.
const MOST_READERS: usize = 4;
/// Files that one thread takes at once, unless they are large.
const FILES_IN_BATCH: usize = 64;
/// Bytes of the files that one thread takes at once, unless a single file is larger.
const BYTES_IN_BATCH: u64 = 1 << 20;

/// One capture of files on its way into a repository.
pub(super) struct Archive<'a> {
    pub(super) engine: &'a rustic_core::Repository<IndexedFullStatus>,
    pub(super) backend: &'a Backend,
    pub(super) key: &'a RepositoryKey,
    /// The tree of the snapshot from which unchanged files are reused, as far as it is there.
    pub(super) parent: Option<TreeId>,
    /// Total size of the packs in the repository, in bytes.
    pub(super) repository_bytes: u64,
    pub(super) state: &'a Arc<CaptureState>,
    pub(super) progress: &'a dyn StageProgress,
    pub(super) is_dry_run: bool,
}

/// An archived capture, without its snapshot file.
pub(super) struct ArchivedFiles {
    pub(super) tree: TreeId,
    pub(super) summary: SnapshotSummary,
    /// Trees of the parent snapshot that are the same now; everything below them is in the index.
    pub(super) whole: HashSet<TreeId>,
    /// Parts of the parent snapshot that are lost, and were therefore read again.
    pub(super) lost: Lost,
}

/// Reports whether a repository can be written by [`Archive`].
pub(super) fn is_supported(config: &ConfigFile) -> bool {
    Chunker::of(config).is_some() && config.zstd().is_ok()
}

impl Archive<'_> {
    /// Archives all entries. Blocking. When it returns, packs and index files are written.
    ///
    /// # Errors
    /// If the repository cannot be read or written, or the capture is given up.
    pub(super) fn run(
        &self,
        entries: Receiver<Vec<Entry>>,
    ) -> Result<ArchivedFiles, RepositoryError> {
        let config = self.engine.config();
        let failed = || RepositoryError::engine("write to");
        let output = Output {
            backend: self.backend,
            key: self.key,
            version: config.version,
            zstd: config.zstd().map_err(failed())?,
            verifies: config.extra_verify(),
            is_dry_run: self.is_dry_run,
        };
        let chunker = Chunker::of(config).ok_or_else(|| {
            RepositoryError::NotCommitted("the repository's chunker is not supported".into())
        })?;
        let indexer = Indexer::new(&output);
        let data = Packer::new(&indexer, BlobType::Data, config, self.repository_bytes);
        let trees = Packer::new(&indexer, BlobType::Tree, config, self.repository_bytes);
        let began = Zoned::now();
        let (tree, mut summary, reuse) =
            self.read_all(entries, &output, (&data, &trees), &chunker)?;
        data.finish()?;
        trees.finish()?;
        indexer.finish()?;
        self.progress.finish();
        total(&mut summary, began, (&data, &trees));
        let Reuse { whole, lost } = reuse;
        Ok(ArchivedFiles { tree, summary, whole, lost })
    }

    fn read_all(
        &self,
        entries: Receiver<Vec<Entry>>,
        output: &Output<'_>,
        (data, trees): (&Packer<'_>, &Packer<'_>),
        chunker: &Chunker,
    ) -> Result<(TreeId, SnapshotSummary, Reuse), RepositoryError> {
        let readers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let readers = readers.clamp(2, MOST_READERS);
        let mut trees = Trees::new(self.engine, trees, Encoder::new(output)?, self.parent)?;
        thread::scope(|scope| {
            let (jobs, queue) = mpsc::sync_channel(2 * readers);
            let (done, results) = mpsc::channel();
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..readers {
                let reader = Reader {
                    engine: self.engine,
                    state: self.state,
                    packer: data,
                    encoder: Encoder::new(output)?,
                    chunker: chunker.clone(),
                    progress: self.progress,
                };
                let (queue, done) = (queue.clone(), done.clone());
                scope.spawn(move || reader.run(&queue, &done));
            }
            // Now only readers have these ends, so that the channels end with them.
            drop((queue, done));
            let (batch, bytes) = (Vec::new(), 0);
            let feeding = Feeding { archive: self, trees: &mut trees, jobs, results, batch, bytes };
            feeding.run(entries).inspect_err(|_| self.state.give_up())
        })?;
        trees.finish()
    }
}

/// The thread that receives the entries and completes the trees.
struct Feeding<'a, 'b> {
    archive: &'a Archive<'a>,
    trees: &'a mut Trees<'b>,
    jobs: mpsc::SyncSender<Vec<Job>>,
    results: mpsc::Receiver<Result<Vec<Read>, RepositoryError>>,
    /// Files for the next batch, and their declared size.
    batch: Vec<Job>,
    bytes: u64,
}

impl Feeding<'_, '_> {
    fn run(mut self, mut entries: Receiver<Vec<Entry>>) -> Result<(), RepositoryError> {
        loop {
            let next = match entries.try_recv() {
                Ok(next) => Some(next),
                Err(TryRecvError::Empty) => {
                    // Meanwhile the readers work on what there is.
                    self.send()?;
                    entries.blocking_recv()
                }
                Err(TryRecvError::Disconnected) => None,
            };
            if self.archive.state.is_given_up() {
                return Err(given_up());
            }
            let Some(next) = next else { break };
            for entry in next {
                self.entry(entry)?;
            }
            self.collect()?;
        }
        self.trees.leave_all()?;
        self.send()?;
        let Self { archive, trees, jobs, results, .. } = self;
        drop(jobs);
        for read in results {
            take(trees, read?)?;
        }
        if archive.state.is_given_up() { Err(given_up()) } else { Ok(()) }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), RepositoryError> {
        failpoint::pass(Step::Capture);
        let Entry { path, kind, meta } = entry;
        let declared_bytes = meta.size_bytes;
        let node = node(&path, &kind, meta);
        match kind {
            EntryKind::Directory => return self.trees.directory(path, node),
            EntryKind::Stream(_) => {
                return Err(RepositoryError::NotCommitted(format!(
                    "{} is a stream, but its source announced files only",
                    path.display()
                )));
            }
            _ => {}
        }
        let Some(place) = self.trees.entry(&path, node)? else {
            self.archive.progress.advance(declared_bytes);
            return Ok(());
        };
        self.batch.push(Job { place, path, kind, declared_bytes });
        self.bytes += declared_bytes;
        if self.batch.len() >= FILES_IN_BATCH || self.bytes >= BYTES_IN_BATCH {
            self.send()?;
            self.collect()?;
        }
        Ok(())
    }

    /// Gives the batch to a reader.
    fn send(&mut self) -> Result<(), RepositoryError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() || self.jobs.send(batch).is_ok() {
            return Ok(());
        }
        // All readers have ended, because of a failure.
        while let Ok(read) = self.results.recv() {
            read?;
        }
        Err(given_up())
    }

    /// Takes what the readers have done so far.
    fn collect(&mut self) -> Result<(), RepositoryError> {
        while let Ok(read) = self.results.try_recv() {
            take(self.trees, read?)?;
        }
        Ok(())
    }
}

fn take(trees: &mut Trees<'_>, read: Vec<Read>) -> Result<(), RepositoryError> {
    read.into_iter().try_for_each(|Read { place, content }| trees.read(place, content))
}

/// Adds the totals of the packs, and the times.
fn total(summary: &mut SnapshotSummary, began: Zoned, (data, trees): (&Packer<'_>, &Packer<'_>)) {
    let (blobs, plain_bytes, stored_bytes) = data.added().totals();
    summary.data_blobs = blobs;
    (summary.data_added_files, summary.data_added_files_packed) = (plain_bytes, stored_bytes);
    let (blobs, plain_bytes, stored_bytes) = trees.added().totals();
    summary.tree_blobs = blobs;
    (summary.data_added_trees, summary.data_added_trees_packed) = (plain_bytes, stored_bytes);
    summary.data_added = summary.data_added_files + summary.data_added_trees;
    summary.data_added_packed = summary.data_added_files_packed + summary.data_added_trees_packed;
    let ended = Zoned::now();
    let seconds = ended.duration_since(&began).as_secs_f64();
    (summary.backup_duration, summary.total_duration) = (seconds, seconds);
    (summary.backup_start, summary.backup_end) = (began, ended);
}
