//! A finding: one line of a check or an inspection. It describes a problem with data; a [`Diagnosis`] also has an id and a fix.
//!
//! [`Diagnosis`]: super::diagnosis::Diagnosis

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::severity::Severity;

/// A problem, or a fact worth knowing. In JSON: `is_error` and `message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Json", into = "Json")]
#[non_exhaustive]
pub struct Finding {
    /// [`Severity::Error`] if data may be lost or unusable, otherwise [`Severity::Warning`].
    pub severity: Severity,
    /// The problem, with the object's id or path.
    pub message: String,
}

/// A problem, or a fact worth knowing.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Finding")]
struct Json {
    /// Data may be lost or unusable.
    is_error: bool,
    /// The problem, with the object's id or path.
    message: String,
}

impl Finding {
    /// A problem that makes the data unusable, in whole or in part.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into() }
    }

    /// A fact that the operator should know.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, message: message.into() }
    }

    /// Reports whether data may be lost or unusable.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl From<Json> for Finding {
    fn from(Json { is_error, message }: Json) -> Self {
        if is_error { Self::error(message) } else { Self::warning(message) }
    }
}

impl From<Finding> for Json {
    fn from(finding: Finding) -> Self {
        Self { is_error: finding.is_error(), message: finding.message }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.word(), self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_finding_says_whether_it_is_an_error() {
        for (finding, json) in [
            (Finding::error("lost"), r#"{"is_error":true,"message":"lost"}"#),
            (Finding::warning("odd"), r#"{"is_error":false,"message":"odd"}"#),
        ] {
            assert_eq!(serde_json::to_string(&finding).unwrap(), json);
            assert_eq!(serde_json::from_str::<Finding>(json).unwrap(), finding);
        }
        assert_eq!(Finding::error("lost").to_string(), "error: lost");
    }
}
