//! Reading a recovery point back: its manifest, its artifacts, its trees.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    CancellationToken,
    digest::ByteDigest,
    manifest::{ArtifactRecord, Manifest},
    progress::ProgressSink,
    repository::{RepositoryError, SnapshotReader, blocking},
    source::SourceError,
};

/// One source's snapshot, opened for reading.
#[derive(Clone, Debug)]
pub struct PointReader {
    manifest: Arc<Manifest>,
    snapshot: SnapshotReader,
    progress: Arc<dyn ProgressSink>,
    cancel: CancellationToken,
}

impl PointReader {
    /// Opens a snapshot of ours as a recovery point.
    ///
    /// # Errors
    /// When the snapshot cannot be read, or has no manifest: another tool made it.
    pub async fn open(
        snapshot: SnapshotReader,
        progress: Arc<dyn ProgressSink>,
        cancel: CancellationToken,
    ) -> Result<Self, RepositoryError> {
        let manifest = snapshot.manifest().await?.ok_or_else(|| RepositoryError::Damaged {
            object: format!("snapshot {}", snapshot.snapshot().id().short()),
            why: "it has no manifest, so another tool made it; `kaleem-dr restore files` takes it".into(),
        })?;
        Ok(Self { manifest: Arc::new(manifest), snapshot, progress, cancel })
    }

    /// What the snapshot says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The snapshot behind it.
    #[must_use]
    pub fn snapshot(&self) -> &SnapshotReader {
        &self.snapshot
    }

    /// Where long work tells of itself.
    #[must_use]
    pub fn progress(&self) -> &Arc<dyn ProgressSink> {
        &self.progress
    }

    /// Resolves when the operator cancels.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Opens one artifact. Its bytes are checked against the manifest as they pass.
    ///
    /// # Errors
    /// When the manifest has no such artifact, or the repository cannot give it.
    pub async fn artifact(&self, path: &str) -> Result<ArtifactReader, SourceError> {
        let record =
            self.manifest.artifact(path).ok_or_else(|| SourceError::Point(format!("it holds no artifact {path}").into()))?;
        let (snapshot, wanted) = (self.snapshot.clone(), PathBuf::from(path));
        let pieces = blocking(move || match snapshot.find(&wanted)? {
            Some(node) => Ok(snapshot.places(&node)?),
            None => Err(RepositoryError::Damaged {
                object: wanted.display().to_string(),
                why: "the manifest names it but the snapshot does not hold it".into(),
            }),
        })
        .await
        .map_err(|error| SourceError::Point(error.into()))?;
        let pieces = self.snapshot.stream_places(pieces);
        Ok(ArtifactReader { pieces, digest: ByteDigest::default(), read: 0, expected: record.clone() })
    }
}

/// The bytes of one artifact, piece by piece.
#[derive(Debug)]
pub struct ArtifactReader {
    pieces: mpsc::Receiver<Result<Bytes, RepositoryError>>,
    digest: ByteDigest,
    read: u64,
    expected: ArtifactRecord,
}

impl ArtifactReader {
    /// The next piece, of any length; `None` at the end, which is reached only if length and SHA-256 are the manifest's.
    ///
    /// # Errors
    /// When the repository cannot be read, or what it gave is not what was captured.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        match self.pieces.recv().await {
            Some(Ok(bytes)) => {
                self.digest.update(&bytes);
                self.read += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Some(Err(error)) => Err(SourceError::Point(error.into())),
            None => {
                let found = std::mem::take(&mut self.digest).finish();
                if self.read == self.expected.size_bytes && found == self.expected.sha256 {
                    Ok(None)
                } else {
                    Err(SourceError::Point(
                        format!(
                            "{} is not what was captured: {} bytes with SHA-256 {found}, but the manifest says {} bytes with {}",
                            self.expected.path, self.read, self.expected.size_bytes, self.expected.sha256
                        )
                        .into(),
                    ))
                }
            }
        }
    }

    /// The whole artifact, for those known to be small. `limit_bytes` is the most that is taken into memory.
    ///
    /// # Errors
    /// As [`ArtifactReader::next`], and when the artifact is longer than the limit.
    pub async fn read_all(mut self, limit_bytes: u64) -> Result<Vec<u8>, SourceError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if self.read > limit_bytes {
                return Err(SourceError::Point(format!("{} is longer than {limit_bytes} bytes", self.expected.path).into()));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}
