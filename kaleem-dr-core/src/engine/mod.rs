//! The engine: the repository, its replicas, and the local records of both. It does not know how a source is restored, and knows
//! nothing of an installation.

pub mod artifact;
pub mod change_log;
#[cfg(feature = "ledger")]
pub mod ledger;
pub mod manifest;
pub mod replicate;
pub mod repository;
pub mod source;
