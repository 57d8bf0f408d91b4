//! Reads all files of a snapshot without writing any.

use crate::{
    CancellationToken,
    engine::repository::{RepositoryError, SnapshotReader, blocking},
    ground::{
        SourceError, error_chain,
        progress::{ProgressSink, Unit},
    },
    recovery::restore::{FileProblem, FilesReport, Item, Selection, Walk},
};

/// Reads every file of a snapshot and compares each blob with its id; writes nothing.
///
/// # Errors
/// If the trees cannot be read. Files that cannot be read are in the report.
pub(crate) async fn read_through(
    snapshot: &SnapshotReader,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<FilesReport, SourceError> {
    let stage = progress.begin("reading files", Unit::Bytes, None);
    let mut report = FilesReport::default();
    let reader = snapshot.clone();
    let walk = blocking(move || Walk::new(reader, Selection::of(&[], &[], true)?, "/".into()));
    let mut walk = walk.await.map_err(point)?;
    loop {
        let (items, next) = blocking(move || Ok((walk.window()?, walk))).await.map_err(point)?;
        walk = next;
        if items.is_empty() {
            stage.finish();
            return Ok(report);
        }
        let whole = read_all(snapshot, items.iter().collect(), cancel).await?;
        for item in &items {
            if item.node.is_dir() {
                report.directories += 1;
            } else if item.node.is_file() {
                // Files share reads; only if one of those failed is each file read separately.
                let read = if whole.is_ok() {
                    Ok(())
                } else {
                    read_all(snapshot, vec![item], cancel).await?
                };
                match read {
                    Ok(()) => {
                        report.files += 1;
                        report.verified += 1;
                        report.size_bytes += item.size_bytes();
                        stage.advance(item.size_bytes());
                    }
                    Err(why) => report.problems.push(FileProblem {
                        path: item.target.to_string_lossy().into_owned(),
                        why,
                    }),
                }
            } else {
                report.others += 1;
            }
        }
    }
}

/// Reads the content of some files; returns the reason for each that cannot be read.
async fn read_all(
    snapshot: &SnapshotReader,
    items: Vec<&Item>,
    cancel: &CancellationToken,
) -> Result<Result<(), String>, SourceError> {
    let mut content =
        snapshot.stream_places(items.into_iter().flat_map(|item| item.blobs.clone()).collect());
    while let Some(blob) = content.recv().await {
        if cancel.is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        if let Err(error) = blob {
            return Ok(Err(error_chain(&error)));
        }
    }
    Ok(Ok(()))
}

fn point(error: RepositoryError) -> SourceError {
    SourceError::Point(error.into())
}
