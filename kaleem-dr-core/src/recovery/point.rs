//! Reads a recovery point: its manifest, its artifacts, its trees.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    CancellationToken,
    engine::{
        change_log::LogPosition,
        manifest::{ArtifactRecord, Manifest},
        repository::{RepositoryError, SnapshotReader, blocking},
    },
    ground::{SourceError, digest::ByteDigest, progress::ProgressSink},
    recovery::{read_through::read_through, restore::FilesReport},
};

/// Size of the pieces in which a file is read, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// One source's recovery point, opened for reading: a snapshot, or a staged file.
#[derive(Clone, Debug)]
pub struct PointReader {
    manifest: Arc<Manifest>,
    origin: Origin,
    log: Option<Arc<LogTail>>,
    progress: Arc<dyn ProgressSink>,
    cancel: CancellationToken,
    read: Arc<Mutex<HashSet<String>>>,
    files_read: Option<Arc<FilesReport>>,
}

/// The slices of a change log that lead from a point to a later moment.
#[derive(Debug)]
pub struct LogTail {
    /// The slices, in the order of the log. Each begins with entries that the one before it ends with.
    pub slices: Vec<PointReader>,
    /// Position that the data of the point represent.
    pub from: LogPosition,
    /// The first position that is not replayed.
    pub until: LogPosition,
}

/// The origin of a point.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A snapshot of a repository.
    Snapshot(Arc<SnapshotReader>),
    /// A staged file, split into its artifacts.
    File(Arc<FilePoint>),
}

/// A staged file as a recovery point.
#[derive(Debug)]
#[non_exhaustive]
pub struct FilePoint {
    /// Path of the staged file itself.
    pub path: PathBuf,
    /// The location of each artifact's bytes, by the artifact's path.
    pub parts: BTreeMap<String, FilePart>,
    /// Directory with the unpacked data, which is removed with the point.
    pub unpacked: Option<tempfile::TempDir>,
}

impl FilePoint {
    /// A staged file and the location of each artifact in it. `unpacked` is the directory with the parts that had to be unpacked.
    pub fn new(
        path: impl Into<PathBuf>,
        parts: BTreeMap<String, FilePart>,
        unpacked: Option<tempfile::TempDir>,
    ) -> Self {
        Self { path: path.into(), parts, unpacked }
    }
}

/// A range of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilePart {
    /// Path of the file that contains the range: the staged file, or an unpacked part.
    pub path: PathBuf,
    /// Offset of the range, in bytes.
    pub offset_bytes: u64,
    /// Length of the range, in bytes.
    pub size_bytes: u64,
}

impl FilePart {
    /// The first `size_bytes` of a file.
    pub fn new(path: impl Into<PathBuf>, size_bytes: u64) -> Self {
        Self { path: path.into(), offset_bytes: 0, size_bytes }
    }

    /// The same number of bytes from an offset on.
    #[must_use]
    pub fn at(self, offset_bytes: u64) -> Self {
        Self { offset_bytes, ..self }
    }
}

impl PointReader {
    /// Opens a staged file as a point. The manifest describes its content; a reader compares what it reads with that.
    #[must_use]
    pub fn of_file(
        manifest: Manifest,
        file: FilePoint,
        progress: Arc<dyn ProgressSink>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            manifest: Arc::new(manifest),
            origin: Origin::File(Arc::new(file)),
            log: None,
            progress,
            cancel,
            read: Arc::default(),
            files_read: None,
        }
    }

    /// Opens one of our snapshots as a recovery point.
    ///
    /// # Errors
    /// If the snapshot cannot be read, or has no manifest because another tool made it.
    pub async fn open(
        snapshot: SnapshotReader,
        progress: Arc<dyn ProgressSink>,
        cancel: CancellationToken,
    ) -> Result<Self, RepositoryError> {
        let manifest = snapshot.manifest().await?.ok_or_else(|| RepositoryError::Damaged {
            object: format!("snapshot {}", snapshot.snapshot().id().short()),
            why: "it has no manifest, so another tool made it; use `kaleem-dr restore files`"
                .into(),
        })?;
        Ok(Self {
            manifest: Arc::new(manifest),
            origin: Origin::Snapshot(Arc::new(snapshot)),
            log: None,
            progress,
            cancel,
            read: Arc::default(),
            files_read: None,
        })
    }

    /// The same point, with another sink for the progress of long work.
    #[must_use]
    pub fn telling(&self, progress: Arc<dyn ProgressSink>) -> Self {
        Self { progress, ..self.clone() }
    }

    /// The same point, of which nothing counts as read: a verification does not rely on what was read before it.
    pub(crate) fn unread(&self) -> Self {
        Self { read: Arc::default(), files_read: None, ..self.clone() }
    }

    /// The same point, after all of its files were read and found intact.
    pub(crate) fn with_files_read(self, files: Option<FilesReport>) -> Self {
        Self { files_read: files.map(Arc::new), ..self }
    }

    /// Reports whether an artifact was read to its end and found equal to the manifest, by this point or a clone.
    pub(crate) fn is_read(&self, path: &str) -> bool {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Reads every file of a snapshot, its artifacts included, and compares each blob with its id, unless the verification that
    /// inspects this point has done so. Artifacts that it left for later count as read. A staged file has no other files, so
    /// its report is empty.
    ///
    /// # Errors
    /// If the trees cannot be read. Files that cannot be read are in the report.
    pub async fn read_files(&self) -> Result<FilesReport, SourceError> {
        match (&self.files_read, &self.origin) {
            (Some(read), _) => Ok(FilesReport::clone(read)),
            (None, Origin::Snapshot(snapshot)) => {
                read_through(snapshot, &*self.progress, &self.cancel).await
            }
            (None, Origin::File(_)) => Ok(FilesReport::default()),
        }
    }

    /// The same point, to be restored to a later moment.
    pub(crate) fn with_log(self, tail: LogTail) -> Self {
        Self { log: Some(Arc::new(tail)), ..self }
    }

    /// The slices of a change log to replay after the point is restored; `None` if it is restored as it is.
    #[must_use]
    pub fn log(&self) -> Option<&LogTail> {
        self.log.as_deref()
    }

    /// The manifest of the snapshot or file.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The origin of the point.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The sink for the progress of long work.
    #[must_use]
    pub fn progress(&self) -> &Arc<dyn ProgressSink> {
        &self.progress
    }

    /// Resolves when the operator cancels.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Opens one artifact. Its bytes are compared with the manifest while they are read.
    ///
    /// # Errors
    /// If the manifest has no such artifact, or the repository cannot provide it.
    pub async fn artifact(&self, path: &str) -> Result<ArtifactReader, SourceError> {
        let record = self
            .manifest
            .artifact(path)
            .ok_or_else(|| SourceError::Point(format!("it contains no artifact {path}").into()))?;
        let pieces = match &self.origin {
            Origin::Snapshot(snapshot) => from_snapshot(snapshot, path)
                .await
                .map_err(|error| SourceError::Point(error.into()))?,
            Origin::File(file) => {
                let part = file.parts.get(path).cloned();
                let part = part.ok_or_else(|| {
                    SourceError::Point(format!("{} contains no {path}", file.path.display()).into())
                })?;
                from_file(part, file.clone())
            }
        };
        Ok(ArtifactReader {
            pieces,
            digest: ByteDigest::default(),
            read: 0,
            expected: record.clone(),
            turned: None,
            ended: self.read.clone(),
        })
    }
}

