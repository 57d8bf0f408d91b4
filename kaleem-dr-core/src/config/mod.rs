//! The configuration.
pub mod secret;
