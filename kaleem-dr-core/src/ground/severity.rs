//! The scale of severity for all results.

use serde::Serialize;

/// The severity of a diagnosis, of a step of a bucket check, or of a finding. It is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Examined, and found without a problem.
    Ok,
    /// Worth knowing, but not a problem.
    Information,
    /// A problem that may cause a backup or a restore to fail later, or something that could not be examined.
    Warning,
    /// A problem that makes a backup or a restore fail, or loses data.
    Error,
}

impl Severity {
    /// The name in JSON: `ok`, `information`, `warning` or `error`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
