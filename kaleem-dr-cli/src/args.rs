//! The command line.

use std::{path::PathBuf, time::Duration};

use crate::commands::{drill, forget, report, runbook};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use kaleem_dr_core::{
    engine::repository::ReadData,
    ground::{ProofLevel, RunId, SourceName, host::HostScope},
    recovery::source::Rename,
};

use crate::commands::{checklist, doctor};
use crate::commands::{migrate::Migrate, schedule::ScheduleCommand};

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

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Config file [default: /etc/kaleem-dr/kaleem-dr.toml, then $XDG_CONFIG_HOME/kaleem-dr/kaleem-dr.toml]
    #[arg(short, long, global = true, env = "KALEEM_DR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File of NAME=VALUE lines to lay over the environment; without a config, the variables of restic and the handbook make one
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Repository of the config to use
    #[arg(long, global = true, value_name = "NAME")]
    pub repo: Option<String>,
    /// The host that is meant, or `any` [default: `host` of the config, else the machine's name]
    #[arg(long, global = true, env = "KALEEM_DR_HOST", value_name = "NAME")]
    pub host: Option<HostScope>,
    /// Print JSON, in restic's shapes where restic has one
    #[arg(long, global = true)]
    pub json: bool,
    /// Wait this long for another tool's lock: 90s, 5m, 1h
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub retry_lock: Duration,
    /// Write no lock and mind none: for commands that only read, from a place that takes no writes
    #[arg(long, global = true)]
    pub no_lock: bool,
    /// Tell more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Tell errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// How logs are written to standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Formats of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the repository
    Init {
        /// restic's format: 2, or 1 for restic before 0.14
        #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u32).range(1..=2), default_value_t = 2)]
        repository_version: u32,
        /// Cut files where this other repository of the config does, so that what is copied from it is not stored twice
        #[arg(long, value_name = "FROM-REPO")]
        copy_chunker_params: Option<String>,
    },
    /// Capture sources, each into a snapshot of its own; then forget and prune, if the config says so
    Backup {
        /// Only these sources
        sources: Vec<SourceName>,
        /// One more tag for each snapshot; may be repeated
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Read everything, write nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// List snapshots
    Snapshots {
        /// Only of this source
        #[arg(long)]
        source: Option<SourceName>,
        /// Only of this run
        #[arg(long)]
        run: Option<RunId>,
        /// Only those we made
        #[arg(long)]
        own: bool,
    },
    /// List recovery points: what each run left, and whether it is complete
    Points,
    /// Restore a source beside what is there, and compare it with what was captured
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
    /// Write a source's recovery point as one file, in the form of its own tools
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// Prove recovery points: that they are stored, readable, valid in their own formats, or restorable
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Restore every source's newest point into scratch targets, compare, time it, and prove that the comparison can fail
    #[command(after_help = drill::EXAMPLES)]
    Drill(drill::Drill),
    /// Write a drill's proof report again, and check the chain it stands in
    #[command(after_help = report::EXAMPLES)]
    Report(report::Report),
    /// Print how everything of this config is got back, step by step, as Markdown
    Runbook(runbook::Runbook),
    /// Keep mirrors equal to their repositories, object by object; needs no password
    #[command(after_help = REPLICATE_EXAMPLES)]
    Replicate(Replicate),
    /// Mend a damaged repository: from its mirror (needs no password), or by itself as far as that goes
    #[command(after_help = REPAIR_EXAMPLES)]
    Repair(Repair),
    /// List what ran on this host, newest first
    History {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: usize,
        /// Add the runs that the repositories' snapshots tell of, after the ledger was lost
        #[arg(long)]
        rebuild: bool,
    },
    /// Forget this host's snapshots by the config's retention, or those that are named
    #[command(after_help = forget::EXAMPLES)]
    Forget(forget::Forget),
    /// Pin single snapshots, so that retention keeps them
    Snapshot {
        #[command(subcommand)]
        command: forget::SnapshotCommand,
    },
    /// Give back the space of what no snapshot needs
    Prune {
        #[command(flatten)]
        consent: Consent,
        /// Delete at once what would be marked now and deleted by a prune a day later
        #[arg(long)]
        instant: bool,
        /// Unused space that may stay, in percent; 100 is any
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=100))]
        max_unused: u64,
    },
    /// Show the repository's locks, and remove those that are left over
    Unlock {
        #[command(flatten)]
        consent: Consent,
        /// Remove every lock, also of processes that may be at work
        #[arg(long)]
        remove_all: bool,
    },
    /// Copy snapshots into a repository with its own id and password
    #[command(after_help = COPY_EXAMPLES)]
    Copy(CopySnapshots),
    /// The passwords that open the repository
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// What looked like a loss or an encryption, and keeps forget and prune from running
    Alarm {
        #[command(subcommand)]
        command: AlarmCommand,
    },
    /// Check the repository
    Check {
        /// Read every byte
        #[arg(long)]
        read_data: bool,
        /// Read a share (10%), a size (500M) or a part (2/5)
        #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
        read_data_subset: Option<ReadData>,
    },
    /// Count what is in the repository
    Stats,
    /// How fresh each source's backup is, and what is proven of it; exit 6 when a limit is broken
    Status {
        /// A row for each host and source of the repository; hosts that the config expects must be there and fresh
        #[arg(long)]
        all_hosts: bool,
    },
    /// Find what keeps backups or restores from working, or will, and how it is mended; exit 1 on an error
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Go through a checklist of the operators, with the evidence for each line; exit 6 when one does not hold
    Checklist(checklist::Checklist),
    /// Reach each source and tell what a backup would find
    Probe,
    /// Tell those who are told how jobs end
    Notify(crate::commands::notify::Notify),
    /// Print the metrics, as Prometheus reads them
    Metrics(crate::commands::metrics::Metrics),
    /// Look at the bucket of a repository on R2 or another S3 service
    R2 {
        #[command(subcommand)]
        command: R2Command,
    },
    /// What runs by itself: systemd's timers, or a cron file, made from the config
    Schedule {
        #[command(subcommand)]
        command: ScheduleCommand,
    },
    /// Take over from the backup scripts before us: findings, a config, and the change of guard
    Migrate(Migrate),
    /// Look at the config
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print completions for a shell
    Completions { shell: Shell },
    /// Print the manual page
    Man,
}

