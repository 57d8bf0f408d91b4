//! A diagnosis: one line of `doctor`. It describes an observation and its place, the cause, and the fix.
//!
//! Sources make diagnoses too, so nothing here depends on what is examined. A diagnosis never contains a secret: it names the
//! location of a secret, not its text.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use super::severity::Severity;

/// Difference above which clocks break signatures and the order of snapshots.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// One observation of `doctor`: where, why, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The kind of observation, in kebab case. It does not change between versions.
    pub id: &'static str,
    /// Its severity; an `Error` makes `doctor` exit with 1.
    pub severity: Severity,
    /// The observation and its place.
    pub what: String,
    /// The cause, or the consequence.
    pub cause: Option<String>,
    /// The command or the edit that fixes the problem.
    pub fix: Option<String>,
}

impl Diagnosis {
    /// The id of everything that could not be examined.
    pub const UNSEEN: &'static str = "could-not-look";

    /// A diagnosis without a problem.
    pub fn ok(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Ok, id, what)
    }

    /// A diagnosis that is worth knowing but not a problem.
    pub fn information(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Information, id, what)
    }

    /// A problem that may cause a backup or a restore to fail later.
    pub fn warning(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, id, what)
    }

    /// A problem that makes a backup or a restore fail, or loses data.
    pub fn error(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(Severity::Error, id, what)
    }

    /// `what` could not be examined, which is never a good result.
    #[must_use]
    pub fn unseen(what: &str, why: &str) -> Self {
        Self::new(Severity::Warning, Self::UNSEEN, format!("{what} could not be looked at: {why}"))
    }

    /// Adds the cause or the consequence, as one sentence.
    #[must_use]
    pub fn because(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Adds the command or the edit that fixes it.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// A diagnosis of this severity, without cause and fix.
    pub(crate) fn new(severity: Severity, id: &'static str, what: impl Into<String>) -> Self {
        Self { id, severity, what: what.into(), cause: None, fix: None }
    }

    /// Compares a server's clock with this machine's.
    #[must_use]
    pub fn of_clock(server: &str, theirs: Timestamp, ours: Timestamp) -> Self {
        let apart = ours.duration_since(theirs);
        if apart.abs() <= CLOCK_TOLERANCE {
            return Self::ok(
                "clock",
                format!(
                    "the clock is within {} s of that of {server}",
                    apart.abs().as_secs().max(1)
                ),
            );
        }
        let (seconds, side) =
            (apart.abs().as_secs(), if apart.is_positive() { "ahead of" } else { "behind" });
        Self::error(
            "clock-skew",
            format!("this machine's clock is {seconds} s {side} that of {server}"),
        )
        .because("signed requests are good for minutes, and snapshots are ordered by this clock")
        .fix("timedatectl set-ntp true; timedatectl status")
    }

    /// Like [`Diagnosis::of_clock`], for the header `Date` of an HTTP response (RFC 9110, 5.6.7). `None` if it is not a date.
    #[must_use]
    pub fn of_http_date(server: &str, date: &str, ours: Timestamp) -> Option<Self> {
        let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
        Some(Self::of_clock(server, theirs, ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_minutes_off_is_an_error_and_says_which_way() {
        let now: Timestamp = "2026-01-31T03:00:00Z".parse().unwrap();
        let of = |date: &str| Diagnosis::of_http_date("s3.example", date, now).unwrap();
        assert_eq!(of("Sat, 31 Jan 2026 03:04:59 GMT").severity, Severity::Ok);
        let behind = of("Sat, 31 Jan 2026 03:10:00 GMT");
        assert_eq!((behind.id, behind.severity), ("clock-skew", Severity::Error));
        assert!(
            behind.what.contains("600 s behind") && behind.what.contains("s3.example"),
            "{}",
            behind.what
        );
        assert!(of("Sat, 31 Jan 2026 02:00:00 GMT").what.contains("3600 s ahead"));
        assert_eq!(Diagnosis::of_http_date("s3.example", "yesterday", now), None);
    }
}
