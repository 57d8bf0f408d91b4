//! What is wrong with an old installation: what, why, and what to do.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Data or secrets are at risk, or a restore cannot work.
    Error,
    /// It may go wrong.
    Warning,
    /// Worth knowing.
    Information,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A word that stays the same from release to release.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Whether the change of guard waits until it is settled.
    pub blocks: bool,
    /// Where: a file, with the line where there is one.
    pub place: Option<String>,
    /// What is there. Never a secret.
    pub what: String,
    /// Why that is bad.
    pub why: String,
    /// What to do.
    pub advice: String,
}

impl Finding {
    fn new(severity: Severity, code: &'static str, what: String, why: &str, advice: &str) -> Self {
        Self {
            code,
            severity,
            blocks: false,
            place: None,
            what,
            why: why.to_owned(),
            advice: advice.to_owned(),
        }
    }

    /// Data or secrets are at risk, or a restore cannot work.
    pub(super) fn error(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Severity::Error, code, what.into(), why, advice)
    }

    /// It may go wrong.
    pub(super) fn warning(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Severity::Warning, code, what.into(), why, advice)
    }

    /// Worth knowing.
    pub(super) fn information(
        code: &'static str,
        what: impl Into<String>,
        why: &str,
        advice: &str,
    ) -> Self {
        Self::new(Severity::Information, code, what.into(), why, advice)
    }

    /// At a place.
    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    /// Nothing is changed before it is settled.
    pub(super) fn blocking(self) -> Self {
        Self { blocks: true, ..self }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Information => "information",
        })
    }
}
