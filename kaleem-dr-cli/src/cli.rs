//! The command line: options of every command, and the verbs.

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        alarm, backup, check, checklist, completions, config, copy, doctor, drill, export, forget,
        history, init, key, metrics, migrate, notify, prune, r2, repair, replicate, report,
        restore, runbook, schedule, snapshot, snapshots, status, unlock, verify,
    },
    global::Global,
};

/// Backs up MongoDB, Qdrant, RabbitMQ, n8n and file trees into a restic repository, proves it, and gets it back.
///
/// A source that fails leaves no snapshot; a restore goes beside what is there, and is compared with what was captured.
#[derive(Debug, Parser)]
#[command(name = "kaleem-dr", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit status: 0 done, 1 failed, 2 usage or config, 3 done in part, 4 verification failed, 5 refused,
6 stale, 7 source or bucket unreachable or not authorised, 10 no repository, 11 locked, 12 wrong password, 75 try again later, 130 cancelled.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the repository
    Init(init::Init),
    /// Capture sources, each into a snapshot of its own; then forget and prune, if the config says so
    Backup(backup::Backup),
    /// List snapshots
    Snapshots(snapshots::Snapshots),
    /// List recovery points: what each run left, and whether it is complete
    Points,
    /// Restore a source beside what is there, and compare it with what was captured
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Restore),
    /// Write a source's recovery point as one file, in the form of its own tools
    #[command(after_help = export::EXAMPLES)]
    Export(export::Export),
    /// Prove recovery points: that they are stored, readable, valid in their own formats, or restorable
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Verify),
    /// Restore every source's newest point into scratch targets, compare, time it, and prove that the comparison can fail
    #[command(after_help = drill::EXAMPLES)]
    Drill(drill::Drill),
    /// Write a drill's proof report again, and check the chain it stands in
    #[command(after_help = report::EXAMPLES)]
    Report(report::Report),
    /// Print how everything of this config is got back, step by step, as Markdown
    Runbook(runbook::Runbook),
    /// Keep mirrors equal to their repositories, object by object; needs no password
    #[command(after_help = replicate::EXAMPLES)]
    Replicate(replicate::Replicate),
    /// Mend a damaged repository: from its mirror (needs no password), or by itself as far as that goes
    #[command(after_help = repair::EXAMPLES)]
    Repair(repair::Repair),
    /// List what ran on this host, newest first
    History(history::History),
    /// Forget this host's snapshots by the config's retention, or those that are named
    #[command(after_help = forget::EXAMPLES)]
    Forget(forget::Forget),
    /// Pin single snapshots, so that retention keeps them
    Snapshot {
        #[command(subcommand)]
        command: snapshot::SnapshotCommand,
    },
    /// Give back the space of what no snapshot needs
    Prune(prune::Prune),
    /// Show the repository's locks, and remove those that are left over
    Unlock(unlock::Unlock),
    /// Copy snapshots into a repository with its own id and password
    #[command(after_help = copy::EXAMPLES)]
    Copy(copy::CopySnapshots),
    /// The passwords that open the repository
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// What looked like a loss or an encryption, and keeps forget and prune from running
    Alarm {
        #[command(subcommand)]
        command: alarm::AlarmCommand,
    },
    /// Check the repository
    Check(check::Check),
    /// Count what is in the repository
    Stats,
    /// How fresh each source's backup is, and what is proven of it; exit 6 when a limit is broken
    Status(status::Status),
    /// Find what keeps backups or restores from working, or will, and how it is mended; exit 1 on an error
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Go through a checklist of the operators, with the evidence for each line; exit 6 when one does not hold
    Checklist(checklist::Checklist),
    /// Reach each source and tell what a backup would find
    Probe,
    /// Send a test notification, or report a failed unit
    Notify(notify::Notify),
    /// Print the metrics, as Prometheus reads them
    Metrics(metrics::Metrics),
    /// Look at the bucket of a repository on R2 or another S3 service
    R2 {
        #[command(subcommand)]
        command: r2::R2Command,
    },
    /// What runs by itself: systemd's timers, or a cron file, made from the config
    Schedule {
        #[command(subcommand)]
        command: schedule::ScheduleCommand,
    },
    /// Take over from the backup scripts before us: findings, a config, and the change of guard
    Migrate(migrate::Migrate),
    /// Look at the config
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Print the manual page
    Man,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
