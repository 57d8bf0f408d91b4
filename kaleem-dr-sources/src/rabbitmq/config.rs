//! What the config says of a RabbitMQ source.

use std::{num::NonZeroU64, path::PathBuf};

use kaleem_dr_core::operate::config::secret::{SecretError, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A RabbitMQ server (or cluster), reached through its management API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RabbitmqConfig {
    /// Where the management API listens, such as `http://127.0.0.1:15672`. Without user and password.
    pub url: String,
    /// A user with the tag `administrator`: RabbitMQ shows its definitions to no other.
    pub username: String,
    /// Where that user's password lies, such as `{ file = "/etc/kaleem-dr/rabbitmq.pass" }`.
    pub password: SecretRef,
    /// The most that one request may take, in seconds; an import may take ten times as long.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: NonZeroU64,
    /// Certificates in PEM to trust besides the system's, for `https` with a private authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

fn default_timeout_seconds() -> NonZeroU64 {
    const { NonZeroU64::new(60).expect("60 is not zero") }
}

/// Why a RabbitMQ source cannot be made from its config.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RabbitmqConfigError {
    /// It is no address of a management API. The address is not shown, for it may hold a password.
    #[error("`url` is not the address of a management API, such as http://127.0.0.1:15672: {0}")]
    Url(String),
    /// The address holds a user or a password.
    #[error(
        "`url` holds a user or a password, which would show in `ps`, logs and reports; name the user in `username` and the place \
         of the password in `password`, such as {{ file = \"/etc/kaleem-dr/rabbitmq.pass\" }}"
    )]
    CredentialsInUrl,
    /// The password cannot be had.
    #[error("`password` cannot be had")]
    Password(#[source] SecretError),
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
