//! `verify`.

use std::path::PathBuf;

use clap::Args;
use kaleem_dr_core::{
    ground::{ProofLevel, RunId, SourceName},
    operate::{document::VerificationLine, monitor::Ended, site::Verification},
    recovery::verify::VerifyReport,
};

use super::JobOutcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line},
    point::At,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr verify                                newest point of every source, each format checked
  kaleem-dr verify mongo --level restored         loaded into a scratch database, compared, removed
  kaleem-dr verify --snapshot 4f3a --level readable
  kaleem-dr verify mongo --from mongo.archive.gz";

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Sources to verify [default: all]
    pub sources: Vec<SourceName>,
    /// Run or snapshot to verify, by id prefix, or `latest~1`
    #[arg(long, value_name = "ID", default_value = "latest")]
    pub point: String,
    #[command(flatten)]
    pub at: At,
    /// Verify a single snapshot, even one made by another program
    #[arg(long, value_name = "ID", conflicts_with_all = ["sources", "point", "at", "from"])]
    pub snapshot: Option<String>,
    /// Verify this staged file of the given source
    #[arg(long, value_name = "FILE", conflicts_with_all = ["point", "at"])]
    pub from: Option<PathBuf>,
    /// Level to prove: stored, readable, parsed or restored [default: parsed; readable for other
    /// programs' snapshots]
    #[arg(long, value_name = "LEVEL", value_parser = crate::values::level(), hide_possible_values = true)]
    pub level: Option<ProofLevel>,
}

impl Verify {
    pub fn options(&self, run: RunId) -> Verification {
        let mut options = Verification::of(self.sources.clone());
        (options.run, options.level) = (Some(run), self.level);
        (options.point, options.snapshot) = (self.at.of(&self.point), self.snapshot.clone());
        options
    }
}

pub async fn verify(context: &Context, args: &Verify) -> JobOutcome {
    let site = context.load()?;
    let reports = match &args.from {
        Some(path) => {
            let level = args.level.unwrap_or(ProofLevel::Parsed);
            vec![site.verify_file(the_one(&args.sources)?, path, level).await?]
        }
        None => site.verify(args.options(context.run)).await?,
    };
    print(&reports, context.global.json)?;
    Ok(Ended::from(reports.as_slice()))
}

fn the_one(sources: &[SourceName]) -> Result<&SourceName, Failure> {
    let [name] = sources else {
        return Err(Failure::usage(
            "name the one source that the file belongs to: `kaleem-dr verify mongo --from FILE`",
        ));
    };
    Ok(name)
}

/// Prints the result for each point.
pub fn print(reports: &[VerifyReport], json: bool) -> Printed {
    for report in reports {
        if json {
            document(&VerificationLine::from(report))?;
            continue;
        }
        if let Some(untried) = &report.error {
            line(&format!("NOT VERIFIED: {}", untried.why))?;
            continue;
        }
        let of = report.source.as_ref().map_or_else(String::new, |source| format!(" of {source}"));
        let proven = report.proven.map_or("NOTHING", ProofLevel::as_str);
        let wanted = match report.held {
            _ if report.is_proven() => String::new(),
            Some(held) => format!("; its existing parts are {held}, but the point is incomplete"),
            None => format!("; {} was requested", report.wanted),
        };
        line(&format!(
            "{}{of}: {proven} is proven{wanted}, in {:.1} s",
            report.point, report.seconds
        ))?;
        report.checked.iter().try_for_each(|what| line(&format!("  {what}")))?;
        report.findings.iter().try_for_each(|finding| line(&format!("  {finding}")))?;
    }
    Ok(())
}
