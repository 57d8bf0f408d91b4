//! A finding: one line of a check or an inspection.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether data may be lost or useless; else it is worth knowing only.
    pub is_error: bool,
    /// What is wrong, with the object's id or path.
    pub message: String,
}

impl Finding {
    /// Something that makes the data useless, in whole or in part.
    pub fn error(message: impl Into<String>) -> Self {
        Self { is_error: true, message: message.into() }
    }

    /// Something the operator should know.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { is_error: false, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.is_error { "error" } else { "warning" }, self.message)
    }
}
