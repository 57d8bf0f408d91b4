//! A difference found by a comparison.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A difference between the target and the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Difference {
    /// The object that differs: `collection users: documents`.
    pub what: String,
    /// The value in the manifest.
    pub expected: String,
    /// The value in the target.
    pub found: String,
}

impl Difference {
    /// An object with another value than the manifest has.
    pub fn new(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), expected: expected.into(), found: found.into() }
    }
}
