//! `schedule`.

use std::path::{Path, PathBuf, absolute};

use clap::Subcommand;
use kaleem_dr_core::{
    ground::Exit,
    jiff::{
        Timestamp,
        tz::{Offset, TimeZone},
    },
    operate::{
        config::References,
        schedule::{Plan, Premises, Style, carry_out, install, list, planned_files, remove},
    },
};

use super::Outcome;
use crate::{
    context::{Context, Loaded},
    failure::Failure,
    output::schedule as output,
};

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Print the files that `install` would write
    Print {
        /// A file for cron instead of systemd's units
        #[arg(long)]
        cron: bool,
    },
    /// Write systemd's timers and services, and start the timers
    Install {
        /// A file for cron instead; what was installed for systemd is removed
        #[arg(long)]
        cron: bool,
        /// Below this directory, as for another system; nothing is started
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Show what would be written, write nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Take away what `install` wrote
    Remove {
        /// Below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Show what would be removed, remove nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// List the jobs that are installed, and when each runs next
    List {
        /// Below this directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

pub async fn schedule(context: &Context, command: &ScheduleCommand) -> Outcome {
    let json = context.global.json;
    match command {
        ScheduleCommand::Print { cron } => {
            let plan = plan(&*context.load()?, Path::new("/"))?;
            output::files(&planned_files(&plan, style(*cron))?, &plan.warnings, json)?;
        }
        ScheduleCommand::Install { cron, root, dry_run } => {
            let plan = plan(&*context.load()?, root)?;
            let report = install(&plan, style(*cron), root, *dry_run)?;
            let run = !dry_run && systemd_runs(root);
            if run {
                carry_out(&report.commands).await?;
            }
            output::installed(&report, run, json)?;
        }
        ScheduleCommand::Remove { root, dry_run } => {
            let report = remove(root, *dry_run)?;
            let run = !dry_run && systemd_runs(root);
            if run {
                carry_out(&report.commands).await?;
            }
            output::removed(&report, run, json)?;
        }
        ScheduleCommand::List { root } => output::list(&list(root, Timestamp::now())?, json)?,
    }
    Ok(Exit::Done)
}

fn style(cron: bool) -> Style {
    if cron { Style::Cron } else { Style::Systemd }
}

/// Whether the system below `root` is this one, and systemd runs it.
pub fn systemd_runs(root: &Path) -> bool {
    root == Path::new("/") && Path::new("/run/systemd/system").is_dir()
}

/// The jobs of a config.
pub fn plan(loaded: &Loaded, root: &Path) -> Result<Plan, Failure> {
    if !loaded.path.is_file() {
        return Err(Failure::usage(
            "schedules need a config file: jobs do not see these variables; `kaleem-dr migrate` makes one",
        ));
    }
    let text = std::fs::read_to_string(&loaded.path)?;
    let premises = Premises {
        program: std::env::current_exe()?,
        config: absolute(&loaded.path)?,
        settings: &loaded.config.settings,
        references: References::of(&text, &loaded.path).map_err(Failure::usage)?,
        environment: &loaded.environment,
        clock_is_utc: TimeZone::system().to_offset(Timestamp::now()) == Offset::UTC,
        root: root.to_path_buf(),
    };
    Ok(Plan::of(&premises)?)
}
