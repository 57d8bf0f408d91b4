//! The config of the new machine: that of the lost one, with the host's name, and with the
//! repository that it was read from.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::options::{Bootstrap, BucketKey, KEY, KEY_ID, RECOVERED};
use crate::{
    ground::host::HostName,
    operate::{
        config::{
            References, Settings,
            secret::{Environment, SecretRef, SecretString},
        },
        installation::{Installation, NeededSecret, PASSPHRASE_KEY},
    },
};

/// First lines of the written config.
const HEADING: &str = "# Written by `kaleem-dr bootstrap` from the description in a snapshot.\n";
/// Directories that are the defaults of the config, and that a scratch root has to move.
const DEFAULT_PLACES: [(&str, &str); 2] =
    [("state_directory", "/var/lib/kaleem-dr"), ("cache_directory", "/var/cache/kaleem-dr")];
/// Directory of files that this creates itself.
const OWN_PLACE: &str = "/etc/kaleem-dr";
/// Default of `schedule.environment_file`.
const ENVIRONMENT_FILE: &str = "/etc/kaleem-dr/environment";

/// The config of a new machine, before it is written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewConfig {
    table: Table,
    /// Name of the repository to recover from.
    pub repository: String,
    /// Secrets that are known from the options, by key.
    known: Vec<(String, SecretString)>,
}

impl NewConfig {
    /// The config for a host. `location` is that of the opened repository, without credentials;
    /// `environment` is what locations are compared in.
    ///
    /// # Errors
    /// The reason, if the config in the snapshot is invalid.
    pub(crate) fn of(
        wanted: &Bootstrap,
        (installation, host): (&Installation, &HostName),
        (location, environment): (&str, &Environment),
    ) -> Result<Self, String> {
        let mut table: Table =
            installation.config.text.parse().map_err(|error: toml::de::Error| {
                format!("the config in the snapshot is invalid: {}", error.message())
            })?;
        table.insert("host".into(), host.to_string().into());
        let repository = same_repository(&table, location, environment, wanted);
        let mut new = Self {
            table,
            repository: repository.clone().unwrap_or_else(|| RECOVERED.to_owned()),
            known: Vec::new(),
        };
        if let Some(root) = &wanted.root {
            new.move_below(root);
        }
        new.put_repository(wanted, repository.is_none());
        new.know_passwords(wanted);
        Ok(new)
    }

    /// The text to write.
    #[must_use]
    pub fn text(&self) -> String {
        // A table that was parsed from TOML can be written as TOML.
        format!("{HEADING}{}", toml::to_string(&self.table).unwrap_or_default())
    }

    /// The secrets that it refers to, each with the words of the description, or new ones.
    #[must_use]
    pub fn secrets(&self, installation: &Installation) -> Vec<NeededSecret> {
        let mut needed: Vec<NeededSecret> = References::in_table(&self.table)
            .secrets
            .into_iter()
            .map(|(key, place)| {
                let known = installation.secrets.iter().find(|secret| secret.key == key);
                NeededSecret {
                    renewal: known.map(|known| known.renewal.clone()).unwrap_or_default(),
                    key,
                    place,
                }
            })
            .collect();
        let extra =
            installation.secrets.iter().filter(|secret| secret.key.ends_with(".rclone_config"));
        needed.extend(extra.cloned());
        needed.sort_by(|a, b| a.key.cmp(&b.key));
        needed
    }

