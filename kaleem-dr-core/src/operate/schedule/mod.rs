//! What runs by itself, and when: `[schedule]` of the config, and the systemd units or the cron file that are made from it.
//!
//! Everything that is written bears a marker in its first line; what does not bear it is somebody else's and is never touched.
//! Nothing runs in here: systemd or cron does that, with the program and the config that the files name.

mod cron;
mod error;
mod install;
mod plan;
mod settings;
mod systemd;
mod when;

pub use self::{
    error::ScheduleError,
    install::{
        InstallReport, Installed, RemoveReport, Style, carry_out, install, list, planned_files,
        remove, systemd_runs,
    },
    plan::{Credential, Job, JobKind, Plan, PlannedFile, Premises},
    settings::ScheduleSettings,
    when::{InvalidWhen, When},
};

/// The first line of every file that is ours begins so.
const MARKER: &str = "# Made by `kaleem-dr schedule install`";
/// The rest of that line.
const MARKER_ADVICE: &str = "; `kaleem-dr schedule remove` takes it away, and what is edited here is lost with the next install.";

/// How the time of a job is noted in its timer, for `schedule list`.
const WHEN_NOTE: &str = "# Runs: ";
