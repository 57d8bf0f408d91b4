//! What putting documents into a collection came to.

/// What was put in, and in a merge what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Documents inserted.
    pub(crate) items: u64,
    /// Bytes of these.
    pub(crate) size_bytes: u64,
    /// Documents that were there already, equal to the point's.
    pub(crate) same: u64,
    /// Documents that were there with other content, and stay.
    pub(crate) kept: u64,
    /// Documents of the point that are not there afterwards.
    pub(crate) missing: u64,
    /// Why the first one of these is not.
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
