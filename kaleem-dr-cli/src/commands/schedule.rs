//! `schedule`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kaleem_dr_core::{
    Site,
    ground::Exit,
    jiff::Timestamp,
    operate::schedule::{
        InstallReport, Installed, Kubernetes, Manager, Manifests, Plan, PlannedFile, RemoveReport,
        Style, install, list, planned_files, remove, systemd_runs,
    },
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line, moment, notes, table},
};

/// Subcommands of `schedule`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Print the files that `install` would write
    Print {
        /// Print a cron file instead of systemd units
        #[arg(long)]
        cron: bool,
        /// Print units for this user's own systemd
        #[arg(long, conflicts_with = "cron")]
        user: bool,
        #[command(flatten)]
        kubernetes: KubernetesArgs,
    },
    /// Write systemd timers and services, and start the timers
    Install {
        /// Write a cron file instead; removes installed systemd units
        #[arg(long)]
        cron: bool,
        /// Install for this user's own systemd, without root; the jobs read what the user can read
        #[arg(long, conflicts_with_all = ["cron", "root"])]
        user: bool,
        /// Install below this directory, for another system; starts nothing
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Show what would be written; write nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Remove the files that `install` wrote
    Remove {
        /// Remove the files of this user's own systemd
        #[arg(long, conflicts_with_all = ["root"])]
        user: bool,
        /// Remove files below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Show what would be removed; remove nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// List installed jobs, and when each runs next
    List {
        /// List the jobs of this user's own systemd
        #[arg(long, conflicts_with_all = ["root"])]
        user: bool,
        /// List jobs below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

/// Options of `schedule print --kubernetes`.
#[derive(Debug, Args)]
pub struct KubernetesArgs {
    /// Print manifests for Kubernetes: cron jobs, their config and claims, and a service of metrics
    #[arg(long, conflicts_with_all = ["cron", "user"])]
    kubernetes: bool,
    /// Image of the program
    #[arg(long, value_name = "IMAGE", requires = "kubernetes", default_value = IMAGE)]
    image: String,
    /// Namespace of all objects [default: that of kubectl]
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    namespace: Option<String>,
    /// Let each job begin without a history, instead of keeping the state on a persistent claim
    #[arg(long, requires = "kubernetes")]
    without_state: bool,
}

/// The image that `make image` makes.
const IMAGE: &str = concat!("kaleem-dr:", env!("CARGO_PKG_VERSION"));

pub async fn schedule(context: &Context, command: &ScheduleCommand) -> Outcome {
    let json = context.global.json;
    match command {
        ScheduleCommand::Print { kubernetes: wanted, .. } if wanted.kubernetes => {
            let mut options = Kubernetes::of(wanted.image.clone());
            options.namespace.clone_from(&wanted.namespace);
            options.keeps_state = !wanted.without_state;
            let made = context.load()?.kubernetes_manifests(&options)?;
            print_manifests(&made, json)?;
        }
        ScheduleCommand::Print { cron, user, .. } => {
            let plan = plan(&*context.load()?, Path::new("/"), manager(*user)?)?;
            print_files(&planned_files(&plan, style(*cron))?, &plan.warnings, json)?;
        }
        ScheduleCommand::Install { cron, user, root, dry_run } => {
            let plan = plan(&*context.load()?, root, manager(*user)?)?;
            let report = install(&plan, style(*cron), root, *dry_run)?;
            let ran = report.activate(root).await?;
            print_installed(&report, Commands::of(ran, *dry_run, root), json)?;
        }
        ScheduleCommand::Remove { user, root, dry_run } => {
            let report = remove(root, &manager(*user)?, *dry_run)?;
            let ran = report.activate(root).await?;
            print_removed(&report, Commands::of(ran, *dry_run, root), json)?;
        }
        ScheduleCommand::List { user, root } => {
            print_list(&list(root, &manager(*user)?, Timestamp::now())?, json)?;
        }
    }
    Ok(Exit::Done)
}

/// The fate of the commands that make systemd aware of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Commands {
    /// They ran.
    Ran,
    /// They would run without `--dry-run`.
    WouldRun,
    /// systemd does not run here, or this is another system's root: the operator has to run them.
    Operator,
}

impl Commands {
    pub fn of(ran: bool, dry_run: bool, root: &Path) -> Self {
        if ran {
            Self::Ran
        } else if dry_run && systemd_runs(root) {
            Self::WouldRun
        } else {
            Self::Operator
        }
    }
}

/// The systemd that runs the jobs: the machine's, or this user's.
fn manager(user: bool) -> Result<Manager, Failure> {
    if !user {
        return Ok(Manager::System);
    }
    let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let configuration = directory("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| directory("HOME").map(|home| Path::new(&home).join(".config")));
    let configuration =
        configuration.ok_or_else(|| Failure::usage("--user needs HOME or XDG_CONFIG_HOME"))?;
    Ok(Manager::User { configuration })
}

fn style(cron: bool) -> Style {
    if cron { Style::Cron } else { Style::Systemd }
}

/// The jobs of a config, run by this program.
fn plan(site: &Site, root: &Path, manager: Manager) -> Result<Plan, Failure> {
    Ok(site.schedule_plan(std::env::current_exe()?, root, manager)?)
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

/// The warnings go to standard error, so that the output can be applied as it is.
fn print_manifests(made: &Manifests, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "kubernetes",
            "manifests": made.text,
            "warnings": made.warnings,
        }));
    }
    notes(&made.warnings);
    line(made.text.trim_end())
}

fn print_installed(report: &InstallReport, commands: Commands, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "schedule_installed", "commands_run": commands == Commands::Ran, "report": report }),
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
    print_commands(&report.commands, commands)?;
    print_warnings(&report.warnings)
}

fn print_removed(report: &RemoveReport, commands: Commands, json: bool) -> Printed {
    if json {
        return document(
            &json!({ "message_type": "schedule_removed", "commands_run": commands == Commands::Ran, "report": report }),
        );
    }
    if report.removed.is_empty() {
        return line("no schedule of kaleem-dr is installed");
    }
    let would = if report.dry_run { "would be " } else { "" };
    for path in &report.removed {
        line(&format!("{would}removed  {}", path.display()))?;
    }
    print_commands(&report.commands, commands)
}

fn print_list(jobs: &[Installed], json: bool) -> Printed {
    if json {
        return document(&jobs);
    }
    if jobs.is_empty() {
        return line("no job is installed; `kaleem-dr schedule install` does");
    }
    let mut rows = table(["Job", "By", "When", "Next", "File"]);
    for job in jobs {
        let next = job.next.map(moment);
        rows.add_row([
            job.name.clone(),
            if job.style == Style::Cron { "cron" } else { "systemd" }.to_owned(),
            job.when.map_or_else(|| "unknown".to_owned(), |when| format!("{when} {}", job.zone)),
            next.unwrap_or_else(|| if job.enabled { "unknown" } else { "NOT ENABLED" }.to_owned()),
            job.path.display().to_string(),
        ]);
    }
    line(&rows.to_string())
}

/// Prints the commands that ran, or that the operator has to run.
pub fn print_commands(commands: &[String], happened: Commands) -> Printed {
    if commands.is_empty() {
        return Ok(());
    }
    line(match happened {
        Commands::Ran => "these commands ran:",
        Commands::WouldRun => "these commands would run:",
        Commands::Operator => {
            "systemd does not run here; run these commands on the machine itself:"
        }
    })?;
    commands.iter().try_for_each(|command| line(&format!("  {command}")))
}

fn print_warnings(warnings: &[String]) -> Printed {
    warnings.iter().try_for_each(|warning| line(&format!("warning: {warning}")))
}