    /// The value of a secret that the options contain.
    pub(crate) fn known(&self, key: &str) -> Option<&SecretString> {
        self.known.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The file of variables that scheduled jobs read.
    #[must_use]
    pub fn environment_file(&self) -> PathBuf {
        let written =
            self.table.get("schedule").and_then(|schedule| schedule.get("environment_file"));
        written.and_then(Value::as_str).unwrap_or(ENVIRONMENT_FILE).into()
    }

    /// The directory of our own files: `/etc/kaleem-dr`, or the same below a scratch root.
    fn own_place(root: Option<&Path>) -> PathBuf {
        root.map_or_else(|| OWN_PLACE.into(), |root| below(root, Path::new(OWN_PLACE)))
    }

    /// The directory that units load credentials from.
    #[must_use]
    pub fn credentials(root: Option<&Path>) -> PathBuf {
        Self::own_place(root).join("credentials")
    }

    /// Puts the repository to recover from into the config, with the places of its secrets.
    fn put_repository(&mut self, wanted: &Bootstrap, is_new: bool) {
        let place = Self::own_place(wanted.root.as_deref());
        let name = self.repository.clone();
        let file = |suffix: &str| secret_file(&place.join(format!("{name}.{suffix}")));
        let repositories = table_in(&mut self.table, "repository");
        let settings = table_in(repositories, &name);
        if is_new || wanted.root.is_some() {
            settings.insert("location".into(), wanted.lasting_location().into());
        }
        if is_new {
            settings.insert("password".into(), file("pass"));
            for (key, value) in [
                ("region", wanted.region.clone()),
                ("ca_file", wanted.ca_file.as_ref().map(|path| path.display().to_string())),
            ] {
                settings.extend(value.map(|value| (key.to_owned(), Value::from(value))));
            }
        }
        let mut known = vec![("password", wanted.password.clone())];
        if let Some(BucketKey { id, secret }) = &wanted.key {
            settings.entry("access_key_id").or_insert_with(|| file("id"));
            settings.entry("secret_access_key").or_insert_with(|| file("key"));
            known.extend([("access_key_id", id.clone()), ("secret_access_key", secret.clone())]);
        }
        let passphrase = wanted.passphrase.clone();
        self.known.extend(passphrase.map(|value| (PASSPHRASE_KEY.to_owned(), value)));
        let key = |(key, value)| (format!("repository.{name}.{key}"), value);
        self.known.extend(known.into_iter().map(key));
    }

    /// A mirror has the keys of its repository, so the password opens all of them.
    fn know_passwords(&mut self, wanted: &Bootstrap) {
        let Some(repositories) = self.table.get("repository").and_then(Value::as_table) else {
            return;
        };
        let origin = |name: &str| {
            let of = repositories.get(name).and_then(|settings| settings.get("mirror_of"));
            of.and_then(Value::as_str).unwrap_or(name).to_owned()
        };
        let own = origin(&self.repository);
        let same =
            repositories.keys().filter(|name| **name != self.repository && origin(name) == own);
        let passwords =
            same.map(|name| (format!("repository.{name}.password"), wanted.password.clone()));
        let passwords: Vec<_> = passwords.collect();
        self.known.extend(passwords);
    }

    /// Moves everything that the installation writes below a scratch root. It sends no notices from
    /// there, and writes no staged files.
    fn move_below(&mut self, root: &Path) {
        for (key, usual) in DEFAULT_PLACES {
            self.table.entry(key).or_insert_with(|| usual.into());
        }
        for name in ["monitoring", "staged", "oplog"] {
            self.table.remove(name);
        }
        let environment = self.environment_file().display().to_string();
        table_in(&mut self.table, "schedule").insert("environment_file".into(), environment.into());
        for (key, value) in &mut self.table {
            move_value(value, key, root);
        }
    }
}

/// The repository of the config with this location, by name.
fn same_repository(
    table: &Table,
    location: &str,
    environment: &Environment,
    wanted: &Bootstrap,
) -> Option<String> {
    let alone: Table = table
        .get("repository")
        .map(|repositories| Table::from_iter([("repository".to_owned(), repositories.clone())]))?;
    let settings: Settings = alone.try_into().ok()?;
    settings.repository.into_iter().find_map(|(name, mut settings)| {
        if wanted.key.is_some() {
            // The form of a location does not depend on its key, whose place is not here yet.
            settings.access_key_id = Some(SecretRef::Env(KEY_ID.to_owned()));
            settings.secret_access_key = Some(SecretRef::Env(KEY.to_owned()));
            settings.session_token = None;
        }
        let found = settings.location(environment).ok()?.in_words();
        let same = |path: &str| std::fs::canonicalize(path).ok();
        (found == location || same(&found).is_some_and(|path| Some(path) == same(location)))
            .then_some(name)
    })
}

fn table_in<'a>(table: &'a mut Table, key: &str) -> &'a mut Table {
    let value = table.entry(key.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    if !value.is_table() {
        *value = Value::Table(Table::new());
    }
    value.as_table_mut().expect("it was made a table just now")
}

fn secret_file(path: &Path) -> Value {
    Value::Table(Table::from_iter([("file".to_owned(), Value::from(path.display().to_string()))]))
}

/// Moves the paths in a value that name files of the installation itself.
fn move_value(value: &mut Value, key: &str, root: &Path) {
    match value {
        Value::Table(table) => {
            let is_secret = table.len() == 1 && table.contains_key("file");
            for (name, inner) in table {
                if is_secret {
                    move_path(inner, root);
                } else {
                    move_value(inner, &format!("{key}.{name}"), root);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| move_value(value, key, root)),
        Value::String(_) => {
            let last = key.rsplit('.').next().unwrap_or_default();
            let moves = match last {
                "state_directory" | "cache_directory" | "scratch_directory"
                | "environment_file" => true,
                "location" => key.starts_with("repository."),
                _ => false,
            };
            if moves {
                move_path(value, root);
            }
        }
        _ => {}
    }
}

fn move_path(value: &mut Value, root: &Path) {
    if let Value::String(text) = value
        && text.starts_with('/')
    {
        *text = below(root, Path::new(text.as_str())).display().to_string();
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
