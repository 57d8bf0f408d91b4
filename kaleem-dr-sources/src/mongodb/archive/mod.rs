//! mongodump's archive format 0.1: points written as archives, and archives opened as points. Reader and writer
//! stream, and hold one document at a time.

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
