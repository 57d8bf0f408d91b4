//! References in a config's text: secrets and paths. Sources define their own tables, so this
//! module recognises references by their form alone.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{ConfigError, Place, line_and_column, secret::SecretRef};

/// The references of a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct References {
    /// Each secret, with the key that refers to it: `repository.local.password`. A secret in a list
    /// has the list's key.
    pub secrets: Vec<(String, SecretRef)>,
    /// Absolute paths among the values, except files of secrets.
    pub paths: Vec<PathBuf>,
    /// Those of them that are a `scratch_directory` of a source.
    pub scratch: Vec<PathBuf>,
}

impl References {
    /// Finds the references in a config's text. Variables that override keys are ignored. `path`
    /// names the file in messages.
    ///
    /// # Errors
    /// If the text is not TOML.
    pub fn of(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let table: Table = text.parse().map_err(|fault: toml::de::Error| ConfigError {
            path: path.to_path_buf(),
            place: Place(fault.span().map(|span| line_and_column(text, span.start))),
            message: fault.message().to_owned(),
        })?;
        Ok(Self::in_table(&table))
    }

    /// Finds the references in a parsed config.
    #[must_use]
    pub fn in_table(table: &Table) -> Self {
        let mut found = Self::default();
        for (key, value) in table {
            found.walk(key, value);
        }
        found
    }

    fn walk(&mut self, key: &str, value: &Value) {
        match value {
            Value::Table(table) => match secret(table) {
                Some(secret) => self.secrets.push((key.to_owned(), secret)),
                None => {
                    for (name, value) in table {
                        self.walk(&format!("{key}.{name}"), value);
                    }
                }
            },
            Value::Array(values) => {
                for value in values {
                    self.walk(key, value);
                }
            }
            Value::String(text) if text.starts_with('/') => {
                if key.starts_with("source.") && key.ends_with(".scratch_directory") {
                    self.scratch.push(text.into());
                }
                self.paths.push(text.into());
            }
            _ => {}
        }
    }
}

/// The secret that a table refers to, if it is a reference.
fn secret(table: &Table) -> Option<SecretRef> {
    let mut entries = table.iter();
    let (Some((kind, value)), None) = (entries.next(), entries.next()) else {
        return None;
    };
    match (kind.as_str(), value) {
        ("file", Value::String(value)) => Some(SecretRef::File(value.into())),
        ("env", Value::String(value)) => Some(SecretRef::Env(value.clone())),
        ("credential", Value::String(value)) => Some(SecretRef::Credential(value.clone())),
        ("command", Value::Array(words)) => {
            let words = words.iter().map(|word| word.as_str().map(str::to_owned));
            Some(SecretRef::Command(words.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_stand_and_other_tables_are_none() {
        let text = "[repository.local]\nlocation = \"/r\"\npassword = { file = \"/p\" }\n[source.mongo]\ntype = \"mongodb\"\n\
            uri = { credential = \"mongo-uri\" }\ndocker = { container = \"m\" }\n[monitoring.healthchecks]\nurl = { env = \"HC\" }\n\
            [source.configs]\ntype = \"files\"\npaths = [\"/etc\", \"/tmp/x\"]\n";
        let mut found = References::of(text, Path::new("t.toml")).unwrap();
        found.secrets.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            found.secrets,
            [
                ("monitoring.healthchecks.url".to_owned(), SecretRef::Env("HC".into())),
                ("repository.local.password".to_owned(), SecretRef::File("/p".into())),
                ("source.mongo.uri".to_owned(), SecretRef::Credential("mongo-uri".into())),
            ]
        );
        for path in ["/r", "/etc", "/tmp/x"] {
            assert!(found.paths.contains(&PathBuf::from(path)), "{path}: {found:?}");
        }
        assert!(!found.paths.contains(&PathBuf::from("/p")), "{found:?}");
    }
}
