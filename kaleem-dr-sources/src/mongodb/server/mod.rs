//! The server: connection, content, and diagnosis.

mod connection;
mod diagnose;
mod error;
pub(crate) mod index;
pub(crate) mod listing;
mod probe;
pub(crate) mod reply;

#[cfg(test)]
mod recorder;

#[cfg(test)]
pub(crate) use self::recorder::Recorder;
pub(crate) use self::{
    connection::{Connection, ServerFacts, Topology},
    diagnose::Patient,
    error::{code, codes, is_passing},
    probe::probe,
};
