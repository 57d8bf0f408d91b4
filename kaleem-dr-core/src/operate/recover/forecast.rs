//! The expected duration of a recovery, from measured restores.

use std::time::Duration;

use serde::Serialize;

use crate::{
    ground::SourceName,
    recovery::objectives::{Sample, forecast_seconds},
};

/// The smallest error that is shown, in percent: no machine is more even than this.
const LEAST_ERROR_PERCENT: f64 = 10.0;

/// An expected duration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Forecast {
    /// The expected duration, in seconds.
    pub seconds: f64,
    /// The largest deviation of a measured restore from what would have been expected of it, in
    /// percent.
    pub error_percent: f64,
}

impl Forecast {
    /// A duration that was measured just now.
    pub(crate) fn measured(duration: Duration) -> Self {
        Self { seconds: duration.as_secs_f64(), error_percent: LEAST_ERROR_PERCENT }
    }
}

/// The expected duration of a restore of this size; `None` without measured restores.
pub(crate) fn forecast_of(samples: &[Sample], size_bytes: u64) -> Option<Forecast> {
    let seconds = forecast_seconds(samples, size_bytes)?;
    let deviation = |sample: &Sample| {
        let expected = forecast_seconds(samples, sample.size_bytes).unwrap_or(sample.seconds);
        (expected - sample.seconds).abs() / expected.max(f64::EPSILON) * 100.0
    };
    let error_percent = samples.iter().map(deviation).fold(LEAST_ERROR_PERCENT, f64::max);
    Some(Forecast { seconds, error_percent })
}

/// The expected duration of groups that follow each other, whose members run side by side; `None` if
/// nothing is known of a member.
pub(crate) fn in_groups(
    groups: &[Vec<SourceName>],
    of: impl Fn(&SourceName) -> Option<Forecast>,
) -> Option<Forecast> {
    let mut whole = Forecast { seconds: 0.0, error_percent: LEAST_ERROR_PERCENT };
    for group in groups {
        let mut slowest: f64 = 0.0;
        for source in group {
            let forecast = of(source)?;
            slowest = slowest.max(forecast.seconds);
            whole.error_percent = whole.error_percent.max(forecast.error_percent);
        }
        whole.seconds += slowest;
    }
    Some(whole)
}

/// The expected duration of parts that follow each other.
pub(crate) fn one_after_another(parts: impl Iterator<Item = Forecast>) -> Forecast {
    let nothing = Forecast { seconds: 0.0, error_percent: LEAST_ERROR_PERCENT };
    parts.fold(nothing, |whole, part| {
        let seconds = whole.seconds + part.seconds;
        let wrong = |of: Forecast| of.seconds * of.error_percent;
        let error_percent = (wrong(whole) + wrong(part)) / seconds.max(f64::EPSILON);
        Forecast { seconds, error_percent: error_percent.max(LEAST_ERROR_PERCENT) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_add_up_and_their_members_do_not() {
        let groups: Vec<Vec<SourceName>> = [&["etc"][..], &["mongo", "broker"]]
            .iter()
            .map(|group| group.iter().map(|name| name.parse().unwrap()).collect())
            .collect();
        let of = |source: &SourceName| {
            let seconds = match source.as_str() {
                "etc" => 2.0,
                "mongo" => 30.0,
                _ => 5.0,
            };
            Some(Forecast { seconds, error_percent: 20.0 })
        };
        let whole = in_groups(&groups, of).unwrap();
        assert!((whole.seconds - 32.0).abs() < 0.01 && (whole.error_percent - 20.0).abs() < 0.01);
        assert!(in_groups(&groups, |_| None).is_none());
    }
}
