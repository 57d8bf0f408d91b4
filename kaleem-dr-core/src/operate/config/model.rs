//! The structure of the config, except sources.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    fleet::FleetSettings,
    places::{SYSTEM_CACHE, SYSTEM_STATE},
    recovery::RecoverySettings,
    repository::RepositorySettings,
    secret::SecretError,
    serve::ServeSettings,
};
use crate::{
    engine::{ledger::LedgerLimits, repository::Retention},
    ground::{SourceName, host::HostName},
    operate::{
        backup_hooks::BackupHooks, doctor::DoctorSettings, job::Staging, monitor::Monitoring,
        schedule::ScheduleSettings, tripwire::Tripwire,
    },
    recovery::objectives::Objectives,
};

/// All settings that do not belong to a single source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Host that this installation saves as, and whose points, proofs and retention it uses
    /// [default: the machine's name]. Set it if that name changes (containers), or to continue as a
    /// lost host.
    #[serde(default)]
    pub host: Option<HostName>,
    /// Directory with the history and the queue of this host's runs [default: `/var/lib/kaleem-dr`; for a user who may not
    /// write there `$XDG_STATE_HOME/kaleem-dr`, or else `~/.local/state/kaleem-dr`].
    #[serde(default = "state_directory")]
    pub state_directory: PathBuf,
    /// Directory for scratch targets of drills and verifications, and for unpacking staged files
    /// [default: `scratch` in the state directory]. It needs space for the largest source that is
    /// restored to files.
    #[serde(default)]
    pub scratch_directory: Option<PathBuf>,
    /// Cache directory for index and trees of remote repositories [default: `/var/cache/kaleem-dr`; for a user who may not
    /// write there `$XDG_CACHE_HOME/kaleem-dr`, or else `~/.cache/kaleem-dr`].
    #[serde(default = "cache_directory")]
    pub cache_directory: PathBuf,
    /// Repositories, by name. Without `--repo`, the one named `local` or the only one is used.
    #[serde(default)]
    pub repository: BTreeMap<String, RepositorySettings>,
    /// Settings of a backup run.
    #[serde(default)]
    pub backup: BackupSettings,
    /// Number of snapshots to keep, per host and source.
    #[serde(default)]
    pub retention: Retention,
    /// Staged files, in addition to the repository: `/backups/mongo/mongo-<DATE>.archive.gz` and so
    /// on. Without this table, none are written.
    #[serde(default)]
    pub staged: Option<Staging>,
    /// Limits of `status`: ages and expected hosts.
    #[serde(default)]
    pub status: StatusSettings,
    /// Amount of history to keep in the state directory.
    #[serde(default)]
    pub ledger: LedgerLimits,
    /// Recovery objectives: the promised RPO and RTO, and the level of a proof.
    #[serde(default)]
    pub objectives: Objectives,
    /// Limits above which a snapshot is suspicious: then nothing is forgotten or pruned until the
    /// operator acknowledges the alarm.
    #[serde(default)]
    pub tripwire: Tripwire,
    /// Recipients of notifications, and destinations of metrics.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Change logs that are saved between backups.
    #[serde(default)]
    pub oplog: OplogSettings,
    /// Times of the jobs that `schedule install` installs.
    #[serde(default)]
    pub schedule: ScheduleSettings,
    /// Limits above which `doctor` reports a problem.
    #[serde(default)]
    pub doctor: DoctorSettings,
    /// Knowledge that snapshots keep for the recovery of a lost machine.
    #[serde(default)]
    pub recovery: RecoverySettings,
    /// Repositories and hosts that `fleet status` watches.
    #[serde(default)]
    pub fleet: FleetSettings,
    /// The page of `kaleem-dr serve`. With this table, `schedule install` installs its service.
    #[serde(default)]
    pub serve: Option<ServeSettings>,
}

impl Settings {
    /// Directory for scratch targets of drills and verifications, and for unpacking staged files.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.scratch_directory.clone().unwrap_or_else(|| self.state_directory.join("scratch"))
    }
}

