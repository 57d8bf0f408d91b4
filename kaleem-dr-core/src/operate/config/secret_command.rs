//! Runs a command that prints a secret, as restic's `--password-command` does, but without a shell and with a time limit.

use std::{
    io::{self, Read as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::CancellationToken;

/// Time that a command has: enough for an operator to unlock a store of passwords.
const LIMIT: Duration = Duration::from_mins(1);
/// Output above this size is not a secret.
const MAX_BYTES: u64 = 64 << 10;

/// Time between two looks at a command and at the cancellation.
const STEP: Duration = Duration::from_millis(10);

/// Runs a command to its end, and returns what it printed. Its errors go to our standard error. Blocking.
///
/// # Errors
/// If it cannot be started, fails, or prints more than 64 KiB; and if it is still running after a minute or at the cancellation, when it
/// is killed. The errors do not contain its output.
pub(super) fn output(words: &[String], cancel: &CancellationToken) -> io::Result<Vec<u8>> {
    output_within(words, LIMIT, cancel)
}

fn output_within(
    words: &[String],
    limit: Duration,
    cancel: &CancellationToken,
) -> io::Result<Vec<u8>> {
    let (program, args) =
        words.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut child =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdout.take();
    let (sender, printed) = mpsc::channel();
    // A process that the command leaves behind may keep the pipe open; then the thread stays until the end of this one.
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |pipe| pipe.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        // The receiver is gone after a time-out.
        let _ = sender.send(read.map(|_| bytes));
    });
    let deadline = Instant::now() + limit;
    let mut bytes = None;
    let status = loop {
        if cancel.is_cancelled() {
            stop(&mut child);
            return Err(io::Error::other("cancelled"));
        }
        if Instant::now() >= deadline {
            stop(&mut child);
            let seconds = limit.as_secs_f32();
            return Err(io::Error::other(format!("it did not end within {seconds} s")));
        }
        // Without bytes, this waits for them; with them, the sender is gone.
        match printed.recv_timeout(STEP) {
            Ok(read) => {
                let read = read?;
                if read.len() as u64 > MAX_BYTES {
                    stop(&mut child);
                    return Err(io::Error::other("its output is too long for a secret"));
                }
                bytes = Some(read);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(STEP),
        }
        if bytes.is_some()
            && let Some(status) = child.try_wait()?
        {
            break status;
        }
    };
    match bytes {
        Some(bytes) if status.success() => Ok(bytes),
        _ => Err(io::Error::other(status.to_string())),
    }
}

fn stop(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> io::Result<Vec<u8>> {
        output_within(&["sh", "-c", script].map(str::to_owned), limit, &CancellationToken::new())
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        for script in ["exec sleep 1000", "exec >&-; exec sleep 1000"] {
            let began = Instant::now();
            let error = run(script, Duration::from_millis(300)).unwrap_err();
            assert!(error.to_string().contains("did not end within"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(20), "{script}");
        }
    }

    #[test]
    fn a_command_that_prints_endlessly_is_ended() {
        let error = run("exec yes", LIMIT).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
