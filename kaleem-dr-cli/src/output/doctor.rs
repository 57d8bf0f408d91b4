//! What `doctor` prints.

use kaleem_dr_core::{
    ground::{
        Exit,
        diagnosis::{Diagnosis, Severity},
    },
    operate::doctor::DoctorReport,
};
use serde_json::json;

use super::{Printed, document, line};

/// The worst last, where it is still on the screen.
const ORDER: [(Severity, &str); 4] = [
    (Severity::Ok, "WELL"),
    (Severity::Information, "GOOD TO KNOW"),
    (Severity::Warning, "WARNINGS"),
    (Severity::Error, "ERRORS"),
];

/// Findings by severity, then how many there are of each. What is well is only counted, unless more is to be told.
pub fn report(report: &DoctorReport, exit: Exit, tell_all: bool, json: bool) -> Printed {
    if json {
        let counts: serde_json::Map<_, _> =
            ORDER.iter().map(|(severity, _)| (severity.word().to_owned(), report.count(*severity).into())).collect();
        return document(&json!({
            "message_type": "doctor",
            "findings": report.findings,
            "counts": counts,
            "exit_code": exit.code(),
        }));
    }
    for (severity, heading) in ORDER {
        let mut found: Vec<&Diagnosis> = report.findings.iter().filter(|seen| seen.severity == severity).collect();
        if found.is_empty() || (severity == Severity::Ok && !tell_all) {
            continue;
        }
        found.sort_by_key(|seen| (seen.id, seen.what.as_str()));
        line(heading)?;
        for seen in found {
            finding(seen)?;
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

fn finding(seen: &Diagnosis) -> Printed {
    line(&format!("  {} [{}]", seen.what, seen.id))?;
    if let Some(cause) = &seen.cause {
        line(&format!("    why: {cause}"))?;
    }
    if let Some(fix) = &seen.fix {
        line(&format!("    do:  {fix}"))?;
    }
    Ok(())
}
