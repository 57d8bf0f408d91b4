//! Restores the content of a window's files: read in runs of neighbouring blobs, several at once, and written to their places.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt as _;

use super::Item;
use crate::{
    CancellationToken,
    engine::repository::{BlobPlace, RepositoryError, SnapshotReader, blocking, pick, runs},
    ground::{digest::ByteDigest, error_chain, progress::StageProgress},
};

/// Number of runs read at once.
const RUNS_AT_ONCE: usize = 4;
/// Zeros of this length, on its boundary in a blob, become a hole.
const HOLE_BYTES: usize = 64 << 10;

/// The errors of a window's items, by index.
pub(super) type Failed = HashMap<usize, String>;

/// Reads the blobs of a window and writes them to their files.
pub(super) async fn write(
    snapshot: &SnapshotReader,
    window: &Arc<Vec<Item>>,
    failed: &mut Failed,
    stage: &Arc<dyn StageProgress>,
    cancel: &CancellationToken,
) -> Result<(), RepositoryError> {
    let mut places = Vec::new();
    // For each place: its item, and the offset in the item's file.
    let mut homes = Vec::new();
    for (at, item) in window.iter().enumerate().filter(|(at, _)| !failed.contains_key(at)) {
        let mut offset = 0;
        for place in &item.blobs {
            places.push(*place);
            homes.push((at, offset));
            offset += place.plain_length();
        }
    }
    let runs = runs(&places, true);
    let homes = Arc::new(homes);
    let mut writes = futures::stream::iter(runs)
        .map(|run| {
            let (picked, window, homes) = (pick(&places, &run), window.clone(), homes.clone());
            async move {
                let read = snapshot.blobs().read(&run, &picked).await;
                let wanted = run.wanted;
                match read {
                    Ok(blobs) => {
                        blocking(move || Ok(write_blobs(&window, &homes, &wanted, &blobs))).await
                    }
                    // The files that need this run are lost; others may still be restored.
                    Err(error) => Ok(wanted
                        .iter()
                        .map(|&at| (homes[at].0, Err(error_chain(&error))))
                        .collect()),
                }
            }
        })
        .buffer_unordered(RUNS_AT_ONCE);
    loop {
        let written = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(RepositoryError::Cancelled),
            written = writes.next() => written,
        };
        let Some(written) = written else { return Ok(()) };
        for (item, result) in written? {
            match result {
                Ok(bytes) => stage.advance(bytes),
                Err(why) => {
                    failed.entry(item).or_insert(why);
                }
            }
        }
    }
}

fn write_blobs(
    window: &[Item],
    homes: &[(usize, u64)],
    wanted: &[usize],
    blobs: &[Bytes],
) -> Vec<(usize, Result<u64, String>)> {
    let mut open: Option<(usize, File)> = None;
    let mut results = Vec::with_capacity(wanted.len());
    for (&place, blob) in wanted.iter().zip(blobs) {
        let (at, offset) = homes[place];
        let file = match open.take() {
            Some((which, file)) if which == at => Ok(file),
            _ => match &window[at].unfinished {
                Some(unfinished) => unfinished.open(),
                None => Err(io::Error::other("it was not created")),
            },
        };
        let result = file.and_then(|file| {
            write_sparsely(&file, blob, offset)?;
            open = Some((at, file));
            Ok(blob.len() as u64)
        });
        results.push((at, result.map_err(|error| error.to_string())));
    }
    results
}

/// The file already has its full length and consists of holes; blocks of zeros stay holes.
pub(crate) fn write_sparsely(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let zero = |chunk: &[u8]| chunk.iter().all(|&byte| byte == 0);
        let mut end = (at + HOLE_BYTES).min(bytes.len());
        if zero(&bytes[at..end]) {
            at = end;
            continue;
        }
        while end < bytes.len() && !zero(&bytes[end..(end + HOLE_BYTES).min(bytes.len())]) {
            end = (end + HOLE_BYTES).min(bytes.len());
        }
        file.write_all_at(&bytes[at..end], offset + at as u64)?;
        at = end;
    }
    Ok(())
}

/// Reads a file back and compares each blob's range with its id. Ends early if the operator cancels; the caller must check for
/// that.
pub(super) fn verify(
    mut file: &File,
    blobs: &[BlobPlace],
    cancel: &CancellationToken,
) -> io::Result<()> {
    file.rewind()?;
    let mut buffer = Vec::new();
    for place in blobs {
        if cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        buffer.resize(usize::try_from(place.plain_length()).map_err(io::Error::other)?, 0);
        file.read_exact(&mut buffer)?;
        if ByteDigest::of(&buffer) != place.id.into_inner().to_hex().as_str() {
            return Err(io::Error::other("it reads back otherwise than it was written"));
        }
    }
    match file.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("it is longer than it was written")),
    }
}
