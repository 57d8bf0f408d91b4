//! Locations of the two old repositories and their passwords, as tables of a config.

// Writing to a String cannot fail: hence each `let _ = writeln!`.
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret as _;

use super::{
    Finding, below,
    legacy::{Legacy, PASSWORD_FILE, RCLONE_CONFIG},
};
use crate::operate::config::{RepositorySettings, secret::Environment};

/// The local repository if no variable names one.
const LOCAL_REPOSITORY: &str = "/backups/restic-local";

/// Locations of the old repositories, for the survey and the config.
pub(super) struct Places {
    pub(super) local: PathBuf,
    pub(super) off_site: Option<String>,
    rclone_config: Option<PathBuf>,
    pub(super) password: Password,
}

/// Location of the repositories' password.
pub(super) enum Password {
    File(PathBuf),
    Variable,
    Nowhere,
}

impl Places {
    pub(super) fn of(old: &Legacy, off_site: Option<String>) -> Self {
        let variables = &old.variables;
        let local = variables
            .first(&["RESTIC_REPO", "RESTIC_REPOSITORY"])
            .and_then(|name| variables.get(name));
        let file = variables.get("RESTIC_PASSWORD_FILE").unwrap_or(PASSWORD_FILE);
        let password =
            if variables.get("RESTIC_PASSWORD_FILE").is_some() || below(&old.root, file).exists() {
                Password::File(below(&old.root, file))
            } else if variables.get("RESTIC_PASSWORD").is_some() {
                Password::Variable
            } else {
                Password::Nowhere
            };
        let by_rclone = off_site.as_ref().is_some_and(|location| location.starts_with("rclone:"));
        Self {
            local: below(&old.root, local.unwrap_or(LOCAL_REPOSITORY)),
            off_site,
            rclone_config: by_rclone.then(|| below(&old.root, RCLONE_CONFIG)),
            password,
        }
    }

    /// A finding if the repositories cannot be opened at all.
    pub(super) fn findings(&self) -> Option<Finding> {
        matches!(self.password, Password::Nowhere).then(|| {
            Finding::error(
                "no-password",
                "the repository's password was not found",
                "without it, nothing can be read or written",
                "set RESTIC_PASSWORD_FILE in the old env file to the file that holds it, mode 600",
            )
            .blocking()
        })
    }

    /// The settings of both, as far as they can be opened before the config is written, and their
    /// environment.
    pub(super) fn settings(
        &self,
        old: &Legacy,
    ) -> Result<(RepositorySettings, Option<RepositorySettings>, Environment), String> {
        let parse = |table: &str| {
            toml::from_str::<RepositorySettings>(table).map_err(|fault| fault.message().to_owned())
        };
        let password = match &self.password {
            Password::File(path) => reference(path),
            _ => "{ env = \"RESTIC_PASSWORD\" }".to_owned(),
        };
        let local = parse(&self.local_table(&password))?;
        let off_site =
            self.off_site_table(&password, false).map(|table| parse(&table)).transpose()?;
        let password = old
            .variables
            .secret("RESTIC_PASSWORD")
            .map(|(value, _)| ("RESTIC_PASSWORD", value.expose_secret().to_owned()));
        Ok((local, off_site, password.into_iter().collect()))
    }

    pub(super) fn local_table(&self, password: &str) -> String {
        format!("location = {}\npassword = {password}\n", quoted_path(&self.local))
    }

    pub(super) fn off_site_table(&self, password: &str, is_mirror: bool) -> Option<String> {
        let mut table =
            format!("location = {}\npassword = {password}\n", quoted(self.off_site.as_deref()?));
        if let Some(path) = &self.rclone_config {
            let _ = writeln!(table, "rclone_config = {}", quoted_path(path));
        }
        table.push_str(if is_mirror {
            "mirror_of = \"local\"\n"
        } else {
            "tags = [\"r2\", \"server:{host}\"]\n"
        });
        Some(table)
    }
}

/// A reference to a secret in a file, as TOML.
pub(super) fn reference(path: &Path) -> String {
    format!("{{ file = {} }}", quoted_path(path))
}

pub(super) fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
