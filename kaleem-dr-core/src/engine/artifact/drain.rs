//! Captures a source into nothing, to measure how fast it can be read.

use std::{io, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Capture, Entry, EntryKind};
use crate::{engine::source::Source, ground::SourceError};

/// The amount of data that a capture delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Number of artifacts and files.
    pub streams: u64,
    /// Their total length in bytes.
    pub bytes: u64,
}

/// Captures a source, reads everything that it delivers, and discards it: no repository takes part. Streams are read side by side.
/// For benchmarks, and to find out whether the source or the repository limits a backup.
///
/// # Errors
/// As the capture; if a stream ends early.
pub async fn drain(
    source: &dyn Source,
    cancel: &CancellationToken,
) -> Result<Drained, SourceError> {
    let (mut capture, mut entries, state) = Capture::begin(Arc::default(), cancel.clone());
    let reading = async {
        let (mut drained, mut readers) = (Drained::default(), JoinSet::new());
        while let Some(batch) = entries.recv().await {
            for Entry { kind, path, .. } in batch {
                if matches!(kind, EntryKind::Stream(_) | EntryKind::File(_)) {
                    drained.streams += 1;
                    let state = state.clone();
                    readers.spawn_blocking(move || {
                        let mut from = Entry::open(kind, path, 0, state)?;
                        io::copy(&mut from, &mut io::sink())
                    });
                }
            }
        }
        while let Some(read) = readers.join_next().await {
            drained.bytes += read.map_err(io::Error::other)??;
        }
        Ok::<_, io::Error>(drained)
    };
    let capturing = async {
        let captured = source.capture(&mut capture).await;
        drop(capture);
        captured
    };
    let (captured, read) = tokio::join!(capturing, reading);
    captured?;
    let drained = read.map_err(|error| SourceError::Unsupported(error.to_string()))?;
    state.conclude().map_err(SourceError::Unsupported)?;
    Ok(drained)
}
