//! An error as one line.

use std::error::Error;

/// A boxed cause of an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error and its causes, joined by colons. A cause whose text is already in the line is not repeated.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !line.contains(&said) {
            line.push_str(": ");
            line.push_str(&said);
        }
        cause = error.source();
    }
    line
}
