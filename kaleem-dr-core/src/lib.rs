//! The library of kaleem-dr: capture, commit, read back and restore, in a restic-format repository.
//!
//! A [`source::Source`] emits artifacts; a [`repository::Repository`] keeps them; [`job::backup`] joins the two under one run id
//! and one report; a [`point::PointReader`] gives them back. Nothing here knows a concrete source, prints, or reads the
//! process environment.

pub mod artifact;
pub mod checklist;
pub mod config;
pub mod diagnosis;
pub mod digest;
pub mod doctor;
pub mod drill;
pub mod exit;
mod failpoint;
pub mod finding;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod ground;
pub mod gzip;
pub mod hook;
pub mod host;
pub mod job;
pub mod language;
pub mod ledger;
pub mod manifest;
pub mod metrics;
pub mod migrate;
pub mod monitor;
pub mod objectives;
pub mod point;
pub mod progress;
pub mod replicate;
pub mod report;
pub mod repository;
pub mod restore;
pub mod runbook;
pub mod schedule;
pub mod scratch;
mod sentence;
pub mod source;
pub mod staged;
pub mod stopwatch;
pub mod tarball;
pub mod tripwire;
pub mod untar;
pub mod verify;

pub use self::sentence::sentence;
pub use bytes;
pub use jiff;
pub use tokio_util::sync::CancellationToken;
