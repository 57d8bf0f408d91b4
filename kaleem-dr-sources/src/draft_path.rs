//! Paths as an operator types them for a new config.

use std::path::{Path, PathBuf, absolute};

use kaleem_dr_core::operate::config::secret::Environment;

/// A path that exists on this machine. A leading `~/` is the home directory.
///
/// # Errors
/// If it is relative or does not exist, with the path to write instead.
pub(crate) fn existing(text: &str, environment: &Environment) -> Result<PathBuf, String> {
    let path = match (text.strip_prefix("~/"), text, environment.get("HOME")) {
        (Some(below), _, Some(home)) => Path::new(home).join(below),
        (None, "~", Some(home)) => home.into(),
        _ => PathBuf::from(text),
    };
    if text.is_empty() {
        return Err("the path is missing".to_owned());
    }
    if !path.is_absolute() {
        let meant = absolute(&path).unwrap_or_else(|_| path.clone());
        return Err(format!("{text} is relative; write {}", meant.display()));
    }
    // Without a trailing slash, `.` and doubled slashes.
    let path: PathBuf = path.components().collect();
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("{text} contains `..`; write the path without it"));
    }
    match path.symlink_metadata() {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