const RESTORE_EXAMPLES: &str = "Examples:
  kaleem-dr restore mongo                        newest point, into a new database beside the old one
  kaleem-dr restore mongo --to kaleem_test --point 01J9
  kaleem-dr restore rabbitmq --in-place          into the broker itself, after a question
  kaleem-dr restore mongo --from /backups/mongo/mongo-2026-01-31T030000Z.archive.gz
  kaleem-dr restore mongo --only users --rename users=users_old --in-place --existing merge
  kaleem-dr restore files --snapshot latest --target /tmp/r --include /etc/nginx";

/// What to restore, and where.
#[derive(Debug, Args)]
pub struct Restore {
    /// A source of the config, or `files` for the files of any snapshot
    pub source: SourceName,
    /// Run or snapshot to restore, by the beginning of its id
    #[arg(long, visible_alias = "snapshot", value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Take the newest point although it is incomplete and an older whole one exists
    #[arg(long)]
    pub allow_incomplete: bool,
    /// A staged file to restore instead, as `export` or the tools before wrote it; no repository is needed
    #[arg(long, value_name = "FILE", conflicts_with = "point")]
    pub from: Option<PathBuf>,
    /// Name beside what is there: a database, a virtual host, a directory
    #[arg(long, visible_alias = "target", value_name = "NAME", conflicts_with = "in_place")]
    pub to: Option<String>,
    /// Over what is there
    #[arg(long)]
    pub in_place: bool,
    #[command(flatten)]
    pub consent: Consent,
    /// Only these parts of the source: a collection, a virtual host, a path, as a glob; may be repeated
    #[arg(long, value_name = "PART")]
    pub only: Vec<String>,
    /// Restore a part under another name; may be repeated
    #[arg(long, value_name = "FROM=TO", value_parser = rename)]
    pub rename: Vec<Rename>,
    /// In place: what becomes of a part that is there
    #[arg(long, value_enum, default_value_t = ExistingChoice::Replace)]
    pub existing: ExistingChoice,
    /// In place: what becomes of parts that are there but not in the point
    #[arg(long, value_enum, default_value_t = ExtrasChoice::Keep)]
    pub extras: ExtrasChoice,
    /// `files` only: what to restore, a path or a glob; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// `files` only: what to leave out; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// `files` only: do not read restored files back
    #[arg(long)]
    pub no_verify: bool,
}

