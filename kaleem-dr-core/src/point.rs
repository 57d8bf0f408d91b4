//! Reading a recovery point back: its manifest, its artifacts, its trees.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    digest::ByteDigest,
    manifest::{ArtifactRecord, Manifest},
    progress::ProgressSink,
    source::{Cause, SourceError},
};

/// One source's snapshot, opened for reading.
#[derive(Debug)]
pub struct PointReader {
    manifest: Manifest,
    progress: Arc<dyn ProgressSink>,
    cancel: CancellationToken,
}

impl PointReader {
    /// What the snapshot says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
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
        let record = self.manifest.artifact(path).ok_or_else(|| SourceError::Point(format!("it holds no artifact {path}").into()))?;
        let (_sender, chunks) = mpsc::channel(4);
        Ok(ArtifactReader { chunks, digest: ByteDigest::default(), read: 0, expected: record.clone() })
    }
}

/// The bytes of one artifact, piece by piece.
#[derive(Debug)]
pub struct ArtifactReader {
    chunks: mpsc::Receiver<Result<Bytes, Cause>>,
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
        match self.chunks.recv().await {
            Some(Ok(bytes)) => {
                self.digest.update(&bytes);
                self.read += bytes.len() as u64;
                Ok(Some(bytes))
            }
            Some(Err(cause)) => Err(SourceError::Point(cause)),
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
