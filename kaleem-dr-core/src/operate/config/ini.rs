//! INI files, with `[section]` and `key = value`: rclone's config, AWS's shared credentials.

use std::{collections::BTreeMap, fmt};

use secrecy::{ExposeSecret, SecretString};

/// The sections of a file. Every value may be a secret.
#[derive(Default)]
pub(super) struct Ini(BTreeMap<String, Section>);

#[derive(Default)]
pub(super) struct Section(BTreeMap<String, SecretString>);

impl fmt::Debug for Ini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Ini {
    /// Parses a file. Keys are converted to lower case; lines that begin with `#` or `;` are
    /// comments; values may be quoted.
    ///
    /// # Errors
    /// The number of the invalid line, and nothing of its content.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut ini = Self::default();
        let mut current = None;
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let fault = |why: &str| format!("line {}: {why}", number + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(head) = line.strip_prefix('[') {
                let name = head
                    .strip_suffix(']')
                    .ok_or_else(|| fault("the section's name does not end with `]`"))?
                    .trim();
                ini.0.entry(name.to_owned()).or_default();
                current = Some(name.to_owned());
                continue;
            }
            let (key, value) =
                line.split_once('=').ok_or_else(|| fault("it is not KEY = VALUE"))?;
            let section = current.as_ref().and_then(|name| ini.0.get_mut(name));
            let section = section.ok_or_else(|| fault("it precedes the first [section]"))?;
            section.0.insert(
                key.trim().to_lowercase(),
                SecretString::from(unquoted(value.trim()).to_owned()),
            );
        }
        Ok(ini)
    }

    /// The section with this name.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.0.get(name)
    }

    /// The names of all sections.
    pub(super) fn names(&self) -> String {
        self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Section {
    /// A value that is not a secret. An empty one counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(ExposeSecret::expose_secret).filter(|value| !value.is_empty())
    }

    /// A value that is a secret.
    pub(super) fn secret(&self, key: &str) -> Option<SecretString> {
        self.get(key).map(|value| SecretString::from(value.to_owned()))
    }
}

fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('`')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_values_are_read_as_rclone_writes_them() {
        let ini = Ini::parse(
            "# c\n; c\n[r2]\r\ntype = s3\r\nsecret_access_key = a=b#c\nRegion=\"auto\"\nempty =\n\n[ other ]\nx = 1\n",
        )
        .unwrap();
        let r2 = ini.section("r2").unwrap();
        assert_eq!(r2.get("type"), Some("s3"));
        assert_eq!(r2.get("secret_access_key"), Some("a=b#c"));
        assert_eq!(r2.get("region"), Some("auto"));
        assert_eq!((r2.get("empty"), r2.get("none")), (None, None));
        assert_eq!(ini.names(), "other, r2");
        assert!(!format!("{ini:?}").contains("a=b"));
    }

    #[test]
    fn a_line_that_is_not_understood_is_named_and_not_repeated() {
        for (bad, line) in
            [("[a\n", "line 1"), ("[a]\ncanary\n", "line 2"), ("canary = 1\n", "line 1")]
        {
            let error = Ini::parse(bad).unwrap_err();
            assert!(error.starts_with(line) && !error.contains("canary"), "{bad}: {error}");
        }
    }
}
