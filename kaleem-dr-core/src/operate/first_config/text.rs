//! The text of a first config.

// Writing to a String cannot fail: hence each `let _ = write!`.
use std::{fmt::Write as _, path::PathBuf};

use crate::operate::config::{DraftValue, SourceDraft};

/// A key that refers to a file with a secret.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    /// Table of the key: `repository.local`.
    pub(crate) table: String,
    /// The key.
    pub(crate) key: &'static str,
    /// Its file.
    pub(crate) path: PathBuf,
}

/// The text of a config with these sources and secrets.
pub(crate) fn text(
    schema: &str,
    location: &str,
    sources: &[(&'static str, SourceDraft)],
    secrets: &[Reference],
) -> String {
    let mut text = format!(
        "#:schema {schema}\n\
         # kaleem-dr. `kaleem-dr config check` checks this file; `kaleem-dr config init --template -` prints an example of every section.\n\
         # A secret is never written here: name a file that only its owner may read, a variable, a systemd credential or a command:\n\
         #   {{ file = \"/etc/restic.pass\" }}   {{ env = \"NAME\" }}   {{ credential = \"name\" }}   {{ command = [\"pass\", \"show\", \"restic\"] }}\n\n\
         [repository.local]\nlocation = {}\n",
        quoted(location)
    );
    references(&mut text, secrets, "repository.local");
    text.push_str(
        "\n[backup]\nforget = true   # forget by [retention] after each run\nprune = true    # and delete data that no snapshot needs\n\n\
         [retention]     # per host and source\nkeep_daily = 7\nkeep_weekly = 4\nkeep_monthly = 6\n\n\
         [objectives]\nrpo_hours = 26  # `status` ends with 6 if the newest proven data are older\n\n\
         [schedule]      # UTC; `kaleem-dr schedule install` installs it\nbackup = \"daily 03:00\"\nverify = \"daily 04:30\"\n\
         check = \"weekly sun 05:00\"\ndrill = \"monthly 1 03:20\"\n",
    );
    for (kind, source) in sources {
        let _ = write!(text, "\n[source.{}]\ntype = {}\n", source.name, quoted(kind));
        for (key, value) in &source.keys {
            let value = match value {
                DraftValue::Text(text) => quoted(text),
                DraftValue::List(items) => {
                    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
                    format!("[{}]", items.join(", "))
                }
            };
            let _ = writeln!(text, "{key} = {value}");
        }
        references(&mut text, secrets, &format!("source.{}", source.name));
    }
    text
}

fn references(text: &mut String, secrets: &[Reference], table: &str) {
    for secret in secrets.iter().filter(|secret| secret.table == table) {
        let path = quoted(&secret.path.display().to_string());
        let _ = writeln!(text, "{} = {{ file = {path} }}", secret.key);
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
