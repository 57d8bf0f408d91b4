//! `replicate`: needs no password.

use kaleem_dr_core::{
    engine::{
        ledger::Ledger,
        replicate as library,
        replicate::{MirrorJob, MirrorOptions, MirrorReport},
    },
    ground::Exit,
    jiff::Timestamp,
    operate::{
        monitor::{Ended, EndedPart},
        tripwire::Alarms,
    },
};

use super::JobOutcome;
use crate::{
    args::Replicate,
    context::{Context, Loaded},
    failure::Failure,
    output,
};

pub async fn replicate(context: &Context, args: &Replicate) -> JobOutcome {
    let loaded = context.load()?;
    let ledger = Ledger::open(&loaded.config.settings.state_directory)?;
    // Of which repository it is, only its password would tell; so any alarm keeps deletions back.
    let alarms = Alarms::load(&loaded.config.settings.state_directory)?;
    let alarm = alarms.standing().first().map(ToString::to_string);
    let mut ended = Ended { is_recorded: true, ..Ended::from(Exit::Done) };
    for (from, to) in pairs(&loaded, args)? {
        let started = Timestamp::now();
        let (exit, message) = match pass(context, &loaded, args, &ledger, alarm.clone(), (&from, &to)).await {
            Ok(report) => {
                output::mirror(&report, context.global.json)?;
                (report.exit, report.refused.or_else(|| report.wrong.into_iter().next()).or(report.postponed))
            }
            // One mirror that fails does not keep the others from being made.
            Err(failure) => {
                output::failure(&failure, context.global.json);
                (failure.exit, Some(failure.message))
            }
        };
        let seconds = Timestamp::now().duration_since(started).as_secs_f64();
        ended.exit = worse(ended.exit, exit);
        ended.parts.push(EndedPart { name: to, exit, message, seconds });
        if context.cancel.is_cancelled() {
            ended.exit = Exit::Cancelled;
            break;
        }
    }
    Ok(ended)
}

/// One pass of one mirror. Where it cannot begin, it is in the ledger too.
async fn pass(
    context: &Context,
    loaded: &Loaded,
    args: &Replicate,
    ledger: &Ledger,
    alarm: Option<String>,
    (from, to): (&str, &str),
) -> Result<MirrorReport, Failure> {
    let options = MirrorOptions {
        dry_run: args.dry_run,
        keep_all: args.no_delete,
        delete_foreign: args.delete_foreign,
        refill: args.refill,
        max_delete_percent: args.max_delete,
        verify_percent: args.verify,
        alarm,
    };
    let stores = || -> Result<_, Failure> {
        let near = loaded.location(from)?.store()?;
        Ok((near, library::place(ledger, &loaded.location(to)?, &options)?))
    };
    let (near, far) = match stores() {
        Ok(stores) => stores,
        Err(failure) => {
            if !args.dry_run {
                let place = loaded.location(to).map_or_else(|_| to.to_owned(), |location| location.in_words());
                library::record_not_begun(ledger, &place, failure.exit, &failure.message)?;
            }
            return Err(failure);
        }
    };
    let job = MirrorJob {
        from: near,
        to: far,
        ledger: Some(ledger.clone()),
        // A password that was lost keeps nothing from being brought over.
        access: loaded.access_to(from).ok(),
        options,
    };
    Ok(library::mirror(&job, &context.progress, &context.cancel).await?)
}

/// The first that went wrong says how it all ended.
fn worse(so_far: Exit, next: Exit) -> Exit {
    if so_far == Exit::Done { next } else { so_far }
}

/// Which repository goes where, by their names.
pub(super) fn pairs(loaded: &Loaded, args: &Replicate) -> Result<Vec<(String, String)>, Failure> {
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
