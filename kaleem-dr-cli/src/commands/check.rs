//! `check`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::{CheckReport, ReadData},
    ground::Exit,
    operate::monitor::Ended,
};
use serde_json::json;

use super::JobOutcome;
use crate::{
    context::Context,
    failure,
    output::{Printed, document, line},
};

/// How much to read.
#[derive(Debug, Args)]
pub struct Check {
    /// Read every byte
    #[arg(long)]
    pub read_data: bool,
    /// Read a share (10%), a size (500M) or a part (2/5)
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
    pub read_data_subset: Option<ReadData>,
}

pub async fn check(context: &Context, args: &Check) -> JobOutcome {
    let site = context.load()?;
    let repository = site.repository().await?;
    let read = args.read_data_subset.unwrap_or(if args.read_data {
        ReadData::All
    } else {
        ReadData::Nothing
    });
    let lock = context.lock_to_read(&repository).await?;
    let report = repository.check(read, &lock, &context.progress, &context.cancel).await;
    lock.release().await?;
    let report = report?;
    print(&report, context.global.json)?;
    let exit = if report.errors() == 0 { Exit::Done } else { Exit::NotVerified };
    let message = report
        .findings
        .iter()
        .find(|finding| finding.is_error())
        .map(|finding| finding.message.clone());
    Ok(Ended {
        message,
        ..Ended::new(exit, &json!({ "num_errors": report.errors(), "findings": report.findings }))
    })
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
