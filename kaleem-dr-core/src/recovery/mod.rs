//! The way from a source to a snapshot and back: saving, points, restores, verification, drills.

pub mod change_log;
#[cfg(feature = "ledger")]
pub mod drill;
pub mod extract_root;
pub mod look;
#[cfg(feature = "ledger")]
pub mod objectives;
pub mod point;
pub mod points;
mod read_through;
pub mod restore;
pub mod scratch;
pub mod source;
pub mod staged;
pub mod tarball;
pub mod untar;
pub mod verify;
pub mod view;
