//! The levels at which a recovery point is proven.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The extent to which a recovery point is proven. Each level includes those below it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ProofLevel {
    /// Every object hashes to its name.
    Stored,
    /// Every blob decrypts, every digest equals the manifest's.
    Readable,
    /// Every artifact is valid in its own format.
    Parsed,
    /// It was loaded into a live scratch target and is equal by content.
    Restored,
}

impl ProofLevel {
    /// All levels, in ascending order of what they prove.
    pub const ALL: [Self; 4] = [Self::Stored, Self::Readable, Self::Parsed, Self::Restored];

    /// The name in options, config and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Readable => "readable",
            Self::Parsed => "parsed",
            Self::Restored => "restored",
        }
    }
}

impl fmt::Display for ProofLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProofLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

/// A name that is not a level.
#[derive(Debug, thiserror::Error)]
#[error("unknown level `{0}`; levels are stored, readable, parsed, restored")]
pub struct UnknownLevel(String);
