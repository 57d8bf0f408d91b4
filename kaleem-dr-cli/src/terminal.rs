//! Reads what an operator types.

use std::io::{self, BufRead as _};

use kaleem_dr_core::CancellationToken;

use crate::failure::Failure;

/// Waits for a line of standard input, until a cancellation. Returns it without blanks at its ends.
pub async fn read_line(cancel: &CancellationToken) -> Result<String, Failure> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    // The thread that reads runs until the process ends; it is never joined.
    let line = cancel
        .run_until_cancelled(reading)
        .await
        .ok_or_else(Failure::cancelled)?
        .map_err(io::Error::from)??;
    Ok(line.trim().to_owned())
}
