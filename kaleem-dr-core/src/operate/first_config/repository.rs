//! The repository of a first config.

use std::path::{Component, Path, PathBuf, absolute};

use crate::operate::config::secret::Environment;

/// A location that was examined.
#[derive(Debug)]
pub(crate) struct NewRepository {
    /// The location, as the config names it.
    pub(crate) location: String,
    /// Its directory, unless it is elsewhere.
    pub(crate) directory: Option<PathBuf>,
    /// It has a repository already.
    pub(crate) exists: bool,
}

impl NewRepository {
    /// Examines a location. A bucket is not contacted.
    ///
    /// # Errors
    /// If it is relative, its parent directory is missing, or it contains something else than a repository.
    pub(crate) fn at(text: &str, environment: &Environment) -> Result<Self, String> {
        let plain = text.strip_prefix("local:").unwrap_or(text);
        let has_scheme = plain.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'));
        if has_scheme {
            return Ok(Self { location: text.to_owned(), directory: None, exists: false });
        }
        let path = match (plain.strip_prefix("~/"), environment.get("HOME")) {
            (Some(below), Some(home)) => Path::new(home).join(below),
            _ => PathBuf::from(plain),
        };
        if plain.is_empty() {
            return Err("the repository has no location; name a directory, or a bucket as s3:https://HOST/BUCKET/PREFIX".into());
        }
        if !path.is_absolute() {
            let meant = absolute(&path).unwrap_or_else(|_| path.clone());
            return Err(format!("the repository {plain} is relative; write {}", meant.display()));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(format!("the repository {plain} contains `..`; write the path without it"));
        }
        let path: PathBuf = path.components().collect();
        let shown = path.display();
        let exists = path.join("config").is_file() && path.join("keys").is_dir();
        if !exists {
            match path.read_dir().map(|mut entries| entries.next().is_some()) {
                Ok(true) => {
                    return Err(format!(
                        "{shown} has files, but is not a repository; name an empty or a new directory"
                    ));
                }
                Ok(false) => {}
                Err(_) if path.symlink_metadata().is_ok() => {
                    return Err(format!("{shown} is not a directory that can be read"));
                }
                Err(_) if !path.parent().is_some_and(Path::is_dir) => {
                    return Err(format!(
                        "the directory above {shown} does not exist; mount its disk, or create the directory"
                    ));
                }
                Err(_) => {}
            }
        }
        let location = path.to_str().ok_or_else(|| format!("{shown} is not UTF-8"))?.to_owned();
        Ok(Self { location, directory: Some(path), exists })
    }

    /// Reports whether it needs an access key, which the environment does not have.
    pub(crate) fn needs_key(&self, environment: &Environment) -> bool {
        self.location.starts_with("s3:") && environment.get("AWS_ACCESS_KEY_ID").is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_location_that_cannot_be_meant_is_refused_with_the_reason() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name).display().to_string();
        fs::create_dir_all(home.path().join("full/sub")).unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        fs::create_dir_all(home.path().join("repository/keys")).unwrap();
        fs::write(home.path().join("repository/config"), "").unwrap();
        for (text, wanted) in [
            ("backups", "is relative; write /"),
            ("", "no location"),
            (&at("full"), "is not a repository"),
            (&at("file"), "is not a directory"),
            (&at("missing/backup"), "mount its disk"),
            (&at("full/../new"), "`..`"),
        ] {
            let why = NewRepository::at(text, &Environment::default()).unwrap_err();
            assert!(why.contains(wanted), "{text}: {why}");
        }
        for (text, exists) in
            [(at("new"), false), (at("full/sub"), false), (at("repository/"), true)]
        {
            let found = NewRepository::at(&text, &Environment::default()).unwrap();
            assert_eq!((found.exists, found.directory.is_some()), (exists, true), "{text}");
        }
        let bucket = NewRepository::at("s3:https://h/b/p", &Environment::default()).unwrap();
        assert!(bucket.directory.is_none() && bucket.needs_key(&Environment::default()));
    }
}
