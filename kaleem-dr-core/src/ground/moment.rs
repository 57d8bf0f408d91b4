//! Times for people.

use jiff::Timestamp;

/// Formats a time to the second, in UTC: `2026-11-27 03:00:12 UTC`.
#[must_use]
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
