//! One function a command.

mod alarm;
mod backup;
pub mod checklist;
mod config;
mod copy;
pub mod doctor;
mod export;
mod keep;
mod key;
mod look;
mod r2;
mod replicate;
mod restore;
mod verify;

use kaleem_dr_core::exit::Exit;

use crate::{args::Command, context::Context, failure::Failure};

/// How a command ends when it does not fail.
pub type Outcome = Result<Exit, Failure>;

/// Runs a command.
pub async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Init { repository_version, copy_chunker_params } => {
            keep::init(&context, repository_version, copy_chunker_params.as_deref()).await
        }
        Command::Backup { sources, tags, dry_run } => backup::backup(&context, &sources, tags, dry_run).await,
        Command::Snapshots { source, run, own } => look::snapshots(&context, source.as_ref(), run, own).await,
        Command::Points => look::points(&context).await,
        Command::Restore(args) => restore::restore(&context, args).await,
        Command::Export(args) => export::export(&context, &args).await,
        Command::Verify(args) => verify::verify(&context, &args).await,
        Command::Replicate(args) => replicate::replicate(&context, &args).await,
        Command::Repair(args) => replicate::repair(&context, &args).await,
        Command::History { last } => look::history(&context, last),
        Command::Forget(args) => keep::forget(&context, &args).await,
        Command::Prune { consent, instant, max_unused } => keep::prune(&context, consent, instant, max_unused).await,
        Command::Copy(args) => copy::copy(&context, &args).await,
        Command::Key { command } => key::key(&context, &command).await,
        Command::Alarm { command } => alarm::alarm(&context, &command),
        Command::Check { read_data, read_data_subset } => keep::check(&context, read_data, read_data_subset).await,
        Command::Stats => look::stats(&context).await,
        Command::Status => look::status(&context).await,
        Command::Doctor(args) => doctor::doctor(&context, &args).await,
        Command::Checklist(args) => checklist::checklist(&context, &args).await,
        Command::Probe => look::probe(&context).await,
        Command::R2 { command } => r2::r2(&context, &command).await,
        Command::Config { command } => config::config(&context, command),
        Command::Completions { shell } => Ok(config::completions(shell)),
        Command::Man => config::man(),
    }
}
