//! Documents as an artifact takes them: digested one by one, and handed on in pieces of a good length.

use bytes::BytesMut;
use kaleem_dr_core::{
    engine::artifact::ArtifactWriter,
    ground::{SourceError, digest::MultisetDigest},
};
use mongodb::raw_batch_cursor::RawBatch;

use super::documents::documents;

/// Length of the pieces that go to the repository.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Writes the documents of a batch, in pieces of a good length.
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
