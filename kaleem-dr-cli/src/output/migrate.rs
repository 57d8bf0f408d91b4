//! What a migration found and did.

use std::path::Path;

use kaleem_dr_core::operate::migrate::{Survey, SwitchReport, UndoReport};
use serde_json::json;

use super::{Printed, document, line, schedule::commands};

pub fn survey(survey: &Survey, written: Option<&Path>, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "migration", "survey": survey, "written": written }));
    }
    for finding in &survey.findings {
        let place = finding.place.as_ref().map(|place| format!(" {place}:")).unwrap_or_default();
        line(&format!("{}:{place} {} [{}]", finding.severity, finding.what, finding.code))?;
        line(&format!("  why: {}\n  do:  {}", finding.why, finding.advice))?;
    }
    let blocking = survey.blocking().count();
    if blocking > 0 {
        line(&format!("{blocking} of these must be settled before --apply changes anything"))?;
    }
    for secret in &survey.draft.secrets {
        let (path, variable, from) = (secret.path.display(), &secret.variable, secret.from.display());
        line(&format!("the config refers to {path}, which --apply writes, mode 600, from {variable} in {from}"))?;
    }
    match written {
        Some(path) => line(&format!("wrote {}; nothing else was changed", path.display())),
        None => line(&format!(
            "the config goes to {}; `kaleem-dr migrate --output -` prints it, --apply writes it and changes over",
            survey.config_path.display()
        )),
    }
}

pub fn switched(report: &SwitchReport, run: bool, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "migrated", "commands_run": run, "report": report }));
    }
    for path in &report.installed.written {
        line(&format!("written  {}", path.display()))?;
    }
    for disabled in &report.disabled {
        line(&format!("off: {disabled}"))?;
    }
    for warning in &report.installed.warnings {
        line(&format!("warning: {warning}"))?;
    }
    commands(&report.commands, run)?;
    line("the new jobs are in charge; `kaleem-dr migrate --undo` puts everything back")
}

pub fn undone(report: &UndoReport, run: bool, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "migration_undone", "commands_run": run, "report": report }));
    }
    report.done.iter().try_for_each(|done| line(done))?;
    report.left.iter().try_for_each(|left| line(&format!("left as it is: {left}")))?;
    commands(&report.commands, run)
}
