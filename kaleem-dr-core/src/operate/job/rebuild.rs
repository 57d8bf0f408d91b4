//! Rebuilds a lost ledger from the repositories: the runs and the snapshots of each. Proofs and drills
//! come from [`evidence`](crate::operate::evidence); mirror passes stay lost.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    engine::{
        ledger::{Event, EventKind, Ledger, LedgerError, Part},
        repository::Snapshot,
    },
    ground::{Exit, RunId},
};

/// Adds the runs of this host's snapshots in a repository that are missing in the ledger, oldest
/// first. Returns their number.
///
/// # Errors
/// If the ledger cannot be read or written.
pub fn rebuild(
    ledger: &Ledger,
    location: &str,
    snapshots: &[Snapshot],
    host: &str,
) -> Result<usize, LedgerError> {
    let known = ledger.runs(EventKind::Backup, location)?;
    let mut runs = BTreeMap::<RunId, Vec<&Snapshot>>::new();
    for snapshot in
        snapshots.iter().filter(|snapshot| snapshot.is_ours() && snapshot.host() == host)
    {
        if let Some(run) = snapshot.run().filter(|run| !known.contains(run)) {
            runs.entry(run).or_default().push(snapshot);
        }
    }
    let added = runs.len();
    for (run, snapshots) in runs {
        let parts = snapshots.iter().filter_map(|snapshot| part(snapshot, location)).collect();
        let times = || snapshots.iter().map(|snapshot| snapshot.time().timestamp());
        let is_whole = snapshots.iter().all(|snapshot| snapshot.is_whole());
        let exit = if is_whole { Exit::Done } else { Exit::Partial };
        ledger.record(&Event {
            run,
            kind: EventKind::Backup,
            repository: location.to_owned(),
            started: times().min().unwrap_or(Timestamp::UNIX_EPOCH),
            finished: times().max().unwrap_or(Timestamp::UNIX_EPOCH),
            exit,
            report: serde_json::json!({ "rebuilt_from": location }),
            parts,
        })?;
    }
    Ok(added)
}

/// The part of a snapshot's source; `None` for a snapshot that does not name it.
fn part(snapshot: &Snapshot, location: &str) -> Option<Part> {
    let time = snapshot.time().timestamp();
    Some(Part {
        source: snapshot.source()?,
        repository: location.to_owned(),
        snapshot: Some(snapshot.id()),
        exit: if snapshot.is_whole() { Exit::Done } else { Exit::Partial }.code(),
        finished: time,
        seconds: 0.0,
        size_bytes: snapshot.size_bytes().unwrap_or(0),
        added_bytes: snapshot.new_blob_bytes().unwrap_or(0),
        consistent_at: Some(time),
    })
}
