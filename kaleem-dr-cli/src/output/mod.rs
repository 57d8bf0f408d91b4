//! Output shared by commands: tables and sentences for people; JSON for scripts, in restic's format
//! where restic has one.

pub mod entries;
mod lines;
mod restic;
mod stderr;
mod stdout;
mod table;
mod words;

pub use self::{
    lines::Lines,
    restic::restic_snapshot,
    stderr::{failure, notes},
    stdout::{Printed, document, hold, line, release},
    table::table,
    words::{age, moment, size},
};
