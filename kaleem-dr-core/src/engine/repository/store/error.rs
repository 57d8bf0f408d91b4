//! What a store says when it fails.

use super::StoreFault;
use crate::ground::Cause;

/// What failed in a store, on which object.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {key} in {location}")]
pub struct StoreError {
    /// `list`, `read`, `write`, `delete`, `stat`.
    pub action: &'static str,
    /// The object or directory.
    pub key: String,
    /// The store, in words.
    pub location: String,
    pub(super) fault: StoreFault,
    #[source]
    pub(super) cause: Cause,
}

impl StoreError {
    /// An error of a store of one's own.
    pub fn new(
        action: &'static str,
        key: &str,
        location: String,
        not_found: bool,
        cause: impl Into<Cause>,
    ) -> Self {
        let fault = if not_found { StoreFault::NotFound } else { StoreFault::Other };
        Self { action, key: key.to_owned(), location, fault, cause: cause.into() }
    }

    /// Of this kind.
    #[must_use]
    pub fn with_fault(self, fault: StoreFault) -> Self {
        Self { fault, ..self }
    }

    /// Its kind.
    #[must_use]
    pub fn fault(&self) -> StoreFault {
        self.fault
    }

    /// Whether the place takes no writes from us: it is read-only, full, or not ours to write to.
    #[must_use]
    pub fn takes_no_writes(&self) -> bool {
        let refused =
            [std::io::ErrorKind::ReadOnlyFilesystem, std::io::ErrorKind::PermissionDenied];
        self.fault == StoreFault::Denied
            || self.is_full()
            || self.io_kinds().any(|kind| refused.contains(&kind))
    }

    /// Whether there is no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
        // What S3 services answer who have a disk or a quota.
        let said = || self.cause.to_string();
        self.io_kinds().any(|kind| full.contains(&kind))
            || ["answered 507", "StorageFull", "QuotaExceeded", "InsufficientStorage"]
                .iter()
                .any(|word| said().contains(word))
    }

    fn io_kinds(&self) -> impl Iterator<Item = std::io::ErrorKind> {
        let first: &(dyn std::error::Error + 'static) = &*self.cause;
        std::iter::successors(Some(first), |error| error.source())
            .filter_map(|error| error.downcast_ref::<std::io::Error>())
            .map(std::io::Error::kind)
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.fault == StoreFault::NotFound
    }
}
