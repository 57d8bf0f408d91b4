//! Remembers which repository this installation was set up from, so that `recover` needs no
//! argument, and the measurements of the lost machine.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{ground::durable_file, operate::installation::Measurements};

/// Name of the file in the state directory.
const FILE: &str = "recover-from.json";

/// The repository that an installation was set up from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// Its name in the config.
    pub repository: String,
    /// Measurements of the lost machine, for the forecast.
    #[serde(default)]
    pub measured: Measurements,
}

impl Origin {
    /// A repository of the config, with the measurements of the lost machine.
    pub fn new(repository: impl Into<String>, measured: Measurements) -> Self {
        Self { repository: repository.into(), measured }
    }

    /// The measurements of the lost machine; none if they cannot be read, because then only the forecast
    /// lacks them. Blocking.
    #[must_use]
    pub fn measurements(state_directory: &Path) -> Measurements {
        Self::load(state_directory).ok().flatten().map(|origin| origin.measured).unwrap_or_default()
    }

    /// Reads it; `None` if this installation was not set up by `bootstrap`. Blocking.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid.
    pub fn load(state_directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(Self::path(state_directory)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it, durably; creates the state directory. Blocking.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, state_directory: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_directory)?;
        durable_file::replace(
            &Self::path(state_directory),
            &serde_json::to_vec_pretty(self)?,
            0o600,
        )
    }

    /// The file in a state directory.
    #[must_use]
    pub fn path(state_directory: &Path) -> PathBuf {
        state_directory.join(FILE)
    }
}
