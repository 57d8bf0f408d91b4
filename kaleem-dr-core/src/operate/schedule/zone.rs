//! The time zone of schedules.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// A time zone by its name in the IANA database: `Europe/Berlin`, `UTC`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// A name that is not in the database.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a time zone; write a name such as `Europe/Berlin` or `UTC`")]
pub struct InvalidZone(String);

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".into(), zone: TimeZone::UTC }
    }
}

impl FromStr for Zone {
    type Err = InvalidZone;

    fn from_str(text: &str) -> Result<Self, InvalidZone> {
        let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
        let zone = TimeZone::get(text).ok().filter(|_| is_name);
        let zone = zone.ok_or_else(|| InvalidZone(text.to_owned()))?;
        Ok(Self { name: text.to_owned(), zone })
    }
}

impl TryFrom<String> for Zone {
    type Error = InvalidZone;

    fn try_from(text: String) -> Result<Self, InvalidZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Zone {
    /// The rules of the zone.
    #[must_use]
    pub fn rules(&self) -> &TimeZone {
        &self.zone
    }

    /// Reports whether the clock of this machine shows the same time now.
    pub(super) fn is_machines(&self) -> bool {
        let now = Timestamp::now();
        TimeZone::system().to_offset(now) == self.zone.to_offset(now)
    }
}
