//! The shape of the config, sources aside.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::{Environment, SecretError, SecretRef};
use crate::{
    job::Staging,
    repository::{Access, Location, Retention, store::S3Access},
    source::SourceName,
    tripwire::Tripwire,
};

/// Everything that is not about a single source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where runs of this host queue, and where history is kept.
    #[serde(default = "state_directory")]
    pub state_directory: PathBuf,
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
    /// When a snapshot is so suspicious that nothing is forgotten or pruned until somebody looks.
    #[serde(default)]
    pub tripwire: Tripwire,
}

fn state_directory() -> PathBuf {
    "/var/lib/kaleem-dr".into()
}

fn cache_directory() -> PathBuf {
    "/var/cache/kaleem-dr".into()
}

/// A repository.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// A directory, or `s3:https://ENDPOINT/BUCKET/PREFIX` as restic writes it.
    pub location: String,
    /// The repository's password.
    pub password: SecretRef,
    /// S3: access key id. Without it, `AWS_ACCESS_KEY_ID`.
    #[serde(default)]
    pub access_key_id: Option<SecretRef>,
    /// S3: secret access key. Without it, `AWS_SECRET_ACCESS_KEY`.
    #[serde(default)]
    pub secret_access_key: Option<SecretRef>,
    /// S3: region. Without it, `AWS_DEFAULT_REGION`, else `auto` (right for R2).
    #[serde(default)]
    pub region: Option<String>,
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
    /// Hours after which a source's newest snapshot is stale.
    pub max_age_hours: u32,
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self { max_age_hours: 26 }
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
}

impl RepositorySettings {
    /// Reads the secrets and makes the access of it.
    ///
    /// # Errors
    /// When a secret cannot be read, or the location is not understood.
    pub fn access(&self, cache_directory: &std::path::Path, environment: &Environment) -> Result<Access, SettingsError> {
        let password = environment.secret(&self.password)?;
        let location = self.location(environment)?;
        let remote = matches!(location, Location::S3(_));
        Ok(Access { location, password, cache_directory: remote.then(|| cache_directory.to_path_buf()) })
    }

    fn location(&self, environment: &Environment) -> Result<Location, SettingsError> {
        let text = self.location.as_str();
        let Some(url) = text.strip_prefix("s3:") else {
            let path = text.strip_prefix("local:").unwrap_or(text);
            let scheme = path.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains('/'));
            return match scheme {
                None => Ok(Location::Directory(PathBuf::from(path))),
                Some(scheme) => Err(SettingsError::Location(format!(
                    "`{scheme}:` repositories are not supported; name a directory, or s3:https://ENDPOINT/BUCKET/PREFIX"
                ))),
            };
        };
        let invalid = || {
            SettingsError::Location("an S3 location is s3:https://ENDPOINT/BUCKET/PREFIX, without credentials in it".to_owned())
        };
        let (scheme, rest) = url.trim_start_matches('/').split_once("://").unwrap_or(("https", url.trim_start_matches('/')));
        let mut parts = rest.splitn(3, '/');
        let (host, bucket) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if host.is_empty() || bucket.is_empty() || host.contains('@') || !matches!(scheme, "http" | "https") {
            return Err(invalid());
        }
        let key = |own: &Option<SecretRef>, variable: &str| {
            environment.secret(own.as_ref().unwrap_or(&SecretRef::Env(variable.to_owned())))
        };
        Ok(Location::S3(S3Access {
            endpoint: format!("{scheme}://{host}"),
            bucket: bucket.to_owned(),
            prefix: parts.next().unwrap_or_default().trim_matches('/').to_owned(),
            region: self
                .region
                .clone()
                .or_else(|| environment.get("AWS_DEFAULT_REGION").map(str::to_owned))
                .unwrap_or_else(|| "auto".into()),
            access_key_id: key(&self.access_key_id, "AWS_ACCESS_KEY_ID")?,
            secret_access_key: key(&self.secret_access_key, "AWS_SECRET_ACCESS_KEY")?,
        }))
    }
}
