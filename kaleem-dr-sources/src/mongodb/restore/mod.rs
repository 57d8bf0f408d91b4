//! Restoring: plan, execution collection by collection, comparison, and rehearsal.

pub(crate) mod compare;
mod destination;
mod guide;
mod live;
pub(crate) mod load;
mod loaded;
mod mark;
mod merge;
mod mixed_schema;
mod placement;
mod plan;
pub(crate) mod rebuild;
mod rebuilder;
pub(crate) mod rehearse;
mod replay;
mod resume;
pub(crate) mod rights;
mod run;
mod stream;
mod writes;

#[cfg(test)]
pub(crate) use self::loaded::Loaded;
pub(crate) use self::{
    destination::Destination, guide::guide, plan::plan, run::restore, writes::Writes,
};
