//! The command line: global options and the list of commands.

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        alarm, backup, bootstrap, check, checklist, completions, config, copy, diff, doctor, drill,
        dump, export, find, fleet, forget, history, init, key, ls, man, metrics, migrate, mount,
        notify, oplog, points, prune, r2, recover, repair, replicate, report, restore, runbook,
        schedule, serve, snapshot, snapshots, status, unlock, verify,
    },
    global::Global,
};

/// Backs up MongoDB, Qdrant, RabbitMQ, n8n and file trees into a restic repository, proves that the
/// backups can be restored, and restores them.
///
/// A source that fails leaves no snapshot. By default, a restore writes next to the live data, and
/// compares the result with what was captured.
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
    /// Set up a new machine from a repository alone: its location, its keys and its password
    #[command(after_help = bootstrap::EXAMPLES)]
    Bootstrap(bootstrap::Bootstrap),
    /// Recover everything: all sources in their order, each compared with what was captured
    #[command(after_help = recover::EXAMPLES)]
    Recover(recover::Recover),
    /// Create the repository
    Init(init::Init),
    /// Capture sources, one snapshot each; then forget and prune if the config enables it
    Backup(backup::Backup),
    /// List snapshots
    Snapshots(snapshots::Snapshots),
    /// List recovery points: the snapshots of each run, whether the point is complete, and which
    /// moments between points can be restored
    Points(points::Points),
    /// List the files of a snapshot, of any program
    #[command(after_help = ls::EXAMPLES)]
    Ls(ls::Ls),
    /// Find files by their names: in the newest points, or every version in all snapshots
    #[command(after_help = find::EXAMPLES)]
    Find(find::Find),
    /// Write a file of a snapshot to standard output, or a directory as a tar
    #[command(after_help = dump::EXAMPLES)]
    Dump(dump::Dump),
    /// Compare two points: files, documents and definitions that were added, removed and changed
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::Diff),
    /// Restore a source next to the live data, and compare it with what was captured
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Restore),
    /// Write a source's recovery point as one file in the format of the service's own tools
    #[command(after_help = export::EXAMPLES)]
    Export(export::Export),
    /// Prove that recovery points are stored, readable, valid in their own formats, or restorable
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Verify),
    /// Restore every source's newest point into scratch targets, compare and time it, and prove
    /// that the comparison detects damage
    #[command(after_help = drill::EXAMPLES)]
    Drill(drill::Drill),
    /// Write a drill's proof report again, and check the chain of reports
    #[command(after_help = report::EXAMPLES)]
    Report(report::Report),
    /// Save the change logs of sources between backups, so that any moment can be restored
    #[command(after_help = oplog::EXAMPLES)]
    Oplog(oplog::Oplog),
    /// Print recovery instructions for this config, as Markdown
    Runbook(runbook::Runbook),
    /// Update mirrors to match their repositories, object by object; needs no password
    #[command(after_help = replicate::EXAMPLES)]
    Replicate(replicate::Replicate),
    /// Repair a damaged repository from its mirror (needs no password), or without a mirror as far
    /// as possible
    #[command(after_help = repair::EXAMPLES)]
    Repair(repair::Repair),
    /// List the jobs that ran on this host, newest first
    History(history::History),
    /// Forget this host's snapshots by the retention rules of the config, or the given snapshots
    #[command(after_help = forget::EXAMPLES)]
    Forget(forget::Forget),
    /// Pin or unpin single snapshots; retention keeps pinned ones
    Snapshot {
        #[command(subcommand)]
        command: snapshot::SnapshotCommand,
    },
    /// Delete data that no snapshot needs
    Prune(prune::Prune),
    /// Show the repository's locks, and remove stale ones
    Unlock(unlock::Unlock),
    /// Copy snapshots to a repository with its own id and password
    #[command(after_help = copy::EXAMPLES)]
    Copy(copy::CopySnapshots),
    /// Manage the passwords that open the repository
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Show or acknowledge alarms that block forget and prune
    Alarm {
        #[command(subcommand)]
        command: alarm::AlarmCommand,
    },
    /// Check the repository for damage
    Check(check::Check),
    /// Show the size of the repository
    Stats,
    /// Show how fresh each source's backup is and how far it is proven; exit 6 if a limit is
    /// exceeded
    Status(status::Status),
    /// Show all hosts of one or many repositories: who is late, unproven or alarming
    Fleet {
        #[command(subcommand)]
        command: fleet::FleetCommand,
    },
    /// Find problems that break backups or restores now or soon, and how to fix them; exit 1 if
    /// there is an error
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Answer an operators' checklist, with evidence for each item; exit 6 if an item fails
    Checklist(checklist::Checklist),
    /// Connect to each source, and show what a backup would find
    Probe,
    /// Show the snapshots as files, over WebDAV and read-only
    #[command(after_help = mount::EXAMPLES)]
    Mount(mount::Mount),
    /// Show status, points, drills, alarms and history in a browser, and as a JSON API; only reads
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::Serve),
    /// Send a test notification, or report a failed unit
    Notify(notify::Notify),
    /// Print metrics in the Prometheus text format
    Metrics(metrics::Metrics),
    /// Test the bucket of a repository on R2 or another S3 service
    R2 {
        #[command(subcommand)]
        command: r2::R2Command,
    },
    /// Manage scheduled jobs: systemd timers or a cron file, generated from the config
    Schedule {
        #[command(subcommand)]
        command: schedule::ScheduleCommand,
    },
    /// Migrate from the old backup scripts: report problems, write a config, switch over
    Migrate(migrate::Migrate),
    /// Check the config, print its schema, or write a new one
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Print shell completions
    Completions(completions::Completions),
    /// Print a manual page, or write those of all commands
    Man(man::Man),
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
