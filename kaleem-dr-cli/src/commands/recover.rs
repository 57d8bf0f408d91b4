//! `recover`.

use clap::Args;
use kaleem_dr_core::{
    ground::{ProofLevel, RunId, SourceName},
    operate::{
        monitor::Ended,
        recover::{self, Forecast, PlannedSource, RecoveryPlan, RecoveryReport, RepositoryFrom},
        report::duration,
    },
    recovery::change_log::Moment,
};

use super::{
    JobOutcome,
    report::{ReportFiles, write_files},
    restore::{moment, print_changes},
};
use crate::{
    consent::{Asking, Consent},
    context::Context,
    output::{self, Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr recover --dry-run                     the plan: what, from which point, onto what, how long
  kaleem-dr recover                               everything, over the live data, after one confirmation
  kaleem-dr recover --beside                      everything, next to the live data
  kaleem-dr recover --only mongo --point 01J9     one source, from an older run
A recovery that was interrupted continues when it is run again. Exit 3: something is left to do; its commands are printed.";

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub struct Recover {
    /// Recover only this source; repeatable
    #[arg(long, value_name = "SOURCE")]
    pub only: Vec<SourceName>,
    /// Restore next to the live data, and create no repositories
    #[arg(long)]
    pub beside: bool,
    /// Run whose points to restore, by id prefix [default: the newest with all sources]
    #[arg(long, value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Restore sources with a change log to the state just before this moment, and others to their
    /// newest point before it
    #[arg(long, value_name = "TIME", conflicts_with = "point", value_parser = moment)]
    pub to_time: Option<Moment>,
    /// Recover again what an earlier recovery has recovered
    #[arg(long)]
    pub again: bool,
    #[command(flatten)]
    pub to: ReportFiles,
    #[command(flatten)]
    pub consent: Consent,
}

impl Recover {
    /// The options that these arguments set.
    pub fn options(&self, run: RunId) -> recover::Recover {
        let mut wanted =
            if self.beside { recover::Recover::beside() } else { recover::Recover::in_place() };
        wanted.run = Some(run);
        wanted.only.clone_from(&self.only);
        wanted.point.clone_from(&self.point);
        wanted.moment = self.to_time;
        (wanted.again, wanted.dry_run) = (self.again, self.consent.dry_run);
        wanted.overwrite_unplanned = self.consent.yes;
        wanted
    }
}

pub async fn recover(context: &Context, args: &Recover) -> JobOutcome {
    let site = context.load()?;
    let mut asking = Asking::new(context, args.consent);
    let mut shown = None;
    let agree = async |plan: &RecoveryPlan| {
        if args.consent.dry_run {
            shown = Some(print_plan(plan, context.global.json));
            return false;
        }
        let agreed =
            !plan.overwrites() || asking.agree(&question(plan), || print_plan(plan, false)).await;
        if agreed {
            output::notes(&plan.notes);
        }
        agreed
    };
    let done = site.recover(&args.options(context.run), agree).await;
    if let (Some(printed), Ok(None)) = (shown, &done) {
        printed?;
        return Ok(kaleem_dr_core::Exit::Done.into());
    }
    let report = asking.given(done)?;
    write_files(&site, &report.results.run.to_string(), &args.to)?;
    print(&report, context.global.json)?;
    Ok(Ended::from(&report))
}

fn question(plan: &RecoveryPlan) -> String {
    let targets: Vec<String> = plan
        .overwritten()
        .filter_map(|planned| {
            Some(format!("{} ({})", planned.source, planned.plan.as_ref()?.target))
        })
        .collect();
    format!("overwrite what is in {}?", targets.join(", "))
}

fn print_plan(plan: &RecoveryPlan, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(plan)?;
        value["message_type"] = "plan".into();
        return document(&value);
    }
    let how = if plan.in_place { "over the live data" } else { "next to the live data" };
    line(&format!("recover from {} ({}), {how}", plan.repository, plan.location))?;
    for repository in &plan.repositories {
        let from = match repository.from {
            RepositoryFrom::Mirror => "object by object",
            RepositoryFrom::Copy => "with these points",
        };
        let size = repository.size_bytes.map(|bytes| format!(", {}", size(bytes)));
        let time = repository.forecast.as_ref().map(|forecast| format!(", {}", expected(forecast)));
        line(&format!(
            "  CREATE    repository {} ({}), {from}{}{}",
            repository.name,
            repository.location,
            size.unwrap_or_default(),
            time.unwrap_or_default()
        ))?;
    }
    plan.sources.iter().try_for_each(print_planned)?;
    plan.notes.iter().try_for_each(|note| line(&format!("note: {note}")))?;
    line(&match &plan.forecast {
        Some(forecast) => format!("expected duration: {}", expected(forecast)),
        None => "expected duration: unknown, because not every source was measured by a drill"
            .to_owned(),
    })
}

fn expected(forecast: &Forecast) -> String {
    format!("{} ± {:.0} %", duration(forecast.seconds), forecast.error_percent)
}

fn print_planned(planned: &PlannedSource) -> Printed {
    let name = &planned.source;
    if planned.is_recovered {
        return line(&format!("{name} ({}): recovered already", planned.kind));
    }
    let after: Vec<&str> = planned.after.iter().map(SourceName::as_str).collect();
    let after =
        if after.is_empty() { String::new() } else { format!(", after {}", after.join(", ")) };
    let of = planned
        .consistent_at
        .map(|at| format!(" as of {}", output::moment(at)))
        .unwrap_or_default();
    let snapshot =
        planned.snapshot.map(|id| format!("snapshot {}", id.short())).unwrap_or_default();
    let time = planned.forecast.as_ref().map(|forecast| format!(", {}", expected(forecast)));
    line(&format!(
        "{name} ({}): {snapshot}{of}, {}{}{after}",
        planned.kind,
        size(planned.size_bytes),
        time.unwrap_or_default()
    ))?;
    if let Some(plan) = &planned.plan {
        line(&format!("  → {}", plan.target))?;
        print_changes(plan)?;
    }
    match &planned.error {
        Some(error) => line(&format!("  NOT PLANNED: {error}; it is tried when its turn comes")),
        None => Ok(()),
    }
}

fn print(report: &RecoveryReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "recovery".into();
        value["exit_code"] = report.exit.code().into();
        return document(&value);
    }
    let results = &report.results;
    line(&format!("recovery {} from {}", results.run, results.repository))?;
    for repository in &report.repositories {
        let state = repository
            .error
            .as_deref()
            .map_or("filled".to_owned(), |error| format!("NOT FILLED: {error}"));
        line(&format!("  repository {}: {state}", repository.name))?;
    }
    for result in &results.sources {
        let Some(found) = &result.verification else {
            let why = result.error.as_deref().unwrap_or("unknown");
            line(&format!("  {}: NOT RECOVERED: {why}", result.source))?;
            continue;
        };
        let state = match (found.proven, found.held) {
            (Some(ProofLevel::Restored), _) => "recovered and equal",
            (_, Some(ProofLevel::Restored)) => "recovered in part; what was compared is equal",
            _ => "DIFFERS from what was captured",
        };
        let earlier = if report.earlier.contains(&result.source) { " (earlier)" } else { "" };
        line(&format!(
            "  {} ({}, {}): {state}{earlier}, in {}",
            result.source,
            found.point,
            size(found.size_bytes),
            duration(result.seconds)
        ))?;
        found.findings.iter().try_for_each(|finding| line(&format!("    {finding}")))?;
        found
            .incomplete
            .iter()
            .try_for_each(|left| line(&format!("    NOT COMPARED: {}: {}", left.what, left.why)))?;
    }
    for hook in &report.hooks {
        let status =
            hook.status.map_or("did not run".to_owned(), |status| format!("ended with {status}"));
        line(&format!("  after the recovery: {} {status}", hook.command.join(" ")))?;
    }
    report.notes.iter().try_for_each(|note| line(&format!("note: {note}")))?;
    let took = results.finished.duration_since(results.started).as_secs_f64();
    line(&format!("it took {}; report {}", duration(took), report.hash))?;
    for left in &report.left {
        line(&format!("LEFT TO DO: {}: {}", left.what, left.why))?;
        left.commands.iter().try_for_each(|command| line(&format!("    {command}")))?;
    }
    line(if report.left.is_empty() { "RECOVERED" } else { "NOT COMPLETE" })
}
