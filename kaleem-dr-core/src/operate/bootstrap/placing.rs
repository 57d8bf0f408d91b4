//! Puts files into their places: first all of them are compared with what exists, and only then is
//! anything written.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    ground::durable_file,
    operate::{
        config::{
            parse_env_file,
            secret::{Environment, ExposeSecret as _, SecretRef, SecretString},
        },
        installation::NeededSecret,
    },
};

/// Mode of everything that is written.
const MODE: u32 = 0o600;

/// The state of a secret after a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Written to its place: it was in the options.
    Given,
    /// Written to its place: it was sealed in the snapshot.
    Unsealed,
    /// Written to its place: the operator typed it.
    Typed,
    /// It was in its place already.
    Present,
    /// It is missing.
    Missing,
}

/// A secret of the new machine, without its value.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlacedSecret {
    /// The secret, with its place here.
    #[serde(flatten)]
    pub secret: NeededSecret,
    /// Its state.
    pub placement: Placement,
}

/// Files to write, and those that are in the way.
#[derive(Default)]
#[must_use = "nothing is written before `write`"]
pub struct Placing {
    files: BTreeMap<PathBuf, SecretString>,
    variables: BTreeMap<String, SecretString>,
    environment_file: PathBuf,
    credentials: PathBuf,
    has_credentials: bool,
}

impl Placing {
    /// Nothing yet. Variables go into `environment_file`, credentials into a directory.
    pub(crate) fn new(environment_file: PathBuf, credentials: PathBuf) -> Self {
        Self { environment_file, credentials, ..Self::default() }
    }

    /// Plans to write a secret to its place. The secret of a command is kept by another program, so it has no place here.
    pub(crate) fn secret(&mut self, place: &SecretRef, value: &SecretString) {
        match place {
            SecretRef::File(path) => drop(self.files.insert(path.clone(), value.clone())),
            SecretRef::Env(name) => drop(self.variables.insert(name.clone(), value.clone())),
            SecretRef::Credential(name) => {
                self.has_credentials = true;
                self.files.insert(self.credentials.join(name), value.clone());
            }
            SecretRef::Command(_) => {}
        }
    }

    /// Plans to write a file that is not a secret.
    pub(crate) fn file(&mut self, path: &Path, text: String) {
        self.files.insert(path.to_path_buf(), SecretString::from(text));
    }

    /// The file of variables, if there are any.
    pub(crate) fn environment_file(&self) -> Option<PathBuf> {
        (!self.variables.is_empty()).then(|| self.environment_file.clone())
    }

    /// The directory of credentials, if there are any.
    pub(crate) fn credentials(&self) -> Option<PathBuf> {
        self.has_credentials.then(|| self.credentials.clone())
    }

    /// Existing files that have other content. Blocking.
    ///
    /// # Errors
    /// If an existing file cannot be read.
    pub(crate) fn in_the_way(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for (path, value) in &self.files {
            match fs::read(path) {
                Ok(content) if same(&content, value) => {}
                Ok(_) => found.push(path.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let existing = self.existing_variables()?;
        let other = |(name, value): (&String, &SecretString)| {
            existing.get(name).is_some_and(|found| found != value.expose_secret())
        };
        if self.variables.iter().any(other) {
            found.push(self.environment_file.clone());
        }
        Ok(found)
    }

    /// Writes everything, each file durably, with access for its owner only. Blocking.
    ///
    /// # Errors
    /// The file that cannot be written, and the reason; those before it are written.
    pub(crate) fn write(&self) -> Result<(), (PathBuf, io::Error)> {
        for (path, value) in &self.files {
            let at = |error| (path.clone(), error);
            if fs::read(path).is_ok_and(|content| same(&content, value)) {
                continue;
            }
            make_parent(path).map_err(at)?;
            let mut text = value.expose_secret().to_owned();
            if !text.ends_with('\n') {
                text.push('\n');
            }
            durable_file::replace(path, text.as_bytes(), MODE).map_err(at)?;
        }
        if !self.variables.is_empty() {
            let path = &self.environment_file;
            self.write_variables().map_err(|error| (path.clone(), error))?;
        }
        Ok(())
    }

    fn existing_variables(&self) -> io::Result<Environment> {
        let text = match fs::read_to_string(&self.environment_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // Without the line, which may contain a secret.
        parse_env_file(&text, None).map_err(|error| io::Error::other(error.to_string()))
    }

    /// Replaces the lines of our variables, and keeps all others.
    fn write_variables(&self) -> io::Result<()> {
        let text = fs::read_to_string(&self.environment_file).unwrap_or_default();
        let is_ours = |line: &&str| {
            let line = line.trim_start();
            let line = line.strip_prefix("export ").unwrap_or(line);
            line.split_once('=').is_some_and(|(name, _)| self.variables.contains_key(name.trim()))
        };
        let mut lines: Vec<String> =
            text.lines().filter(|line| !is_ours(line)).map(str::to_owned).collect();
        lines.extend(self.variables.iter().map(|(name, value)| {
            format!("{name}='{}'", value.expose_secret().replace('\'', "'\\''"))
        }));
        make_parent(&self.environment_file)?;
        let text = lines.join("\n") + "\n";
        durable_file::replace(&self.environment_file, text.as_bytes(), MODE)
    }
}

fn same(content: &[u8], value: &SecretString) -> bool {
    content.trim_ascii() == value.expose_secret().as_bytes().trim_ascii()
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_written_for_their_owner_and_nothing_is_replaced_unseen() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let mut placing = Placing::new(at("etc/environment"), at("etc/credentials"));
        placing
            .secret(&SecretRef::File(at("etc/a/mongo.uri")), &"mongodb://canary".to_owned().into());
        placing.secret(&SecretRef::Env("RABBIT".into()), &"it's a $secret".to_owned().into());
        placing.secret(&SecretRef::Credential("far".into()), &"far".to_owned().into());
        fs::create_dir_all(at("etc")).unwrap();
        fs::write(at("etc/environment"), "# ours\nOTHER=1\nRABBIT=old\n").unwrap();
        assert_eq!(placing.in_the_way().unwrap(), [at("etc/environment")]);
        placing.write().unwrap();
        assert_eq!(placing.in_the_way().unwrap(), Vec::<PathBuf>::new());
        let environment = fs::read_to_string(at("etc/environment")).unwrap();
        let read = parse_env_file(&environment, None).unwrap();
        assert_eq!((read.get("RABBIT"), read.get("OTHER")), (Some("it's a $secret"), Some("1")));
        assert!(environment.starts_with("# ours\n"), "{environment}");
        for name in ["etc/a/mongo.uri", "etc/credentials/far", "etc/environment"] {
            assert_eq!(
                fs::metadata(at(name)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
        }
        placing.secret(&SecretRef::File(at("etc/a/mongo.uri")), &"other".to_owned().into());
        assert_eq!(placing.in_the_way().unwrap(), [at("etc/a/mongo.uri")]);
    }
}
