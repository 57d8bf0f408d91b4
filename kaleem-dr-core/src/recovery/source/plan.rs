//! The plan of a restore, which is shown before anything is written.

use jiff::Timestamp;
use serde::Serialize;

use super::request::RestoreRequest;
use crate::engine::repository::SnapshotId;

/// The intended effects of a restore.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RestorePlan {
    /// The request, with all names resolved.
    pub request: RestoreRequest,
    /// The target as text: `database kaleem_restored on 127.0.0.1:27017`.
    pub target: String,
    /// One line per object that is changed or left alone.
    pub actions: Vec<PlannedAction>,
    /// Warnings for the operator to read first.
    pub warnings: Vec<String>,
    /// The snapshot to restore; `None` for a file. Sources leave it unset: the restore job fills it in.
    pub origin: Option<PlanOrigin>,
}

/// The snapshot that a plan restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlanOrigin {
    /// Id of the snapshot in its repository.
    pub snapshot: SnapshotId,
    /// Name of the host that captured the snapshot.
    pub host: String,
    /// Time of the snapshot, as its maker recorded it.
    pub taken: Timestamp,
}

impl RestorePlan {
    /// A plan as created by a source.
    #[must_use]
    pub fn new(
        request: RestoreRequest,
        target: impl Into<String>,
        actions: Vec<PlannedAction>,
        warnings: Vec<String>,
    ) -> Self {
        Self { request, target: target.into(), actions, warnings, origin: None }
    }

    /// Reports whether anything that exists would be changed.
    #[must_use]
    pub fn overwrites(&self) -> bool {
        self.actions.iter().any(|action| {
            matches!(action.change, Change::Overwrite | Change::Merge | Change::Remove)
        })
    }
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedAction {
    /// The effect on the object.
    pub change: Change,
    /// The object: `collection users`, `queue orders`, `/etc/nginx`.
    pub what: String,
    /// Number of items (documents, definitions, files) in the point, if known.
    pub items: Option<u64>,
    /// Size in the point, in bytes, if known.
    pub size_bytes: Option<u64>,
    /// The reason, if it is not obvious.
    pub why: Option<String>,
}

impl PlannedAction {
    /// An action without further details.
    pub fn new(change: Change, what: impl Into<String>) -> Self {
        Self { change, what: what.into(), items: None, size_bytes: None, why: None }
    }

    /// Sets the number of items in the point, if known.
    #[must_use]
    pub fn with_items(self, items: impl Into<Option<u64>>) -> Self {
        Self { items: items.into(), ..self }
    }

    /// Sets the size in the point, in bytes, if known.
    #[must_use]
    pub fn with_size(self, size_bytes: impl Into<Option<u64>>) -> Self {
        Self { size_bytes: size_bytes.into(), ..self }
    }

    /// Adds the reason.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }
}

/// A restore's effect on one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It does not exist yet, and is created.
    Create,
    /// It exists and is replaced.
    Overwrite,
    /// It exists and is kept; what it lacks of the point is added.
    Merge,
    /// It exists but is not in the point: it is kept.
    Leave,
    /// It exists but is not in the point: it is removed, as requested.
    Remove,
    /// It exists with other properties, and the server ignores what is sent.
    Conflict,
}
