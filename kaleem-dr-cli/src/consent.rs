//! Confirmations: a command deletes or overwrites data only after the operator agrees.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;
use kaleem_dr_core::{CancellationToken, SiteError, ground::Exit};

use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, release},
    terminal::read_line,
};

/// Options of commands that delete or overwrite data.
#[derive(Clone, Copy, Debug, Args)]
pub struct Consent {
    /// Show what would be done; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// Asks on behalf of the site's verbs, and records why there was no consent.
pub struct Asking<'a> {
    consent: Consent,
    cancel: &'a CancellationToken,
    refusal: Option<Failure>,
}

impl<'a> Asking<'a> {
    pub fn new(context: &'a Context, consent: Consent) -> Self {
        Self { consent, cancel: &context.cancel, refusal: None }
    }

    /// Reports whether the operator agrees to what is shown.
    pub async fn agree(&mut self, question: &str, show: impl FnOnce() -> Printed) -> bool {
        match ask(self.consent, question, self.cancel, show).await {
            Ok(()) => true,
            Err(failure) => {
                self.refusal = Some(failure);
                false
            }
        }
    }

    /// The result of the verb, or a failure if there was no consent.
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

/// Asks before data are lost. Without a terminal, only `--yes` counts as consent.
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
        return Err(refused(
            "nothing was done: there is no terminal to ask on, and --yes was not given",
        ));
    }
    // Also with --quiet: an operator has to see what to agree to.
    release()?;
    show()?;
    write!(io::stderr().lock(), "{question} [y/N] ")?;
    let answer = read_line(cancel).await?;
    if matches!(answer.as_str(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(refused("nothing was done"))
    }
}
