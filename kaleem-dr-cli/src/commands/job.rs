//! Maps commands to jobs, and runs jobs watched.

use std::sync::Arc;

use kaleem_dr_core::{
    Site,
    operate::monitor::{Ended, Job},
};

use super::{JobOutcome, Outcome};
use crate::{cli::Command, context::Context, failure::Failure};

/// Returns the job that a command runs, with its config; `None` for commands that only read, for
/// dry runs, and for commands outside of the routine.
pub fn of(command: &Command, context: &Context) -> Result<Option<(Arc<Site>, Job)>, Failure> {
    // A file is not a point of a repository.
    let is_of_file = matches!(command, Command::Verify(args) if args.from.is_some());
    let is_job = matches!(
        command,
        Command::Backup(_)
            | Command::Replicate(_)
            | Command::Repair(_)
            | Command::Copy(_)
            | Command::Verify(_)
            | Command::Drill(_)
            | Command::Recover(_)
            | Command::Check(_)
            | Command::Forget(_)
            | Command::Prune(_)
    );
    if !is_job || is_of_file {
        return Ok(None);
    }
    let (site, run) = (context.load()?, context.run);
    let job = match command {
        Command::Backup(args) => args.options(run).job(&site, run),
        Command::Replicate(args) => args.options(run).job(&site, run),
        Command::Repair(args) => (!args.is_dry_run()).then(|| site.repair_job(run)),
        Command::Copy(args) => args.options().job(&site, run),
        Command::Verify(args) => Some(args.options(run).job(&site, run)),
        Command::Drill(args) => Some(args.options(run).job(&site, run)),
        Command::Recover(args) => args.options(run).job(&site, run),
        Command::Check(_) => Some(site.check_job(run)),
        Command::Forget(args) => args.options(&site).job(&site, run),
        Command::Prune(args) => args.options().job(&site, run),
        _ => None,
    };
    Ok(job.map(|job| (site, job)))
}

/// Runs the work of a job, watched by the site.
pub async fn watched(site: &Site, job: Job, work: impl Future<Output = JobOutcome>) -> Outcome {
    let ended = |result: &JobOutcome| match result {
        Ok(ended) => ended.clone(),
        Err(failure) => Ended::failed(failure.exit, failure.message.clone()),
    };
    Ok(site.watched(job, work, ended).await?.exit)
}
