//! Staged files: a recovery point as one plain file, in the format of the service's own tools.
//!
//! A source with such a form writes it from a point, and opens a file as a point. It handles only the plain form; this module
//! handles compression.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    CancellationToken,
    ground::{
        SourceError,
        durable_file::DurableFile,
        gzip::GzipWriter,
        progress::{ProgressSink, Silent},
    },
    recovery::{point::PointReader, restore::ensure_room},
};

/// Limit for the pieces waiting to be written.
const PIECES_IN_FLIGHT: usize = 8;
/// Size of the pieces that blocking code writes, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// A source's points as files.
#[async_trait]
pub trait StagedForm: Send + Sync {
    /// The naming scheme of such files.
    fn name(&self) -> StagedName;

    /// Writes a point in the plain form. The creator of the sink finishes it.
    ///
    /// # Errors
    /// If the point cannot be read or cannot be represented in this form. [`SourceError::Aborted`] if the sink failed; its
    /// `finish` returns the reason.
    async fn write(&self, point: &PointReader, out: &mut Sink) -> Result<(), SourceError>;

    /// Reads a file completely, checks everything that its form allows to check, and opens it as a point.
    /// [`crate::ground::gzip::decompressed`] reads it compressed or not.
    ///
    /// # Errors
    /// [`SourceError::Damaged`] with the position of the damage, and what can still be read.
    async fn open(&self, file: &Path, work: &StagedWork) -> Result<PointReader, SourceError>;
}

/// The naming scheme of a source's staged files: `<stem>-<DATE>.<suffix>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StagedName {
    /// The part before the date: `mongo`.
    pub stem: &'static str,
    /// The part after the date: `archive.gz`. If it ends in `gz`, the file is compressed.
    pub suffix: &'static str,
}

impl StagedName {
    /// The scheme `<stem>-<DATE>.<suffix>`.
    #[must_use]
    pub const fn new(stem: &'static str, suffix: &'static str) -> Self {
        Self { stem, suffix }
    }

    /// Reports whether files with this name are compressed.
    #[must_use]
    pub fn is_gzip(&self) -> bool {
        self.suffix.ends_with("gz")
    }
}

/// The resources for opening a staged file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StagedWork {
    /// Directory for unpacked data; each file gets a temporary directory of its own.
    pub scratch: PathBuf,
    /// The sink for the progress of long work.
    pub progress: Arc<dyn ProgressSink>,
    /// Cancelled when the operator cancels.
    pub cancel: CancellationToken,
}

impl StagedWork {
    /// Work in a directory, without progress, that is never cancelled.
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            scratch: scratch.into(),
            progress: Arc::new(Silent),
            cancel: CancellationToken::new(),
        }
    }
}

/// Writes a point in a source's plain form, compressed or not, and returns the number of bytes written.
///
/// # Errors
/// As [`StagedForm::write`]; also if the output cannot be written or the operator cancels.
pub async fn export(
    form: &dyn StagedForm,
    point: &PointReader,
    out: Box<dyn Write + Send>,
    gzip: bool,
) -> Result<u64, SourceError> {
    let mut sink = Sink::new(out, gzip);
    let cancel = point.cancellation();
    match cancel.run_until_cancelled(form.write(point, &mut sink)).await {
        Some(Ok(())) => sink.finish().await,
        // The sink failed; only its `finish` returns the reason.
        Some(Err(SourceError::Aborted)) => sink.finish().await.and(Err(SourceError::Aborted)),
        Some(Err(error)) => Err(error),
        None => Err(SourceError::Cancelled),
    }
}

/// Like [`export`], into a file with access for its owner only: it is written next to its place under another name, made durable,
/// then renamed. An existing file is left alone.
///
/// # Errors
/// As [`export`]; [`SourceError::Refused`] if a file of that name exists.
pub async fn export_to(
    form: &dyn StagedForm,
    point: &PointReader,
    path: &Path,
    gzip: bool,
) -> Result<u64, SourceError> {
    to_new_file(path, |out| export(form, point, out, gzip)).await
}

/// Writes a file with access for its owner only, which appears once it is complete.
///
/// # Errors
/// [`SourceError::Refused`] if a file of that name exists; the error of `write`; if the file cannot be created.
pub(super) async fn to_new_file<T, F: Future<Output = Result<T, SourceError>>>(
    path: &Path,
    write: impl FnOnce(Box<dyn Write + Send>) -> F,
) -> Result<T, SourceError> {
    let failed = |action: &str| {
        let (path, action) = (path.to_path_buf(), action.to_owned());
        move |cause| SourceError::Path { path, action, cause }
    };
    let taken = || {
        SourceError::Refused(format!(
            "{} already exists; choose another file, or remove it",
            path.display()
        ))
    };
    if path.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let file = DurableFile::begin(path, 0o600).map_err(failed("create"))?;
    let written = write(Box::new(file.file().try_clone().map_err(failed("open"))?)).await?;
    file.create_new().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(),
        _ => failed("write")(error),
    })?;
    Ok(written)
}

impl StagedWork {
    /// Checks that unpacked data of this size fit in the scratch directory.
    ///
    /// # Errors
    /// If fewer bytes are free there.
    pub fn ensure_room(&self, needed_bytes: u64) -> Result<(), SourceError> {
        let failed = |cause| self.unusable(cause);
        fs::create_dir_all(&self.scratch).map_err(failed)?;
        ensure_room(&self.scratch, needed_bytes).map_err(failed)
    }

