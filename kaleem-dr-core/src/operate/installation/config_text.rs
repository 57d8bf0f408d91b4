//! The config as text, without its comments, which may contain anything, and without secrets.
//!
//! A config contains no secrets, only their places. This is the second line of defence: it removes
//! user data in URLs, and every value that is also the value of a secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::operate::{
    config::{Config, secret::Environment},
    monitor::Redactor,
};

/// Minimum length of a secret that is searched for, in bytes. A shorter one that equals a word of the
/// config, such as the name of a user, would make the config unusable.
const SHORTEST_SECRET_BYTES: usize = 8;

/// The config of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstalledConfig {
    /// Its path on the machine.
    pub path: PathBuf,
    /// TOML: the config as it applied, with the variables that override keys.
    pub text: String,
    /// Keys whose values contained a secret, which is replaced by `***`.
    #[serde(default)]
    pub redacted: Vec<String>,
}

impl InstalledConfig {
    /// The text of a config. Secrets that were not read yet are not recognised.
    pub(super) fn of(config: &Config, environment: &Environment, path: &Path) -> Self {
        let mut table = config.effective.clone();
        let mut redacted = Vec::new();
        let redactor = Redactor::of(environment).of_at_least(SHORTEST_SECRET_BYTES);
        clean(&mut table, "", &redactor, &mut redacted);
        redacted.sort();
        redacted.dedup();
        Self {
            path: path.to_path_buf(),
            // A table that was parsed from TOML can be written as TOML.
            text: toml::to_string(&table).unwrap_or_default(),
            redacted,
        }
    }
}

fn clean(table: &mut Table, above: &str, redactor: &Redactor, redacted: &mut Vec<String>) {
    for (name, value) in table {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        clean_value(value, &key, redactor, redacted);
    }
}

fn clean_value(value: &mut Value, key: &str, redactor: &Redactor, redacted: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let cleaned = redactor.clean(text);
            if cleaned != *text {
                redacted.push(key.to_owned());
                *text = cleaned;
            }
        }
        Value::Array(values) => {
            values.iter_mut().for_each(|value| clean_value(value, key, redactor, redacted));
        }
        Value::Table(table) => clean(table, key, redactor, redacted),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_user_data_of_urls_and_values_of_secrets_are_gone() {
        let text = "# canary-comment\nhost = \"db1\"\n[repository.local]\nlocation = \"https://u:canary-url@h/x\"\n\
            password = { env = \"PASSWORD\" } # canary-two\n[backup]\ntags = [\"canary-secret\", \"daily\"]\n";
        let environment: Environment =
            [("PASSWORD", "canary-secret"), ("KALEEM_DR__RETENTION__KEEP_DAILY", "14")]
                .into_iter()
                .collect();
        let config = Config::parse(text, Path::new("/c.toml"), &[], &environment).unwrap();
        let secret = &config.settings.repository["local"].password;
        environment.secret(secret).unwrap();
        let installed = InstalledConfig::of(&config, &environment, Path::new("/c.toml"));
        assert!(!installed.text.contains("canary"), "{}", installed.text);
        assert_eq!(installed.redacted, ["backup.tags", "repository.local.location"]);
        let again: Table = installed.text.parse().unwrap();
        assert_eq!(again["retention"]["keep_daily"].as_integer(), Some(14));
        assert_eq!(again["repository"]["local"]["password"]["env"].as_str(), Some("PASSWORD"));
        assert_eq!(again["backup"]["tags"][1].as_str(), Some("daily"));
    }
}