/// What becomes of a part that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExistingChoice {
    /// It is removed and made anew
    Replace,
    /// It stays, and what it lacks of the point is added
    Merge,
}

/// What becomes of parts that are there but not in the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExtrasChoice {
    /// They stay
    Keep,
    /// They are removed
    Remove,
}

const EXPORT_EXAMPLES: &str = "Examples:
  kaleem-dr export mongo                          mongo-<DATE>.archive.gz in this directory
  kaleem-dr export mongo --archive --gzip | mongorestore --archive --gzip
  kaleem-dr export configs --point 01J9 -o /tmp/configs.tar.gz";

/// What to write, and where.
#[derive(Debug, Args)]
pub struct Export {
    /// A source of the config
    pub source: SourceName,
    /// Run or snapshot to write, by the beginning of its id
    #[arg(long, visible_alias = "snapshot", value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Take the newest point although it is incomplete and an older whole one exists
    #[arg(long)]
    pub allow_incomplete: bool,
    /// Where to; `-` is standard output [default: the usual name, in this directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// As mongodump's: to this file, else to standard output, compressed with --gzip only
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-", conflicts_with = "output")]
    pub archive: Option<PathBuf>,
    /// Compress, whatever the name says
    #[arg(long)]
    pub gzip: bool,
}

const VERIFY_EXAMPLES: &str = "Examples:
  kaleem-dr verify                                newest point of every source, each format checked
  kaleem-dr verify mongo --level restored         loaded into a scratch database, compared, removed
  kaleem-dr verify --snapshot 4f3a --level readable
  kaleem-dr verify mongo --from mongo.archive.gz";

/// What to prove, and how far.
#[derive(Debug, Args)]
pub struct Verify {
    /// Sources of the config; all of them when none is named
    pub sources: Vec<SourceName>,
    /// Run or snapshot to verify, by the beginning of its id
    #[arg(long, value_name = "ID", default_value = "latest")]
    pub point: String,
    /// Any one snapshot, also one that another tool made
    #[arg(long, value_name = "ID", conflicts_with_all = ["sources", "point", "from"])]
    pub snapshot: Option<String>,
    /// A staged file of the one source named
    #[arg(long, value_name = "FILE", conflicts_with = "point")]
    pub from: Option<PathBuf>,
    /// stored, readable, parsed, or restored [default: parsed; of other tools' snapshots, readable]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<ProofLevel>,
}

const REPLICATE_EXAMPLES: &str = "Examples:
  kaleem-dr replicate                            every repository that has `mirror_of` in the config
  kaleem-dr replicate r2 --verify 5              only r2; then read 5 % of it back
  kaleem-dr replicate --from r2 --to local       a lost repository, back from its mirror
  kaleem-dr replicate --dry-run";

/// Largest share of a mirror that may be deleted unasked.
const MAX_DELETE_PERCENT: u8 = 50;

/// What to replicate, and how far it may go.
#[derive(Debug, Args)]
pub struct Replicate {
    /// Mirrors of the config; all of them when none is named
    pub mirrors: Vec<String>,
    /// Repository of the config to read from, instead of the one that `mirror_of` names
    #[arg(long, value_name = "NAME", requires = "to", conflicts_with = "mirrors")]
    pub from: Option<String>,
    /// Repository of the config to write to
    #[arg(long, value_name = "NAME", requires = "from")]
    pub to: Option<String>,
    /// Show what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Delete nothing on the mirror
    #[arg(long)]
    pub no_delete: bool,
    /// Delete also snapshots and keys on the mirror that did not come from here
    #[arg(long)]
    pub delete_foreign: bool,
    /// Fill a mirror from the start that held snapshots before and is empty now
    #[arg(long)]
    pub refill: bool,
    /// Largest share of the mirror that may be deleted, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = MAX_DELETE_PERCENT, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_delete: u8,
    /// Afterwards, read this share of the mirror back and compare it, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub verify: f64,
}

impl Replicate {
    /// Every mirror of the config, as without arguments.
    pub fn all() -> Self {
        Self {
            mirrors: Vec::new(),
            from: None,
            to: None,
            dry_run: false,
            no_delete: false,
            delete_foreign: false,
            refill: false,
            max_delete: MAX_DELETE_PERCENT,
            verify: 0.0,
        }
    }
}

