//! `verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use kaleem_dr_core::{
    Site,
    ground::{ProofLevel, SourceName},
    operate::{monitor::Ended, site::Verification},
    recovery::verify::{VerifyReport, verify_point},
};

use super::{JobOutcome, export::no_form};
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr verify                                newest point of every source, each format checked
  kaleem-dr verify mongo --level restored         loaded into a scratch database, compared, removed
  kaleem-dr verify --snapshot 4f3a --level readable
  kaleem-dr verify mongo --from mongo.archive.gz";

/// What to prove, and how far.
#[derive(Debug, Args)]
pub struct Verify {
    /// Sources of the config; all of them when none is named
    pub sources: Vec<SourceName>,
    /// Run or snapshot to verify, by the beginning of its id
    #[arg(long, value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Any one snapshot, also one that another tool made
    #[arg(long, value_name = "ID", conflicts_with_all = ["sources", "point", "from"])]
    pub snapshot: Option<String>,
    /// A staged file of the one source named
    #[arg(long, value_name = "FILE", conflicts_with = "point")]
    pub from: Option<PathBuf>,
    /// stored, readable, parsed, or restored [default: parsed; of other tools' snapshots, readable]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<ProofLevel>,
}

pub async fn verify(context: &Context, args: &Verify) -> JobOutcome {
    let site = context.load()?;
    let reports = if let Some(path) = &args.from {
        vec![file(&site, args, path).await?]
    } else {
        let Verify { sources, point, snapshot, level, from: _ } = args;
        let wanted = Verification {
            run: Some(context.run),
            sources: sources.clone(),
            point: point.clone(),
            snapshot: snapshot.clone(),
            level: *level,
        };
        site.verify(wanted).await?
    };
    print(&reports, context.global.json)?;
    Ok(Ended::of_verification(&reports))
}

async fn file(site: &Site, args: &Verify, path: &Path) -> Result<VerifyReport, Failure> {
    let [name] = args.sources.as_slice() else {
        return Err(Failure::usage(
            "name the one source whose form the file has: `kaleem-dr verify mongo --from FILE`",
        ));
    };
    let source = site.source(name)?;
    let work = site.staged_work();
    let point = source.staged().ok_or_else(|| no_form(name))?.open(path, &work).await?;
    Ok(verify_point(&*source, &point, args.level.unwrap_or(ProofLevel::Parsed), &work).await?)
}

/// What was proven, of each point.
pub fn print(reports: &[VerifyReport], json: bool) -> Printed {
    for report in reports {
        if json {
            let mut value = serde_json::to_value(report)?;
            value["message_type"] = "verification".into();
            value["is_proven"] = report.is_proven().into();
            document(&value)?;
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
            Some(held) => format!("; what is there is {held}, but the point is incomplete"),
            None => format!("; {} was asked for", report.wanted),
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
