//! An installation as one type: its config, its sources and repositories, and an operator's verbs.
//!
//! A program that embeds the library creates a [`Site`] from a config ([`Site::parse`]), or from a
//! repository and sources of its own ([`Site::new`]), and calls its verbs. Each verb does what the
//! command of the same name does, under the same locks and guards, and returns a report that the
//! caller must check: an error only means that the verb could not be carried out.

mod alarms;
mod backup;
mod bootstrap;
mod copy;
mod diff;
mod dump;
mod enclosures;
mod error;
mod evidence;
mod export;
mod files;
mod first_config;
mod fleet;
mod forget;
mod from_nothing;
mod init;
mod job;
mod keys;
mod locks;
mod look;
mod ls;
mod migrate;
#[cfg(feature = "mount")]
mod mount;
mod notify;
mod oplog;
mod overview;
mod parts;
mod past;
mod prune;
mod recover;
mod repair;
mod replicate;
mod restore;
#[cfg(feature = "serve")]
mod serve;
mod snapshots;
mod status;
mod verify;
mod watched;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

#[cfg(feature = "serve")]
pub use self::serve::Serve;
pub use self::{
    alarms::SiteAlarms,
    backup::Backup,
    copy::Copying,
    diff::{Compared, Diff, DiffReport, SnapshotDiff},
    dump::{Dump, DumpTo},
    error::SiteError,
    export::{Export, ExportTo, Exported},
    files::{FilesRestore, FilesTarget},
    forget::{Forget, Forgetting, Forgotten},
    init::Init,
    keys::KeyChange,
    locks::{LocksReport, Unlock},
    look::Doctor,
    ls::{FindFiles, ListFiles, Listed, Listing},
    migrate::{FirstRun, Migration},
    notify::Notified,
    oplog::{Oplog, OplogRound, SliceOutcome},
    overview::Overview,
    past::Rebuilt,
    prune::Prune,
    repair::{IndexRepaired, MirrorRepair, SnapshotsRepair, SnapshotsRepaired},
    replicate::{MAX_DELETE_PERCENT, MirrorPass, Replicated, Replication},
    restore::{PlannedRestore, Restore},
    snapshots::SnapshotFilter,
    status::{HostsStatus, SiteStatus},
    verify::{Drill, Verification},
    watched::Watched,
};
use crate::{
    CancellationToken,
    engine::repository::Access,
    ground::{
        host::{HostScope, Identity},
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::{Config, SourceKind, secret::Environment},
        monitor::{LogTail, Notifier},
    },
    recovery::source::{Restorable, Unavailable},
};

/// Available sources, and those that are unavailable.
pub type Made = (Vec<Arc<dyn Restorable>>, Vec<Unavailable>);

/// An installation: config, sources, repositories and history. Clones share their config.
#[derive(Clone)]
pub struct Site {
    config: Arc<Config>,
    identity: Identity,
    environment: Environment,
    path: PathBuf,
    /// The selected repository; `None` for `local`, or the only one.
    chosen: Option<String>,
    /// A repository that no config names.
    access: Option<Arc<Access>>,
    /// Sources that no config names.
    own: Vec<Arc<dyn Restorable>>,
    locks: bool,
    patience: Duration,
    progress: Arc<dyn ProgressSink>,
    cancel: CancellationToken,
    /// The end of the program's log, for healthchecks.
    log: LogTail,
    /// Notifiers that no config names.
    notifiers: Vec<Arc<dyn Notifier>>,
}

impl Site {
    /// A site without a config: one repository, and the sources that [`Site::with_source`] adds.
    /// History and the queue of runs are in `state_directory`.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the directory cannot be written in a config.
    pub fn new(access: Access, state_directory: &Path) -> Result<Self, SiteError> {
        let quoted = |path: &Path| {
            serde_json::to_string(&path.to_string_lossy())
                .map_err(|error| SiteError::Config(error.to_string()))
        };
        let text = format!("state_directory = {}\n", quoted(state_directory)?);
        let mut site = Self::parse(&text, Path::new("this program"), &[], Environment::default())?;
        site.access = Some(Arc::new(access));
        Ok(site)
    }

    /// A site from the text of a config. `path` names it in messages; `kinds` are the kinds of
    /// source that it may declare; variables such as `RESTIC_PASSWORD_FILE` come from
    /// `environment`.
    ///
    /// # Errors
    /// [`SiteError::Config`] with the first fault and its place.
    pub fn parse(
        text: &str,
        path: &Path,
        kinds: &[SourceKind],
        environment: Environment,
    ) -> Result<Self, SiteError> {
        let config = Config::parse(text, path, kinds, &environment)
            .map_err(|error| SiteError::Config(error.to_string()))?;
        Ok(Self {
            identity: Identity::own(config.settings.host_name()),
            config: Arc::new(config),
            environment,
            path: path.to_path_buf(),
            chosen: None,
            access: None,
            own: Vec::new(),
            locks: true,
            patience: Duration::ZERO,
            progress: Arc::new(Silent),
            cancel: CancellationToken::new(),
            log: LogTail::default(),
            notifiers: Vec::new(),
        })
    }

