//! A new machine from a repository alone: the config and the secret files that an installation had,
//! written from the description in its newest snapshot.
//!
//! Nothing is written before everything is known and no existing file is in the way. The host's
//! name is taken over, so that its points, proofs and retention continue.

mod hosts;
mod lacking;
mod new_config;
mod options;
mod origin;
mod placing;
mod report;

pub use self::{
    hosts::HostPoints,
    new_config::NewConfig,
    options::{Bootstrap, BucketKey, RECOVERED},
    origin::Origin,
    placing::{PlacedSecret, Placement},
    report::Bootstrapped,
};
pub(crate) use self::{lacking::lacking, placing::Placing};
