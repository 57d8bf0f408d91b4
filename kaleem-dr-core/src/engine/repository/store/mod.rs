//! Bytes by key: the object store under a repository.
//!
//! [`ObjectStore`] is the interface, and [`BasicStore`] the required part of it; [`OpendalStore`] is the store for disks and S3
//! buckets. Wrappers are stores too: the tests have one that records calls and one that injects failures. `tests/conformance`
//! specifies the behaviour of every store. A listing is complete or an error: prune would treat objects missing from it as
//! garbage. A write to a bucket is complete only when the bucket is known to have stored what was sent.

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
