//! Lines and documents on standard output.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Whether it could be printed.
pub type Printed = Result<(), Failure>;

/// A line, or several, for people.
pub fn line(text: &str) -> Printed {
    match writeln!(io::stdout().lock(), "{text}") {
        // Whoever read has seen enough (`| head`); the exit status still tells how it ended.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A line of JSON.
pub fn document(value: &impl Serialize) -> Printed {
    line(&serde_json::to_string(value)?)
}
