//! `[recovery]` of the config: what a lost machine is recovered with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretRef;

/// Knowledge that snapshots keep for the recovery of a lost machine, and commands after a recovery.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RecoverySettings {
    /// Secrets in snapshots: `named` (only their places; the default) or `sealed` (also their
    /// values, encrypted once more with `passphrase`).
    pub secrets: SecretsKept,
    /// With `sealed`: the passphrase of the sealed secrets. Keep it where a lost machine cannot take
    /// it along, apart from the repository's password.
    pub passphrase: Option<SecretRef>,
    /// Commands after `recover` has restored everything in place, each a program with its arguments.
    pub after: Vec<Vec<String>>,
}

/// The part of the secrets that snapshots keep, of those that a config refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretsKept {
    /// Only their places.
    #[default]
    Named,
    /// Their values too, encrypted with a passphrase.
    Sealed,
}

impl RecoverySettings {
    /// The first fault, as a sentence with the key; `None` if the table is valid.
    pub(super) fn fault(&self) -> Option<String> {
        match (self.secrets, &self.passphrase) {
            (SecretsKept::Sealed, None) => Some(
                "`recovery.secrets` is \"sealed\", which needs `recovery.passphrase`".to_owned(),
            ),
            (SecretsKept::Named, Some(_)) => Some(
                "`recovery.passphrase` is set, but `recovery.secrets` is not \"sealed\"".to_owned(),
            ),
            _ if self.after.iter().any(Vec::is_empty) => {
                Some("`recovery.after` contains an empty command".to_owned())
            }
            _ => None,
        }
    }
}
