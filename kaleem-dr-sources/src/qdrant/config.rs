//! What the config says of a Qdrant source.

use std::{num::NonZeroU64, path::PathBuf};

use kaleem_dr_core::operate::config::secret::{SecretError, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Qdrant server, reached through its HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QdrantConfig {
    /// Where the HTTP API listens, such as `http://127.0.0.1:6333`.
    pub url: String,
    /// Where an API key lies that may write: Qdrant takes no snapshot for a read-only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Certificates in PEM to trust besides the system's, for `https` with a private authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Globs of the collections to take. Empty: all.
    #[serde(default)]
    pub collections: Vec<String>,
    /// Globs of collections to leave out.
    #[serde(default)]
    pub exclude_collections: Vec<String>,
    /// Whether every point is read before and after a snapshot, so that a restore can be compared point by point. It costs two
    /// readings of the data through the API; without it a restore compares counts and settings only.
    #[serde(default = "default_content_digest")]
    pub content_digest: bool,
    /// A program that reads snapshot files with Qdrant's own engine, `kaleem-dr-qdrant-engine`: `verify` then compares every point in them with
    /// the capture, without a server. Without it they are walked down to the list of their segments' files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<PathBuf>,
    /// The most that one ordinary request may take, and the longest silence within a download, in seconds.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: NonZeroU64,
    /// The most that the server may take to make a snapshot of one collection, or to take one in, in seconds.
    #[serde(default = "default_snapshot_timeout_seconds")]
    pub snapshot_timeout_seconds: NonZeroU64,
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

/// Why a Qdrant source cannot be made from its config.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QdrantConfigError {
    /// It is no address of an API. The address is not shown, for it may hold a key.
    #[error("`url` is not the address of a Qdrant HTTP API, such as http://127.0.0.1:6333: {0}")]
    Url(String),
    /// The address holds a user, a password or a query.
    #[error(
        "`url` holds a user, a password or a query, which would show in `ps`, logs and reports; name the place of the API key in \
         `api_key`, such as {{ file = \"/etc/kaleem-dr/qdrant.key\" }}"
    )]
    CredentialsInUrl,
    /// The key cannot be had.
    #[error("`api_key` cannot be had")]
    ApiKey(#[source] SecretError),
    /// The key cannot stand in a header.
    #[error("`api_key` holds a character that no API key has, such as a line break")]
    ApiKeyCharacters,
    /// A pattern is none.
    #[error("`{key}` holds a pattern that is none")]
    Pattern {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        cause: globset::Error,
    },
    /// The certificates cannot be read.
    #[error("`ca_file`: cannot read {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// TLS cannot be set up with these certificates.
    #[error("TLS cannot be set up")]
    Tls(#[source] reqwest::Error),
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
            written.contains("a secret is not written into the config")
                && !written.contains("canary"),
            "{written}"
        );
    }
}
