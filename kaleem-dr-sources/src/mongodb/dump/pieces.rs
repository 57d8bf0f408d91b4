//! Writes documents to an artifact: digests each one, and joins them into pieces of a suitable length.

use bytes::BytesMut;
use kaleem_dr_core::{
    engine::artifact::ArtifactWriter,
    ground::{ArtifactPath, SourceError, digest::MultisetDigest},
};

/// Size of the pieces passed to the repository, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// Writes documents into one artifact.
#[derive(Debug)]
#[must_use = "an artifact that is not finished spoils the capture"]
pub(crate) struct DocumentWriter {
    writer: ArtifactWriter,
    content: MultisetDigest,
    pieces: BytesMut,
}

impl DocumentWriter {
    pub(crate) fn new(writer: ArtifactWriter) -> Self {
        Self {
            writer,
            content: MultisetDigest::default(),
            pieces: BytesMut::with_capacity(PIECE_BYTES),
        }
    }

    pub(crate) fn path(&self) -> &ArtifactPath {
        self.writer.path()
    }

    /// Number of documents written so far.
    pub(crate) fn items(&self) -> u64 {
        self.content.items()
    }

    pub(crate) async fn write(&mut self, document: &[u8]) -> Result<(), SourceError> {
        self.content.add(document);
        let mut rest = document;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES - self.pieces.len()));
            self.pieces.extend_from_slice(now);
            rest = later;
            if self.pieces.len() == PIECE_BYTES {
                let empty = BytesMut::with_capacity(PIECE_BYTES);
                let piece = std::mem::replace(&mut self.pieces, empty);
                self.writer.write(piece.freeze()).await?;
            }
        }
        Ok(())
    }

    /// Ends the artifact and records the count and digest of its documents.
    pub(crate) async fn finish(mut self) -> Result<(), SourceError> {
        self.writer.write(self.pieces.freeze()).await?;
        self.writer.finish(Some(self.content.items()), Some(self.content.to_hex())).await
    }
}
