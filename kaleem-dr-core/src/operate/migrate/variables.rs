//! The variables of the old jobs: from the env file, from cron's lines, and from scripts. Each may
//! be a secret.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};

use crate::operate::config::{parse_env_file, secret::Environment};

/// The home directory of root, whose cron runs the old scripts.
pub(super) const HOME: &str = "/root";

/// The variables that we use.
const KNOWN: [&str; 27] = [
    "RESTIC_REPOSITORY",
    "RESTIC_REPO",
    "RESTIC_PASSWORD_FILE",
    "RESTIC_PASSWORD",
    "BACKUP_ROOT",
    "MONGO_MODE",
    "MONGO_URI",
    "MONGO_RESTORE_URI",
    "MONGO_CONTAINER",
    "QDRANT_URL",
    "QDRANT_API_KEY",
    "QDRANT_CONTAINER",
    "RABBIT_URL",
    "RABBIT_API",
    "RABBIT_CONTAINER",
    "RABBIT_USER",
    "RABBIT_PASS",
    "RABBIT_PASSWORD",
    "N8N_ENABLED",
    "N8N_USER_FOLDER",
    "N8N_ENCRYPTION_KEY",
    "BACKUP_PATHS",
    "KEEP_DAILY",
    "KEEP_WEEKLY",
    "KEEP_MONTHLY",
    "RESTORE_HC_URL",
    "HC_URL",
];

/// Variables, with the file that each comes from.
#[derive(Default)]
pub(super) struct Variables(BTreeMap<String, (SecretString, PathBuf)>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// A variable. An empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.expose_secret()).filter(|value| !value.is_empty())
    }

    /// A variable that is a secret, with its file.
    pub(super) fn secret(&self, name: &str) -> Option<(SecretString, &Path)> {
        self.get(name)?;
        self.0.get(name).map(|(value, from)| (value.clone(), from.as_path()))
    }

    /// The first of these that is set.
    pub(super) fn first<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.get(name).is_some())
    }

    pub(super) fn set(&mut self, name: &str, value: String, from: &Path) {
        // The off-site repository is searched for separately.
        let off_site = name.starts_with("RESTIC_REPO")
            && ["rclone:", "s3:"].iter().any(|scheme| value.starts_with(scheme));
        if KNOWN.contains(&name) && !off_site {
            self.0.insert(name.to_owned(), (SecretString::from(value), from.to_path_buf()));
        }
    }

    /// Adds the variables of an env file.
    pub(super) fn take(&mut self, environment: &Environment, from: &Path) {
        for name in KNOWN {
            if let Some(value) = environment.get(name) {
                self.set(name, value.to_owned(), from);
            }
        }
    }
}

/// Adds `NAME=value` and `NAME="${NAME:-value}"` on separate lines, if nothing has to be expanded.
pub(super) fn defaults(script: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in script.lines() {
        let line = line.trim();
        let line =
            ["export ", ": "].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
        let parameter =
            line.trim_matches('"').strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let (name, value) = if let Some((name, value)) =
            parameter.and_then(|rest| rest.split_once(":="))
        {
            (name, value.to_owned())
        } else {
            let Some((name, value)) = line.split_once('=') else { continue };
            let bare = value.trim_matches('"');
            let own = format!("${{{name}:-");
            let default = bare.strip_prefix(own.as_str()).and_then(|rest| rest.strip_suffix('}'));
            (
                name,
                default.map_or_else(
                    || value.to_owned(),
                    |default| format!("\"{}\"", default.trim_matches('"')),
                ),
            )
        };
        if is_name(name)
            && let Ok(parsed) = parse_env_file(&format!("{name}={value}"), Some(HOME))
            && let Some(value) = parsed.get(name)
        {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}

/// The `NAME=value` words of a command line.
pub(super) fn assignments(command: &str) -> Vec<(String, String)> {
    let words = command
        .split(|c: char| c.is_whitespace() || c == ';')
        .map(|word| word.trim_matches(['"', '\'']));
    words
        .filter_map(|word| word.split_once('='))
        .filter(|(name, value)| is_name(name) && !value.contains('$'))
        .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        .collect()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scripts_own_values_are_found_where_nothing_has_to_be_expanded() {
        let found = defaults(
            "KEEP_DAILY=\"${KEEP_DAILY:-9}\"\nexport RABBIT_USER=kaleem # who\n: \"${QDRANT_URL:=http://q:6333}\"\n\
             STAMP=$(date)\nBACKUP_ROOT=\"$HOME/b\"\nif [ a = b ]\n",
        );
        let expected =
            [("KEEP_DAILY", "9"), ("RABBIT_USER", "kaleem"), ("QDRANT_URL", "http://q:6333")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
