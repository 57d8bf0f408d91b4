//! The differences between the databases of two points, by table and primary key.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use kaleem_dr_core::{
    CancellationToken,
    ground::SourceError,
    recovery::{
        look::ChangeKind,
        point::PointReader,
        source::{
            EachItem, ItemChange, ItemComparison, PartDiff, Side, artifact_differences,
            is_same_content,
        },
        staged::StagedWork,
    },
};
use tokio::sync::mpsc;

use super::{
    DATABASE, blocking, database, in_root,
    inspect::spill,
    rows::{each_row, is_same_shape},
};

/// Limit for the changes that wait for their receiver.
const CHANGES_IN_FLIGHT: usize = 256;

/// A change of a row: its kind, the part, and its primary key.
type Change = (ChangeKind, String, String);

/// Compares two points: tables row by row, everything else by its digest. No value of a row is shown, except its key.
pub(super) async fn differences(
    old: &PointReader,
    new: &PointReader,
    work: &StagedWork,
    each: &mut EachItem<'_>,
) -> Result<Vec<PartDiff>, SourceError> {
    let database = in_root(DATABASE);
    let mut parts = Vec::new();
    if let (Some(from), Some(to)) =
        (old.manifest().artifact(&database), new.manifest().artifact(&database))
        && !is_same_content(from, to)
    {
        let scratch = work.directory()?;
        let (before, after) = (scratch.path().join("old"), scratch.path().join("new"));
        work.ensure_room(from.size_bytes + to.size_bytes)?;
        spill(old, &before).await?;
        spill(new, &after).await?;
        let (sender, mut changes) = mpsc::channel(CHANGES_IN_FLIGHT);
        let (waiting, cancel) = (work.scratch.clone(), work.cancel.clone());
        let compared =
            tokio::spawn(blocking(move || compare((&before, &after), &waiting, &cancel, &sender)));
        while let Some((kind, part, item)) = changes.recv().await {
            each(ItemChange::new(kind, &part, &item));
        }
        parts = compared.await.map_err(|panic| {
            SourceError::Unsupported(format!("the comparison of n8n's databases aborted: {panic}"))
        })??;
        // The databases are removed only now.
        drop(scratch);
    }
    let others = |path: &str| {
        path != database
            || old.manifest().artifact(path).is_none()
            || new.manifest().artifact(path).is_none()
    };
    parts.extend(artifact_differences(old.manifest(), new.manifest(), others));
    Ok(parts)
}

/// Compares two databases that no process writes to. Blocking.
fn compare(
    (old, new): (&Path, &Path),
    scratch: &Path,
    cancel: &CancellationToken,
    changes: &mpsc::Sender<Change>,
) -> Result<Vec<PartDiff>, SourceError> {
    let spilled = |cause| SourceError::Path {
        path: PathBuf::from(scratch),
        action: "compare rows here".to_owned(),
        cause,
    };
    let (before, after) = (database::count(old)?, database::count(new)?);
    let tables: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut parts = Vec::new();
    for table in tables {
        let part = format!("table {table}");
        let (rows_before, rows_after) = (before.get(table).copied(), after.get(table).copied());
        let change = ChangeKind::between(rows_before, rows_after);
        let diff = PartDiff::new(&part, change).with_totals(rows_before, rows_after);
        if change != ChangeKind::Content {
            parts.push(diff);
            continue;
        }
        let note =
            (!is_same_shape(old, new, table)?).then(|| "its columns or keys differ".to_owned());
        let mut changed = |kind: ChangeKind, item: &str| {
            // The receiver ends only after this.
            let _ = changes.blocking_send((kind, part.clone(), item.to_owned()));
        };
        let mut comparison = ItemComparison::new(scratch);
        for (side, path) in [(Side::Old, old), (Side::New, new)] {
            each_row(path, table, &mut |key, content| {
                if cancel.is_cancelled() {
                    return Err(SourceError::Cancelled);
                }
                comparison.add(side, key, content, &mut changed).map_err(spilled)
            })?;
        }
        let counts = comparison.finish(&mut changed).map_err(spilled)?;
        if !counts.is_empty() || note.is_some() {
            parts.push(diff.with_items(counts).with_note(note));
        }
    }
    Ok(parts)
}
