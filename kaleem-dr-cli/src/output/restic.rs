//! Output in restic's format.

use kaleem_dr_core::engine::repository::Snapshot;
use serde_json::{Value, json};

/// A snapshot as in `restic snapshots --json`, with additional fields.
pub fn restic_snapshot(snapshot: &Snapshot) -> Value {
    let id = snapshot.id().to_string();
    json!({
        "time": snapshot.time().timestamp(),
        "paths": snapshot.paths(),
        "hostname": snapshot.host(),
        "tags": snapshot.tags(),
        "program_version": snapshot.program(),
        "id": id,
        "original": snapshot.original(),
        "short_id": snapshot.id().short(),
        "source": snapshot.source(),
        "run": snapshot.run(),
        "size_bytes": snapshot.size_bytes(),
        "added_bytes": snapshot.added_bytes(),
    })
}
