//! An artifact as a blocking reader, for code that parses archives.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use kaleem_dr_core::{CancellationToken, ground::SourceError, recovery::point::ArtifactReader};
use tokio::sync::mpsc;

/// Capacity of the channel to the reader, in pieces.
const PIECES_IN_FLIGHT: usize = 4;

/// Passes an artifact to blocking work. The artifact is read to its end and checked against the
/// manifest, even if the work ends earlier.
///
/// # Errors
/// If the artifact cannot be read or differs from the capture, and [`SourceError::Cancelled`].
pub(super) async fn through<T: Send + 'static>(
    mut artifact: ArtifactReader,
    cancel: &CancellationToken,
    work: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
) -> Result<T, SourceError> {
    let (sender, pieces) = mpsc::channel(PIECES_IN_FLIGHT);
    let worker =
        tokio::task::spawn_blocking(move || work(&mut Pieces { pieces, current: Bytes::new() }));
    let mut sender = Some(sender);
    let read = loop {
        match cancel.run_until_cancelled(artifact.next()).await {
            None => break Err(SourceError::Cancelled),
            Some(Err(error)) => break Err(error),
            Some(Ok(None)) => break Ok(()),
            Some(Ok(Some(bytes))) => {
                let gone = match &sender {
                    Some(pieces) => pieces.send(bytes).await.is_err(),
                    None => false,
                };
                if gone {
                    sender = None;
                }
            }
        }
    };
    drop(sender);
    let done = worker.await.map_err(|panic| SourceError::Point(panic.into()))?;
    read.map(|()| done)
}

struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => return Ok(0),
            }
        }
        let taken = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}
