//! `doctor`.

use std::path::PathBuf;

use clap::Args;
use kaleem_dr_core::{
    ground::{
        Exit,
        diagnosis::{Diagnosis, Severity},
    },
    operate::{
        doctor::{DoctorReport, Host},
        site,
    },
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr doctor                 everything, with the servers and the buckets
  kaleem-dr doctor --offline       only what is on this machine
  kaleem-dr doctor --strict        for monitoring: exit 1 on warnings too";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Read crontabs, services, /proc and programs below this directory; paths in the config are
    /// used unchanged
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Contact no servers: neither sources nor buckets
    #[arg(long)]
    pub offline: bool,
    /// Exit with an error on warnings too
    #[arg(long)]
    pub strict: bool,
}

pub async fn doctor(context: &Context, args: &Doctor) -> Outcome {
    let mut wanted = site::Doctor::of(Host::this(args.root.clone()));
    wanted.offline = args.offline;
    let report = context.load()?.doctor(wanted).await;
    let exit = report.exit(args.strict);
    print(&report, exit, context.global.verbose > 0, context.global.json)?;
    Ok(exit)
}

/// The worst severity comes last, where it is still on the screen.
const ORDER: [(Severity, &str); 4] = [
    (Severity::Ok, "WELL"),
    (Severity::Information, "GOOD TO KNOW"),
    (Severity::Warning, "WARNINGS"),
    (Severity::Error, "ERRORS"),
];

/// Prints findings by severity, then the number of each. Findings of severity `ok` are only
/// counted, unless `tell_all` is set.
pub fn print(report: &DoctorReport, exit: Exit, tell_all: bool, json: bool) -> Printed {
    if json {
        let counts: serde_json::Map<_, _> = ORDER
            .iter()
            .map(|(severity, _)| (severity.word().to_owned(), report.count(*severity).into()))
            .collect();
        return document(&json!({
            "message_type": "doctor",
            "findings": report.findings,
            "counts": counts,
            "exit_code": exit.code(),
        }));
    }
    for (severity, heading) in ORDER {
        let mut found: Vec<&Diagnosis> =
            report.findings.iter().filter(|seen| seen.severity == severity).collect();
        if found.is_empty() || (severity == Severity::Ok && !tell_all) {
            continue;
        }
        found.sort_by_key(|seen| (seen.id, seen.what.as_str()));
        line(heading)?;
        for seen in found {
            print_finding(seen)?;
        }
        line("")?;
    }
    let count = |severity| report.count(severity);
    line(&format!(
        "{} errors, {} warnings, {} to know, {} well",
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Information),
        count(Severity::Ok)
    ))
}

fn print_finding(seen: &Diagnosis) -> Printed {
    line(&format!("  {} [{}]", seen.what, seen.id))?;
    if let Some(cause) = &seen.cause {
        line(&format!("    why: {cause}"))?;
    }
    if let Some(fix) = &seen.fix {
        line(&format!("    do:  {fix}"))?;
    }
    Ok(())
}
