//! Retention after a run: forgets this host's snapshots by policy, then prunes the repository.

use std::{path::Path, sync::Arc, time::Duration};

use super::election::ElectedPrune;
use crate::{
    CancellationToken,
    engine::repository::{
        LockKind, PruneOptions, PruneReport, Repository, RepositoryError, Retention,
    },
    ground::{
        error_chain,
        host::{HostName, HostScope},
        progress::ProgressSink,
    },
    operate::{
        evidence,
        tripwire::{Alarm, Alarms, Removal, protected_by},
    },
};

/// Retention settings of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retaining<'a> {
    pub(super) retention: &'a Retention,
    pub(super) prune: bool,
    /// As [`ElectedPrune::every`].
    pub(super) prune_every: Duration,
    /// Hosts whose snapshots may be forgotten.
    pub(super) host: &'a HostName,
    /// Directory of this host's alarms; `None` if it raises none.
    pub(super) state_directory: Option<&'a Path>,
    pub(super) patience: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Retained {
    pub(super) forgotten: usize,
    /// `None` if pruning was not requested, or was withheld.
    pub(super) prune: Option<PruneReport>,
    pub(super) withheld: Option<String>,
}

/// Forgets snapshots, and prunes if requested, under an exclusive lock. An alarm of another host
/// withholds pruning.
pub(super) async fn retain(
    repository: &Repository,
    of: &Retaining<'_>,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<Retained, RepositoryError> {
    let lock = repository.lock(LockKind::Exclusive, of.patience).await?;
    let result = async {
        let snapshots = repository.snapshots().await?;
        let recorded = Alarm::recorded(&snapshots);
        let hosts = HostScope::One(of.host.clone());
        let guard = |removal| match of.state_directory {
            Some(state_directory) => Alarms::guard(state_directory, &recorded, &hosts, removal),
            None => Alarms::guard_recorded(&recorded, &hosts, removal),
        };
        guard(Removal::Forget)?;
        let scope = protected_by(&recorded, hosts.clone());
        let forgotten = repository
            .forget(of.retention, &scope, false, &lock, progress, cancel)
            .await?
            .removed();
        evidence::trim(repository, &snapshots, &lock, progress, cancel).await;
        let mut retained = Retained { forgotten, prune: None, withheld: None };
        if of.prune {
            match guard(Removal::Prune) {
                Ok(()) => {
                    let elected = ElectedPrune {
                        repository,
                        snapshots: &snapshots,
                        host: of.host,
                        every: of.prune_every,
                        lock: &lock,
                        progress,
                        cancel,
                    };
                    retained.prune = Some(elected.run(PruneOptions::default()).await?);
                }
                Err(error) => retained.withheld = Some(error_chain(&error)),
            }
        }
        Ok(retained)
    }
    .await;
    lock.release().await.and(result)
}
