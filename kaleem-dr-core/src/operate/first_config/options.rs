//! Input and result of a first config.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// A config to write.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FirstConfig {
    /// Absolute path of the config; its secrets go into the same directory.
    pub config: PathBuf,
    /// Location of the repository: an absolute directory, or a bucket as restic names it.
    pub repository: String,
    /// Sources, each as `KIND:TEXT`: `files:/home`, `mongodb://backup@127.0.0.1/shop`.
    pub sources: Vec<String>,
    /// Installed schema of configs; `None` writes one next to the config.
    pub schema: Option<PathBuf>,
}

impl FirstConfig {
    /// A config with one repository, and no sources yet.
    #[must_use]
    pub fn new(config: PathBuf, repository: String) -> Self {
        Self { config, repository, sources: Vec::new(), schema: None }
    }

    /// The directory of the config and of its secrets.
    pub(crate) fn directory(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }
}

/// The origin of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretOrigin {
    /// Its file existed, and is used as it is.
    Present,
    /// It is random, and new.
    Random,
    /// The operator typed it.
    Typed,
    /// It was part of the source's text.
    Given,
}

/// A secret that a new config refers to, without its value.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NewSecret {
    /// The key that refers to it: `repository.local.password`.
    pub key: String,
    /// Its file, with mode 600.
    pub path: PathBuf,
    /// Its origin.
    pub origin: SecretOrigin,
}

/// The result of a first config.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Written {
    /// The new config.
    pub config: PathBuf,
    /// The secrets that it refers to.
    pub secrets: Vec<NewSecret>,
    /// The schema that was written next to it.
    pub schema: Option<PathBuf>,
    /// The repository exists already.
    pub repository_exists: bool,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
}
