//! What was found damaged when a lock was taken, so that what is saved under it relies on none of it.

use rustic_core::Id;

/// What is known of the index before a capture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mended {
    /// Index files that cannot be read and were passed over.
    pub(crate) damaged: Vec<Id>,
}
