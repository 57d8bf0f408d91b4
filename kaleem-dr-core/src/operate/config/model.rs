//! The shape of the config, sources aside.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::{SecretError, SecretRef};
use crate::{
    engine::{
        ledger::LedgerLimits,
        repository::{
            Retention,
            store::{IpChoice, Rate},
        },
    },
    ground::{SourceName, host::HostName},
    operate::{
        doctor::DoctorSettings, job::Staging, monitor::Monitoring, schedule::ScheduleSettings,
        tripwire::Tripwire,
    },
    recovery::objectives::Objectives,
};

/// Everything that is not about a single source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The host that this installation saves as, and whose points, proofs and retention it means. The machine's name when left out; set it where
    /// that name does not last (containers), or to carry on as a host that was lost.
    #[serde(default)]
    pub host: Option<HostName>,
    /// Where runs of this host queue, and where history is kept.
    #[serde(default = "state_directory")]
    pub state_directory: PathBuf,
    /// Where drills and verifications restore to, and staged files are unpacked: `scratch` in the state directory unless it is set.
    /// It needs room for the largest source that is restored to files.
    #[serde(default)]
    pub scratch_directory: Option<PathBuf>,
    /// Where index and trees of remote repositories are cached.
    #[serde(default = "cache_directory")]
    pub cache_directory: PathBuf,
    /// Repositories, by name. Without `--repo`, the one named `local` or the only one is used.
    #[serde(default)]
    pub repository: BTreeMap<String, RepositorySettings>,
    /// What a run does.
    #[serde(default)]
    pub backup: BackupSettings,
    /// How many snapshots stay, per host and source.
    #[serde(default)]
    pub retention: Retention,
    /// Staged files beside the repository: `/backups/mongo/mongo-<DATE>.archive.gz` and so on. None without this table.
    #[serde(default)]
    pub staged: Option<Staging>,
    /// When `status` is satisfied.
    #[serde(default)]
    pub status: StatusSettings,
    /// How much history is kept in the state directory.
    #[serde(default)]
    pub ledger: LedgerLimits,
    /// What is promised of recovery.
    #[serde(default)]
    pub objectives: Objectives,
    /// When a snapshot is so suspicious that nothing is forgotten or pruned until somebody looks.
    #[serde(default)]
    pub tripwire: Tripwire,
    /// Who is told how jobs end, and where metrics go.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// When jobs run by themselves.
    #[serde(default)]
    pub schedule: ScheduleSettings,
    /// From when on `doctor` finds fault.
    #[serde(default)]
    pub doctor: DoctorSettings,
}

impl Settings {
    /// Where drills and verifications restore to, and staged files are unpacked.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.scratch_directory.clone().unwrap_or_else(|| self.state_directory.join("scratch"))
    }
}

fn state_directory() -> PathBuf {
    "/var/lib/kaleem-dr".into()
}

fn cache_directory() -> PathBuf {
    "/var/cache/kaleem-dr".into()
}

impl Settings {
    /// The host that this installation saves as.
    #[must_use]
    pub fn host_name(&self) -> HostName {
        self.host.clone().unwrap_or_else(HostName::of_machine)
    }

    /// What is valid in itself but loses data, one sentence each: points that retention removes before the next rule keeps them.
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
        1 => "hour".to_owned(),
        24 => "day".to_owned(),
        168 => "week".to_owned(),
        672 => "month".to_owned(),
        8760 => "year".to_owned(),
        hours => format!("{hours} hours"),
    }
}

/// A repository.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// A directory; `s3:https://ENDPOINT/BUCKET/PREFIX` as restic writes it; `s3://BUCKET/PREFIX` with `endpoint`; or
    /// `rclone:REMOTE:PATH`, of an S3 remote in rclone's config.
    pub location: String,
    /// The repository's password.
    pub password: SecretRef,
    /// This repository is the mirror of another one of the config, by name: `kaleem-dr replicate` keeps it equal.
    #[serde(default)]
    pub mirror_of: Option<String>,
    /// S3: service address, `https://HOST`, for `s3://BUCKET/PREFIX`. Without it, `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// rclone's config. Without it, where rclone looks: `RCLONE_CONFIG`, then `~/.config/rclone/rclone.conf`.
    #[serde(default)]
    pub rclone_config: Option<PathBuf>,
    /// S3: access key id. Without it, `AWS_ACCESS_KEY_ID`, then the profile `AWS_PROFILE` of `~/.aws/credentials`.
    #[serde(default)]
    pub access_key_id: Option<SecretRef>,
    /// S3: secret access key. Without it, `AWS_SECRET_ACCESS_KEY`.
    #[serde(default)]
    pub secret_access_key: Option<SecretRef>,
    /// S3: session token of a temporary key.
    #[serde(default)]
    pub session_token: Option<SecretRef>,
    /// S3: region. Without it, `AWS_REGION` or `AWS_DEFAULT_REGION`, else `auto`; always `auto` on R2.
    #[serde(default)]
    pub region: Option<String>,
    /// S3: which addresses are tried: `any` (IPv4 first), `v4` or `v6`.
    #[serde(default)]
    pub ip: IpChoice,
    /// S3: PEM file of certificates that are trusted besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// S3: proxy, `http://HOST:PORT`. Without it, `HTTPS_PROXY` and `NO_PROXY`.
    #[serde(default)]
    pub proxy: Option<String>,
    /// S3: allow `http:` to other machines.
    #[serde(default)]
    pub insecure_http: bool,
    /// S3: most that all uploads together send: `2 MiB/s`.
    #[serde(default)]
    pub upload_limit: Option<Rate>,
    /// S3: most that all downloads together take.
    #[serde(default)]
    pub download_limit: Option<Rate>,
    /// More tags for snapshots that are saved or copied here. `{host}` in one stands for the host's name.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What a run does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupSettings {
    /// Which sources, in this order; all by name when left out.
    pub sources: Option<Vec<SourceName>>,
    /// Forget by `[retention]` after a run.
    pub forget: bool,
    /// Prune after forgetting.
    pub prune: bool,
    /// More tags for every snapshot.
    pub tags: Vec<String>,
    /// Further repositories, by name: what a run saves is copied into each of them.
    pub also: Vec<String>,
}

/// When `status` is satisfied.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatusSettings {
    /// Hours after which a source's newest whole snapshot is stale.
    pub max_age_hours: u32,
    /// The hosts that must have fresh snapshots in the repository: `status --all-hosts` ends with 6 when one is late or missing. Without them, it
    /// judges every host that has snapshots.
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
    /// A secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The location is not understood.
    #[error("{0}")]
    Location(String),
    /// There is no key, or it cannot be one of the service.
    #[error("{0}")]
    Key(String),
}