const REPAIR_EXAMPLES: &str = "Examples:
  kaleem-dr repair --from r2 --missing           damaged and missing objects, back from the mirror r2
  kaleem-dr repair index                         index files anew from the packs that are there
  kaleem-dr repair snapshots --forget            without a mirror: snapshots without what is lost of them";

/// What to repair, and from where.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Repair {
    /// What to mend without a mirror
    #[command(subcommand)]
    pub command: Option<RepairCommand>,
    /// Its mirror, by the name in the config
    #[arg(long, value_name = "NAME", required = true)]
    pub from: Option<String>,
    /// Also fetch what only the mirror has
    #[arg(long)]
    pub missing: bool,
    /// Show what is damaged, change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

impl Repair {
    /// Whether nothing is to be changed.
    pub fn is_dry_run(&self) -> bool {
        match &self.command {
            Some(RepairCommand::Index { consent } | RepairCommand::Snapshots { consent, .. }) => consent.dry_run,
            None => self.dry_run,
        }
    }
}

/// What can be mended without a mirror.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// Make the index fit the packs: name those that it lacks, drop those that are lost, replace damaged index files
    Index {
        #[command(flatten)]
        consent: Consent,
    },
    /// Rewrite snapshots without the files and directories that are lost; the new ones are marked incomplete
    Snapshots {
        /// Only these, by the beginning of their ids
        #[arg(value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
        /// Forget the damaged snapshots, once they are rewritten; also those of which nothing is left
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        consent: Consent,
    },
}

const COPY_EXAMPLES: &str = "Examples:
  kaleem-dr copy --to r2                          everything that r2 does not have yet
  kaleem-dr copy --to r2 --source mongo 4f3a      one snapshot of mongo
  kaleem-dr --repo r2 copy --to local             and back";

/// What to copy, and where to.
#[derive(Debug, Args)]
pub struct CopySnapshots {
    /// Repository of the config to copy into
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// Only of this source; may be repeated
    #[arg(long = "source", value_name = "SOURCE")]
    pub sources: Vec<SourceName>,
    /// Only these, by the beginning of their ids, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Show what would be copied, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List them; the one in use is marked
    List,
    /// Add one more password
    Add {
        #[command(flatten)]
        new: NewPassword,
    },
    /// Remove one; never the one in use, and never the last
    Remove {
        /// The beginning of its id
        id: String,
    },
    /// Change the password in use
    Passwd {
        #[command(flatten)]
        new: NewPassword,
    },
}

/// What to do with alarms.
#[derive(Debug, Subcommand)]
pub enum AlarmCommand {
    /// List those that stand
    List,
    /// What raised them is all right: it is normal from now on
    Acknowledge {
        /// Only alarms of these sources
        sources: Vec<SourceName>,
    },
}

/// Where a new password comes from, and whose it will be; `--host` is noted in the key. Without a file, `KALEEM_DR_NEW_PASSWORD`, else it is asked for.
#[derive(Debug, Args)]
pub struct NewPassword {
    /// File that holds it; only its owner may be able to read it
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
    /// User to note in the key [default: this one]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// Before something is lost.
#[derive(Clone, Copy, Debug, Args)]
pub struct Consent {
    /// Show what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the config; prints what it amounts to
    Check,
    /// Print the JSON schema of the config
    Schema,
    /// Write a commented config to start from
    Init {
        /// Where to; `-` prints it
        #[arg(default_value = "/etc/kaleem-dr/kaleem-dr.toml")]
        path: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum R2Command {
    /// Try the bucket with an object that is removed again, and read its lifecycle rules; exit 4 when a repository is not safe there
    Check,
}

fn rename(text: &str) -> Result<Rename, String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok(Rename { from: from.to_owned(), to: to.to_owned() }),
        _ => Err("write OLD=NEW".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    number.parse().ok().filter(|percent| (0.0..=100.0).contains(percent)).ok_or_else(|| "write a number from 0 to 100".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "write 90s, 5m or 1h".to_owned())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write 90s, 5m or 1h".to_owned()),
    };
    Ok(Duration::from_secs(number * unit))
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
