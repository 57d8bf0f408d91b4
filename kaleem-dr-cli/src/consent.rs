//! Confirmations: nothing is lost before somebody said yes.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use kaleem_dr_core::{CancellationToken, ground::Exit};

use crate::{failure::Failure, output::Printed};

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

/// Asks before something is lost. Without a terminal, only `--yes` is a yes.
pub async fn ask(
    consent: Consent,
    question: &str,
    cancel: &CancellationToken,
    show: impl FnOnce() -> Printed,
) -> Printed {
    if consent.yes {
        return Ok(());
    }
    let refused = |why: &str| {
        let mut failure = Failure::new(Exit::Refused, why);
        failure.advice =
            Some("--dry-run shows what would be done; --yes does it without asking".into());
        failure
    };
    if !io::stdin().is_terminal() {
        return Err(refused("nothing was done: there is nobody to ask, and --yes was not given"));
    }
    show()?;
    write!(io::stderr().lock(), "{question} [y/N] ")?;
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    // The thread that reads goes on until the process ends; nobody waits for it.
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