    /// Reads a config file.
    ///
    /// # Errors
    /// As [`Site::parse`]; if the file cannot be read.
    pub fn open(
        path: &Path,
        kinds: &[SourceKind],
        environment: Environment,
    ) -> Result<Self, SiteError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SiteError::Config(format!("{}: {error}", path.display())))?;
        Self::parse(&text, path, kinds, environment)
    }

    /// Adds a source of the calling program to those that a backup captures.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn Restorable>) -> Self {
        self.own.push(source);
        self
    }

    /// Selects another repository of the config than `local`.
    #[must_use]
    pub fn with_repository(mut self, name: &str) -> Self {
        self.chosen = Some(name.to_owned());
        self
    }

    /// Acts as a host, or selects every host's snapshots. A single host determines the queue, the
    /// proofs and the RPO.
    #[must_use]
    pub fn with_host(mut self, scope: HostScope) -> Self {
        self.identity = match scope {
            HostScope::One(host) => {
                Arc::make_mut(&mut self.config).settings.host = Some(host.clone());
                Identity::own(host)
            }
            HostScope::Any => Identity { scope: HostScope::Any, ..self.identity },
        };
        self
    }

    /// Disables forget and prune after a backup, whatever the config says.
    #[must_use]
    pub fn without_retention(mut self) -> Self {
        let backup = &mut Arc::make_mut(&mut self.config).settings.backup;
        (backup.forget, backup.prune) = (false, false);
        self
    }

    /// Shows the progress of long work in this sink [default: nowhere].
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn ProgressSink>) -> Self {
        self.progress = progress;
        self
    }

    /// Shows no progress, whatever a caller set before.
    #[cfg(feature = "serve")]
    #[must_use]
    fn without_progress(self) -> Self {
        self.with_progress(Arc::new(Silent))
    }

    /// Ends a verb early: within two seconds after the token is cancelled.
    #[must_use]
    pub fn with_cancellation(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets the maximum wait for another program's lock [default: none].
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends the end of this log with healthchecks' pings. The program's logging must write to it.
    #[must_use]
    pub fn with_log(mut self, log: LogTail) -> Self {
        self.log = log;
        self
    }

    /// Adds a notifier for the ends of jobs that are [watched](Site::watch).
    #[must_use]
    pub fn with_notifier(mut self, notifier: Arc<dyn Notifier>) -> Self {
        self.notifiers.push(notifier);
        self
    }

    /// Reads without a lock, for repositories that cannot be written. For verbs that only read.
    #[must_use]
    pub fn without_locks(mut self) -> Self {
        self.locks = false;
        self
    }

    /// The config, with the changes of `with_host` and `without_retention`.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The host of this installation, and the hosts whose snapshots are selected.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The variables that the config was read with.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The config's file, or its name in messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_be_spawned<T: Send + 'static>(_: T) {}

    #[test]
    fn a_service_can_spawn_every_verb_with_a_closure_that_agrees() {
        use crate::recovery::source::{RestoreRequest, RestoreTarget};
        let text = "state_directory = '/nonexistent'";
        let site = Site::parse(text, Path::new("test"), &[], Environment::default()).unwrap();
        let name = || "mongo".parse().unwrap();
        let restore = Restore::latest(name(), RestoreRequest::whole(RestoreTarget::InPlace));
        let of = site.clone();
        can_be_spawned(async move { of.restore(restore, async |_| true).await.is_ok() });
        let (of, files) = (site.clone(), FilesRestore::to(FilesTarget::InPlace));
        can_be_spawned(async move { of.restore_files(files, async |_| true).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.forget(&Forget::default(), async |_| true).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.prune(Prune::default(), async |_| true).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.unlock(Unlock::default(), async |_| true).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.repair_index(false, async |_| true).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.copy(&Copying::to("r2")).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.acknowledge_alarms(&[]).await.is_ok() });
        let of = site.clone();
        can_be_spawned(
            async move { of.check(crate::engine::repository::ReadData::All).await.is_ok() },
        );
        let of = site.clone();
        let go_on = |_: Listed<'_>| std::ops::ControlFlow::Continue(());
        can_be_spawned(async move { of.list_files(&ListFiles::default(), go_on).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.find_files(&FindFiles::default(), go_on).await.is_ok() });
        let of = site.clone();
        let dump = Dump::new("files", "/etc", DumpTo::File("etc.tar".into()));
        can_be_spawned(async move { of.dump(dump).await.is_ok() });
        let (of, points) = (site.clone(), Diff::between("latest~1", "latest"));
        let go_on = |_: Compared<'_>| std::ops::ControlFlow::Continue(());
        can_be_spawned(async move { of.diff(&points, go_on).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.backup(Backup::default()).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.verify(Verification::default()).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.drill(Drill::default()).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.replicate(&Replication::default(), |_| ()).await.is_ok() });
        let of = site.clone();
        can_be_spawned(async move { of.fleet_status().await.is_ok() });
        let (of, every) = (site.clone(), std::time::Duration::MAX);
        let address = ([127, 0, 0, 1], 0).into();
        can_be_spawned(async move { of.serve_fleet(address, every, |_| ()).await.is_ok() });
        let of = site;
        can_be_spawned(async move { of.watch().backup(Backup::default()).await.is_ok() });
    }
}
