//! What the config says of `doctor`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// From when on `doctor` finds fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DoctorSettings {
    /// Days after which a key of a bucket is due for rotation.
    pub key_age_days: u32,
    /// Share of each disk, in percent, below which its free space is too little.
    pub min_free_percent: u8,
    /// The most that a look at one server may take, in seconds.
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
