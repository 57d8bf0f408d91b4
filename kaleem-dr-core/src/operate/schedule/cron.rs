//! cron: one file in `/etc/cron.d` for machines without systemd.
//!
//! Output goes to the journal, or syslog, through logger(1), and only a failure is said on cron's own channel, so MAILTO gets
//! mail of failures alone. Jobs wait for each other with flock(1). No line holds a secret.

// Writing to a String cannot fail: hence each `let _ = write!`.
use std::{fmt::Write as _, path::Path};

use super::{
    MARKER, MARKER_ADVICE, ScheduleError, WHEN_NOTE,
    plan::{Job, Plan, PlannedFile},
};

/// Where the file lies.
pub(super) const FILE: &str = "/etc/cron.d/kaleem-dr";
/// Held by the job at work. Only root writes to this directory.
const LOCK: &str = "/run/kaleem-dr-schedule.lock";
/// Longest that a job waits for the one before it, in seconds.
const PATIENCE_SECONDS: u32 = 12 * 60 * 60;

/// A longer command makes Debian's cron refuse the whole file.
const LONGEST_COMMAND: usize = 990;

/// The cron file of a plan.
///
/// # Errors
/// [`ScheduleError::Settings`] when paths are so long that cron would refuse it.
pub(super) fn file(plan: &Plan) -> Result<PlannedFile, ScheduleError> {
    let mut text = format!("{MARKER}{MARKER_ADVICE}\n");
    text.push_str(
        "# cron goes by the clock of the machine; where it knows CRON_TZ (not on Debian), by this one.\nCRON_TZ=UTC\nSHELL=/bin/sh\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\nMAILTO=root\n",
    );
    for job in &plan.jobs {
        let Some(fields) = job.when.cron_fields() else { continue };
        let command = command(plan, job);
        if command.len() > LONGEST_COMMAND {
            let why = format!(
                "the line of {} would be longer than cron takes; give program and config shorter paths",
                job.name
            );
            return Err(ScheduleError::Settings(why));
        }
        let _ =
            write!(text, "\n# {}\n{WHEN_NOTE}{}\n{fields} root {command}\n", job.name, job.when);
    }
    Ok(PlannedFile { path: Path::new(FILE).to_path_buf(), content: text })
}

fn command(plan: &Plan, job: &Job) -> String {
    let program = shell(&plan.program.display().to_string());
    let mut with_config =
        format!("{program} --config {}", shell(&plan.config.display().to_string()));
    if let Some(file) = &plan.environment_file {
        let _ = write!(with_config, " --env-file {}", shell(&file.display().to_string()));
    }
    let unit = format!("kaleem-dr-{}", job.name);
    let work = format!(
        "flock -w {PATIENCE_SECONDS} {LOCK} nice {with_config} --retry-lock 2h {}",
        job.args.join(" ")
    );
    let failed = format!(
        "{{ echo \"{unit} failed with exit status $?; journalctl -t {unit} has its words\" >&3; \
         {with_config} notify --failed-unit {unit} 2>&1; }}"
    );
    // A percent sign is a line break to cron.
    format!("{{ {{ {work} 2>&1 || {failed}; }} | logger -t {unit}; }} 3>&1").replace('%', "\\%")
}

/// One word for the shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
