//! systemd: a service and a timer for each job, and a service that reports failed ones.
//!
//! The machine's services run as root, because they read files of all owners, but each has only the rights that
//! its job needs: the file system is read-only except for the places that the config names, and the
//! only capability is to ignore file modes. A drill can also change the owners and capabilities of
//! files, in its scratch directory. A user's services have the rights of the user; what confines
//! them further are the restrictions that need no privilege.

// Writing to a String cannot fail: hence each `let _ = writeln!`.
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::{
    MARKER, MARKER_ADVICE, WHEN_NOTE,
    plan::{
        Credential, DEFAULT_CACHE, DEFAULT_STATE, EnvironmentFile, Job, JobKind, PageService, Plan,
        PlannedFile,
    },
};

/// Prefix of our units.
pub(super) const PREFIX: &str = "kaleem-dr-";
/// Reports a failed unit; its instance is the unit's name.
const FAILED: &str = "kaleem-dr-failed@.service";

/// The service of the page.
pub(super) const PAGE: &str = "kaleem-dr-serve.service";
/// Directory that systemd creates for a socket.
const RUNTIME: &str = "/run/kaleem-dr";

/// All units of a plan.
pub(super) fn files(plan: &Plan) -> Vec<PlannedFile> {
    let units = plan.manager.units();
    let unit = |name: &str, content: String| PlannedFile { path: units.join(name), content };
    let mut files = Vec::new();
    for (at, job) in plan.jobs.iter().enumerate() {
        files.push(unit(&service_name(job), service(plan, job, &plan.jobs[..at])));
        files.push(unit(&timer_name(job), timer(plan, job)));
    }
    files.push(unit(FAILED, failed_service(plan)));
    files.extend(plan.page.as_ref().map(|page| unit(PAGE, page_service(plan, page))));
    files
}

/// The name of a timer: `kaleem-dr-backup.timer`.
pub(super) fn timer_name(job: &Job) -> String {
    format!("{PREFIX}{}.timer", job.name)
}

fn service_name(job: &Job) -> String {
    format!("{PREFIX}{}.service", job.name)
}

fn timer(plan: &Plan, job: &Job) -> String {
    // A job of a plan always has a time.
    let calendar = job.when.on_calendar(&plan.zone).unwrap_or_default();
    format!(
        "{MARKER}{MARKER_ADVICE}\n{WHEN_NOTE}{when} {zone}\n\n[Unit]\nDescription=Disaster recovery: schedule of {name}\n\n[Timer]\n\
         OnCalendar={calendar}\n# Run jobs that were missed while the machine was off.\nPersistent=true\n\
         {spread}\n\n[Install]\nWantedBy=timers.target\n",
        zone = plan.zone,
        spread = if job.kind == JobKind::Oplog {
            "AccuracySec=10s"
        } else {
            "RandomizedDelaySec=2min\nAccuracySec=1min"
        },
        when = job.when,
        name = job.name,
    )
}

fn service(plan: &Plan, job: &Job, before: &[Job]) -> String {
    let mut unit = head(&format!("Disaster recovery: {}", job.name));
    // A slice of a change log waits for no other job.
    let before = if job.kind == JobKind::Oplog { &[] } else { before };
    let waits: Vec<String> = before.iter().map(service_name).collect();
    unit.push_str(network(plan));
    if !waits.is_empty() {
        let _ = writeln!(
            unit,
            "# Wait for jobs that start earlier, however long they take.\nAfter={}",
            waits.join(" ")
        );
    }
    let _ = writeln!(unit, "OnFailure=kaleem-dr-failed@%n.service");
    if !plan.writes.is_empty() && !plan.manager.is_user() {
        let _ = writeln!(unit, "RequiresMountsFor={}", quoted_list(&plan.writes));
    }
    let _ = writeln!(
        unit,
        "\n[Service]\nType=oneshot\n# Every exit status but 0 is a failure: 3 (done in part) and 6 (stale) too."
    );
    let _ = writeln!(
        unit,
        "{}",
        command(plan, &job.args, "--retry-lock 2h ", plan.environment_file.as_ref())
    );
    let _ = writeln!(
        unit,
        "TimeoutStartSec={}\nTimeoutStopSec=5min\nKillMode=mixed",
        time_limit(job.kind)
    );
    let _ = writeln!(unit, "Nice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7");
    unit.push_str(&surroundings(plan, plan.credentials.iter()));
    unit.push_str(&writable(plan));
    unit.push_str(&confinement(plan, Some(job.kind)));
    unit
}

