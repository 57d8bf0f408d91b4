//! Durations for people.

/// `850 ms`, `12.3 s`, `4 min 10 s`, `3 h 20 min`: the same in both languages, because the units
/// are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a duration for people, never negative"
)]
#[must_use]
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..=1 if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let said = [0.0184, 0.999, 1.0, 12.34, 59.96, 250.0, 12_000.0].map(duration);
        assert_eq!(
            said,
            ["18 ms", "999 ms", "1.0 s", "12.3 s", "1 min 0 s", "4 min 10 s", "3 h 20 min"]
        );
    }
}
