//! `replicate` and `repair`: what needs no password.

use std::sync::Arc;

use kaleem_dr_core::{
    exit::Exit,
    ledger::Ledger,
    replicate::{self as library, MirrorJob, MirrorOptions, RepairOptions},
    repository::store::ObjectStore,
    tripwire::Alarms,
};

use super::Outcome;
use crate::{
    args::{Repair, Replicate},
    context::{Context, Loaded},
    failure::Failure,
    output,
};

pub async fn replicate(context: &Context, args: &Replicate) -> Outcome {
    let loaded = context.load()?;
    let ledger = Ledger::open(&loaded.config.settings.state_directory)?;
    // Of which repository it is, only its password would tell; so any alarm keeps deletions back.
    let alarms = Alarms::load(&loaded.config.settings.state_directory)?;
    let alarm = alarms.standing().first().map(ToString::to_string);
    let mut worst = Exit::Done;
    for (from, to) in pairs(&loaded, args)? {
        let job = MirrorJob {
            from: loaded.location(&from)?.store()?,
            to: loaded.location(&to)?.store_to_fill()?,
            ledger: Some(ledger.clone()),
            options: MirrorOptions {
                dry_run: args.dry_run,
                keep_all: args.no_delete,
                delete_foreign: args.delete_foreign,
                max_delete_percent: args.max_delete,
                verify_percent: args.verify,
                alarm: alarm.clone(),
            },
        };
        match library::mirror(&job, &context.progress, &context.cancel).await {
            Ok(report) => {
                output::mirror(&report, context.global.json)?;
                worst = worse(worst, report.exit);
            }
            // One mirror that fails does not keep the others from being made.
            Err(error) => {
                let failure = Failure::from(error);
                worst = worse(worst, failure.exit);
                output::failure(&failure, context.global.json);
            }
        }
        if context.cancel.is_cancelled() {
            return Ok(Exit::Cancelled);
        }
    }
    Ok(worst)
}

pub async fn repair(context: &Context, args: &Repair) -> Outcome {
    let loaded = context.load()?;
    let (name, _) = context.chosen(&loaded)?;
    let repository: Arc<dyn ObjectStore> = loaded.location(name)?.store()?;
    let replica = loaded.location(&args.from)?.store()?;
    let options = RepairOptions { dry_run: args.dry_run, missing: args.missing };
    let report = library::repair(&repository, &replica, options, &context.progress, &context.cancel).await?;
    output::repair(&report, context.global.json)?;
    Ok(report.exit)
}

/// The first that went wrong says how it all ended.
fn worse(so_far: Exit, next: Exit) -> Exit {
    if so_far == Exit::Done { next } else { so_far }
}

/// Which repository goes where, by their names.
fn pairs(loaded: &Loaded, args: &Replicate) -> Result<Vec<(String, String)>, Failure> {
    if let (Some(from), Some(to)) = (&args.from, &args.to) {
        return Ok(vec![(from.clone(), to.clone())]);
    }
    let all = &loaded.config.settings.repository;
    let mut pairs = Vec::new();
    for (name, repository) in all {
        if let Some(of) = &repository.mirror_of
            && (args.mirrors.is_empty() || args.mirrors.contains(name))
        {
            pairs.push((of.clone(), name.clone()));
        }
    }
    if let Some(unknown) = args.mirrors.iter().find(|name| !pairs.iter().any(|(_, to)| to == *name)) {
        return Err(Failure::usage(format!("{} has no [repository.{unknown}] with `mirror_of`", loaded.path.display())));
    }
    if pairs.is_empty() {
        let mut failure =
            Failure::usage(format!("no repository in {} has `mirror_of`: there is nothing to replicate", loaded.path.display()));
        failure.advice = Some("write `mirror_of = \"local\"` into the mirror's table, or say --from and --to".into());
        return Err(failure);
    }
    Ok(pairs)
}
