//! The one scale of severity.

use serde::Serialize;

/// The severity of a diagnosis, of a step of a bucket check, or of a finding. It is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Checked, without a problem.
    Ok,
    /// Worth knowing, but not a problem.
    Information,
    /// It may cost a backup or a restore one day, or it could not be looked at.
    Warning,
    /// A backup or a restore fails, or can be lost.
    Error,
}

impl Severity {
    /// Its word, as in JSON.
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
