//! The nightly job: captures every source into a snapshot of its own, copies the snapshots, judges
//! whether they are normal, then applies retention.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use super::{SecondaryRepository, Staging};
use crate::{
    engine::{
        manifest::Enclosure,
        repository::{Repository, Retention},
    },
    ground::{RunId, SourceName, host::HostName},
    operate::{backup_hooks::BackupHooks, tripwire::Tripwire},
    recovery::source::{Restorable, Unavailable},
};

/// Options of a run: what to save, where, and what follows.
#[derive(Clone)]
#[non_exhaustive]
pub struct BackupJob {
    /// Id of the run; `None` creates a new one.
    pub run: Option<RunId>,
    /// Host that the snapshots belong to, and whose snapshots may be forgotten.
    pub host: HostName,
    /// Repository that receives the snapshots first.
    pub repository: Repository,
    /// Sources to capture, in this order.
    pub sources: Vec<Arc<dyn Restorable>>,
    /// Commands around the captures of sources, by name. A dry run runs none.
    pub hooks: BTreeMap<SourceName, BackupHooks>,
    /// Wanted sources that are unavailable, for example because a secret is missing; they count as
    /// failed.
    pub unavailable: Vec<Unavailable>,
    /// Rules to forget by afterwards; `None` forgets nothing.
    pub retention: Option<Retention>,
    /// Prunes at the end of the run, unless an alarm blocks it.
    pub prune: bool,
    /// If several hosts share the repository: time after the prune of one of them in which another
    /// one is unnecessary; zero to prune in any case.
    pub prune_every: Duration,
    /// Directory of the staged files; `None` writes none.
    pub staging: Option<Staging>,
    /// Additional tags for every snapshot.
    pub tags: Vec<String>,
    /// Content of `/RESTORE.md` in each snapshot, from
    /// [`crate::operate::runbook::Runbook::restore_md`]; `None` for a general text.
    pub restore_text: Option<Arc<str>>,
    /// Further files for each snapshot, next to its manifest.
    pub enclosures: Vec<Enclosure>,
    /// Why the secrets of the config are not among them, although it asks for that; the run is then
    /// partial.
    pub unsealed: Option<String>,
    /// Reads everything, but writes nothing.
    pub dry_run: bool,
    /// Directory in which this host's runs queue for the repository and its alarms are kept; `None`
    /// lets runs race and raises no alarms.
    pub state_directory: Option<PathBuf>,
    /// Repositories that receive a copy of each snapshot, in this order.
    pub secondaries: Vec<SecondaryRepository>,
    /// Limits above which a snapshot is suspicious. Retention waits for unacknowledged alarms even
    /// if this is `None`.
    pub tripwire: Option<Tripwire>,
    /// Maximum wait for another program's lock.
    pub patience: Duration,
}

impl BackupJob {
    /// A run of these sources that forgets nothing, does not queue and does not wait for locks.
    #[must_use]
    pub fn new(repository: Repository, sources: Vec<Arc<dyn Restorable>>) -> Self {
        Self {
            run: None,
            host: HostName::of_machine(),
            repository,
            sources,
            hooks: BTreeMap::new(),
            unavailable: Vec::new(),
            retention: None,
            prune: false,
            prune_every: Duration::ZERO,
            staging: None,
            tags: Vec::new(),
            restore_text: None,
            enclosures: Vec::new(),
            unsealed: None,
            dry_run: false,
            state_directory: None,
            secondaries: Vec::new(),
            tripwire: None,
            patience: Duration::ZERO,
        }
    }
}
