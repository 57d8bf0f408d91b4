//! Repairs a repository from its own content: the index from the packs, and snapshots by leaving out what is lost. Data that a
//! mirror has should be restored from there first ([`crate::engine::replicate`]).

mod index;
mod snapshots;

pub use self::{
    index::IndexRepair,
    snapshots::{LostSnapshot, RepairedSnapshot, SnapshotRepair},
};
