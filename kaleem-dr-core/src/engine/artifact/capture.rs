//! The source's end of a capture, which receives artifacts and entries.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    entry::{Entry, EntryKind, EntryMeta, Piece, StreamReader},
    state::CaptureState,
};
use crate::{
    engine::{
        change_log::LogSpan,
        manifest::{ArtifactRecord, Consistency, Incomplete, ServerInfo},
    },
    ground::{ArtifactPath, SourceError, digest::ByteDigest},
};

/// Limit for the batches of entries that wait for the archiver. Small, because the channel of an artifact buffers its data.
const ENTRIES_IN_FLIGHT: usize = 64;
/// Limit for the pieces that wait in one artifact's channel.
const PIECES_IN_FLIGHT: usize = 4;
/// Largest piece in a channel, in bytes; longer writes are split without copying.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Receives the artifacts of a source.
///
/// Paths must ascend (compared component by component, as bytes). Parent directories that the source has not emitted are added.
#[derive(Debug)]
pub struct Capture {
    entries: mpsc::Sender<Vec<Entry>>,
    state: Arc<CaptureState>,
    last: PathBuf,
    cancel: CancellationToken,
}

impl Capture {
    /// A new capture: the source's end, and the entries for the archiver. `poison` is set if anything fails.
    pub(crate) fn begin(
        poison: Arc<AtomicBool>,
        cancel: CancellationToken,
    ) -> (Self, mpsc::Receiver<Vec<Entry>>, Arc<CaptureState>) {
        let state = Arc::new(CaptureState::new(poison, cancel.clone()));
        let (entries, receiver) = mpsc::channel(ENTRIES_IN_FLIGHT);
        (Self { entries, state: state.clone(), last: PathBuf::new(), cancel }, receiver, state)
    }

    /// Opens the next artifact.
    ///
    /// # Errors
    /// If the path does not ascend, or the repository stopped accepting data.
    pub async fn artifact(&mut self, path: ArtifactPath) -> Result<ArtifactWriter, SourceError> {
        let (pieces, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let name = PathBuf::from(path.as_str());
        let reader = StreamReader {
            pieces: receiver,
            current: Bytes::new(),
            read: 0,
            ended: false,
            path: name.clone(),
            state: self.state.clone(),
        };
        let meta =
            EntryMeta { mode: 0o600, mtime: Some(self.state.started), ..EntryMeta::default() };
        self.send(Entry { path: name, kind: EntryKind::Stream(Box::new(reader)), meta }).await?;
        self.state.lock().opened += 1;
        Ok(ArtifactWriter {
            path,
            pieces: Some(pieces),
            digest: ByteDigest::default(),
            size_bytes: 0,
            state: self.state.clone(),
        })
    }

    /// Emits one artifact whose content is complete.
    ///
    /// # Errors
    /// As [`Capture::artifact`].
    pub async fn whole(
        &mut self,
        path: ArtifactPath,
        bytes: Bytes,
        items: Option<u64>,
    ) -> Result<(), SourceError> {
        let mut writer = self.artifact(path).await?;
        writer.write(bytes).await?;
        writer.finish(items, None).await
    }

    /// Emits a file-system entry. A regular file is opened when the archiver reaches it, and only if it changed.
    ///
    /// # Errors
    /// As [`Capture::artifact`].
    pub async fn entry(&mut self, entry: Entry) -> Result<(), SourceError> {
        self.send(entry).await
    }

    /// Emits file-system entries together, which is faster than one by one.
    ///
    /// # Errors
    /// As [`Capture::artifact`].
    pub async fn entries(&mut self, entries: Vec<Entry>) -> Result<(), SourceError> {
        let mut batch = Vec::with_capacity(entries.len());
        for entry in entries {
            self.place(entry, &mut batch)?;
        }
        self.hand_over(batch).await
    }

    /// Records the product and version that the data came from.
    pub fn set_server(&mut self, server: ServerInfo) {
        self.state.lock().server = Some(server);
    }

    /// Records how far the artifacts belong to one moment.
    pub fn set_consistency(&mut self, consistency: Consistency) {
        self.state.lock().consistency = Some(consistency);
    }

    /// Adds a source-specific fact to the manifest.
    pub fn detail(&mut self, key: &str, value: Value) {
        self.state.lock().details.insert(key.to_owned(), value);
    }

    /// Records the span of the source's change log that the snapshot covers.
    pub fn set_change_log(&mut self, span: LogSpan) {
        self.state.lock().change_log = Some(span);
    }

    /// Records a part that had to be left out. The snapshot is kept; the run ends with exit status 3.
    pub fn incomplete(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.state.lock().incomplete.push(Incomplete { what: what.into(), why: why.into() });
    }

    /// Start of the capture, by this machine's clock.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.state.started
    }

