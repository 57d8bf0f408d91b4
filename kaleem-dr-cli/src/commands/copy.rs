//! `copy`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::CopyReport,
    ground::SourceName,
    operate::{monitor::Ended, site::Copying},
};

use super::JobOutcome;
use crate::{
    context::Context,
    output::{Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr copy --to r2                          everything that r2 does not have yet
  kaleem-dr copy --to r2 --source mongo 4f3a      one snapshot of mongo
  kaleem-dr --repo r2 copy --to local             the other way round";

/// Arguments of `copy`.
#[derive(Debug, Args)]
pub struct CopySnapshots {
    /// Repository of the config to copy to
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// Copy only snapshots of this source; may be repeated
    #[arg(long = "source", value_name = "SOURCE")]
    pub sources: Vec<SourceName>,
    /// Copy only these snapshots, by id prefix, or `latest` [default: all]
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Show what would be copied; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

impl CopySnapshots {
    pub fn options(&self) -> Copying {
        let mut options = Copying::to(&self.to);
        (options.sources, options.snapshots) = (self.sources.clone(), self.snapshots.clone());
        options.dry_run = self.dry_run;
        options
    }
}

pub async fn copy(context: &Context, args: &CopySnapshots) -> JobOutcome {
    let report = context.load()?.copy(&args.options()).await?;
    print(&report, &args.to, context.global.json)?;
    Ok(Ended::from(&report))
}

fn print(report: &CopyReport, to: &str, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        value["repository"] = to.into();
        return document(&value);
    }
    let (copied, would) = if report.dry_run { ("would be copied", "") } else { ("copied", "as ") };
    for snapshot in &report.copied {
        let source =
            snapshot.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        let id = snapshot.snapshot.map(|id| id.short()).unwrap_or_default();
        line(format!("  {}{source} {would}{id}", snapshot.from.short()).trim_end())?;
    }
    for failure in &report.failed {
        let source =
            failure.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        line(&format!(
            "error: {}{source} is not copied: {}",
            failure.snapshot.short(),
            failure.error
        ))?;
    }
    if report.chunkers_differ {
        line(CHUNKERS_DIFFER)?;
    }
    line(&format!(
        "{} snapshots {copied} to {to}, {} existed already, {} failed; added {}",
        report.copied.len(),
        report.skipped.len(),
        report.failed.len(),
        size(report.added_bytes)
    ))
}

const CHUNKERS_DIFFER: &str = "note: the two repositories have different chunker parameters, so copied data are not deduplicated against \
data that were saved there directly; `init --copy-chunker-params` creates a repository with the same parameters";