/// The failed unit is the instance; `notify` evaluates it.
fn failed_service(plan: &Plan) -> String {
    let mut unit = head("Disaster recovery: report that %i failed");
    let _ = writeln!(unit, "{}\n[Service]\nType=oneshot", network(plan));
    let args = ["notify".to_owned(), "--failed-unit".to_owned()];
    // Only if it needs the file: a file that cannot be read may be why the job failed.
    let environment = plan.environment_file.as_ref().filter(|file| file.for_notices);
    let _ = writeln!(unit, "{} %i\nTimeoutStartSec=5min", command(plan, &args, "", environment));
    unit.push_str(&surroundings(
        plan,
        plan.credentials.iter().filter(|credential| credential.for_notices),
    ));
    unit.push_str(&writable_state(plan));
    unit.push_str(&confinement(plan, None));
    unit
}

/// The page reads repositories, and writes only to the state and the cache directory.
fn page_service(plan: &Plan, page: &PageService) -> String {
    let mut unit = head("Disaster recovery: page");
    unit.push_str(network(plan));
    let args = ["serve".to_owned()];
    let _ = writeln!(
        unit,
        "\n[Service]\nType=exec\n{}\nRestart=on-failure\nRestartSec=5s\nTimeoutStopSec=10s\n\
         # The status of a command that a signal ends.\nSuccessExitStatus=130",
        command(plan, &args, "", plan.environment_file.as_ref())
    );
    unit.push_str(&surroundings(plan, plan.credentials.iter()));
    unit.push_str(&writable_state(plan));
    match &page.socket_directory {
        Some(directory) if directory == Path::new(RUNTIME) => {
            unit.push_str("RuntimeDirectory=kaleem-dr\nRuntimeDirectoryMode=0755\n");
        }
        Some(directory) if !plan.manager.is_user() => {
            let _ =
                writeln!(unit, "ReadWritePaths={}", quoted_list(std::slice::from_ref(directory)));
        }
        _ => {}
    }
    unit.push_str(&confinement(plan, Some(JobKind::Check)));
    let target = if plan.manager.is_user() { "default.target" } else { "multi-user.target" };
    let _ = writeln!(unit, "\n[Install]\nWantedBy={target}");
    unit
}

fn head(description: &str) -> String {
    format!("{MARKER}{MARKER_ADVICE}\n\n[Unit]\nDescription={description}\n")
}

/// A user's manager has no targets of the machine.
fn network(plan: &Plan) -> &'static str {
    if plan.manager.is_user() {
        ""
    } else {
        "Wants=network-online.target\nAfter=network-online.target\n"
    }
}

/// The program reads the file of variables itself, as it does by hand: systemd's `EnvironmentFile=` ignores lines with `export`, and
/// knows neither several assignments on a line nor `~`.
fn command(
    plan: &Plan,
    args: &[String],
    options: &str,
    environment: Option<&EnvironmentFile>,
) -> String {
    let word = |path: &Path| word_of_command(&path.display().to_string());
    let environment =
        environment.map(|file| format!("--env-file {} ", word(&file.path))).unwrap_or_default();
    format!(
        "ExecStart={} --config {} {environment}{options}{}",
        word(&plan.program),
        word(&plan.config),
        args.join(" ")
    )
}

/// Maximum duration of a job, so that a hanging job is reported, and jobs that wait for it run.
fn time_limit(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Backup | JobKind::Replicate | JobKind::Drill => "12h",
        JobKind::Verify | JobKind::Check => "8h",
        JobKind::Oplog => "1h",
    }
}

fn surroundings<'a>(plan: &Plan, credentials: impl Iterator<Item = &'a Credential>) -> String {
    let home = if plan.manager.is_user() { "" } else { "HOME=/root " };
    let mut text = format!("UMask=0077\nEnvironment={home}TMPDIR=/var/tmp\n");
    for credential in credentials {
        let key = if credential.encrypted { "LoadCredentialEncrypted" } else { "LoadCredential" };
        let _ = writeln!(
            text,
            "{key}={}:{}",
            percent(&credential.name),
            percent(&credential.path.display().to_string())
        );
    }
    text
}

