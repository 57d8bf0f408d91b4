//! cron: one file in `/etc/cron.d`, for machines without systemd.
//!
//! Output goes to the journal or syslog through logger(1). Only failures are printed to cron, so
//! MAILTO receives mail about failures only. Jobs wait for each other with flock(1). No line
//! contains a secret.

// Writing to a String cannot fail: hence each `let _ = write!`.
use std::{fmt::Write as _, path::Path};

use super::{
    MARKER, MARKER_ADVICE, ScheduleError, WHEN_NOTE,
    plan::{Job, JobKind, Plan, PlannedFile},
};

pub(super) const FILE: &str = "/etc/cron.d/kaleem-dr";
/// Locked by the running job. Only root can write to this directory.
const LOCK: &str = "/run/kaleem-dr-schedule.lock";
/// Locked by a running slice of a change log, which does not wait for other jobs.
const SLICE_LOCK: &str = "/run/kaleem-dr-oplog.lock";
/// Maximum wait of a job for the one before it, in seconds.
const PATIENCE_SECONDS: u32 = 12 * 60 * 60;

/// Debian's cron refuses the whole file if a command is longer.
const LONGEST_COMMAND: usize = 990;

/// The cron file of a plan.
///
/// # Errors
/// [`ScheduleError::Settings`] if paths are so long that cron would refuse it.
pub(super) fn file(plan: &Plan) -> Result<PlannedFile, ScheduleError> {
    let mut text = format!("{MARKER}{MARKER_ADVICE}\n");
    let _ = writeln!(
        text,
        "# cron uses the local time zone; if it supports CRON_TZ (not on Debian), it uses this one.\nCRON_TZ={}\nSHELL=/bin/sh\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\nMAILTO=root",
        plan.zone
    );
    for job in &plan.jobs {
        let Some(fields) = job.when.cron_fields() else { continue };
        let command = command(plan, job);
        if command.len() > LONGEST_COMMAND {
            let why = format!(
                "the line of {} is too long for cron; use shorter paths for program and config",
                job.name
            );
            return Err(ScheduleError::Settings(why));
        }
        let _ = write!(
            text,
            "\n# {}\n{WHEN_NOTE}{} {}\n{fields} root {command}\n",
            job.name, job.when, plan.zone
        );
    }
    Ok(PlannedFile { path: Path::new(FILE).to_path_buf(), content: text })
}

fn command(plan: &Plan, job: &Job) -> String {
    let program = shell(&plan.program.display().to_string());
    let mut with_config =
        format!("{program} --config {}", shell(&plan.config.display().to_string()));
    if let Some(file) = &plan.environment_file {
        let _ = write!(with_config, " --env-file {}", shell(&file.path.display().to_string()));
    }
    let unit = format!("kaleem-dr-{}", job.name);
    let lock = match job.kind {
        // If the one before it still runs, the next one saves its entries too.
        JobKind::Oplog => format!("flock -n -E 0 {SLICE_LOCK}"),
        _ => format!("flock -w {PATIENCE_SECONDS} {LOCK}"),
    };
    let work = format!("{lock} nice {with_config} --retry-lock 2h {}", job.args.join(" "));
    let failed = format!(
        "{{ echo \"{unit} failed with exit status $?; see journalctl -t {unit}\" >&3; \
         {with_config} notify --failed-unit {unit} 2>&1; }}"
    );
    // cron treats a percent sign as a line break.
    format!("{{ {{ {work} 2>&1 || {failed}; }} | logger -t {unit}; }} 3>&1").replace('%', "\\%")
}

/// Quotes a word for the shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
