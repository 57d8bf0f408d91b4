//! `oplog`.

use std::time::Duration;

use clap::Args;
use kaleem_dr_core::{
    ground::{Exit, SourceName},
    operate::{
        job::SliceReport,
        site::{self, OplogRound, SiteError},
    },
};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr oplog mongo                     save a slice every five minutes, until it is stopped
  kaleem-dr oplog mongo --once              save one slice
  kaleem-dr points                          show which moments can be restored
  kaleem-dr restore mongo --to-time 2026-11-28T14:03:00Z";

/// Arguments of `oplog`.
#[derive(Debug, Args)]
pub struct Oplog {
    /// Sources whose change log is saved [default: `oplog.sources` of the config]
    pub sources: Vec<SourceName>,
    /// Save one slice of each source, and exit
    #[arg(long)]
    pub once: bool,
    /// Minutes between two slices [default: `oplog.every_minutes` of the config]
    #[arg(long, value_name = "MINUTES", conflicts_with = "once", value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub every: Option<u32>,
}

pub async fn oplog(context: &Context, args: &Oplog) -> Outcome {
    let (site, json) = (context.load()?, context.global.json);
    let wanted = site::Oplog::of(args.sources.clone());
    if args.once {
        let round = site.watch().oplog(wanted).await?;
        print(&round, json)?;
        return Ok(round.exit);
    }
    let settings = &site.config().settings.oplog;
    let every = args.every.map_or(settings.every(), |minutes| Duration::from_mins(minutes.into()));
    site.watch().follow_oplog(&wanted, every, |done| tell(done, json)).await?;
    Ok(Exit::Done)
}

/// Prints a round. A failure is printed and does not end the service.
fn tell(done: &Result<OplogRound, SiteError>, json: bool) {
    let printed = match done {
        Ok(round) => print(round, json),
        Err(error) => {
            output::failure(&Failure::from(error), json);
            Ok(())
        }
    };
    if let Err(failure) = printed {
        tracing::warn!(error = %failure.message, "the output could not be written");
    }
}

fn print(round: &OplogRound, json: bool) -> Printed {
    if json {
        return document(round);
    }
    for slice in &round.slices {
        match (&slice.report, &slice.error) {
            (Some(report), _) => print_slice(report)?,
            (None, error) => {
                line(&format!(
                    "{}  FAILED  {}",
                    slice.source,
                    error.as_deref().unwrap_or_default()
                ))?;
            }
        }
        for copies in &slice.copies {
            match &copies.error {
                Some(error) => line(&format!("  NOT COPIED to {}: {error}", copies.repository))?,
                None if copies.slices == 0 => {}
                None => line(&format!(
                    "  {} {} copied to {}, {} added",
                    copies.slices,
                    if copies.slices == 1 { "slice" } else { "slices" },
                    copies.repository,
                    size(copies.added_bytes)
                ))?,
            }
        }
    }
    Ok(())
}

fn print_slice(report: &SliceReport) -> Printed {
    let source = &report.source;
    let Some(snapshot) = report.snapshot else {
        return line(&format!("{source}  no new entries since {}", report.after.time()));
    };
    line(&format!(
        "{source}  {} to {}: {} entries, {} added, snapshot {}, read back and equal",
        report.after.time(),
        report.to.time(),
        report.entries,
        size(report.added_bytes),
        snapshot.short()
    ))?;
    if let Some(gap) = &report.gap {
        line(&format!("  GAP: {gap}"))?;
    }
    for cut in &report.breaks {
        line(&format!("  CANNOT BE REPLAYED: {}", cut.why))?;
    }
    Ok(())
}
