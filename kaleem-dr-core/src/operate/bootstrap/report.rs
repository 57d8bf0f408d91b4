//! The result of `bootstrap`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    hosts::HostPoints,
    placing::{PlacedSecret, Placement},
};

/// The config that commands read without `--config`.
const USUAL_CONFIG: &str = "/etc/kaleem-dr/kaleem-dr.toml";

/// The result of [`Site::bootstrap`](crate::Site::bootstrap).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Bootstrapped {
    /// Host whose identity was taken over.
    pub host: String,
    /// All hosts with points in the repository.
    pub hosts: Vec<HostPoints>,
    /// Location of the repository, without credentials.
    pub from: String,
    /// Name of that repository in the config.
    pub repository: String,
    /// Time of the snapshot that described the installation.
    pub described: Timestamp,
    /// The written config.
    pub config: PathBuf,
    /// File of variables, if the config refers to any.
    pub environment_file: Option<PathBuf>,
    /// Directory of credentials, if the config refers to any.
    pub credentials: Option<PathBuf>,
    /// Each secret with its state.
    pub secrets: Vec<PlacedSecret>,
    /// Warnings for the operator, one sentence each: what the new machine lacks.
    pub notes: Vec<String>,
}

impl Bootstrapped {
    /// The command that recovers everything, with the options that this config needs.
    #[must_use]
    pub fn next_command(&self) -> String {
        let mut words = Vec::new();
        if let Some(directory) = &self.credentials {
            words.push(format!("CREDENTIALS_DIRECTORY={}", directory.display()));
        }
        words.push("kaleem-dr".to_owned());
        if self.config != Path::new(USUAL_CONFIG) {
            words.push(format!("--config {}", self.config.display()));
        }
        if let Some(file) = &self.environment_file {
            words.push(format!("--env-file {}", file.display()));
        }
        words.push("recover".to_owned());
        words.join(" ")
    }

    /// The secrets that are still missing.
    pub fn missing(&self) -> impl Iterator<Item = &PlacedSecret> {
        self.secrets.iter().filter(|secret| secret.placement == Placement::Missing)
    }
}
