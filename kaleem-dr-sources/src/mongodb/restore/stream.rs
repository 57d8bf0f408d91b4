//! An artifact of a point as a stream of pieces.

use bytes::Bytes;
use futures::Stream;
use kaleem_dr_core::{ground::SourceError, recovery::point::PointReader};

/// The pieces of one artifact, in order; they may have any length.
pub(crate) async fn pieces(
    point: &PointReader,
    path: &str,
) -> Result<impl Stream<Item = Result<Bytes, SourceError>> + Unpin + use<>, SourceError> {
    let reader = point.artifact(path).await?;
    Ok(Box::pin(futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|piece| (piece, reader)))
    })))
}
