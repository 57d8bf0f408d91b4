//! MongoDB: captured by raw reads in mongodump's directory layout, restored by raw inserts and compared by content.
pub(crate) mod capture;
pub(crate) mod compare;
pub(crate) mod load;
pub(crate) mod rebuild;
pub(crate) mod catalogue;
pub mod config;
pub(crate) mod connection;
pub(crate) mod documents;
pub(crate) mod listing;
pub(crate) mod metadata;
pub(crate) mod names;
pub(crate) mod snapshot;
