//! The sources of kaleem-dr: one module each, behind a cargo feature of its name. None knows another.

#[cfg(feature = "mongodb")]
pub mod mongodb;
