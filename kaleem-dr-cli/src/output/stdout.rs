//! Lines and documents on standard output.

use std::{
    io::{self, Write as _},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::failure::Failure;

/// The result of printing.
pub type Printed = Result<(), Failure>;

/// Lines of a quiet job, which are printed only if it does not end well.
static HELD: Mutex<Option<String>> = Mutex::new(None);

/// Keeps lines back from now on.
pub fn hold() {
    *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(String::new());
}

/// Prints the lines that were kept back, if any, and keeps back no more.
pub fn release() -> Printed {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    match held.as_deref() {
        None | Some("") => Ok(()),
        Some(lines) => line(lines.trim_end_matches('\n')),
    }
}

/// Prints one or more lines for people.
pub fn line(text: &str) -> Printed {
    if let Some(held) = HELD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        held.push_str(text);
        held.push('\n');
        return Ok(());
    }
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
