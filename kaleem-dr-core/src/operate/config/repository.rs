//! The table of a repository: `[repository.NAME]` and `[fleet.repository.NAME]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::SecretRef;
use crate::engine::repository::store::{IpChoice, Rate};

/// A repository or a mirror: its location, its password and its network.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RepositorySettings {
    /// A directory; `s3:https://ENDPOINT/BUCKET/PREFIX`, as in restic; `s3://BUCKET/PREFIX` with
    /// `endpoint`; or `rclone:REMOTE:PATH`, for an S3 remote in rclone's config.
    pub location: String,
    /// Password of one of the repository's keys.
    pub password: SecretRef,
    /// Name of the repository of which this one is a mirror; `kaleem-dr replicate` updates it.
    #[serde(default)]
    pub mirror_of: Option<String>,
    /// S3: URL of the service, `https://HOST`, for `s3://BUCKET/PREFIX` [default:
    /// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`].
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Path of rclone's config [default: `RCLONE_CONFIG`, then `~/.config/rclone/rclone.conf`].
    #[serde(default)]
    pub rclone_config: Option<PathBuf>,
    /// S3: access key id [default: `AWS_ACCESS_KEY_ID`, then the profile `AWS_PROFILE` of
    /// `~/.aws/credentials`].
    #[serde(default)]
    pub access_key_id: Option<SecretRef>,
    /// S3: secret access key [default: `AWS_SECRET_ACCESS_KEY`].
    #[serde(default)]
    pub secret_access_key: Option<SecretRef>,
    /// S3: session token of a temporary key.
    #[serde(default)]
    pub session_token: Option<SecretRef>,
    /// S3: region [default: `AWS_REGION`, `AWS_DEFAULT_REGION`, or `auto`]; always `auto` on R2.
    #[serde(default)]
    pub region: Option<String>,
    /// S3: IP addresses to use: `any` (IPv4 first), `v4` or `v6`.
    #[serde(default)]
    pub ip: IpChoice,
    /// S3: PEM file of certificates to trust in addition to the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// S3: proxy, `http://HOST:PORT` [default: `HTTPS_PROXY` and `NO_PROXY`].
    #[serde(default)]
    pub proxy: Option<String>,
    /// S3: allow `http:` to other machines.
    #[serde(default)]
    pub insecure_http: bool,
    /// S3: maximum rate of all uploads together: `2 MiB/s`.
    #[serde(default)]
    pub upload_limit: Option<Rate>,
    /// S3: maximum rate of all downloads together.
    #[serde(default)]
    pub download_limit: Option<Rate>,
    /// This host only adds to the repository and reads it: its key may neither delete nor overwrite
    /// objects. Another host forgets and prunes [default: false].
    #[serde(default)]
    pub append_only: bool,
    /// Additional tags for snapshots that are saved or copied here. `{host}` in a tag is replaced
    /// by the host's name.
    #[serde(default)]
    pub tags: Vec<String>,
}
