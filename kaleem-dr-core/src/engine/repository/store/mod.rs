//! Bytes by key: the object store under a repository.
//!
//! [`ObjectStore`] is the interface, and [`BasicStore`] the required part of it; [`OpendalStore`] is the store for disks and S3
//! buckets. Wrappers are stores too: the tests have one that records calls and one that injects failures. `tests/conformance`
//! specifies the behaviour of every store. A listing is complete or an error: prune would treat objects missing from it as
//! garbage. A write to a bucket is complete only when the bucket is known to have stored what was sent.

#[cfg(feature = "s3")]
mod access;
mod append_only;
mod deferred_sync;
mod error;
mod integrity;
#[cfg(feature = "s3")]
mod listing;
mod object_store;
mod opendal_error;
mod opendal_store;
#[cfg(feature = "s3")]
mod rate_limit;
#[cfg(feature = "s3")]
pub(crate) mod region;
mod retry;
mod temporary;
#[cfg(feature = "s3")]
pub(crate) mod transport;
mod tuning;

#[cfg(feature = "operate")]
pub(crate) use self::access::is_loopback;
#[cfg(feature = "s3")]
pub use self::access::{IpChoice, Network, Rate, S3Access, is_r2};
pub(crate) use self::{append_only::AppendOnly, temporary::TEMPORARY_DIRECTORY};
pub use self::{
    error::{StoreError, StoreErrorKind},
    object_store::{BasicStore, Object, ObjectStore, ObjectWriter},
    opendal_store::OpendalStore,
    tuning::Tuning,
};
