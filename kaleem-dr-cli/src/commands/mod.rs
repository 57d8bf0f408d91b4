//! One function a command.

mod alarm;
mod backup;
pub mod checklist;
mod config;
mod copy;
pub mod doctor;
pub mod drill;
mod export;
pub mod forget;
mod job;
mod keep;
mod key;
mod look;
pub mod metrics;
pub mod migrate;
pub mod notify;
mod r2;
mod repair;
mod replicate;
pub mod report;
mod restore;
pub mod runbook;
pub mod schedule;
mod unlock;
mod verify;

use kaleem_dr_core::{ground::Exit, operate::monitor::Ended};

use crate::{args::Command, context::Context, failure::Failure, signals};

/// How a command ends when it does not fail.
pub type Outcome = Result<Exit, Failure>;

/// How a command that is a job ends when it does not fail: with what it tells the ledger and the monitor.
pub type JobOutcome = Result<Ended, Failure>;

/// Runs a command. What is a job is watched from here, so that however it ends, it is recorded and told.
pub async fn run(command: Command, context: Context) -> Outcome {
    if context.global.no_lock && !only_reads(&command) {
        return Err(Failure::usage("--no-lock is for commands that only read: this one writes, and must lock"));
    }
    let job = job::of(&command, &context)?;
    let work = Box::pin(uncancelled(&context, dispatch(command, &context)));
    match job {
        Some((loaded, job)) => job::watched(&context, &loaded, job, work).await,
        None => Ok(work.await?.exit),
    }
}

/// Whether a command writes nothing into a repository.
fn only_reads(command: &Command) -> bool {
    use Command::{Check, Doctor, Drill, Export, Points, Restore, Runbook, Snapshots, Stats, Status, Verify};
    matches!(
        command,
        Check { .. }
            | Doctor(_)
            | Drill(_)
            | Export(_)
            | Points
            | Restore(_)
            | Runbook(_)
            | Snapshots { .. }
            | Stats
            | Status { .. }
            | Verify(_)
    )
}

/// A cancelled command ends as cancelled, unless it was done before it heard of it: what it could not read any more is no damage.
async fn uncancelled(context: &Context, work: impl Future<Output = JobOutcome>) -> JobOutcome {
    match signals::within(signals::WORK, &context.cancel, work).await {
        Ok(ended) if ended.exit == Exit::Done => Ok(ended),
        outcome if !context.cancel.is_cancelled() => outcome,
        Ok(ended) => Ok(Ended { exit: Exit::Cancelled, ..ended }),
        Err(_) => Err(Failure::cancelled()),
    }
}

async fn dispatch(command: Command, context: &Context) -> JobOutcome {
    Ok(match command {
        Command::Init { repository_version, copy_chunker_params } => {
            keep::init(context, repository_version, copy_chunker_params.as_deref()).await?.into()
        }
        Command::Backup { sources, tags, dry_run } => backup::backup(context, &sources, tags, dry_run).await?,
        Command::Snapshots { source, run, own } => look::snapshots(context, source.as_ref(), run, own).await?.into(),
        Command::Points => look::points(context).await?.into(),
        Command::Restore(args) => restore::restore(context, args).await?.into(),
        Command::Export(args) => export::export(context, &args).await?.into(),
        Command::Verify(args) => verify::verify(context, &args).await?,
        Command::Drill(args) => drill::drill(context, &args).await?,
        Command::Report(args) => report::report(context, &args)?.into(),
        Command::Runbook(args) => runbook::runbook(context, &args)?.into(),
        Command::Replicate(args) => replicate::replicate(context, &args).await?,
        Command::Repair(args) => repair::repair(context, &args).await?,
        Command::History { last, rebuild: true } => look::rebuild_history(context, last).await?.into(),
        Command::History { last, rebuild: false } => look::history(context, last)?.into(),
        Command::Forget(args) => forget::forget(context, &args).await?,
        Command::Prune { consent, instant, max_unused } => keep::prune(context, consent, instant, max_unused).await?,
        Command::Unlock { consent, remove_all } => unlock::unlock(context, consent, remove_all).await?.into(),
        Command::Copy(args) => copy::copy(context, &args).await?,
        Command::Key { command } => key::key(context, &command).await?.into(),
        Command::Alarm { command } => alarm::alarm(context, &command).await?.into(),
        Command::Check { read_data, read_data_subset } => keep::check(context, read_data, read_data_subset).await?,
        Command::Stats => look::stats(context).await?.into(),
        Command::Status { all_hosts: true } => look::hosts(context).await?.into(),
        Command::Status { all_hosts: false } => look::status(context).await?.into(),
        Command::Snapshot { command } => forget::snapshot(context, &command).await?.into(),
        Command::Doctor(args) => doctor::doctor(context, &args).await?.into(),
        Command::Checklist(args) => checklist::checklist(context, &args).await?.into(),
        Command::Probe => look::probe(context).await?.into(),
        Command::Notify(args) => notify::notify(context, &args).await?.into(),
        Command::Metrics(args) => metrics::metrics(context, args)?.into(),
        Command::R2 { command } => r2::r2(context, &command).await?.into(),
        Command::Schedule { command } => schedule::schedule(context, &command).await?.into(),
        Command::Migrate(args) => migrate::migrate(context, &args).await?.into(),
        Command::Config { command } => config::config(context, command)?.into(),
        Command::Completions { shell } => config::completions(shell).into(),
        Command::Man => config::man()?.into(),
    })
}
