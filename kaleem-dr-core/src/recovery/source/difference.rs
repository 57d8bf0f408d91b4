//! One difference that a comparison found.

use serde::{Deserialize, Serialize};

/// One difference between the target and the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The object that differs: `collection users: documents`.
    pub what: String,
    /// As the manifest has it.
    pub expected: String,
    /// As the target has it.
    pub found: String,
}