async fn from_snapshot(snapshot: &SnapshotReader, path: &str) -> Result<Pieces, RepositoryError> {
    let (reader, wanted) = (snapshot.clone(), PathBuf::from(path));
    let places = blocking(move || match reader.find(&wanted)? {
        Some(node) => Ok(reader.places(&node)?),
        None => Err(RepositoryError::Damaged {
            object: wanted.display().to_string(),
            why: "the manifest lists it, but the snapshot does not contain it".into(),
        }),
    })
    .await?;
    Ok(snapshot.stream_places(places))
}

/// `file` is kept until the last piece is read, because the unpacked data are removed with it.
fn from_file(part: FilePart, file: Arc<FilePoint>) -> Pieces {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let _held = file;
        if let Err(cause) = read_part(&part, &sender) {
            let path = part.path;
            // The receiver may be gone.
            let _ =
                sender.blocking_send(Err(RepositoryError::Path { path, action: "read", cause }));
        }
    });
    receiver
}

fn read_part(
    part: &FilePart,
    pieces: &mpsc::Sender<Result<Bytes, RepositoryError>>,
) -> io::Result<()> {
    let mut file = File::open(&part.path)?;
    file.seek(SeekFrom::Start(part.offset_bytes))?;
    let mut rest = file.take(part.size_bytes);
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        rest.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
        // At the end, or if the receiver is gone, nothing is left to do.
        if piece.is_empty() || pieces.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

type Pieces = mpsc::Receiver<Result<Bytes, RepositoryError>>;

/// The bytes of one artifact, piece by piece.
#[derive(Debug)]
pub struct ArtifactReader {
    pieces: Pieces,
    digest: ByteDigest,
    read: u64,
    expected: ArtifactRecord,
    /// Offset of a byte that is returned changed.
    turned: Option<u64>,
    /// Receives the path of the artifact at its end.
    ended: Arc<Mutex<HashSet<String>>>,
}

impl ArtifactReader {
    /// Returns one byte in the middle changed: a damage that the check at the end of the artifact must detect.
    pub(crate) fn with_a_byte_turned(mut self) -> Self {
        self.turned = Some(self.expected.size_bytes / 2);
        self
    }

    /// The next piece, of any length; `None` at the end, which is reached only if length and SHA-256 match the manifest.
    ///
    /// # Errors
    /// If the repository cannot be read, or the data differ from the captured ones.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        match self.pieces.recv().await {
            Some(Ok(mut bytes)) => {
                let within = self
                    .turned
                    .and_then(|at| at.checked_sub(self.read))
                    .and_then(|at| usize::try_from(at).ok());
                if let Some(at) = within.filter(|at| *at < bytes.len()) {
                    let mut damaged = bytes.to_vec();
                    damaged[at] ^= 1;
                    bytes = damaged.into();
                }
                self.digest.update(&bytes);
                self.read += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Some(Err(error)) => Err(SourceError::Point(error.into())),
            None => {
                let found = std::mem::take(&mut self.digest).finish();
                if self.read == self.expected.size_bytes && found == self.expected.sha256 {
                    let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.insert(self.expected.path.clone());
                    Ok(None)
                } else {
                    Err(SourceError::Point(
                        format!(
                            "{} is not what was captured: {} bytes with SHA-256 {found}, but the manifest has {} bytes with {}",
                            self.expected.path, self.read, self.expected.size_bytes, self.expected.sha256
                        )
                        .into(),
                    ))
                }
            }
        }
    }

    /// The whole artifact, for small ones. `limit_bytes` limits the memory used.
    ///
    /// # Errors
    /// As [`ArtifactReader::next`]; also if the artifact is longer than the limit.
    pub async fn read_all(mut self, limit_bytes: u64) -> Result<Vec<u8>, SourceError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if self.read > limit_bytes {
                return Err(SourceError::Point(
                    format!("{} is longer than {limit_bytes} bytes", self.expected.path).into(),
                ));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}
