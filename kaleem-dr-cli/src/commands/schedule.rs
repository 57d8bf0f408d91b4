//! `schedule`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kaleem_dr_core::{
    Site,
    ground::Exit,
    jiff::Timestamp,
    operate::schedule::{
        InstallReport, Installed, Plan, PlannedFile, RemoveReport, Style, install, list,
        planned_files, remove,
    },
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line, table},
};

/// Subcommands of `schedule`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Print the files that `install` would write
    Print {
        /// Print a cron file instead of systemd units
        #[arg(long)]
        cron: bool,
    },
    /// Write systemd timers and services, and start the timers
    Install {
        /// Write a cron file instead; removes installed systemd units
        #[arg(long)]
        cron: bool,
        /// Install below this directory, for another system; starts nothing
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Show what would be written; write nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Remove the files that `install` wrote
    Remove {
        /// Remove files below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Show what would be removed; remove nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// List installed jobs, and when each runs next
    List {
        /// List jobs below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

pub async fn schedule(context: &Context, command: &ScheduleCommand) -> Outcome {
    let json = context.global.json;
    match command {
        ScheduleCommand::Print { cron } => {
            let plan = plan(&*context.load()?, Path::new("/"))?;
            print_files(&planned_files(&plan, style(*cron))?, &plan.warnings, json)?;
        }
        ScheduleCommand::Install { cron, root, dry_run } => {
            let plan = plan(&*context.load()?, root)?;
            let report = install(&plan, style(*cron), root, *dry_run)?;
            let run = report.activate(root).await?;
            print_installed(&report, run, json)?;
        }
        ScheduleCommand::Remove { root, dry_run } => {
            let report = remove(root, *dry_run)?;
            let run = report.activate(root).await?;
            print_removed(&report, run, json)?;
        }
        ScheduleCommand::List { root } => print_list(&list(root, Timestamp::now())?, json)?,
    }
    Ok(Exit::Done)
}

fn style(cron: bool) -> Style {
    if cron { Style::Cron } else { Style::Systemd }
}

/// The jobs of a config, run by this program.
fn plan(site: &Site, root: &Path) -> Result<Plan, Failure> {
    Ok(site.schedule_plan(std::env::current_exe()?, root)?)
}

fn print_files(files: &[PlannedFile], warnings: &[String], json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "schedule_files", "files": files, "warnings": warnings }),
        );
    }
    for file in files {
        line(&format!("### {}\n{}", file.path.display(), file.content))?;
    }
    print_warnings(warnings)
}

fn print_installed(report: &InstallReport, run: bool, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "schedule_installed", "commands_run": run, "report": report }),
        );
    }
    let would = if report.dry_run { "would be " } else { "" };
    for path in &report.removed {
        line(&format!("{would}removed  {}", path.display()))?;
    }
    for path in &report.written {
        line(&format!("{would}written  {}", path.display()))?;
    }
    if !report.unchanged.is_empty() {
        line(&format!("{} files are up to date", report.unchanged.len()))?;
    }
    print_commands(&report.commands, run)?;
    print_warnings(&report.warnings)
}

fn print_removed(report: &RemoveReport, run: bool, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "schedule_removed", "commands_run": run, "report": report }),
        );
    }
    if report.removed.is_empty() {
        return line("no schedule of kaleem-dr is installed");
    }
    let would = if report.dry_run { "would be " } else { "" };
    for path in &report.removed {
        line(&format!("{would}removed  {}", path.display()))?;
    }
    print_commands(&report.commands, run)
}

fn print_list(jobs: &[Installed], json: bool) -> Printed {
    if json {
        return document(&jobs);
    }
    if jobs.is_empty() {
        return line("no job is installed; `kaleem-dr schedule install` does");
    }
    let mut rows = table(["Job", "By", "When (UTC)", "Next", "File"]);
    for job in jobs {
        let next = job.next.map(|next| next.to_string());
        rows.add_row([
            job.name.clone(),
            if job.style == Style::Cron { "cron" } else { "systemd" }.to_owned(),
            job.when.map_or_else(|| "unknown".to_owned(), |when| when.to_string()),
            next.unwrap_or_else(|| if job.enabled { "unknown" } else { "NOT ENABLED" }.to_owned()),
            job.path.display().to_string(),
        ]);
    }
    line(&rows.to_string())
}

/// Prints the systemctl commands that ran, or that the operator has to run.
pub fn print_commands(commands: &[String], run: bool) -> Printed {
    if commands.is_empty() {
        return Ok(());
    }
    line(if run {
        "run:"
    } else {
        "systemd does not run here, or nothing was to be done; on the machine itself, run:"
    })?;
    commands.iter().try_for_each(|command| line(&format!("  {command}")))
}

fn print_warnings(warnings: &[String]) -> Printed {
    warnings.iter().try_for_each(|warning| line(&format!("warning: {warning}")))
}
