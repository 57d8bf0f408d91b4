//! The oplog: its entries, what of it a capture keeps, and how an update of it is applied.

pub(crate) mod diff;
mod entry;
mod filter;
mod window;

pub(crate) use self::{
    entry::{Change, Command, CommandKind, End, Operation, Part, Write, parse, time, uuid},
    filter::Filter,
    window::Window,
};
