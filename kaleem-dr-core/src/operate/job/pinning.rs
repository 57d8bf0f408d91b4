//! Snapshots that the operator names, to forget, pin or unpin them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::Timestamp;

use crate::{
    CancellationToken,
    engine::{
        ledger::Ledger,
        repository::{
            Lock, Repository, RepositoryError, Rewritten, Snapshot, SnapshotId, may_be_forgotten,
            select,
        },
    },
    ground::{
        host::{HostScope, Identity},
        progress::ProgressSink,
    },
};

/// Finds snapshots by id prefix, and checks that they may be forgotten.
///
/// # Errors
/// [`RepositoryError::Guarded`] if a snapshot is pinned, is the last good one of its source, or
/// belongs to a host that was not selected; if a prefix matches no snapshot or more than one.
pub fn forget_by_id(
    snapshots: &[Snapshot],
    wanted: &[String],
    identity: &Identity,
) -> Result<Vec<Snapshot>, RepositoryError> {
    let now = Timestamp::now();
    let mut chosen: BTreeMap<SnapshotId, Snapshot> = BTreeMap::new();
    for wanted in wanted {
        let snapshot = select(snapshots, wanted, &identity.scope)?;
        if !identity.scope.includes(snapshot.host()) {
            let (short, host) = (snapshot.id().short(), snapshot.host());
            return Err(RepositoryError::Guarded(format!(
                "snapshot {short} is of host {host}, and this is {}; name the host with --host {host} to forget it",
                identity.host
            )));
        }
        chosen.insert(snapshot.id(), snapshot.clone());
    }
    let stay: Vec<Snapshot> =
        snapshots.iter().filter(|snapshot| !chosen.contains_key(&snapshot.id())).cloned().collect();
    for snapshot in chosen.values() {
        may_be_forgotten(snapshot, &stay, now)?;
    }
    Ok(chosen.into_values().collect())
}

/// Pins or unpins snapshots. Their proofs remain valid under the new ids. The lock must be
/// exclusive.
///
/// # Errors
/// If a snapshot is not found or cannot be written; those before it are changed already.
pub async fn pin(
    repository: &Repository,
    state_directory: &Path,
    wanted: &[String],
    pinned: bool,
    lock: &Lock,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<Vec<Rewritten>, RepositoryError> {
    let snapshots = repository.snapshots().await?;
    let chosen: Vec<&Snapshot> = wanted
        .iter()
        .map(|wanted| select(&snapshots, wanted, &HostScope::Any))
        .collect::<Result<_, _>>()?;
    let ledger = Ledger::find(state_directory)?;
    let mut rewritten = Vec::new();
    for snapshot in chosen {
        let change = repository.set_pinned(snapshot, pinned, lock, progress, cancel).await?;
        if let Some(ledger) = &ledger {
            ledger.rename_snapshot(change.from, change.to)?;
        }
        rewritten.push(change);
    }
    Ok(rewritten)
}
