//! mongodump's archive format 0.1: writes points as archives, and opens archives as points. Reader
//! and writer stream, and keep one document in memory at a time.

mod borders;
mod format;
mod frames;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod path;
mod prelude;
mod reader;
mod spool;
mod staged;
mod writer;

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod sample;

#[cfg(feature = "fuzzing")]
pub use self::fuzz::fuzz_archive;
