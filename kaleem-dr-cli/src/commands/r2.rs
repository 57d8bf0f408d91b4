//! `r2`: tests the bucket of a repository.

use clap::Subcommand;
use kaleem_dr_core::{
    engine::repository::BucketReport,
    ground::{Exit, diagnosis::Severity},
};

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

/// Subcommands of `r2`.
#[derive(Debug, Subcommand)]
pub enum R2Command {
    /// Test the bucket with a canary object, and read its lifecycle rules; exit 4 if a repository
    /// is not safe there
    Check,
}

pub async fn r2(context: &Context, command: &R2Command) -> Outcome {
    match command {
        R2Command::Check => {
            let report = context.load()?.check_bucket().await?;
            print(&report, context.global.json)?;
            Ok(report.exit())
        }
    }
}

fn print(report: &BucketReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "bucket".into();
        value["exit_code"] = report.exit().code().into();
        return document(&value);
    }
    line(&report.location)?;
    for finding in &report.findings {
        let verdict = match finding.severity {
            Severity::Ok => "ok",
            Severity::Information => "info",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        };
        line(&format!("  {verdict:<8}{:<16}{}", finding.id, finding.what))?;
        if let Some(advice) = &finding.fix {
            line(&format!("{:26}{advice}", ""))?;
        }
    }
    match report.exit() {
        Exit::Done => line("a repository is safe there"),
        Exit::Unreachable => line("the bucket is unreachable, or denies access"),
        _ => line("a repository is NOT safe there"),
    }
}
