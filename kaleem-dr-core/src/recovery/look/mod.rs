//! Looking inside points: what they contain, where a file occurs, one file's bytes, and the differences between two points.

mod changes;
mod dump;
mod history;
mod named;
mod patterns;

pub use self::{
    changes::{ChangeCounts, ChangeKind, ChangeWalk, Counted, TreeChange, changes},
    dump::{Dumped, dump, dump_to},
    history::{FileVersion, history},
    named::{Named, named, newest_of_each},
    patterns::Patterns,
};
