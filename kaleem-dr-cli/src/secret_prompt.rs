//! Asks for a secret on the terminal, without showing what is typed.

use std::io::{self, IsTerminal as _, Write as _};

use kaleem_dr_core::{CancellationToken, secrecy::SecretString};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::{failure::Failure, terminal::read_line};

/// Shows typed characters again when it is dropped.
struct Echo(Termios);

impl Echo {
    fn off() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to show on.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
        let _ = writeln!(io::stderr().lock());
    }
}

/// Asks for the secrets that a job needs, and keeps the first failure, after which nothing more is asked.
pub struct Asking<'a> {
    cancel: &'a CancellationToken,
    failure: Option<Failure>,
}

impl<'a> Asking<'a> {
    pub fn new(cancel: &'a CancellationToken) -> Self {
        Self { cancel, failure: None }
    }

    /// As [`ask`]; `None` also after a failure.
    pub async fn ask(&mut self, question: &str) -> Option<SecretString> {
        if self.failure.is_some() {
            return None;
        }
        ask(question, self.cancel).await.unwrap_or_else(|failure| {
            self.failure = Some(failure);
            None
        })
    }

    /// The failure, if a question had one.
    pub fn end(self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// Asks for a secret; `None` without a terminal, or if nothing is typed.
pub async fn ask(
    question: &str,
    cancel: &CancellationToken,
) -> Result<Option<SecretString>, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    write!(io::stderr().lock(), "{question}: ")?;
    let _hidden = Echo::off()?;
    let answer = read_line(cancel).await?;
    Ok((!answer.is_empty()).then(|| SecretString::from(answer)))
}
