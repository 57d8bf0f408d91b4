//! The differences between the documents of two points, by `_id`.
//!
//! Both artifacts of a collection are read at once, document by document. Captures are in the order of `_id`, so a document meets
//! its other version soon; [`ItemComparison`] limits the memory whatever the order. Collections with equal digests are not read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bson::{Bson, RawDocument};
use bytes::Bytes;
use kaleem_dr_core::{
    ground::{
        SourceError,
        progress::{StageProgress, Unit},
    },
    recovery::{
        look::ChangeKind,
        point::{ArtifactReader, PointReader},
        source::{
            EachItem, ItemChange, ItemComparison, ItemCounts, PartDiff, Side, artifact_differences,
            is_same_content,
        },
        staged::StagedWork,
    },
};

use super::{
    catalogue::{self, StoredCollection},
    documents::DocumentSplitter,
    oplog,
};

/// Compares two points.
pub(crate) async fn differences(
    old: &PointReader,
    new: &PointReader,
    work: &StagedWork,
    each: &mut EachItem<'_>,
) -> Result<Vec<PartDiff>, SourceError> {
    let comparing = run(old, new, work, each);
    work.cancel.run_until_cancelled(comparing).await.unwrap_or(Err(SourceError::Cancelled))
}

async fn run(
    old: &PointReader,
    new: &PointReader,
    work: &StagedWork,
    each: &mut EachItem<'_>,
) -> Result<Vec<PartDiff>, SourceError> {
    let (before, after) = (by_namespace(old)?, by_namespace(new)?);
    let both: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut differences = Vec::new();
    for namespace in both {
        let part = format!("collection {namespace}");
        let (a, b) = (before.get(namespace), after.get(namespace));
        let items = |stored: Option<&StoredCollection>| stored?.data.as_ref()?.items;
        let diff = PartDiff::new(&part, ChangeKind::between(a, b)).with_totals(items(a), items(b));
        let (Some(a), Some(b)) = (a, b) else {
            differences.push(diff);
            continue;
        };
        let is_described_alike = a.entry.specification == b.entry.specification;
        let note = (!is_described_alike).then(|| "its options or indexes differ".to_owned());
        let counts = match (&a.data, &b.data) {
            (Some(from), Some(to)) if !is_same_content(from, to) => {
                let total = from.size_bytes + to.size_bytes;
                let stage = work.progress.begin("comparing documents", Unit::Bytes, Some(total));
                let mut from = Documents::open(old, &from.path).await?;
                let mut to = Documents::open(new, &to.path).await?;
                let counts =
                    documents(&mut from, &mut to, &work.scratch, &part, &*stage, each).await?;
                stage.finish();
                counts
            }
            _ => ItemCounts::default(),
        };
        if !counts.is_empty() || note.is_some() {
            differences.push(diff.with_items(counts).with_note(note));
        }
    }
    let known: BTreeSet<&str> = before
        .values()
        .chain(after.values())
        .flat_map(|stored| [Some(&stored.entry.metadata), stored.entry.data.as_ref()])
        .flatten()
        .map(String::as_str)
        .collect();
    // The oplog that a restore replays is of its capture alone.
    let is_other = |path: &str| !known.contains(path) && path != oplog::needed_path();
    differences.extend(artifact_differences(old.manifest(), new.manifest(), is_other));
    Ok(differences)
}

fn by_namespace(point: &PointReader) -> Result<BTreeMap<String, StoredCollection>, SourceError> {
    let stored = catalogue::read(point.manifest())?;
    Ok(stored.into_iter().map(|stored| (stored.spec.namespace(), stored)).collect())
}

/// Compares the documents of a collection.
async fn documents(
    old: &mut Documents,
    new: &mut Documents,
    scratch: &Path,
    part: &str,
    stage: &dyn StageProgress,
    each: &mut EachItem<'_>,
) -> Result<ItemCounts, SourceError> {
    let spilled = |cause| SourceError::Path {
        path: scratch.to_path_buf(),
        action: "compare documents here".to_owned(),
        cause,
    };
    let mut comparison = ItemComparison::new(scratch);
    let mut changed = |kind: ChangeKind, id: &str| each(ItemChange::new(kind, part, id));
    loop {
        let (a, b) = (old.next().await?, new.next().await?);
        if a.is_none() && b.is_none() {
            return comparison.finish(&mut changed).map_err(spilled);
        }
        for (side, document) in [(Side::Old, a), (Side::New, b)] {
            let Some(document) = document else { continue };
            stage.advance(document.len() as u64);
            let id = id(&document).map_err(|why| {
                SourceError::Point(format!("{part}: a document cannot be read: {why}").into())
            })?;
            comparison.add(side, &id, &document, &mut changed).map_err(spilled)?;
        }
    }
}

/// The `_id` of a document as text. Equal numbers of different types are equal, as for the server.
fn id(document: &[u8]) -> Result<String, String> {
    let document = RawDocument::from_bytes(document).map_err(|error| error.to_string())?;
    let Some(id) = document.get("_id").map_err(|error| error.to_string())? else {
        return Ok("(no _id)".to_owned());
    };
    let id = Bson::try_from(id).map_err(|error| error.to_string())?;
    Ok(match id {
        // As the shell shows it; `"7"` and `7` are different ids.
        Bson::String(text) => format!("{text:?}"),
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        Bson::Double(number) => number.to_string(),
        other => other.to_string(),
    })
}

/// The documents of an artifact, one after the other.
struct Documents {
    /// `None` at the end.
    reader: Option<ArtifactReader>,
    splitter: DocumentSplitter,
}

impl Documents {
    async fn open(point: &PointReader, path: &str) -> Result<Self, SourceError> {
        let reader = Some(point.artifact(path).await?);
        Ok(Self { reader, splitter: DocumentSplitter::default() })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let broken = |why: String| SourceError::Point(why.into());
        loop {
            if let Some(document) = self.splitter.next().map_err(broken)? {
                return Ok(Some(document));
            }
            let Some(reader) = &mut self.reader else { return Ok(None) };
            if let Some(piece) = reader.next().await? {
                self.splitter.push(&piece);
            } else {
                self.reader = None;
                std::mem::take(&mut self.splitter).finish().map_err(broken)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId};

    use super::*;

    #[test]
    fn an_id_is_named_as_the_shell_shows_it() {
        let named = |document: bson::Document| id(&document.to_vec().unwrap()).unwrap();
        assert_eq!(named(doc! { "_id": 7 }), "7");
        assert_eq!(named(doc! { "_id": 7_i64 }), named(doc! { "_id": 7.0 }));
        assert_eq!(named(doc! { "_id": "7" }), "\"7\"");
        let oid = ObjectId::parse_str("65f0c0ffee65f0c0ffee0000").unwrap();
        assert!(named(doc! { "_id": oid }).contains("65f0c0ffee65f0c0ffee0000"));
    }
}
