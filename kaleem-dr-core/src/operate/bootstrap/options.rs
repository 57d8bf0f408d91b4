//! The options of `bootstrap`, and the repository that they name.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    ground::host::HostName,
    operate::config::secret::{Environment, ExposeSecret as _, SecretString},
};

/// Name of a repository that the config did not have.
pub const RECOVERED: &str = "recovered";
/// Variables that hold the options' secrets while the repository is opened.
pub(super) const PASSWORD: &str = "KALEEM_DR_BOOTSTRAP_PASSWORD";
pub(super) const KEY_ID: &str = "KALEEM_DR_BOOTSTRAP_KEY_ID";
pub(super) const KEY: &str = "KALEEM_DR_BOOTSTRAP_KEY";

/// Options of [`Site::bootstrap`](crate::Site::bootstrap).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bootstrap {
    /// Location of the repository, as in `location` of the config: a directory, or
    /// `s3:https://HOST/BUCKET/PREFIX`.
    pub from: String,
    /// Password of one of its keys.
    pub password: SecretString,
    /// Access key of the bucket; `None` takes it from the environment.
    pub key: Option<BucketKey>,
    /// Region of the bucket; `None` for the default.
    pub region: Option<String>,
    /// PEM file of certificates to trust in addition to the system's, for the bucket's service.
    pub ca_file: Option<PathBuf>,
    /// Host to take over; may be `None` if the repository has one host only.
    pub host: Option<HostName>,
    /// File to write the config to.
    pub config: PathBuf,
    /// Scratch root: all files of the installation are written below this directory, and its
    /// repositories in directories are sought there, except the one to recover from.
    pub root: Option<PathBuf>,
    /// Replaces existing files with other content.
    pub replace: bool,
    /// Passphrase of the sealed secrets.
    pub passphrase: Option<SecretString>,
    /// Secrets by the keys that refer to them: `source.mongo.uri`. They go before sealed ones.
    pub secrets: BTreeMap<String, SecretString>,
}

impl Bootstrap {
    /// Takes over the only host of a repository, with the config in this file.
    #[must_use]
    pub fn from(location: impl Into<String>, password: SecretString, config: PathBuf) -> Self {
        Self {
            from: location.into(),
            password,
            key: None,
            region: None,
            ca_file: None,
            host: None,
            config,
            root: None,
            replace: false,
            passphrase: None,
            secrets: BTreeMap::new(),
        }
    }

    /// A config with nothing but the repository, whose secrets are in [`Bootstrap::variables`].
    pub(crate) fn repository_text(&self) -> String {
        let mut settings = toml::Table::new();
        let variable = |name: &str| {
            toml::Value::Table(toml::Table::from_iter([("env".to_owned(), name.into())]))
        };
        settings.insert("location".into(), self.from.clone().into());
        settings.insert("password".into(), variable(PASSWORD));
        if self.key.is_some() {
            settings.insert("access_key_id".into(), variable(KEY_ID));
            settings.insert("secret_access_key".into(), variable(KEY));
        }
        for (key, value) in [
            ("region", self.region.clone()),
            ("ca_file", self.ca_file.as_ref().map(|path| path.display().to_string())),
        ] {
            settings.extend(value.map(|value| (key.to_owned(), toml::Value::from(value))));
        }
        let inner = toml::Table::from_iter([(RECOVERED.to_owned(), settings.into())]);
        let table = toml::Table::from_iter([("repository".to_owned(), inner.into())]);
        // A table of texts can be written as TOML.
        toml::to_string(&table).unwrap_or_default()
    }

    /// The location as another working directory reads it.
    pub(super) fn lasting_location(&self) -> String {
        let is_directory = !self.from.split('/').next().is_some_and(|first| first.contains(':'));
        match std::path::absolute(&self.from) {
            Ok(path) if is_directory => path.display().to_string(),
            _ => self.from.clone(),
        }
    }

    /// The variables with the options' secrets.
    pub(crate) fn variables(&self) -> Environment {
        let text = |secret: &SecretString| secret.expose_secret().to_owned();
        let key =
            self.key.iter().flat_map(|key| [(KEY_ID, text(&key.id)), (KEY, text(&key.secret))]);
        key.chain([(PASSWORD, text(&self.password))]).collect()
    }
}

/// An access key of a bucket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BucketKey {
    /// The id of the key.
    pub id: SecretString,
    /// The secret part of the key.
    pub secret: SecretString,
}

impl BucketKey {
    /// A key by its id and its secret part.
    #[must_use]
    pub fn new(id: SecretString, secret: SecretString) -> Self {
        Self { id, secret }
    }
}