    /// A new empty directory in the scratch directory, which is removed when the value is dropped.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn directory(&self) -> Result<TempDir, SourceError> {
        let failed = |cause| self.unusable(cause);
        fs::create_dir_all(&self.scratch).map_err(failed)?;
        tempfile::Builder::new().prefix("kaleem-dr-").tempdir_in(&self.scratch).map_err(failed)
    }

    fn unusable(&self, cause: io::Error) -> SourceError {
        SourceError::Path {
            path: self.scratch.clone(),
            action: "unpack a staged file here".to_owned(),
            cause,
        }
    }
}

/// Receives the bytes of one file from async or blocking code, and writes them on a thread of its own.
///
/// Without [`Sink::finish`] the output is truncated, so that half a file cannot be mistaken for a whole one.
#[derive(Debug)]
#[must_use = "a sink that is not finished leaves its output cut off"]
pub struct Sink {
    pieces: mpsc::Sender<Piece>,
    writer: JoinHandle<io::Result<u64>>,
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

impl Sink {
    /// A sink that writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, gzip: bool) -> Self {
        let (pieces, mut receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let writer = tokio::task::spawn_blocking(move || {
            let mut out = Counted { out, written: 0 };
            if gzip {
                let mut packed = GzipWriter::new(out);
                pump(&mut receiver, &mut packed)?;
                out = packed.finish()?;
            } else {
                pump(&mut receiver, &mut out)?;
            }
            out.flush()?;
            Ok(out.written)
        });
        Self { pieces, writer }
    }

    /// Adds bytes; waits until the file has caught up.
    ///
    /// # Errors
    /// [`SourceError::Aborted`] if the file cannot be written; [`Sink::finish`] returns the reason.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), SourceError> {
        self.pieces.send(Piece::Data(bytes)).await.map_err(|_| SourceError::Aborted)
    }

    /// The same sink for blocking code. Its `flush` must be called at the end: it buffers.
    #[must_use]
    pub fn blocking(&self) -> BlockingSink {
        BlockingSink { pieces: self.pieces.clone(), buffer: Vec::new() }
    }

    /// Writes what it received and ends, so that the output shows how far it came. The file is not complete.
    pub async fn abandon(self) {
        drop(self.pieces);
        // The work has failed already.
        let _ = self.writer.await;
    }

    /// Completes the file and returns its length as written, in bytes.
    ///
    /// # Errors
    /// [`SourceError::Output`] if the file cannot be written.
    pub async fn finish(self) -> Result<u64, SourceError> {
        // Fails only if the writer has already ended; its result has the reason.
        let _ = self.pieces.send(Piece::End).await;
        drop(self.pieces);
        match self.writer.await {
            Ok(written) => written.map_err(SourceError::Output),
            Err(panic) => Err(SourceError::Output(io::Error::other(panic))),
        }
    }
}

fn pump(pieces: &mut mpsc::Receiver<Piece>, out: &mut impl Write) -> io::Result<()> {
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(bytes)) => out.write_all(&bytes)?,
            Some(Piece::End) => return Ok(()),
            None => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its content broke off"));
            }
        }
    }
}

struct Counted {
    out: Box<dyn Write + Send>,
    written: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A [`Sink`] for blocking writers, as an [`io::Write`].
#[derive(Debug)]
pub struct BlockingSink {
    pieces: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
}

impl Write for BlockingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        self.pieces
            .blocking_send(Piece::Data(piece))
            .map_err(|_| io::Error::other("the output cannot be written"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_sink_writes_what_async_and_blocking_code_give_it_in_order() {
        let file = Shared::default();
        let mut sink = Sink::new(Box::new(file.clone()), false);
        sink.write(Bytes::from_static(b"one ")).await.unwrap();
        let mut blocking = sink.blocking();
        tokio::task::spawn_blocking(move || {
            blocking.write_all(b"two ").unwrap();
            blocking.flush().unwrap();
        })
        .await
        .unwrap();
        sink.write(Bytes::from_static(b"three")).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 13);
        assert_eq!(*file.0.lock().unwrap(), b"one two three");
    }

    #[test]
    fn what_does_not_fit_on_the_disk_is_told_before() {
        let scratch = tempfile::tempdir().unwrap();
        let work = StagedWork {
            scratch: scratch.path().to_owned(),
            progress: Arc::new(crate::ground::progress::Silent),
            cancel: CancellationToken::new(),
        };
        work.ensure_room(1).unwrap();
        let error = crate::ground::error_chain(&work.ensure_room(u64::MAX).unwrap_err());
        assert!(
            error.contains("cannot unpack a staged file here") && error.contains("bytes are free"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_sink_that_is_dropped_leaves_no_whole_gzip_file() {
        let file = Shared::default();
        let mut sink = Sink::new(Box::new(file.clone()), true);
        sink.write(Bytes::from_static(b"half")).await.unwrap();
        let Sink { pieces, writer } = sink;
        drop(pieces);
        assert!(writer.await.unwrap().is_err());
        assert!(file.0.lock().unwrap().is_empty());
    }
}
