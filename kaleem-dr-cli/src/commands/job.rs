//! Which commands are jobs, and the one place where they are watched.

use std::sync::Arc;

use kaleem_dr_core::{
    Site,
    engine::ledger::EventKind,
    ground::SourceName,
    operate::monitor::{Ended, Job, Monitor},
};

use super::{JobOutcome, Outcome, replicate::pairs};
use crate::{cli::Command, context::Context, failure::Failure};

/// The job that a command is, with the config; `None` for what only looks, for dry runs, and for what is no part of the routine.
pub fn of(command: &Command, context: &Context) -> Result<Option<(Arc<Site>, Job)>, Failure> {
    let kind = match command {
        Command::Backup(args) if !args.dry_run => EventKind::Backup,
        Command::Replicate(args) if !args.dry_run => EventKind::Replicate,
        Command::Repair(args) if !args.is_dry_run() => EventKind::Repair,
        Command::Copy(args) if !args.dry_run => EventKind::Copy,
        // A file is no point of a repository.
        Command::Verify(args) if args.from.is_none() => EventKind::Verify,
        Command::Drill(_) => EventKind::Drill,
        Command::Check(_) => EventKind::Check,
        Command::Forget(args) if !args.consent.dry_run => EventKind::Forget,
        Command::Prune(args) if !args.consent.dry_run => EventKind::Prune,
        _ => return Ok(None),
    };
    let site = context.load()?;
    let (parts, is_narrowed) = parts(command, &site);
    let repositories: Vec<String> = match command {
        Command::Replicate(_) => parts.clone(),
        Command::Copy(args) => vec![args.to.clone()],
        // Where none can be told, the command says why.
        _ => site.chosen_repository().map(|(name, _)| name.to_owned()).into_iter().collect(),
    };
    let place = |name: String| site.location(&name).map_or(name, |location| location.in_words());
    let repositories = repositories.into_iter().map(place).collect();
    Ok(Some((site.clone(), Job { kind, run: context.run, repositories, parts, is_narrowed })))
}

/// The sources or mirrors that have a part in a job, and whether the config has more of them.
fn parts(command: &Command, site: &Site) -> (Vec<String>, bool) {
    let all = site.config().backup_sources();
    let of = |wanted: &[SourceName]| {
        let named = if wanted.is_empty() { &all[..] } else { wanted };
        (
            named.iter().map(ToString::to_string).collect(),
            !wanted.is_empty() && all.iter().any(|name| !wanted.contains(name)),
        )
    };
    match command {
        Command::Backup(args) => of(&args.sources),
        Command::Verify(args) if args.snapshot.is_some() => (Vec::new(), true),
        Command::Verify(args) => {
            let (parts, is_narrowed) = of(&args.sources);
            (parts, is_narrowed || args.point != "latest")
        }
        Command::Drill(args) => {
            let (parts, is_narrowed) = of(&args.sources);
            (parts, is_narrowed || args.point != "latest")
        }
        Command::Replicate(args) => {
            let is_narrowed = args.from.is_some() || !args.mirrors.is_empty();
            let pairs = pairs(site, &args.options()).unwrap_or_default();
            (pairs.into_iter().map(|(_, to)| to).collect(), is_narrowed)
        }
        Command::Copy(args) => (Vec::new(), !args.sources.is_empty() || !args.snapshots.is_empty()),
        _ => (Vec::new(), false),
    }
}

/// Does the work of a job; however it ends, the ledger, the metrics and whoever is told hear of it.
pub async fn watched(
    context: &Context,
    site: &Site,
    job: Job,
    work: impl Future<Output = JobOutcome>,
) -> Outcome {
    let monitor = Monitor::new(site.config(), site.environment(), context.log.clone());
    let ended = |result: &JobOutcome| match result {
        Ok(ended) => ended.clone(),
        Err(failure) => Ended::failed(failure.exit, failure.message.clone()),
    };
    let (result, recorded) = monitor.watch(job, work, ended).await;
    let exit = result?.exit;
    recorded?;
    Ok(exit)
}
