//! Scheduled jobs: `[schedule]` of the config, and the systemd units or the cron file that are
//! generated from it, or the manifests of Kubernetes.
//!
//! Every generated file has a marker in its first line; files without it belong to others and are
//! never touched. Nothing runs in this process: systemd or cron runs the jobs, with the program and
//! config that the files name.

mod cron;
mod error;
mod install;
mod kubernetes;
mod late;
mod manager;
mod plan;
mod settings;
mod systemd;
mod when;
mod yaml;
mod zone;

pub use self::install::systemd_runs;
pub use self::{
    error::ScheduleError,
    install::{
        InstallReport, Installed, RemoveReport, Style, install, list, planned_files, remove,
    },
    kubernetes::{Kubernetes, Manifests, manifests},
    manager::Manager,
    plan::{Credential, EnvironmentFile, Job, JobKind, PageService, Plan, PlannedFile, Premises},
    settings::ScheduleSettings,
    when::{InvalidWhen, When},
    zone::{InvalidZone, Zone},
};
pub(crate) use self::{install::activate, late::late_after};

/// The beginning of the first line of each generated file.
const MARKER: &str = "# Made by `kaleem-dr schedule install`";
/// The rest of that line.
const MARKER_ADVICE: &str =
    "; `kaleem-dr schedule remove` removes it, and the next install overwrites changes made here.";

/// Records the time of a job in its timer, for `schedule list`.
const WHEN_NOTE: &str = "# Runs: ";
