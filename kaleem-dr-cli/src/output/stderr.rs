//! Failures and notes on standard error.

use std::io::{self, Write as _};

use serde_json::json;

use crate::failure::Failure;

/// Prints an error to standard error: a sentence with advice, or restic's `exit_error`.
pub fn failure(failure: &Failure, json: bool) {
    let code = failure.exit.code();
    let text = if json {
        json!({ "message_type": "exit_error", "code": code, "message": failure.message, "advice": failure.advice }).to_string()
    } else {
        let advice =
            failure.advice.as_ref().map(|advice| format!("\n  {advice}")).unwrap_or_default();
        format!("error: {}{advice}", failure.message)
    };
    // Standard error may be closed; the exit status is still right.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Logs notes about a choice that was made for the operator, to standard error.
pub fn notes(notes: &[String]) {
    notes.iter().for_each(|note| tracing::warn!("{note}"));
}
