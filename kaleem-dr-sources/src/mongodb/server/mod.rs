//! The server: connection, content, and diagnosis.

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