/// State and cache: at their usual places systemd creates them; elsewhere they are only made
/// writable.
fn writable_state(plan: &Plan) -> String {
    let mut text = String::new();
    if plan.manager.is_user() {
        return text;
    }
    for (path, usual, key) in [
        (&plan.state_directory, DEFAULT_STATE, "StateDirectory"),
        (&plan.cache_directory, DEFAULT_CACHE, "CacheDirectory"),
    ] {
        if path == Path::new(usual) {
            let _ = writeln!(text, "{key}=kaleem-dr\n{key}Mode=0700");
        } else {
            let _ = writeln!(text, "ReadWritePaths={}", quoted_list(std::slice::from_ref(path)));
        }
    }
    text
}

fn writable(plan: &Plan) -> String {
    let mut text = writable_state(plan);
    for path in plan.writes.iter().filter(|_| !plan.manager.is_user()) {
        // With `-`, systemd ignores a missing directory, and the program reports it.
        let _ = writeln!(text, "ReadWritePaths={}", quoted(&format!("-{}", path.display())));
    }
    text
}

/// Restrictions that any process may impose on itself.
const UNPRIVILEGED: [&str; 10] = [
    "NoNewPrivileges=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
];
/// Restrictions that only the machine's systemd can impose: they need a mount namespace or a capability.
const PRIVILEGED: [&str; 13] = [
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateDevices=yes",
    "PrivateMounts=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "KeyringMode=private",
];

/// Restrictions of a service. `None` is the service that only reports failures.
fn confinement(plan: &Plan, kind: Option<JobKind>) -> String {
    let is_drill = kind == Some(JobKind::Drill);
    let is_user = plan.manager.is_user();
    let runs_commands = match kind {
        Some(JobKind::Backup) => plan.commands.in_backups,
        Some(JobKind::Verify | JobKind::Drill) => plan.commands.in_proofs,
        _ => false,
    };
    if runs_commands {
        return "# Without restrictions: the config names commands, which need the rights of their operator.\n".to_owned();
    }
    let mut text = String::new();
    if !is_user {
        let _ = writeln!(text, "CapabilityBoundingSet={}", capabilities(plan, kind).join(" "));
    }
    let privileged = PRIVILEGED.iter().filter(|_| !is_user);
    for line in UNPRIVILEGED.iter().chain(privileged) {
        let _ = writeln!(text, "{line}");
    }
    if is_drill {
        text.push_str(
            "# Restored files get their original owners and modes.\nSystemCallFilter=@chown\n",
        );
    }
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    let _ = writeln!(text, "RestrictSUIDSGID={}", yes(!is_drill));
    if !is_user {
        let _ = writeln!(text, "PrivateTmp={}", yes(plan.private_tmp));
        if !plan.private_tmp {
            text.push_str("# The config names paths there.\nReadWritePaths=/tmp /var/tmp\n");
        }
    }
    text
}

fn capabilities(plan: &Plan, kind: Option<JobKind>) -> Vec<&'static str> {
    let is_drill = kind == Some(JobKind::Drill);
    let mut capabilities = Vec::new();
    if kind.is_some() {
        capabilities.push("CAP_DAC_READ_SEARCH");
    }
    if plan.writes_for_others || is_drill {
        capabilities.push("CAP_DAC_OVERRIDE");
    }
    if is_drill {
        // The last one for programs with capabilities of their own, such as ping.
        capabilities.extend(["CAP_CHOWN", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP"]);
    }
    capabilities
}

fn quoted_list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| quoted(&path.display().to_string())).collect::<Vec<_>>().join(" ")
}

/// Escapes `%`, which begins a specifier in every setting.
fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// Quotes a word of a command line: only there systemd expands `$` (systemd.service(5)).
fn word_of_command(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// Quotes a word of a list of paths (systemd.syntax(7)).
fn quoted(text: &str) -> String {
    let text = percent(text);
    if text.chars().any(|c| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | ';')) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    }
}
