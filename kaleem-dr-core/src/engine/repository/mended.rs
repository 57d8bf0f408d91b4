//! The damage found when a lock was acquired, so that nothing saved under the lock relies on damaged objects.

use rustic_core::Id;

/// The state of the index before a capture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mended {
    /// Index files that cannot be read and were skipped.
    pub(crate) damaged: Vec<Id>,
    /// Total size of the indexed packs, in bytes.
    pub(crate) stored_bytes: u64,
}
