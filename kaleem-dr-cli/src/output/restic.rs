//! Output in restic's format.

use kaleem_dr_core::{engine::repository::Snapshot, operate::document::SnapshotLine};
use serde_json::Value;

/// A snapshot as in `restic snapshots --json`, with additional fields.
pub fn restic_snapshot(snapshot: &Snapshot) -> Value {
    // It has plain fields only, so serialisation cannot fail.
    serde_json::to_value(SnapshotLine::from(snapshot)).unwrap_or_default()
}
