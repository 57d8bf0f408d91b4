//! Failures and notes, on standard error.

use std::io::{self, Write as _};

use serde_json::json;

use crate::failure::Failure;

/// Errors go to standard error: a sentence and what to do, or restic's `exit_error`.
pub fn failure(failure: &Failure, json: bool) {
    let code = failure.exit.code();
    let text = if json {
        json!({ "message_type": "exit_error", "code": code, "message": failure.message, "advice": failure.advice }).to_string()
    } else {
        let advice =
            failure.advice.as_ref().map(|advice| format!("\n  {advice}")).unwrap_or_default();
        format!("error: {}{advice}", failure.message)
    };
    // Standard error may be closed; the exit status still tells.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What the operator should know of a choice that was made: to standard error, whatever goes to standard output.
pub fn notes(notes: &[String]) {
    notes.iter().for_each(|note| tracing::warn!("{note}"));
}
