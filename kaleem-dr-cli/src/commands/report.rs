//! `report`, and the files that `drill` writes.

use std::{fs, path::PathBuf};

use clap::Args;
use kaleem_dr_core::{
    Site,
    ground::{Exit, language::Language},
    operate::{document::Chained, report::ProofReport},
};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr report --html proof.html              the newest drill, as HTML
  kaleem-dr report 01J9 --markdown proof.md --lang ar
  kaleem-dr report                                the newest drill, as Markdown on standard output";

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Drill, by id prefix [default: the newest]
    pub run: Option<String>,
    #[command(flatten)]
    pub to: ReportFiles,
}

/// Destinations and language of a proof report.
#[derive(Debug, Args)]
pub struct ReportFiles {
    /// Write the report as one self-contained HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Language of the report: en or ar
    #[arg(long, value_name = "LANG", default_value = "en", value_parser = crate::values::language(), hide_possible_values = true)]
    pub lang: Language,
}

pub fn report(context: &Context, args: &Report) -> Outcome {
    let site = context.load()?;
    let report = site.proof_report(args.run.as_deref())?;
    write(&report, &args.to)?;
    if context.global.json {
        document(&Chained::from(&report))?;
    } else if args.to.html.is_none() && args.to.markdown.is_none() {
        line(report.to_markdown(args.to.lang).trim_end())?;
    }
    for broken in report.broken_links() {
        tracing::error!("{broken}");
    }
    Ok(report.exit())
}

/// Writes the requested report files, of a given drill or of the newest.
pub fn write_files(site: &Site, run: &str, to: &ReportFiles) -> Result<(), Failure> {
    if to.html.is_none() && to.markdown.is_none() {
        return Ok(());
    }
    write(&site.proof_report(Some(run))?, to)
}

fn write(report: &ProofReport, to: &ReportFiles) -> Result<(), Failure> {
    let html = to.html.iter().map(|path| (path, report.to_html(to.lang)));
    let markdown = to.markdown.iter().map(|path| (path, report.to_markdown(to.lang)));
    for (path, text) in html.chain(markdown) {
        fs::write(path, text)
            .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))?;
    }
    Ok(())
}
