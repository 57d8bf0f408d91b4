//! `status`.

use clap::Args;
use kaleem_dr_core::operate::{
    document::StatusLine,
    job::{Freshness, HostStatus},
    report::duration,
    site::SiteStatus,
    tripwire::{Alarm, RecordedAlarm},
};

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, age, document, line, moment, table},
};

/// Arguments of `status`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Status {
    /// Show a row for each host and source in the repository; expected hosts must exist and be
    /// fresh
    #[arg(long)]
    pub all_hosts: bool,
}

pub async fn status(context: &Context, args: Status) -> Outcome {
    if args.all_hosts { hosts(context).await } else { sources(context).await }
}

/// Prints a row for each repository and source of this host.
async fn sources(context: &Context) -> Outcome {
    let site = context.load()?;
    let status = site.status().await?;
    print_sources(&status, context.global.json)?;
    if !context.global.json {
        print_recorded(&status.recorded, &status.alarms)?;
    }
    Ok(status.exit())
}

/// Prints a row for each host and source.
async fn hosts(context: &Context) -> Outcome {
    let status = context.load()?.hosts_status().await?;
    print_hosts(&status.hosts, context.global.json)?;
    if !context.global.json {
        print_recorded(&status.recorded, &[])?;
    }
    Ok(status.exit())
}

fn print_sources(status: &SiteStatus, json: bool) -> Printed {
    if json {
        return document(&StatusLine::of(status));
    }
    let SiteStatus { sources, rto_broken, alarms, .. } = status;
    let mut rows = table([
        "repository",
        "source",
        "newest",
        "age",
        "state",
        "proven",
        "RPO",
        "RTO",
        "RTO forecast",
    ]);
    for status in sources {
        let standing = &status.standing;
        let rpo = standing.rpo_seconds.map_or_else(|| "never proven".to_owned(), age);
        rows.add_row([
            status.repository.clone(),
            standing.source.to_string(),
            status.freshness.time.map(moment).unwrap_or_default(),
            status.freshness.age_seconds.map(age).unwrap_or_default(),
            state(&status.freshness),
            standing.proven_level.map(|level| level.to_string()).unwrap_or_default(),
            if standing.rpo_broken { format!("{rpo}: TOO OLD") } else { rpo },
            standing.rto_seconds.map(duration).unwrap_or_default(),
            standing.rto_forecast_seconds.map(duration).unwrap_or_default(),
        ]);
    }
    line(&rows.to_string())?;
    if *rto_broken == Some(true) {
        line(
            "RTO: a full restore is expected to exceed `objectives.rto_hours`, or was never measured: run `kaleem-dr drill`",
        )?;
    }
    alarms.iter().try_for_each(|alarm| line(&format!("ALARM: {alarm}")))
}

fn state(freshness: &Freshness) -> String {
    let state = match (freshness.stale, freshness.whole) {
        (true, _) if freshness.time.is_none() => "NEVER BACKED UP",
        (true, false) => "STALE, and the newest is incomplete",
        (true, true) => "STALE",
        (false, false) => "incomplete",
        (false, true) => "fresh",
    };
    match freshness.future {
        Some(id) => format!("{state}; {} IS DATED IN THE FUTURE", id.short()),
        None => state.to_owned(),
    }
}

/// A table with a row for each host and source.
fn print_hosts(statuses: &[HostStatus], json: bool) -> Printed {
    if json {
        return document(&statuses);
    }
    let mut rows = table(["host", "source", "newest", "age", "state"]);
    for status in statuses {
        let freshness = status.freshness.as_ref();
        let state = freshness.map_or_else(|| "MISSING".to_owned(), state);
        rows.add_row([
            status.host.clone(),
            status.source.as_ref().map(ToString::to_string).unwrap_or_default(),
            freshness.and_then(|of| Some(moment(of.time?))).unwrap_or_default(),
            freshness.and_then(|of| Some(age(of.age_seconds?))).unwrap_or_default(),
            if status.is_expected { state } else { format!("{state} (not expected)") },
        ]);
    }
    line(&rows.to_string())
}

/// The alarms that other hosts recorded in the repository.
fn print_recorded(recorded: &[RecordedAlarm], own: &[Alarm]) -> Printed {
    let is_own = |alarm: &RecordedAlarm| {
        alarm.alarm.as_ref().is_some_and(|alarm| {
            own.iter().any(|own| own.run == alarm.run && own.source == alarm.source)
        })
    };
    recorded
        .iter()
        .filter(|alarm| !is_own(alarm))
        .try_for_each(|alarm| line(&format!("ALARM: {alarm}")))
}
