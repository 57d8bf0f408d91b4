//! `[doctor]` of the config.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Limits above which `doctor` reports a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DoctorSettings {
    /// Age from which a bucket's key is due for rotation, in days.
    pub key_age_days: u32,
    /// Minimum free share of each disk, in percent.
    pub min_free_percent: u8,
    /// Time limit for the check of one server, in seconds.
    pub deadline_seconds: u32,
}

impl Default for DoctorSettings {
    fn default() -> Self {
        Self { key_age_days: 90, min_free_percent: 20, deadline_seconds: 5 }
    }
}

impl DoctorSettings {
    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs(u64::from(self.deadline_seconds.max(1)))
    }
}