    /// Resolves when the operator cancels; long waits in a source should end with it.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    async fn send(&mut self, entry: Entry) -> Result<(), SourceError> {
        let mut batch = Vec::with_capacity(1);
        self.place(entry, &mut batch)?;
        self.hand_over(batch).await
    }

    /// Adds an entry to a batch, after those of its parents that were not emitted.
    fn place(&mut self, entry: Entry, batch: &mut Vec<Entry>) -> Result<(), SourceError> {
        if entry.path <= self.last && !self.last.as_os_str().is_empty() {
            return Err(SourceError::Unsupported(format!(
                "entries must ascend, but {} came after {}",
                entry.path.display(),
                self.last.display()
            )));
        }
        let missing: Vec<PathBuf> = entry
            .path
            .ancestors()
            .skip(1)
            .take_while(|ancestor| ancestor.parent().is_some() && !self.last.starts_with(ancestor))
            .map(Path::to_path_buf)
            .collect();
        for directory in missing.into_iter().rev() {
            let meta =
                EntryMeta { mode: 0o700, mtime: Some(self.state.started), ..EntryMeta::default() };
            batch.push(Entry { path: directory, kind: EntryKind::Directory, meta });
        }
        self.last.clone_from(&entry.path);
        batch.push(entry);
        Ok(())
    }

    /// Counts entries for the totals of the tree.
    fn count(&self, entries: &[Entry]) {
        let mut inner = self.state.lock();
        for entry in entries {
            match entry.kind {
                EntryKind::Directory => inner.totals.directories += 1,
                EntryKind::Stream(_) => inner.entries += 1,
                EntryKind::File(_) => {
                    inner.entries += 1;
                    inner.totals.files += 1;
                    inner.totals.size_bytes += entry.meta.size_bytes;
                }
                _ => {
                    inner.entries += 1;
                    inner.totals.others += 1;
                }
            }
        }
    }

    async fn hand_over(&self, batch: Vec<Entry>) -> Result<(), SourceError> {
        self.count(&batch);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(SourceError::Cancelled),
            sent = self.entries.send(batch) => sent.map_err(|_| SourceError::Aborted),
        }
    }
}

/// Receives the bytes of one artifact. Several may be written at once, from different tasks.
///
/// A writer dropped before [`ArtifactWriter::finish`] fails the whole capture: half an artifact is never kept.
#[derive(Debug)]
#[must_use = "an artifact that is not finished spoils the capture"]
pub struct ArtifactWriter {
    path: ArtifactPath,
    pieces: Option<mpsc::Sender<Piece>>,
    digest: ByteDigest,
    size_bytes: u64,
    state: Arc<CaptureState>,
}

impl ArtifactWriter {
    /// The path of the artifact.
    #[must_use]
    pub fn path(&self) -> &ArtifactPath {
        &self.path
    }

    /// Adds bytes; waits while the repository is behind.
    ///
    /// # Errors
    /// [`SourceError::Aborted`] if the repository stopped taking data.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), SourceError> {
        let Some(pieces) = &self.pieces else { return Err(SourceError::Aborted) };
        self.digest.update(&bytes);
        self.size_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            pieces.send(Piece::Data(piece)).await.map_err(|_| SourceError::Aborted)?;
        }
        Ok(())
    }

    /// Completes the artifact. `items` and `content_digest` go into its record in the manifest.
    ///
    /// # Errors
    /// [`SourceError::Aborted`] if the repository stopped accepting data.
    pub async fn finish(
        mut self,
        items: Option<u64>,
        content_digest: Option<String>,
    ) -> Result<(), SourceError> {
        let Some(pieces) = self.pieces.take() else { return Err(SourceError::Aborted) };
        pieces.send(Piece::End).await.map_err(|_| SourceError::Aborted)?;
        self.state.lock().records.insert(
            PathBuf::from(self.path.as_str()),
            ArtifactRecord {
                path: self.path.as_str().to_owned(),
                size_bytes: self.size_bytes,
                sha256: std::mem::take(&mut self.digest).finish(),
                items,
                content_digest,
            },
        );
        Ok(())
    }
}

impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        if self.pieces.is_some() {
            self.state.spoil(format!("{}: the source dropped it before its end", self.path));
        }
    }
}
