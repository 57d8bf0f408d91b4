//! Schedules: their files, what was done with them, and what is installed.

use kaleem_dr_core::operate::schedule::{InstallReport, Installed, PlannedFile, RemoveReport, Style};
use serde_json::json;

use super::{Printed, document, line, table};

pub fn files(files: &[PlannedFile], warnings: &[String], json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "schedule_files", "files": files, "warnings": warnings }));
    }
    for file in files {
        line(&format!("### {}\n{}", file.path.display(), file.content))?;
    }
    warn(warnings)
}

pub fn installed(report: &InstallReport, run: bool, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "schedule_installed", "commands_run": run, "report": report }));
    }
    let would = if report.dry_run { "would be " } else { "" };
    for path in &report.removed {
        line(&format!("{would}removed  {}", path.display()))?;
    }
    for path in &report.written {
        line(&format!("{would}written  {}", path.display()))?;
    }
    if !report.unchanged.is_empty() {
        line(&format!("{} files are as they should be", report.unchanged.len()))?;
    }
    commands(&report.commands, run)?;
    warn(&report.warnings)
}

pub fn removed(report: &RemoveReport, run: bool, json: bool) -> Printed {
    if json {
        return document(&json!({ "message_type": "schedule_removed", "commands_run": run, "report": report }));
    }
    if report.removed.is_empty() {
        return line("nothing of ours is installed");
    }
    let would = if report.dry_run { "would be " } else { "" };
    for path in &report.removed {
        line(&format!("{would}removed  {}", path.display()))?;
    }
    commands(&report.commands, run)
}

pub fn list(jobs: &[Installed], json: bool) -> Printed {
    if json {
        return document(&jobs);
    }
    if jobs.is_empty() {
        return line("no job is installed; `kaleem-dr schedule install` does");
    }
    let mut table = table(["Job", "By", "When (UTC)", "Next", "File"]);
    for job in jobs {
        let next = job.next.map(|next| next.to_string());
        table.add_row([
            job.name.clone(),
            if job.style == Style::Cron { "cron" } else { "systemd" }.to_owned(),
            job.when.map_or_else(|| "not told".to_owned(), |when| when.to_string()),
            next.unwrap_or_else(|| if job.enabled { "not told" } else { "NOT ENABLED" }.to_owned()),
            job.path.display().to_string(),
        ]);
    }
    line(&table.to_string())
}

/// What systemd was told, or has to be told.
pub fn commands(commands: &[String], run: bool) -> Printed {
    if commands.is_empty() {
        return Ok(());
    }
    line(if run { "run:" } else { "systemd does not run here, or nothing was to be done; on the machine itself, run:" })?;
    commands.iter().try_for_each(|command| line(&format!("  {command}")))
}

fn warn(warnings: &[String]) -> Printed {
    warnings.iter().try_for_each(|warning| line(&format!("warning: {warning}")))
}
