//! `check`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::{CheckReport, ReadData},
    operate::monitor::Ended,
};
use serde_json::json;

use super::JobOutcome;
use crate::{
    context::Context,
    failure,
    output::{Printed, document, line},
};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Read every byte of the repository
    #[arg(long)]
    pub read_data: bool,
    /// Read a share (10%), a size (500M) or a part (2/5) of the data
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
    pub read_data_subset: Option<ReadData>,
}

pub async fn check(context: &Context, args: &Check) -> JobOutcome {
    let all = if args.read_data { ReadData::All } else { ReadData::Nothing };
    let report = context.load()?.check(args.read_data_subset.unwrap_or(all)).await?;
    print(&report, context.global.json)?;
    Ok(Ended::from(&report))
}

fn print(report: &CheckReport, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "summary",
            "num_errors": report.errors(),
            "findings": report.findings,
            "remedies": report.remedies,
        }));
    }
    report.findings.iter().try_for_each(|finding| line(&finding.to_string()))?;
    report
        .remedies
        .iter()
        .try_for_each(|remedy| line(&format!("  {}", failure::remedy(*remedy))))?;
    match report.errors() {
        0 => line("no errors were found"),
        errors => line(&format!("{errors} errors were found: the repository is damaged")),
    }
}
