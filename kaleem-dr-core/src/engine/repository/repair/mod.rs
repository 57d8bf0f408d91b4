//! Mending a repository out of itself: the index from the packs, snapshots without what is lost. What a mirror can put back comes from
//! there first ([`crate::engine::replicate`]).

mod index;
mod snapshots;

pub use self::{
    index::IndexRepair,
    snapshots::{LostSnapshot, RepairedSnapshot, SnapshotRepair},
};
