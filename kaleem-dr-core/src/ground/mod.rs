//! Types that every wing uses: names, ids, levels, errors, digests. Nothing here accesses a server, a store or a disk on its own.

mod artifact_path;
pub mod diagnosis;
pub mod digest;
#[cfg_attr(
    not(feature = "operate"),
    expect(dead_code, reason = "an installation uses more of it than the engine")
)]
pub(crate) mod durable_file;
mod error_chain;
pub mod exit;
#[cfg_attr(
    not(feature = "operate"),
    expect(dead_code, reason = "an installation uses more of it than the engine")
)]
pub(crate) mod failpoint;
pub mod finding;
#[cfg_attr(
    not(feature = "operate"),
    expect(dead_code, reason = "an installation uses more of it than the engine")
)]
pub(crate) mod flock;
pub mod gzip;
pub mod host;
pub mod language;
pub mod moment;
pub mod progress;
mod proof_level;
mod run_id;
mod severity;
pub mod size;
mod snapshot_id;
mod source_error;
mod source_name;
pub mod stopwatch;

pub use self::{
    artifact_path::{ArtifactPath, InvalidArtifactPath},
    error_chain::{Cause, error_chain},
    exit::Exit,
    proof_level::{ProofLevel, UnknownLevel},
    run_id::{InvalidRunId, RunId},
    snapshot_id::{InvalidSnapshotId, SnapshotId},
    source_error::SourceError,
    source_name::{InvalidSourceName, SourceName},
};