/// `[oplog]` of the config.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OplogSettings {
    /// Sources whose change log is saved between their backups.
    pub sources: Vec<SourceName>,
    /// Time between two slices, in minutes; at most this much is lost.
    pub every_minutes: u32,
}

impl Default for OplogSettings {
    fn default() -> Self {
        Self { sources: Vec::new(), every_minutes: 5 }
    }
}

impl OplogSettings {
    /// Time between two slices.
    #[must_use]
    pub fn every(&self) -> std::time::Duration {
        std::time::Duration::from_mins(u64::from(self.every_minutes.max(1)))
    }
}

fn state_directory() -> PathBuf {
    SYSTEM_STATE.into()
}

fn cache_directory() -> PathBuf {
    SYSTEM_CACHE.into()
}

impl Settings {
    /// Host that this installation saves as.
    #[must_use]
    pub fn host_name(&self) -> HostName {
        self.host.clone().unwrap_or_else(HostName::of_machine)
    }

    /// Warnings, one sentence each, about valid settings that lose data: points that retention
    /// removes before the next rule keeps them.
    #[must_use]
    pub fn contradictions(&self) -> Vec<String> {
        let every = self.schedule.backup.hours_apart();
        let finest = self.retention.finest_hours();
        match (self.backup.forget, every, finest) {
            (true, Some(every), Some(finest)) if every < finest => vec![format!(
                "`schedule.backup` makes a point every {}, but the finest rule of [retention] keeps one every {}: the points in between are \
                 forgotten by the next run; set keep_last, keep_within or {}",
                span(every),
                span(finest),
                if every < 24 { "keep_hourly" } else { "keep_daily" }
            )],
            _ => Vec::new(),
        }
    }
}

fn span(hours: u32) -> String {
    match hours {
        0 => "few minutes".to_owned(),
        1 => "hour".to_owned(),
        24 => "day".to_owned(),
        168 => "week".to_owned(),
        672 => "month".to_owned(),
        8760 => "year".to_owned(),
        hours => format!("{hours} hours"),
    }
}

/// Settings of a backup run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BackupSettings {
    /// Sources to capture, in this order [default: all, by name].
    pub sources: Option<Vec<SourceName>>,
    /// Forget by `[retention]` after a run.
    pub forget: bool,
    /// Prune after forgetting, in the same run [default: false].
    pub prune: bool,
    /// If several hosts share the repository, one of them prunes for all: a host prunes only if none
    /// has done so within this many hours; 0 to prune after each run [default: 20].
    pub prune_every_hours: u32,
    /// Additional tags for every snapshot.
    pub tags: Vec<String>,
    /// Secondary repositories, by name: the snapshots of a run are copied to each of them.
    pub also: Vec<String>,
    /// Commands around the whole run, before the repository is opened and after everything else. Those of a source are in its own
    /// table.
    pub hooks: BackupHooks,
}

impl Default for BackupSettings {
    fn default() -> Self {
        Self {
            sources: None,
            forget: false,
            prune: false,
            prune_every_hours: 20,
            tags: Vec::new(),
            also: Vec::new(),
            hooks: BackupHooks::default(),
        }
    }
}

impl BackupSettings {
    /// Time after a prune in which hosts of the same repository do not prune again.
    #[must_use]
    pub fn prune_every(&self) -> std::time::Duration {
        std::time::Duration::from_hours(u64::from(self.prune_every_hours))
    }
}

/// Limits of `status`: an exceeded one ends it with 6.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StatusSettings {
    /// Age from which a source's newest whole snapshot is stale, in hours.
    pub max_age_hours: u32,
    /// Hosts that must have fresh snapshots in the repository: `status --all-hosts` ends with 6 if
    /// one is late or missing. If empty, every host with snapshots is checked.
    pub expected_hosts: Vec<HostName>,
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self { max_age_hours: 26, expected_hosts: Vec::new() }
    }
}

/// Why a repository's settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The location is neither a directory nor a bucket that is supported.
    #[error("{0}")]
    Location(String),
    /// The key is missing, or cannot be a key of the service.
    #[error("{0}")]
    Key(String),
}
