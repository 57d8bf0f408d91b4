//! The config of a source of type `qdrant`.

use std::{num::NonZeroU64, path::PathBuf};

use kaleem_dr_core::operate::config::secret::{SecretError, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    docker::{DockerConfigError, DockerContainer},
    http_api::HttpApiError,
};

/// A Qdrant server, reached through its HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct QdrantConfig {
    /// URL of the HTTP API, such as `http://127.0.0.1:6333`.
    pub url: String,
    /// The server's container, if Docker provides the address: `{ container = "kaleem-qdrant" }` or
    /// `{ label = "kaleem-dr.source=qdrant" }`. It replaces the host of `url`; the port of `url` is
    /// the port inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerContainer>,
    /// In a cluster of several peers: the URLs of the peers' HTTP APIs. Each shard is captured from a
    /// peer that holds it, and restored to one. `url` may be the address of a load balancer if each
    /// peer is listed here, and need not be repeated if it is that of a peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// An API key with write access: Qdrant takes no snapshot with a read-only key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// PEM certificates to trust in addition to the system's, for `https` with a private authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Globs of the collections to capture. Empty: all.
    #[serde(default)]
    pub collections: Vec<String>,
    /// Globs of collections to leave out.
    #[serde(default)]
    pub exclude_collections: Vec<String>,
    /// Read every point before and after a snapshot, so that a restore can be compared point by
    /// point. This reads the data twice through the API; without it, a restore compares only counts
    /// and settings.
    #[serde(default = "default_content_digest")]
    pub content_digest: bool,
    /// Path of `kaleem-dr-qdrant-engine`, a program that reads snapshot files with Qdrant's own
    /// engine: `verify` then compares every point in them with the capture, without a server.
    /// Without it, the files are checked only down to the list of segment files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<PathBuf>,
    /// Time limit for an ordinary request, and for a silence within a download, in seconds.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: NonZeroU64,
    /// Time limit for the server to create or restore a snapshot of one collection, in seconds.
    #[serde(default = "default_snapshot_timeout_seconds")]
    pub snapshot_timeout_seconds: NonZeroU64,
}

impl QdrantConfig {
    /// All collections of the Qdrant at `url`, without an API key, with the defaults of a config file.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            docker: None,
            peers: Vec::new(),
            api_key: None,
            ca_file: None,
            collections: Vec::new(),
            exclude_collections: Vec::new(),
            content_digest: default_content_digest(),
            engine: None,
            timeout_seconds: default_timeout_seconds(),
            snapshot_timeout_seconds: default_snapshot_timeout_seconds(),
        }
    }
}

fn default_content_digest() -> bool {
    true
}

fn default_timeout_seconds() -> NonZeroU64 {
    const { NonZeroU64::new(60).expect("60 is not zero") }
}

fn default_snapshot_timeout_seconds() -> NonZeroU64 {
    const { NonZeroU64::new(6 * 60 * 60).expect("six hours are not zero") }
}

/// The reason why a config is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QdrantConfigError {
    /// A URL is invalid. It is not shown, because it may contain a key.
    #[error(
        "`url`, or an entry of `peers`, is not the URL of a Qdrant HTTP API, such as http://127.0.0.1:6333: {0}"
    )]
    Url(String),
    /// A URL contains a user, a password or a query.
    #[error(
        "`url`, or an entry of `peers`, contains a user, a password or a query, which would be visible in `ps`, logs and reports; set the API key with \
         `api_key`, such as {{ file = \"/etc/kaleem-dr/qdrant.key\" }}"
    )]
    CredentialsInUrl,
    /// The API key could not be read.
    #[error("cannot read `api_key`")]
    ApiKey(#[source] SecretError),
    /// The API key cannot be sent in a header.
    #[error(
        "`api_key` contains a character that is not allowed in an API key, such as a line break"
    )]
    ApiKeyCharacters,
    /// A pattern is not a valid glob.
    #[error("`{key}` contains an invalid pattern")]
    Pattern {
        /// Name of the config key.
        key: &'static str,
        /// The error from the glob parser.
        #[source]
        cause: globset::Error,
    },
    /// The certificates could not be read.
    #[error("`ca_file`: cannot read {}", path.display())]
    CaFile {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// TLS could not be set up with these certificates.
    #[error("cannot set up TLS")]
    Tls(#[source] reqwest::Error),
    /// The key `docker` does not select a container.
    #[error(transparent)]
    Docker(DockerConfigError),
}

impl From<HttpApiError> for QdrantConfigError {
    fn from(error: HttpApiError) -> Self {
        match error {
            HttpApiError::Url(why) => Self::Url(why),
            HttpApiError::CredentialsInUrl => Self::CredentialsInUrl,
            HttpApiError::CaFile { path, cause } => Self::CaFile { path, cause },
            HttpApiError::Tls(error) => Self::Tls(error),
            HttpApiError::Docker(error) => Self::Docker(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_refused_and_all_but_the_address_has_a_default() {
        let config = |extra: &str| {
            serde_json::from_str::<QdrantConfig>(&format!(r#"{{"url": "http://q:6333"{extra}}}"#))
        };
        let plain = config("").unwrap();
        assert!(plain.content_digest && plain.api_key.is_none() && plain.collections.is_empty());
        assert_eq!(plain.timeout_seconds.get(), 60);
        assert!(
            config(r#", "colections": []"#)
                .unwrap_err()
                .to_string()
                .contains("unknown field `colections`")
        );
        let written = config(r#", "api_key": "canary""#).unwrap_err().to_string();
        assert!(
            written.contains("secrets are not allowed in the config")
                && !written.contains("canary"),
            "{written}"
        );
    }
}
