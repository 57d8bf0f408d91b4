//! The first config of a machine: a repository and sources, each given as one word, become a config that is complete.
//!
//! Everything is checked before anything is written, and no existing file is overwritten.

mod options;
mod repository;
mod sources;
mod text;

pub use self::options::{FirstConfig, NewSecret, SecretOrigin, Written};
pub(crate) use self::{
    repository::NewRepository,
    sources::{drafts, excluded},
    text::{Reference, text},
};
