//! Values as text.

use kaleem_dr_core::jiff::{Timestamp, tz::TimeZone};
pub use kaleem_dr_core::operate::report::size;

/// A time in the zone of this machine, with the zone: `2026-11-27 12:00:00 UTC`.
pub fn moment(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// An approximate age.
pub fn age(seconds: i64) -> String {
    match seconds {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}
