//! The server: how it is reached and asked, what it holds, and whether all is well with it.

mod connection;
mod diagnose;
mod docker;
pub(crate) mod index;
pub(crate) mod listing;
mod probe;
pub(crate) mod reply;

#[cfg(test)]
mod recorder;

pub use self::docker::DockerContainer;
#[cfg(test)]
pub(crate) use self::recorder::Recorder;
pub(crate) use self::{
    connection::{Connection, ServerFacts, Topology, code, codes, is_passing},
    diagnose::Patient,
    probe::probe,
};
