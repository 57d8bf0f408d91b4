//! Resolves `rclone:REMOTE:PATH` by reading rclone's config; never runs rclone.

use std::path::{Path, PathBuf};

use super::{
    ini::{Ini, Section},
    secret::{Environment, read_private},
};

/// Maximum length of a chain of aliases, before it counts as a circle.
const LONGEST_CHAIN: usize = 8;

/// The target of a remote's path.
pub(super) enum Place {
    /// A bucket, on the service that the remote describes.
    S3 { remote: Remote, bucket: String, prefix: String },
    /// A directory of this machine.
    Directory(PathBuf),
}

/// A remote of type `s3`.
pub(super) struct Remote {
    name: String,
    ini: Ini,
}

impl Remote {
    pub(super) fn settings(&self) -> Option<&Section> {
        self.ini.section(&self.name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Resolves `REMOTE:PATH`.
///
/// # Errors
/// If the config cannot be read or does not have the remote, or the type of the remote is
/// unsupported.
pub(super) fn resolve(
    location: &str,
    config: Option<&Path>,
    environment: &Environment,
) -> Result<Place, String> {
    let path = config.map(Path::to_path_buf).map_or_else(|| config_path(environment), Ok)?;
    let shown = path.display();
    let text = read_private(&path).map_err(|error| match error {
        super::secret::SecretError::Unreadable { cause, .. } => {
            format!("rclone's config {shown}: {cause}; set `rclone_config`, or use the S3 location itself")
        }
        exposed => exposed.to_string(),
    })?;
    if text.lines().any(|line| line.trim() == "RCLONE_ENCRYPT_V0:") {
        return Err(format!(
            "rclone's config {shown} is encrypted, which is not supported; decrypt a copy (`rclone config show`) \
             for `rclone_config`, or use the S3 location and key files"
        ));
    }
    let ini = Ini::parse(&text).map_err(|why| format!("rclone's config {shown}: {why}"))?;
    follow(location, ini, &shown.to_string())
}

/// Follows aliases to a remote of another type.
fn follow(location: &str, ini: Ini, shown: &str) -> Result<Place, String> {
    let mut location = location.to_owned();
    for _ in 0..LONGEST_CHAIN {
        let (name, path) = location.split_once(':').ok_or(
            "an rclone location is rclone:REMOTE:PATH, such as rclone:r2:kaleem-backup/restic",
        )?;
        let (name, path) = (name.trim(), path.trim());
        let Some(section) = ini.section(name) else {
            return Err(format!(
                "rclone's config {shown} has no remote `{name}`; it has: {}",
                ini.names()
            ));
        };
        match section.get("type").unwrap_or_default() {
            "s3" => {
                let path = path.trim_matches('/');
                let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
                if bucket.is_empty() {
                    return Err(format!(
                        "rclone:{name}: has no bucket; write rclone:{name}:BUCKET/PREFIX"
                    ));
                }
                let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
                return Ok(Place::S3 {
                    remote: Remote { name: name.to_owned(), ini },
                    bucket,
                    prefix,
                });
            }
            "local" => return Ok(Place::Directory(PathBuf::from(path))),
            "alias" => {
                let target = section
                    .get("remote")
                    .ok_or_else(|| format!("rclone's alias `{name}` in {shown} has no `remote`"))?;
                let joined = match (target, path.trim_start_matches('/')) {
                    (target, "") => target.to_owned(),
                    (target, path) if target.ends_with([':', '/']) => format!("{target}{path}"),
                    (target, path) => format!("{target}/{path}"),
                };
                if !joined.contains(':') {
                    return Ok(Place::Directory(PathBuf::from(joined)));
                }
                location = joined;
            }
            "" => return Err(format!("rclone's remote `{name}` in {shown} has no `type`")),
            other => {
                return Err(format!(
                    "rclone's remote `{name}` is of type `{other}`, which is not supported; `s3`, `alias` and `local` are"
                ));
            }
        }
    }
    Err(format!("rclone's aliases in {shown} form a circle"))
}

pub(super) fn config_path(environment: &Environment) -> Result<PathBuf, String> {
    if let Some(path) = environment.get("RCLONE_CONFIG") {
        return Ok(path.into());
    }
    let places: Vec<PathBuf> =
        [("XDG_CONFIG_HOME", "rclone/rclone.conf"), ("HOME", ".config/rclone/rclone.conf")]
            .into_iter()
            .filter_map(|(variable, below)| Some(Path::new(environment.get(variable)?).join(below)))
            .collect();
    let found = places.iter().find(|path| path.exists()).or_else(|| places.last());
    found.cloned().ok_or_else(|| {
        "cannot find rclone's config; set `rclone_config` or RCLONE_CONFIG".to_owned()
    })
}

#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(ini: Ini) {
    if let Ok(Place::S3 { remote, .. }) = follow("remote:bucket/prefix", ini, "a file") {
        let _ = remote.settings();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const CONFIG: &str = "[r2]\ntype = s3\nprovider = Cloudflare\nendpoint = https://a.r2.cloudflarestorage.com\n\
        [backup]\ntype = alias\nremote = r2:kaleem-backup\n[disk]\ntype = local\n[here]\ntype = alias\nremote = /srv\n\
        [a]\ntype = alias\nremote = b:\n[b]\ntype = alias\nremote = a:\n[drive]\ntype = drive\n";

    fn found(location: &str) -> Result<String, String> {
        follow(location, Ini::parse(CONFIG).unwrap(), "rclone.conf").map(|place| match place {
            Place::S3 { remote, bucket, prefix } => format!("{} {bucket} {prefix}", remote.name()),
            Place::Directory(path) => path.display().to_string(),
        })
    }

    #[test]
    fn a_remote_is_followed_to_a_bucket_or_a_directory() {
        for (location, place) in [
            ("r2:kaleem-backup/restic", "r2 kaleem-backup restic"),
            ("r2:/kaleem-backup/a/b/", "r2 kaleem-backup a/b"),
            ("backup:restic", "r2 kaleem-backup restic"),
            ("disk:/srv/repo", "/srv/repo"),
            ("here:repo", "/srv/repo"),
        ] {
            assert_eq!(found(location).as_deref(), Ok(place), "{location}");
        }
        for (location, why) in [
            ("r2", "rclone:REMOTE:PATH"),
            ("r2:", "no bucket"),
            ("other:x", "no remote `other`"),
            ("drive:x", "`drive`"),
            ("a:x", "circle"),
        ] {
            assert!(found(location).unwrap_err().contains(why), "{location}");
        }
    }

    #[test]
    fn the_config_lies_where_rclone_looks_and_is_refused_when_encrypted() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap();
        fs::create_dir_all(directory.path().join(".config/rclone")).unwrap();
        let path = directory.path().join(".config/rclone/rclone.conf");
        let write = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let environment: Environment =
            [("HOME", home), ("XDG_CONFIG_HOME", "/nonexistent")].into_iter().collect();
        write(CONFIG);
        assert!(resolve("r2:b", None, &environment).is_ok());
        write("# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nAAAA\n");
        let error = resolve("r2:b", None, &environment).map(|_| ()).unwrap_err();
        assert!(error.contains("encrypted") && error.contains("rclone config show"), "{error}");
        let elsewhere: Environment =
            [("HOME", home), ("RCLONE_CONFIG", "/nonexistent/rclone.conf")].into_iter().collect();
        assert!(
            resolve("r2:b", None, &elsewhere)
                .map(|_| ())
                .unwrap_err()
                .contains("/nonexistent/rclone.conf")
        );
        assert!(
            resolve("r2:b", Some(&path), &elsewhere).map(|_| ()).unwrap_err().contains("encrypted")
        );
    }
}
