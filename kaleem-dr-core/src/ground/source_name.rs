//! The name of a source, as the config gives it.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source's name: lower-case ASCII letters, digits, `-` and `_`, at most 64 characters, beginning with a letter.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(#[schemars(regex(pattern = r"^[a-z][a-z0-9_-]{0,63}$"))] String);

impl SourceName {
    /// The name as text, as in the config.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SourceName {
    type Err = InvalidSourceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= 64
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidSourceName(text.to_owned())) }
    }
}

impl TryFrom<String> for SourceName {
    type Error = InvalidSourceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0
    }
}

/// A source name that breaks the rule.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a source name: use 1 to 64 lower-case letters, digits, `-` and `_`, beginning with a letter"
)]
pub struct InvalidSourceName(String);
