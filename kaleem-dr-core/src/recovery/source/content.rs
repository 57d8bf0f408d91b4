//! The differences between the contents of two points of a source.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    engine::manifest::{ArtifactRecord, Manifest},
    recovery::look::ChangeKind,
};

/// A change of one item: a document, a queue.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ItemChange<'a> {
    /// The kind of the change: [`ChangeKind::Added`], [`ChangeKind::Removed`] or [`ChangeKind::Content`].
    pub kind: ChangeKind,
    /// The part that contains it: `collection kaleem.users`.
    pub part: &'a str,
    /// Its name within the part: the `_id` of a document.
    pub item: &'a str,
}

impl<'a> ItemChange<'a> {
    /// A change of an item of a part.
    #[must_use]
    pub fn new(kind: ChangeKind, part: &'a str, item: &'a str) -> Self {
        Self { kind, part, item }
    }
}

/// Receives the changes of single items.
pub type EachItem<'a> = dyn FnMut(ItemChange<'_>) + Send + 'a;

/// Changed items, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ItemCounts {
    /// Items that only the newer point has.
    pub added: u64,
    /// Items that only the older point has.
    pub removed: u64,
    /// Items with other content.
    pub changed: u64,
}

impl ItemCounts {
    /// Counts a change.
    pub fn add(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Added => self.added += 1,
            ChangeKind::Removed => self.removed += 1,
            _ => self.changed += 1,
        }
    }

    /// Reports whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A part of a source that differs between two points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartDiff {
    /// The part: `collection kaleem.users`, `queues`, or the path of an artifact.
    pub what: String,
    /// The change of the part itself: [`ChangeKind::Content`] if both points have it.
    pub change: ChangeKind,
    /// Number of items in the older point, if it has the part and counts them.
    pub old_items: Option<u64>,
    /// Number of items in the newer point, if it has the part and counts them.
    pub new_items: Option<u64>,
    /// The items that differ; `None` if the part was only compared by its digest.
    pub items: Option<ItemCounts>,
    /// Another difference, as the end of a sentence: `its options or indexes differ`.
    pub note: Option<String>,
}

impl PartDiff {
    /// A part that differs.
    pub fn new(what: impl Into<String>, change: ChangeKind) -> Self {
        Self {
            what: what.into(),
            change,
            old_items: None,
            new_items: None,
            items: None,
            note: None,
        }
    }

    /// Sets the number of items in the older and in the newer point.
    #[must_use]
    pub fn with_totals(
        self,
        old_items: impl Into<Option<u64>>,
        new_items: impl Into<Option<u64>>,
    ) -> Self {
        Self { old_items: old_items.into(), new_items: new_items.into(), ..self }
    }

    /// Sets the items that differ.
    #[must_use]
    pub fn with_items(self, items: ItemCounts) -> Self {
        Self { items: Some(items), ..self }
    }

    /// Adds what else differs.
    #[must_use]
    pub fn with_note(self, note: impl Into<Option<String>>) -> Self {
        Self { note: note.into(), ..self }
    }
}

/// Reports whether two artifacts have the same items, in whatever order.
#[must_use]
pub fn is_same_content(old: &ArtifactRecord, new: &ArtifactRecord) -> bool {
    let by_items = old.content_digest.is_some()
        && old.content_digest == new.content_digest
        && old.items == new.items;
    by_items || (old.sha256 == new.sha256 && old.size_bytes == new.size_bytes)
}

/// Compares the artifacts of two points by the digests and counts in their manifests. `is_wanted` selects artifacts by path.
#[must_use]
pub fn artifact_differences(
    old: &Manifest,
    new: &Manifest,
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<PartDiff> {
    let paths: BTreeSet<&str> = old
        .artifacts
        .iter()
        .chain(&new.artifacts)
        .map(|artifact| artifact.path.as_str())
        .filter(|path| is_wanted(path))
        .collect();
    let compared = |path: &str| {
        let (old, new) = (old.artifact(path), new.artifact(path));
        let change = match (old, new) {
            (Some(old), Some(new)) if is_same_content(old, new) => return None,
            _ => ChangeKind::between(old, new),
        };
        let items = |artifact: Option<&ArtifactRecord>| artifact.and_then(|one| one.items);
        Some(PartDiff::new(path, change).with_totals(items(old), items(new)))
    };
    paths.into_iter().filter_map(compared).collect()
}
