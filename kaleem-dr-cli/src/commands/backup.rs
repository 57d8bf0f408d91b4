//! `backup`.

use clap::Args;
use kaleem_dr_core::{
    ground::{RunId, SourceName},
    operate::{
        document::BackupLine,
        job::{RunReport, SecondaryReport},
        monitor::Ended,
        site,
    },
};
use serde::Serialize;

use super::{JobOutcome, prune};
use crate::{
    context::Context,
    output::{Printed, document, line, size, table},
};

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Sources to capture [default: all]
    pub sources: Vec<SourceName>,
    /// Additional tag for each snapshot; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Read everything, but write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

impl Backup {
    pub fn options(&self, run: RunId) -> site::Backup {
        let mut options = site::Backup::of(self.sources.clone());
        (options.run, options.tags, options.dry_run) = (Some(run), self.tags.clone(), self.dry_run);
        options
    }
}

pub async fn backup(context: &Context, args: &Backup) -> JobOutcome {
    let report = context.load()?.backup(args.options(context.run)).await?;
    print(&report, context.global.json)?;
    Ok(Ended::from(&report))
}

/// Prints the report of a run.
pub fn print(report: &RunReport, json: bool) -> Printed {
    if json {
        return BackupLine::of(report).iter().try_for_each(document);
    }
    print_sources(report)?;
    if let Some(forgotten) = report.forgotten {
        line(&format!("forgot {forgotten} snapshots"))?;
    }
    if let Some(prune) = &report.prune {
        line(&prune::sentence(prune))?;
    }
    if let Some(error) = &report.retention_error {
        line(&format!("error: retention: {error}"))?;
    }
    report.secondaries.iter().try_for_each(|secondary| print_secondary(report, secondary))?;
    if let Some(error) = &report.repository_error {
        line(&format!("error: repository: {error}"))?;
    }
    if let Some(error) = &report.hook_error {
        line(&format!("error: {error}"))?;
    }
    if let Some(why) = &report.unsealed {
        line(&format!("error: the snapshots lack what `bootstrap` needs: {why}"))?;
    }
    if let Some(why) = &report.withheld {
        line(&format!("ALARM: {why}"))?;
    }
    Ok(())
}

fn print_sources(report: &RunReport) -> Printed {
    let mut rows = table(["source", "snapshot", "captured", "added", "time", "consistency"]);
    for source in &report.sources {
        let snapshot = match (&source.snapshot, &source.error) {
            (_, Some(_)) => "FAILED".to_owned(),
            (Some(id), _) => id.short(),
            (None, _) => "dry run".to_owned(),
        };
        rows.add_row([
            source.source.to_string(),
            snapshot,
            size(source.size_bytes),
            size(source.added_bytes),
            format!("{:.1} s", source.seconds),
            source.consistency.map(|grade| word(&grade)).unwrap_or_default(),
        ]);
    }
    line(&format!("run {}", report.run))?;
    line(&rows.to_string())?;
    for source in &report.sources {
        if let Some(error) = &source.error {
            line(&format!("error: {error}"))?;
        }
        if let Some(healed) = &source.healed {
            line(&format!("warning: source {}: {healed}", source.source))?;
        }
        if let Some(error) = &source.hook_error {
            line(&format!("error: source {}: {error}", source.source))?;
        }
        if let Some(error) = &source.staged_error {
            line(&format!(
                "error: source {}: its snapshot is saved, but its staged file is missing: {error}",
                source.source
            ))?;
        }
        if let Some(staged) = &source.staged {
            line(&format!(
                "staged {} of {} as {}",
                size(staged.size_bytes),
                source.source,
                staged.path.display()
            ))?;
        }
        for left_out in source.incomplete.iter().take(20) {
            line(&format!("left out of {}: {}: {}", source.source, left_out.what, left_out.why))?;
        }
        if source.incomplete.len() > 20 {
            line(&format!(
                "left out of {}: {} more; the manifest lists them all",
                source.source,
                source.incomplete.len() - 20
            ))?;
        }
    }
    Ok(())
}

fn print_secondary(report: &RunReport, secondary: &SecondaryReport) -> Printed {
    let name = &secondary.repository;
    let copied = report.sources.iter().flat_map(|source| &source.copies);
    let copied = copied.filter(|copy| copy.repository == *name && copy.snapshot.is_some()).count();
    line(&format!("{name}: {copied} snapshots, added {}", size(secondary.added_bytes)))?;
    if let Some(forgotten) = secondary.forgotten {
        line(&format!("{name}: forgot {forgotten} snapshots"))?;
    }
    if let Some(prune) = &secondary.prune {
        line(&format!("{name}: {}", prune::sentence(prune)))?;
    }
    if let Some(error) = &secondary.error {
        line(&format!("error: repository {name}: {error}"))?;
    }
    if let Some(error) = &secondary.retention_error {
        line(&format!("error: repository {name}: retention: {error}"))?;
    }
    Ok(())
}

/// The name of a unit variant in JSON.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
