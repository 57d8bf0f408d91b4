//! `forget`, `snapshot pin`, `snapshot unpin`.

use clap::{Args, Subcommand};
use kaleem_dr_core::{
    engine::repository::{KeepSpan, Lock, LockKind, PruneOptions, Repository, Retention},
    ground::{Exit, error_chain, host::HostScope},
    operate::{
        job::{forget_by_id, pin},
        monitor::Ended,
        tripwire::{Alarm, Alarms, Removal, protected_by},
    },
};
use serde_json::json;

use super::{JobOutcome, Outcome};
use crate::{
    args::Consent,
    context::{Context, Loaded},
    output,
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr forget --dry-run                      what the config's [retention] would remove of this host
  kaleem-dr forget --keep-last 3 --keep-within 14d --prune
  kaleem-dr forget 4f3a                           one snapshot, by the beginning of its id
  kaleem-dr --host any forget                     every host's snapshots, by the same rules";

/// What to forget, or what to keep.
#[derive(Debug, Args)]
pub struct Forget {
    /// Forget these snapshots, by the beginning of their ids, instead of applying rules
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = RULES)]
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub consent: Consent,
    #[command(flatten)]
    pub rules: Rules,
    /// Also forget snapshots that another tool made
    #[arg(long)]
    pub take_over: bool,
    /// Prune afterwards
    #[arg(long)]
    pub prune: bool,
}

const RULES: [&str; 14] = [
    "keep_last",
    "keep_hourly",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
    "keep_within",
    "keep_within_hourly",
    "keep_within_daily",
    "keep_within_weekly",
    "keep_within_monthly",
    "keep_within_yearly",
    "keep_tag",
    "take_over",
];

/// Rules that replace those of the config, as a whole.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the options' names")]
pub struct Rules {
    /// Keep the newest this many
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest of this many hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the newest of this many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest of this many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest of this many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep the newest of this many years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
    /// Keep all that are at most this much older than the newest: 14d, 2y5m7d3h
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<KeepSpan>,
    /// Keep one an hour of those that are at most this much older than the newest
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<KeepSpan>,
    /// Keep one a day of them
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<KeepSpan>,
    /// Keep one a week of them
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<KeepSpan>,
    /// Keep one a month of them
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<KeepSpan>,
    /// Keep one a year of them
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<KeepSpan>,
    /// Keep all that have this tag; `a,b` asks for both; may be repeated
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,
}

impl Rules {
    /// Any `--keep-…` replaces the config's policy as a whole, as it does for restic.
    fn retention(&self, config: &Retention) -> Retention {
        let given = Retention {
            keep_last: self.keep_last.unwrap_or_default(),
            keep_hourly: self.keep_hourly.unwrap_or_default(),
            keep_daily: self.keep_daily.unwrap_or_default(),
            keep_weekly: self.keep_weekly.unwrap_or_default(),
            keep_monthly: self.keep_monthly.unwrap_or_default(),
            keep_yearly: self.keep_yearly.unwrap_or_default(),
            keep_within: self.keep_within,
            keep_within_hourly: self.keep_within_hourly,
            keep_within_daily: self.keep_within_daily,
            keep_within_weekly: self.keep_within_weekly,
            keep_within_monthly: self.keep_within_monthly,
            keep_within_yearly: self.keep_within_yearly,
            keep_tag: self.keep_tag.clone(),
            take_over: config.take_over,
        };
        if self.is_given() { given } else { config.clone() }
    }

    fn is_given(&self) -> bool {
        let numbers = [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        let spans = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        numbers.iter().any(Option::is_some) || spans.iter().any(Option::is_some) || !self.keep_tag.is_empty()
    }
}

pub async fn forget(context: &Context, args: &Forget) -> JobOutcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let lock = context.lock_to_free(&repository).await?;
    let result = async {
        let forgotten = if args.snapshots.is_empty() {
            by_rules(context, &loaded, &repository, args, &lock).await?
        } else {
            by_id(context, &loaded, &repository, args, &lock).await?
        };
        let mut pruned = None;
        if args.prune {
            if !args.consent.dry_run {
                guard(&loaded, &repository, &loaded.identity.scope, Removal::Prune).await?;
            }
            let options = PruneOptions { dry_run: args.consent.dry_run, ..PruneOptions::default() };
            let report = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
            output::prune(&report, context.global.json)?;
            pruned = Some(report);
        }
        Ok(Ended::new(Exit::Done, &json!({ "forgotten": forgotten, "prune": pruned })))
    }
    .await;
    lock.release().await?;
    result
}

