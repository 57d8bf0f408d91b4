//! The library of kaleem-dr: capture, commit, read back and restore, in a restic-format repository.
//!
//! A [`Source`] emits artifacts, and a [`Restorable`] one takes them back; a [`Repository`] keeps them; [`operate::job::backup`] joins the two under one run id
//! and one report; a [`recovery::point::PointReader`] gives them back. Nothing here knows a concrete source, prints, or reads the
//! process environment.
//!
//! Four wings, each of which knows itself and those before it: [`ground`], [`engine`], [`recovery`], [`operate`].

pub mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod ground;
pub mod operate;
pub mod recovery;

pub use bytes;
pub use jiff;
pub use tokio_util::sync::CancellationToken;

pub use self::{
    engine::{repository::Repository, source::Source},
    ground::{ArtifactPath, Exit, ProofLevel, RunId, SourceError, SourceName, error_chain},
    operate::site::{Site, SiteError},
    recovery::source::Restorable,
};
