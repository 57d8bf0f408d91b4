//! The result of inserting documents into a collection.

/// Counts of inserted documents and, in a merge, of existing ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) items: u64,
    /// Size of the inserted documents.
    pub(crate) size_bytes: u64,
    /// Existing documents that equal the point's.
    pub(crate) same: u64,
    /// Existing documents with other content, which were kept.
    pub(crate) kept: u64,
    /// Documents of the point that do not exist afterwards.
    pub(crate) missing: u64,
    /// The reason for the first missing document.
    pub(crate) why_missing: Option<String>,
}

impl Loaded {
    pub(super) fn add(&mut self, other: Self) {
        self.items += other.items;
        self.size_bytes += other.size_bytes;
        self.same += other.same;
        self.kept += other.kept;
        self.missing += other.missing;
        if self.why_missing.is_none() {
            self.why_missing = other.why_missing;
        }
    }
}
