//! A difference found by a comparison.

use serde::{Deserialize, Serialize};

/// A difference between the target and the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The object that differs: `collection users: documents`.
    pub what: String,
    /// The value in the manifest.
    pub expected: String,
    /// The value in the target.
    pub found: String,
}
