//! The option `--at`, for commands that choose a point.

use clap::Args;
use kaleem_dr_core::jiff::{Timestamp, civil, tz::TimeZone};

/// The option `--at`.
#[derive(Clone, Copy, Debug, Args)]
pub struct At {
    /// Use the newest point that is not later than this time: "2026-11-27 12:00" (local time), 2026-11-27 (the end of that day), or
    /// a time with its zone
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<Timestamp>,
}

impl At {
    /// The point as the library selects it: `latest` or a source's name, followed by the time.
    pub fn of(self, point: &str) -> String {
        let Some(at) = self.at else { return point.to_owned() };
        let (name, back) = point.split_at(point.find('~').unwrap_or(point.len()));
        format!("{name}@{at}{back}")
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = || "write \"2026-11-27 12:00\", 2026-11-27 or 2026-11-27T12:00:00Z".to_owned();
    if let Ok(with_zone) = text.parse() {
        return Ok(with_zone);
    }
    let local: civil::DateTime = if text.contains(':') {
        text.parse().map_err(|_| wrong())?
    } else {
        let day: civil::Date = text.parse().map_err(|_| wrong())?;
        day.at(23, 59, 59, 999_999_999)
    };
    let zoned = local.to_zoned(TimeZone::system()).map_err(|error| error.to_string())?;
    Ok(zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_local_unless_it_has_a_zone_and_a_day_ends_at_midnight() {
        let local = |text: &str| time(text).unwrap().to_zoned(TimeZone::system());
        assert_eq!(time("2026-11-27T12:00:00Z").unwrap().to_string(), "2026-11-27T12:00:00Z");
        assert_eq!(local("2026-11-27 12:00").strftime("%F %T").to_string(), "2026-11-27 12:00:00");
        assert_eq!(local("2026-11-27").strftime("%F %T").to_string(), "2026-11-27 23:59:59");
        assert!(time("noon").is_err() && time("12:00").is_err());
        let at = At { at: time("2026-11-27T12:00:00Z").ok() };
        assert_eq!(at.of("latest~1"), "latest@2026-11-27T12:00:00Z~1");
    }
}
