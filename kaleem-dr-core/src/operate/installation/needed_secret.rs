//! The secrets that an installation needs: which key refers to them, where they were, and how each
//! is made anew.

use serde::{Deserialize, Serialize};

use crate::operate::config::{
    Config, References,
    secret::{Environment, SecretError, SecretRef, SecretString},
};

/// A secret that a config refers to, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NeededSecret {
    /// The key that refers to it: `repository.local.password`.
    pub key: String,
    /// Its place on the machine.
    pub place: SecretRef,
    /// The way to make it anew if it is lost, as one sentence.
    pub renewal: String,
}

impl NeededSecret {
    /// Every secret of a config, by key. The passphrase of sealed secrets is not among them.
    pub(crate) fn of(config: &Config, environment: &Environment) -> Vec<Self> {
        let references = References::in_table(&config.effective).secrets;
        let mut needed: Vec<Self> = references
            .into_iter()
            .filter(|(key, _)| key != PASSPHRASE_KEY)
            .map(|(key, place)| Self { renewal: renewal(&key), key, place })
            .collect();
        // rclone's config is a secret as a whole: it contains the keys of its remotes.
        for (name, repository) in &config.settings.repository {
            let path = repository
                .location
                .starts_with("rclone:")
                .then(|| repository.rclone_config_path(environment))
                .flatten();
            if let Some(path) = path {
                let key = format!("repository.{name}.rclone_config");
                let place = SecretRef::File(path);
                needed.push(Self { renewal: renewal(&key), key, place });
            }
        }
        needed.sort_by(|a, b| a.key.cmp(&b.key));
        needed.dedup();
        needed
    }

    /// Reads its value.
    ///
    /// # Errors
    /// If it does not exist, is empty, or others can read it.
    pub fn value(&self, environment: &Environment) -> Result<SecretString, SecretError> {
        environment.secret(&self.place)
    }

    /// The source that it belongs to, by name; `None` for a repository's or a recipient's.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.key.strip_prefix("source.")?.split('.').next()
    }
}

/// The key of the passphrase, which seals all others.
pub(crate) const PASSPHRASE_KEY: &str = "recovery.passphrase";

/// The way to make the secret of a key anew.
fn renewal(key: &str) -> String {
    let mut parts = key.split('.');
    let (section, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let last = key.rsplit('.').next().unwrap_or_default();
    match (section, last) {
        ("repository", "password") => format!(
            "it opens the repository {name} and cannot be made anew; any other password of the repository does too"
        ),
        ("repository", "rclone_config") => {
            "create new keys at the service of each remote, and enter them with `rclone config`"
                .to_owned()
        }
        ("repository", _) => format!(
            "create a new access key for the bucket of {name} at its service, with read and write access"
        ),
        ("source", _) => format!(
            "set a new one for the user of the source {name} on its server, and write it to this place"
        ),
        ("monitoring", _) => "copy it again from the service that is notified".to_owned(),
        _ => "write a new one to this place".to_owned(),
    }
}
