//! The config of a source of type `rabbitmq`.

use std::{num::NonZeroU64, path::PathBuf};

use kaleem_dr_core::operate::config::secret::{SecretError, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    docker::{DockerConfigError, DockerContainer},
    http_api::HttpApiError,
};

/// A RabbitMQ server (or cluster), reached through its management API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RabbitmqConfig {
    /// URL of the management API, such as `http://127.0.0.1:15672`, without user and password.
    pub url: String,
    /// The server's container, if Docker provides the address: `{ container = "kaleem-rabbitmq" }` or
    /// `{ label = "kaleem-dr.source=rabbitmq" }`. It replaces the host of `url`; the port of `url` is
    /// the port inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerContainer>,
    /// A user with the tag `administrator`: RabbitMQ shows its definitions only to administrators.
    pub username: String,
    /// The password of this user, such as `{ file = "/etc/kaleem-dr/rabbitmq.pass" }`.
    pub password: SecretRef,
    /// Time limit for one request, in seconds; an import may take ten times as long.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: NonZeroU64,
    /// PEM certificates to trust in addition to the system's, for `https` with a private authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl RabbitmqConfig {
    /// The management API at `url` and its user, with the defaults of a config file.
    pub fn new(url: impl Into<String>, username: impl Into<String>, password: SecretRef) -> Self {
        Self {
            url: url.into(),
            docker: None,
            username: username.into(),
            password,
            timeout_seconds: default_timeout_seconds(),
            ca_file: None,
        }
    }
}

fn default_timeout_seconds() -> NonZeroU64 {
    const { NonZeroU64::new(60).expect("60 is not zero") }
}

/// The reason why a config is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RabbitmqConfigError {
    /// The URL is invalid. It is not shown, because it may contain a password.
    #[error("`url` is not the URL of a management API, such as http://127.0.0.1:15672: {0}")]
    Url(String),
    /// The URL contains a user or a password.
    #[error(
        "`url` contains a user or a password, which would be visible in `ps`, logs and reports; set the user with `username` and the password \
         with `password`, such as {{ file = \"/etc/kaleem-dr/rabbitmq.pass\" }}"
    )]
    CredentialsInUrl,
    /// The password could not be read.
    #[error("cannot read `password`")]
    Password(#[source] SecretError),
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

impl From<HttpApiError> for RabbitmqConfigError {
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
    fn a_misspelt_key_is_refused_and_the_time_out_has_a_default() {
        let config = |extra: &str| {
            let text = format!(
                r#"{{"url": "http://mq:15672", "username": "kaleem", "password": {{"env": "MQ"}}{extra}}}"#
            );
            serde_json::from_str::<RabbitmqConfig>(&text)
        };
        assert_eq!(config("").unwrap().timeout_seconds.get(), 60);
        assert!(
            config(r#", "timeout": 5"#)
                .unwrap_err()
                .to_string()
                .contains("unknown field `timeout`")
        );
        assert!(config(r#", "timeout_seconds": 0"#).is_err());
    }
}
