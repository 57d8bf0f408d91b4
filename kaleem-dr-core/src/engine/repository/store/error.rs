//! Errors of a store, and advice for each kind.

use crate::ground::Cause;

/// A failed operation of a store on an object.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {key} in {location}")]
#[non_exhaustive]
pub struct StoreError {
    /// `list`, `read`, `write`, `delete`, `stat`.
    pub action: &'static str,
    /// Key of the object, or name of the directory.
    pub key: String,
    /// The store as text, without credentials.
    pub location: String,
    pub(super) kind: StoreErrorKind,
    #[source]
    pub(super) cause: Cause,
}

impl StoreError {
    /// An error for other implementations of a store.
    pub fn new(
        action: &'static str,
        key: &str,
        location: String,
        not_found: bool,
        cause: impl Into<Cause>,
    ) -> Self {
        let kind = if not_found { StoreErrorKind::NotFound } else { StoreErrorKind::Other };
        Self { action, key: key.to_owned(), location, kind, cause: cause.into() }
    }

    /// Sets the kind, which [`StoreError::new`] sets to `NotFound` or `Other`.
    #[must_use]
    pub fn with_kind(self, kind: StoreErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Reports whether the store accepts no writes from us: it is read-only, full, or not writable for this user.
    #[must_use]
    pub fn takes_no_writes(&self) -> bool {
        let refused =
            [std::io::ErrorKind::ReadOnlyFilesystem, std::io::ErrorKind::PermissionDenied];
        self.kind == StoreErrorKind::Denied
            || self.is_full()
            || self.io_kinds().any(|kind| refused.contains(&kind))
    }

    /// Reports whether the store is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
        // The responses of S3 services with a disk or a quota.
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

    /// Reports whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
}

/// The kind of a store's error, as far as it affects what the operator does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The object or directory does not exist.
    NotFound,
    /// The object ends before the requested range.
    Short,
    /// The bucket does not exist.
    NoBucket,
    /// The service or the file system denies access.
    Denied,
    /// The clocks of this machine and the service differ too much for signatures.
    Clock,
    /// The service's certificate is not trusted, or the TLS connection broke.
    Tls,
    /// The service's name has no address.
    Dns,
    /// The service cannot be reached.
    Unreachable,
    /// A condition of the request is not met: the object already exists.
    Condition,
    /// Any other error; the cause has the details.
    Other,
}

impl StoreErrorKind {
    /// Reports whether access failed before any object could be reached: the error shows nothing about objects.
    #[must_use]
    pub fn keeps_out(self) -> bool {
        matches!(
            self,
            Self::NoBucket | Self::Denied | Self::Clock | Self::Tls | Self::Dns | Self::Unreachable
        )
    }

    /// Reports whether the object itself is at fault, and not the access to it.
    #[must_use]
    pub fn is_loss(self) -> bool {
        matches!(self, Self::NotFound | Self::Short)
    }

    /// Advice for the operator; `None` if the error itself is clear enough.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Denied => {
                "the key pair must be an S3 one of this service and may read and write the bucket; for R2: an API token with \
                 \"Object Read & Write\" on this bucket, its Access Key ID (32 hex digits) and Secret Access Key (64)"
            }
            Self::NoBucket => {
                "create the bucket, or correct its name in `location`; an R2 endpoint is that of the bucket's own account"
            }
            Self::Clock => {
                "set this machine's clock (`timedatectl`): signatures are good for 15 minutes"
            }
            Self::Tls => {
                "try `ip = \"v4\"` in the repository's table; behind a proxy or with a private certificate, name its PEM file in `ca_file`"
            }
            Self::Dns => {
                "is the host in the endpoint right, and does this machine resolve names (`getent hosts HOST`)?"
            }
            Self::Unreachable => {
                "is the endpoint right and the network up? try `ip = \"v4\"`, or name a `proxy`"
            }
            _ => return None,
        })
    }
}
