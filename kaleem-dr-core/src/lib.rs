//! The library of kaleem-dr.
#![allow(missing_docs)]
pub mod artifact;
pub mod config;
pub mod digest;
pub mod manifest;
pub mod point;
pub mod progress;
pub mod source;
