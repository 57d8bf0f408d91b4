//! The engine: the repository, its replicas, and what this host remembers of both. It knows no source's recovery and no installation.

pub mod artifact;
pub mod ledger;
pub mod manifest;
pub mod replicate;
pub mod repository;
pub mod source;
