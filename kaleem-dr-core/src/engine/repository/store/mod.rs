//! Bytes by key: the object store under a repository.
//!
//! [`ObjectStore`] is the seam, and [`BasicStore`] the part of it that must be written; [`OpendalStore`] is the store for disks and S3
//! buckets. Wrappers are stores too: the tests have one that records calls and one that injects failures. `tests/conformance` says what
//! every store must do. A list is all or nothing: what a listing leaves out, prune would take for garbage. A write to a bucket is done
//! when the bucket is known to hold what was sent.

mod access;
mod deferred_sync;
mod error;
mod integrity;
mod listing;
mod object_store;
mod opendal_error;
mod opendal_store;
mod rate_limit;
pub(crate) mod region;
mod retry;
mod temporary;
pub(crate) mod transport;

pub(crate) use self::{access::is_loopback, temporary::TEMPORARY_DIRECTORY};
pub use self::{
    access::{IpChoice, Network, Rate, S3Access, Tuning, is_r2},
    error::{StoreError, StoreErrorKind},
    object_store::{BasicStore, Object, ObjectStore, ObjectWriter},
    opendal_store::OpendalStore,
};
