//! Writes documents to an artifact: digests each one, and groups them into pieces of a suitable
//! length.

use bytes::BytesMut;
use kaleem_dr_core::{
    engine::artifact::ArtifactWriter,
    ground::{SourceError, digest::MultisetDigest},
};
use mongodb::raw_batch_cursor::RawBatch;

use super::documents::documents;

/// Target length of the pieces passed to the repository, in bytes.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Writes the documents of a batch.
pub(crate) async fn write(
    writer: &mut ArtifactWriter,
    batch: &RawBatch,
    content: &mut MultisetDigest,
    pieces: &mut BytesMut,
) -> Result<(), SourceError> {
    let path = writer.path().clone();
    let malformed = |why: String| SourceError::artifact(&path, why);
    for document in documents(batch).map_err(malformed)? {
        let mut rest = document.map_err(malformed)?;
        content.add(rest);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES - pieces.len()));
            pieces.extend_from_slice(now);
            rest = later;
            if pieces.len() == PIECE_BYTES {
                let piece = std::mem::replace(pieces, BytesMut::with_capacity(PIECE_BYTES));
                writer.write(piece.freeze()).await?;
            }
        }
    }
    Ok(())
}
