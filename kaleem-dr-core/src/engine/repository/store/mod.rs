//! Bytes by key: the object store under a repository.
//!
//! [`ObjectStore`] is the seam; [`OpendalStore`] is the store for disks and S3 buckets. Wrappers (a recorder, a fault
//! injector) are stores too. A list is all or nothing: what a listing leaves out, prune would take for garbage. A write to a
//! bucket is done when the bucket is known to hold what was sent.

mod access;
mod error;
mod fault;
mod integrity;
mod late;
mod listing;
mod object_store;
mod opendal_store;
mod pace;
pub(crate) mod region;
mod retry;
mod temporary;
pub(crate) mod transport;

pub(crate) use self::{access::is_loopback, temporary::TEMPORARY_DIRECTORY};
pub use self::{
    access::{IpChoice, Network, Rate, S3Access, Tuning, is_r2},
    error::StoreError,
    fault::StoreFault,
    object_store::{Object, ObjectStore, ObjectWriter},
    opendal_store::OpendalStore,
};
