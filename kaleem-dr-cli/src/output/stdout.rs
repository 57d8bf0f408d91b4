//! Lines and documents on standard output.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// The result of printing.
pub type Printed = Result<(), Failure>;

/// Prints one or more lines for people.
pub fn line(text: &str) -> Printed {
    match writeln!(io::stdout().lock(), "{text}") {
        // The reader has seen enough (`| head`); the exit status still shows how the command ended.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints a line of JSON.
pub fn document(value: &impl Serialize) -> Printed {
    line(&serde_json::to_string(value)?)
}