/// Refuses what an alarm stops.
pub async fn guard(
    loaded: &Loaded,
    repository: &Repository,
    hosts: &HostScope,
    removal: Removal,
) -> Result<(), crate::failure::Failure> {
    let recorded = Alarm::recorded(&repository.snapshots().await?);
    let state_directory = &loaded.config.settings.state_directory;
    // Where the alarms cannot be read, the guard refuses.
    if let Err(error) = Alarms::reconcile(state_directory, repository.id(), &recorded) {
        tracing::warn!(error = %error_chain(&error), "the alarms of this host cannot be read");
    }
    Ok(Alarms::guard(state_directory, &recorded, hosts, removal)?)
}

async fn by_rules(
    context: &Context,
    loaded: &Loaded,
    repository: &Repository,
    args: &Forget,
    lock: &Lock,
) -> Result<usize, crate::failure::Failure> {
    let hosts = &loaded.identity.scope;
    if !args.consent.dry_run {
        guard(loaded, repository, hosts, Removal::Forget).await?;
    }
    let mut retention = args.rules.retention(&loaded.config.settings.retention);
    retention.take_over |= args.take_over;
    let scope = protected_by(&Alarm::recorded(&repository.snapshots().await?), hosts.clone());
    let (progress, cancel) = (&context.progress, &context.cancel);
    let plan = repository.forget(&retention, &scope, true, lock, progress, cancel).await?;
    if args.consent.dry_run || plan.removed() == 0 {
        output::forget(&plan, context.global.json)?;
    } else {
        let question = format!("forget {} snapshots?", plan.removed());
        output::consent(args.consent, &question, &context.cancel, || output::forget(&plan, false)).await?;
        let done = repository.forget(&retention, &scope, false, lock, progress, cancel).await?;
        output::forget(&done, context.global.json)?;
    }
    Ok(plan.removed())
}

async fn by_id(
    context: &Context,
    loaded: &Loaded,
    repository: &Repository,
    args: &Forget,
    lock: &Lock,
) -> Result<usize, crate::failure::Failure> {
    let chosen = forget_by_id(&repository.snapshots().await?, &args.snapshots, &loaded.identity)?;
    if args.consent.dry_run {
        output::forget_by_id(&chosen, true, context.global.json)?;
        return Ok(chosen.len());
    }
    for snapshot in &chosen {
        let host = snapshot.host().parse().map_or(HostScope::Any, HostScope::One);
        guard(loaded, repository, &host, Removal::Forget).await?;
    }
    let question = format!("forget {} snapshots?", chosen.len());
    output::consent(args.consent, &question, &context.cancel, || output::forget_by_id(&chosen, true, false)).await?;
    let ids: Vec<_> = chosen.iter().map(kaleem_dr_core::engine::repository::Snapshot::id).collect();
    repository.forget_snapshots(&ids, lock, &context.progress, &context.cancel).await?;
    output::forget_by_id(&chosen, false, context.global.json)?;
    Ok(chosen.len())
}

/// What to do with single snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Keep it, whatever the retention says; its id changes
    Pin {
        /// The beginnings of their ids
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
    },
    /// Let retention forget it again; its id changes
    Unpin {
        /// The beginnings of their ids
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
    },
}

pub async fn snapshot(context: &Context, command: &SnapshotCommand) -> Outcome {
    let (wanted, pinned) = match command {
        SnapshotCommand::Pin { snapshots } => (snapshots, true),
        SnapshotCommand::Unpin { snapshots } => (snapshots, false),
    };
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let lock = repository.lock(LockKind::Exclusive, context.global.retry_lock).await?;
    let state_directory = &loaded.config.settings.state_directory;
    let rewritten = pin(&repository, state_directory, wanted, pinned, &lock, &context.progress, &context.cancel).await;
    lock.release().await?;
    output::pinned(&rewritten?, pinned, context.global.json)?;
    Ok(Exit::Done)
}
