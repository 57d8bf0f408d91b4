//! The oplog: its entries, the filter for captures, and the application of updates.

pub(crate) mod diff;
mod entry;
mod filter;
mod window;

pub(crate) use self::{
    entry::{Change, Command, CommandKind, End, Operation, Part, Write, parse, time, uuid},
    filter::Filter,
    window::Window,
};
