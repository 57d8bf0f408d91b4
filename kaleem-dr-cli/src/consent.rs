//! Confirmations: nothing is lost before the operator said yes.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use kaleem_dr_core::{CancellationToken, SiteError, ground::Exit};

use crate::{context::Context, failure::Failure, output::Printed};

/// Before something is lost.
#[derive(Clone, Copy, Debug, Args)]
pub struct Consent {
    /// Show what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Asks for a verb of the site, and remembers why there was no consent.
pub struct Asking<'a> {
    consent: Consent,
    cancel: &'a CancellationToken,
    refusal: Option<Failure>,
}

impl<'a> Asking<'a> {
    pub fn new(context: &'a Context, consent: Consent) -> Self {
        Self { consent, cancel: &context.cancel, refusal: None }
    }

    /// Whether the operator agrees to what is shown.
    pub async fn agree(&mut self, question: &str, show: impl FnOnce() -> Printed) -> bool {
        match ask(self.consent, question, self.cancel, show).await {
            Ok(()) => true,
            Err(failure) => {
                self.refusal = Some(failure);
                false
            }
        }
    }

    /// What the verb did; a failure where there was no consent.
    pub fn given<T>(self, done: Result<Option<T>, SiteError>) -> Result<T, Failure> {
        done?.ok_or_else(|| self.refusal.unwrap_or_else(|| refused("nothing was done")))
    }
}

fn refused(why: &str) -> Failure {
    let mut failure = Failure::new(Exit::Refused, why);
    failure.advice =
        Some("--dry-run shows what would be done; --yes does it without asking".into());
    failure
}

/// Asks before something is lost. Without a terminal, only `--yes` is a yes.
async fn ask(
    consent: Consent,
    question: &str,
    cancel: &CancellationToken,
    show: impl FnOnce() -> Printed,
) -> Printed {
    if consent.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(refused("nothing was done: there is nobody to ask, and --yes was not given"));
    }
    show()?;
    write!(io::stderr().lock(), "{question} [y/N] ")?;
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    // The thread that reads goes on until the process ends; it is not waited for.
    let answer = cancel
        .run_until_cancelled(reading)
        .await
        .ok_or_else(Failure::cancelled)?
        .map_err(io::Error::from)??;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(refused("nothing was done"))
    }
}
