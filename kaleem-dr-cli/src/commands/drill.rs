//! `drill`.

use clap::Args;
use kaleem_dr_core::{
    engine::ledger::ChainedReport,
    ground::{ProofLevel, RunId, SourceName},
    operate::{document::DrillLine, monitor::Ended, report::duration, site},
    recovery::{
        change_log::Moment,
        drill::{DrillReport, SourceDrill},
    },
};

use super::{
    JobOutcome,
    report::{ReportFiles, write_files},
    restore::moment,
};
use crate::{
    context::Context,
    output::{Printed, document, line, size},
    point::At,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr drill                                 every source, from the repository `local`
  kaleem-dr drill mongo --repo r2                 one source, from another repository
  kaleem-dr drill --from-nothing                  as a new machine would: from a replica alone
  kaleem-dr drill --html proof.html --lang ar";

/// Arguments of `drill`.
#[derive(Debug, Args)]
pub struct Drill {
    /// Sources to restore [default: all]
    pub sources: Vec<SourceName>,
    /// Run or snapshot to restore, by id prefix, or `latest~1`
    #[arg(long, value_name = "ID", default_value = "latest")]
    pub point: String,
    #[command(flatten)]
    pub at: At,
    /// Restore to the state just before this moment, as with `restore --to-time`
    #[arg(long, value_name = "TIME", conflicts_with_all = ["point", "at"], value_parser = moment)]
    pub to_time: Option<Moment>,
    /// Begin with nothing but a replica, its keys and its password: set up the installation anew in
    /// a scratch root, and drill that
    #[arg(long, conflicts_with_all = ["point", "at", "to_time"])]
    pub from_nothing: bool,
    /// Level to prove: stored, readable, parsed or restored
    #[arg(long, value_name = "LEVEL", default_value_t = ProofLevel::Restored, value_parser = crate::values::level(), hide_possible_values = true)]
    pub level: ProofLevel,
    #[command(flatten)]
    pub to: ReportFiles,
}

impl Drill {
    pub fn options(&self, run: RunId) -> site::Drill {
        let mut options = site::Drill::of(self.sources.clone());
        (options.run, options.level) = (Some(run), self.level);
        options.point = self.at.of(&self.point);
        options.moment = self.to_time;
        options.from_nothing = self.from_nothing;
        options
    }
}

pub async fn drill(context: &Context, args: &Drill) -> JobOutcome {
    let site = context.load()?;
    let wanted = args.options(context.run);
    let (report, chained) = if args.from_nothing {
        site.drill_from_nothing(&wanted, &kaleem_dr_sources::kinds()).await?
    } else {
        site.drill(wanted).await?
    };
    write_files(&site, &report.run.to_string(), &args.to)?;
    print(&report, &chained, context.global.json, context.global.verbose > 0)?;
    Ok(Ended::from(&report))
}

fn print(report: &DrillReport, chained: &ChainedReport, json: bool, verbose: bool) -> Printed {
    if json {
        return document(&DrillLine::of(report, &chained.hash));
    }
    for cleared in &report.cleared {
        let of =
            cleared.source.as_ref().map_or_else(|| "nothing yet".to_owned(), ToString::to_string);
        match &cleared.error {
            None => line(&format!(
                "cleared up after a drill that was killed ({}, of {of}): {}",
                cleared.name,
                cleared.removed.join(", ")
            ))?,
            Some(why) => line(&format!(
                "LEFT OVER from a drill that was killed ({}, of {of}): {why}",
                cleared.name
            ))?,
        }
    }
    line(&format!("drill {} of {}", report.run, report.repository))?;
    for source in &report.sources {
        print_source(source, verbose)?;
    }
    if let Some(seconds) = report.setup_seconds {
        line(&format!("from nothing to a new installation in {}", duration(seconds)))?;
    }
    report.notes.iter().try_for_each(|note| line(&format!("note: {note}")))?;
    if let Some(seconds) = report.rto_seconds() {
        line(&format!("restoring all of it took {}", duration(seconds)))?;
    }
    line(&format!("report {}", chained.hash))?;
    line(if report.exit.code() == 0 { "PROVEN: restored and equal" } else { "NOT PROVEN" })
}

fn print_source(drill: &SourceDrill, verbose: bool) -> Printed {
    let Some(found) = &drill.verification else {
        return line(&format!(
            "  {}: NOT TRIED: {}",
            drill.source,
            drill.error.as_deref().unwrap_or("unknown")
        ));
    };
    let proven = found.proven.map_or("nothing", ProofLevel::as_str);
    let verdict = if found.is_proven() { "proven" } else { "NOT PROVEN" };
    line(&format!(
        "  {} ({}, {}): {verdict}; proven level: {proven}",
        drill.source,
        found.point,
        size(found.size_bytes)
    ))?;
    if verbose {
        found.checked.iter().try_for_each(|what| line(&format!("    {what}")))?;
    } else {
        line(&format!(
            "    {} checks and comparisons passed (--verbose lists them)",
            found.checked.len()
        ))?;
    }
    for finding in &found.findings {
        line(&format!("    {finding}"))?;
    }
    if let Some(control) = &found.control {
        let seen = control
            .found
            .first()
            .map_or("NOTHING: the drill itself is broken".to_owned(), |difference| {
                format!("red, as it must be: {}", difference.what)
            });
        line(&format!("    negative control: {} -> {seen}", control.damage))?;
    }
    if let Some(seconds) = found.restore_seconds {
        let forecast = drill
            .rto_forecast_seconds
            .map(|seconds| format!("; forecast for today's size {}", duration(seconds)));
        line(&format!(
            "    restored and compared in {}{}",
            duration(seconds),
            forecast.unwrap_or_default()
        ))?;
    }
    Ok(())
}
