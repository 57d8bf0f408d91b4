//! The description of an installation in each of its snapshots, from which `bootstrap` makes a new
//! machine ready to recover: the config without its secrets, the secrets' places, the servers'
//! addresses, facts about the machine, and the order of the sources.
//!
//! It contains no times, so that it is stored once as long as nothing changes. Its format is
//! described in `docs/format.md`.

mod config_text;
mod machine;
mod measured;
mod needed_secret;
mod sealed;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use self::needed_secret::PASSPHRASE_KEY;
pub use self::{
    config_text::InstalledConfig,
    machine::{Account, Group, Machine, Mount, Package},
    measured::{Measured, MeasuredPass, Measurements},
    needed_secret::NeededSecret,
    sealed::{SealError, SealedSecrets},
};
use crate::{
    engine::{
        ledger::{Ledger, LedgerError},
        manifest::Enclosure,
    },
    ground::SourceName,
    operate::config::{
        Config,
        secret::{Environment, SecretString},
    },
    recovery::source::Restorable,
};

/// Name of the description in the directory of the manifest.
pub const INSTALLATION: &str = "installation.json";
/// Name of the sealed secrets in the directory of the manifest.
pub const SEALED_SECRETS: &str = "secrets.age";
/// The format that this release writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// The description of an installation, as a snapshot contains it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Installation {
    /// Number of the format; it grows with each incompatible change.
    pub format: u32,
    /// Host that the installation saves as.
    pub host: String,
    /// Name and version of the program.
    pub tool: String,
    /// The config as it applied, without secrets.
    pub config: InstalledConfig,
    /// Every secret that the config refers to, without its value.
    #[serde(default)]
    pub secrets: Vec<NeededSecret>,
    /// The sources that come from servers. Their versions are in the manifests.
    #[serde(default)]
    pub servers: Vec<ServerAddress>,
    /// Facts about the machine that matter for a restore.
    #[serde(default)]
    pub machine: Machine,
    /// The sources in the order of their recovery: each group after those before it.
    #[serde(default)]
    pub order: Vec<Vec<SourceName>>,
    /// Measured restores, for the forecast of a recovery; newest first.
    #[serde(default)]
    pub measured: Vec<Measured>,
    /// Measured passes of mirrors, for the forecast of a recovery; newest first.
    #[serde(default)]
    pub passes: Vec<MeasuredPass>,
}

/// The server of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerAddress {
    /// Name of the source in the config.
    pub source: SourceName,
    /// Kind of the source: its `type` in the config.
    pub kind: String,
    /// Its address as the source shows it, without credentials.
    pub address: String,
}

/// Why an installation cannot be read from a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidInstallation {
    /// The file is not what this format describes.
    #[error("{INSTALLATION} in the snapshot is invalid")]
    Json(#[source] serde_json::Error),
    /// A newer program wrote it.
    #[error(
        "the format of {INSTALLATION} is {0}, but only {FORMAT} is supported; use a newer program"
    )]
    Newer(u32),
}

impl Installation {
    /// Describes an installation. `path` is that of its config; `root` is the machine's root
    /// directory. Reads files of the machine; blocking.
    #[must_use]
    pub fn of(
        (config, environment): (&Config, &Environment),
        path: &Path,
        sources: &[std::sync::Arc<dyn Restorable>],
        root: &Path,
    ) -> Self {
        let secrets = NeededSecret::of(config, environment);
        // What was read is known to the redactor, which the config is searched with.
        for secret in &secrets {
            // A secret that cannot be read now is not in the config's text either.
            let _ = secret.value(environment);
        }
        let servers = sources.iter().filter_map(|source| {
            Some(ServerAddress {
                source: source.name().clone(),
                kind: source.kind().to_owned(),
                address: source.address()?,
            })
        });
        let mut names = config.backup_sources();
        names.extend(sources.iter().map(|source| source.name().clone()));
        Self {
            format: FORMAT,
            host: config.settings.host_name().to_string(),
            tool: concat!("kaleem-dr ", env!("CARGO_PKG_VERSION")).to_owned(),
            config: InstalledConfig::of(config, environment, path),
            servers: servers.collect(),
            secrets,
            machine: Machine::of(root),
            order: config.order.groups(&names),
            measured: Vec::new(),
            passes: Vec::new(),
        }
    }

    /// Adds the newest measurements of a history, and `older` ones, such as those of a lost machine.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn with_measured(
        mut self,
        ledger: &Ledger,
        older: &Measurements,
    ) -> Result<Self, LedgerError> {
        let Measurements { restores, passes } = Measurements::of(ledger)?.before(older);
        (self.measured, self.passes) = (restores, passes);
        Ok(self)
    }

    /// Reads the description in a snapshot. Unknown fields are ignored.
    ///
    /// # Errors
    /// If it is invalid, or in a newer format.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidInstallation> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(json).map_err(InvalidInstallation::Json)?;
        if format > FORMAT {
            return Err(InvalidInstallation::Newer(format));
        }
        serde_json::from_slice(json).map_err(InvalidInstallation::Json)
    }

    /// The file for a snapshot.
    #[must_use]
    pub fn enclosure(&self) -> Enclosure {
        // It has plain fields only, so serialisation cannot fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        Enclosure::new(INSTALLATION, json)
    }

    /// The secrets with their values, encrypted with the config's passphrase, as a file for a
    /// snapshot. Takes a second of one core; blocking.
    ///
    /// # Errors
    /// If they cannot be encrypted.
    pub fn sealed(
        &self,
        environment: &Environment,
        passphrase: &SecretString,
    ) -> Result<Enclosure, SealError> {
        let sealed = SealedSecrets::of(&self.secrets, environment);
        Ok(Enclosure::new(SEALED_SECRETS, sealed.sealed(passphrase)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_a_newer_format_is_refused() {
        let json = |format: u32| {
            format!(
                r#"{{"format": {format}, "host": "db1", "tool": "t", "config": {{"path": "/c", "text": "", "new": 1}},
                    "more": {{"x": 1}}, "secrets": [{{"key": "k", "place": {{"env": "E"}}, "renewal": "r", "y": 2}}]}}"#
            )
        };
        let read = Installation::parse(json(1).as_bytes()).unwrap();
        assert_eq!((read.host.as_str(), read.secrets.len()), ("db1", 1));
        let newer = Installation::parse(json(2).as_bytes()).unwrap_err();
        assert!(matches!(newer, InvalidInstallation::Newer(2)), "{newer}");
    }
}
