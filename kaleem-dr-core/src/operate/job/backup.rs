//! The job of a nightly run: every source into a snapshot of its own, copies of them, a look at whether they are normal, then retention.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{SecondaryRepository, Staging};
use crate::{
    engine::repository::{Repository, Retention},
    ground::{RunId, host::HostName},
    operate::tripwire::Tripwire,
    recovery::source::{Restorable, Unavailable},
};

/// What a run does.
#[derive(Clone)]
#[non_exhaustive]
pub struct BackupJob {
    /// Id of the run; `None` makes a new one.
    pub run: Option<RunId>,
    /// The host that snapshots are of, and whose snapshots may be forgotten.
    pub host: HostName,
    /// Where to.
    pub repository: Repository,
    /// What, in this order.
    pub sources: Vec<Arc<dyn Restorable>>,
    /// Sources that are wanted but could not be made (a secret is missing, say): they count as failed.
    pub unavailable: Vec<Unavailable>,
    /// What to forget afterwards; `None` forgets nothing.
    pub retention: Option<Retention>,
    /// Whether to prune after forgetting.
    pub prune: bool,
    /// Where each source's staged file goes; `None` makes none.
    pub staging: Option<Staging>,
    /// More tags for every snapshot.
    pub tags: Vec<String>,
    /// What `/RESTORE.md` says in each snapshot, as [`crate::operate::runbook::Runbook::restore_md`] makes it; `None` for what holds anywhere.
    pub restore_text: Option<Arc<str>>,
    /// Read everything, write nothing.
    pub dry_run: bool,
    /// Where this host's runs queue for the repository, and where its alarms are kept; `None` lets runs race and raises none.
    pub state_directory: Option<PathBuf>,
    /// Repositories that get a copy of what is saved, in this order.
    pub secondaries: Vec<SecondaryRepository>,
    /// When a snapshot is suspicious. Retention does not run while an alarm is not acknowledged, also where this is `None`.
    pub tripwire: Option<Tripwire>,
    /// How long to wait for another tool's lock.
    pub patience: Duration,
}

impl BackupJob {
    /// A run of these sources that forgets nothing, queues nowhere and waits for no lock.
    #[must_use]
    pub fn new(repository: Repository, sources: Vec<Arc<dyn Restorable>>) -> Self {
        Self {
            run: None,
            host: HostName::of_machine(),
            repository,
            sources,
            unavailable: Vec::new(),
            retention: None,
            prune: false,
            staging: None,
            tags: Vec::new(),
            restore_text: None,
            dry_run: false,
            state_directory: None,
            secondaries: Vec::new(),
            tripwire: None,
            patience: Duration::ZERO,
        }
    }
}
