//! One file per command: its arguments, what it runs, and what it prints.

pub mod alarm;
pub mod backup;
pub mod bootstrap;
pub mod check;
pub mod checklist;
pub mod completions;
pub mod config;
pub mod config_init;
pub mod copy;
pub mod diff;
pub mod doctor;
pub mod drill;
pub mod dump;
pub mod export;
pub mod find;
pub mod fleet;
pub mod forget;
pub mod history;
pub mod init;
mod job;
pub mod key;
pub mod ls;
pub mod man;
pub mod metrics;
pub mod migrate;
pub mod mount;
pub mod notify;
pub mod oplog;
pub mod points;
mod probe;
pub mod prune;
pub mod r2;
pub mod recover;
pub mod repair;
pub mod replicate;
pub mod report;
pub mod restore;
pub mod runbook;
pub mod schedule;
pub mod serve;
pub mod snapshot;
pub mod snapshots;
mod stats;
pub mod status;
pub mod unlock;
pub mod verify;

use clap::CommandFactory as _;
use kaleem_dr_core::{ground::Exit, operate::monitor::Ended};

use crate::{
    cli::{Cli, Command},
    context::Context,
    failure::Failure,
    output, signals,
};

/// The result of a command: its exit status, or a failure.
pub type Outcome = Result<Exit, Failure>;

/// The result of a command that is a job: what the ledger and the monitor record.
pub type JobOutcome = Result<Ended, Failure>;

/// Runs a command. Jobs are watched from here, so that each end of one is recorded and notified.
pub async fn run(command: Command, context: Context) -> Outcome {
    if context.global.no_lock && !only_reads(&command) {
        return Err(Failure::usage(
            "--no-lock works with commands that only read: this one writes and needs a lock",
        ));
    }
    let job = job::of(&command, &context)?;
    // With --quiet, a job that ends well prints nothing, unless JSON is requested.
    if context.global.quiet && !context.global.json && job.is_some() {
        output::hold();
    }
    let work = Box::pin(uncancelled(&context, dispatch(command, &context)));
    let outcome = match job {
        Some((site, job)) => job::watched(&site, job, work).await,
        None => work.await.map(|ended| ended.exit),
    };
    if !matches!(outcome, Ok(Exit::Done)) {
        output::release()?;
    }
    outcome
}

/// Reports whether a command writes nothing to a repository.
fn only_reads(command: &Command) -> bool {
    use Command::{
        Check, Diff, Doctor, Drill, Dump, Export, Find, Fleet, Ls, Points, Restore, Runbook, Serve,
        Snapshots, Stats, Status, Verify,
    };
    matches!(
        command,
        Check(_)
            | Diff(_)
            | Doctor(_)
            | Drill(_)
            | Dump(_)
            | Export(_)
            | Find(_)
            | Fleet { .. }
            | Ls(_)
            | Points(_)
            | Restore(_)
            | Runbook(_)
            | Serve(_)
            | Snapshots(_)
            | Stats
            | Status(_)
            | Verify(_)
    )
}

/// A cancelled command exits as cancelled, unless it had finished already: what it could not read
/// because of the cancellation is not damage.
async fn uncancelled(context: &Context, work: impl Future<Output = JobOutcome>) -> JobOutcome {
    match signals::within(signals::WORK, &context.cancel, work).await {
        Ok(ended) if ended.exit == Exit::Done => Ok(ended),
        outcome if !context.cancel.is_cancelled() => outcome,
        Ok(mut ended) => {
            ended.exit = Exit::Cancelled;
            Ok(ended)
        }
        Err(_) => Err(Failure::cancelled()),
    }
}

async fn dispatch(command: Command, context: &Context) -> JobOutcome {
    Ok(match command {
        Command::Bootstrap(args) => bootstrap::bootstrap(context, &args).await?.into(),
        Command::Recover(args) => recover::recover(context, &args).await?,
        Command::Init(args) => init::init(context, &args).await?.into(),
        Command::Backup(args) => backup::backup(context, &args).await?,
        Command::Snapshots(args) => snapshots::snapshots(context, &args).await?.into(),
        Command::Points(args) => points::points(context, args).await?.into(),
        Command::Ls(args) => ls::ls(context, &args).await?.into(),
        Command::Find(args) => find::find(context, &args).await?.into(),
        Command::Dump(args) => dump::dump(context, &args).await?.into(),
        Command::Diff(args) => diff::diff(context, &args).await?.into(),
        Command::Restore(args) => restore::restore(context, args).await?.into(),
        Command::Export(args) => export::export(context, &args).await?.into(),
        Command::Verify(args) => verify::verify(context, &args).await?,
        Command::Drill(args) => drill::drill(context, &args).await?,
        Command::Report(args) => report::report(context, &args)?.into(),
        Command::Oplog(args) => oplog::oplog(context, &args).await?.into(),
        Command::Runbook(args) => runbook::runbook(context, &args)?.into(),
        Command::Replicate(args) => replicate::replicate(context, &args).await?,
        Command::Repair(args) => repair::repair(context, &args).await?,
        Command::Fleet { command } => fleet::fleet(context, &command).await?.into(),
        Command::History(args) => history::history(context, args).await?.into(),
        Command::Forget(args) => forget::forget(context, &args).await?,
        Command::Prune(args) => prune::prune(context, &args).await?,
        Command::Unlock(args) => unlock::unlock(context, args).await?.into(),
        Command::Copy(args) => copy::copy(context, &args).await?,
        Command::Key { command } => key::key(context, &command).await?.into(),
        Command::Alarm { command } => alarm::alarm(context, &command).await?.into(),
        Command::Check(args) => check::check(context, &args).await?,
        Command::Stats => stats::stats(context).await?.into(),
        Command::Mount(args) => mount::mount(context, &args).await?.into(),
        Command::Serve(args) => serve::serve(context, &args).await?.into(),
        Command::Status(args) => status::status(context, args).await?.into(),
        Command::Snapshot { command } => snapshot::snapshot(context, &command).await?.into(),
        Command::Doctor(args) => doctor::doctor(context, &args).await?.into(),
        Command::Checklist(args) => checklist::checklist(context, &args).await?.into(),
        Command::Probe => probe::probe(context).await?.into(),
        Command::Notify(args) => notify::notify(context, &args).await?.into(),
        Command::Metrics(args) => metrics::metrics(context, args)?.into(),
        Command::R2 { command } => r2::r2(context, &command).await?.into(),
        Command::Schedule { command } => schedule::schedule(context, &command).await?.into(),
        Command::Migrate(args) => migrate::migrate(context, &args).await?.into(),
        Command::Config { command } => config::config(context, command).await?.into(),
        Command::Completions(args) => completions::completions(args)?.into(),
        Command::Man(args) => man::man(Cli::command(), &args)?.into(),
    })
}
