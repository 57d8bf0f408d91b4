//! The id of a snapshot.

use std::{borrow::Cow, fmt, str::FromStr};

use rustic_core::repofile;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A snapshot's id: the SHA-256 of its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub(crate) repofile::SnapshotId);

impl SnapshotId {
    /// The first eight digits, which restic shows.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.into_inner().to_hex())
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SnapshotId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl JsonSchema for SnapshotId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SnapshotId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

impl FromStr for SnapshotId {
    type Err = InvalidSnapshotId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id: rustic_core::Id = text.parse().map_err(|_| InvalidSnapshotId(text.to_owned()))?;
        Ok(Self(id.into()))
    }
}

/// A text that is not a snapshot id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the id of a snapshot (64 hex digits)")]
pub struct InvalidSnapshotId(String);

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
impl SnapshotId {
    /// An id that begins with these hex digits.
    pub(crate) fn of_test(digits: &str) -> Self {
        format!("{digits:0<64}").parse().unwrap()
    }
}
