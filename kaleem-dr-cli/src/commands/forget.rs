//! `forget`.

use clap::Args;
use kaleem_dr_core::{
    Site,
    engine::repository::{ForgetReport, KeepSpan, Retention, Snapshot},
    operate::{
        monitor::Ended,
        site::{self, Forgetting},
    },
};
use serde_json::{Value, json};

use super::{JobOutcome, prune};
use crate::{
    consent::{Asking, Consent},
    context::Context,
    output::{Printed, document, line, moment, restic_snapshot},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr forget --dry-run                      show what [retention] would forget of this host
  kaleem-dr forget --keep-last 3 --keep-within 14d --prune
  kaleem-dr forget 4f3a                           one snapshot, by id prefix
  kaleem-dr --host any forget                     every host's snapshots, by the same rules";

/// Arguments of `forget`.
#[derive(Debug, Args)]
pub struct Forget {
    /// Forget these snapshots, by id prefix, instead of applying rules
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = RULES)]
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub consent: Consent,
    #[command(flatten)]
    pub rules: Rules,
    /// Also forget snapshots made by other programs
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

/// Rules that replace all rules of the config.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the options' names")]
pub struct Rules {
    /// Keep the N newest snapshots
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest snapshot of each of the last N hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the newest snapshot of each of the last N days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest snapshot of each of the last N weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest snapshot of each of the last N months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep the newest snapshot of each of the last N years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
    /// Keep all snapshots that are at most this much older than the newest: 14d, 2y5m7d3h
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<KeepSpan>,
    /// Keep one snapshot an hour within this span before the newest
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<KeepSpan>,
    /// Keep one snapshot a day within this span before the newest
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<KeepSpan>,
    /// Keep one snapshot a week within this span before the newest
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<KeepSpan>,
    /// Keep one snapshot a month within this span before the newest
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<KeepSpan>,
    /// Keep one snapshot a year within this span before the newest
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<KeepSpan>,
    /// Keep all snapshots with this tag; `a,b` requires both tags; may be repeated
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,
}

impl Rules {
    /// Any `--keep-…` option replaces all rules of the config, as in restic.
    fn retention(&self, config: &Retention) -> Option<Retention> {
        if !self.is_given() {
            return None;
        }
        let mut rules = Retention::nothing();
        rules.keep_last = self.keep_last.unwrap_or_default();
        rules.keep_hourly = self.keep_hourly.unwrap_or_default();
        rules.keep_daily = self.keep_daily.unwrap_or_default();
        rules.keep_weekly = self.keep_weekly.unwrap_or_default();
        rules.keep_monthly = self.keep_monthly.unwrap_or_default();
        rules.keep_yearly = self.keep_yearly.unwrap_or_default();
        rules.keep_within = self.keep_within;
        rules.keep_within_hourly = self.keep_within_hourly;
        rules.keep_within_daily = self.keep_within_daily;
        rules.keep_within_weekly = self.keep_within_weekly;
        rules.keep_within_monthly = self.keep_within_monthly;
        rules.keep_within_yearly = self.keep_within_yearly;
        rules.keep_tag.clone_from(&self.keep_tag);
        rules.take_over = config.take_over;
        rules.keep_slices_within = config.keep_slices_within;
        Some(rules)
    }

    fn is_given(&self) -> bool {
        let numbers = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        let spans = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        numbers.iter().any(Option::is_some)
            || spans.iter().any(Option::is_some)
            || !self.keep_tag.is_empty()
    }
}

impl Forget {
    pub fn options(&self, site: &Site) -> site::Forget {
        let mut options = site::Forget::of(self.snapshots.clone());
        options.retention = self.rules.retention(&site.config().settings.retention);
        (options.take_over, options.prune) = (self.take_over, self.prune);
        options.dry_run = self.consent.dry_run;
        options
    }
}

pub async fn forget(context: &Context, args: &Forget) -> JobOutcome {
    let site = context.load()?;
    let mut asking = Asking::new(context, args.consent);
    let done = site
        .forget(&args.options(&site), async |plan| {
            let question = format!("forget {} snapshots?", plan.count());
            asking.agree(&question, || print(plan, true, false)).await
        })
        .await;
    let report = asking.given(done)?;
    print(&report.what, report.dry_run, context.global.json)?;
    let ended = Ended::from(&report);
    if let Some(pruned) = report.prune {
        prune::print(&pruned?, context.global.json)?;
    }
    Ok(ended)
}

fn print(what: &Forgetting, dry_run: bool, json: bool) -> Printed {
    match what {
        Forgetting::ByRules(report) => print_groups(report, json),
        Forgetting::Named(snapshots) => print_named(snapshots, dry_run, json),
    }
}

fn print_groups(report: &ForgetReport, json: bool) -> Printed {
    if json {
        let groups: Vec<Value> = report
            .groups
            .iter()
            .map(|group| {
                json!({
                    "tags": null,
                    "host": group.host,
                    "source": group.of,
                    "paths": group.keep.first().map(|keep| keep.snapshot.paths()),
                    "keep": group.keep.iter().map(|keep| restic_snapshot(&keep.snapshot)).collect::<Vec<_>>(),
                    "remove": group.remove.iter().map(restic_snapshot).collect::<Vec<_>>(),
                    "reasons": group.keep.iter().map(|keep| json!({ "snapshot": restic_snapshot(&keep.snapshot), "matches": keep.reasons })).collect::<Vec<_>>(),
                })
            })
            .collect();
        return document(&groups);
    }
    let would = if report.dry_run { "would forget" } else { "forgot" };
    for group in &report.groups {
        line(&format!(
            "{} of {}: keep {}, {would} {}",
            group.of,
            group.host,
            group.keep.len(),
            group.remove.len()
        ))?;
        for keep in &group.keep {
            let time = moment(keep.snapshot.time().timestamp());
            line(&format!(
                "  keep   {}  {time}  {}",
                keep.snapshot.id().short(),
                keep.reasons.join(", ")
            ))?;
        }
        for snapshot in &group.remove {
            line(&format!(
                "  forget {}  {}",
                snapshot.id().short(),
                moment(snapshot.time().timestamp())
            ))?;
        }
    }
    if report.of_other_hosts > 0 {
        line(&format!(
            "{} snapshots of other hosts were ignored (--host selects one, or any)",
            report.of_other_hosts
        ))?;
    }
    if report.foreign > 0 {
        line(&format!(
            "{} snapshots of other programs were ignored (--take-over includes them)",
            report.foreign
        ))?;
    }
    Ok(())
}

fn print_named(snapshots: &[Snapshot], dry_run: bool, json: bool) -> Printed {
    if json {
        let removed: Vec<Value> = snapshots.iter().map(restic_snapshot).collect();
        return document(&json!({ "dry_run": dry_run, "remove": removed }));
    }
    let would = if dry_run { "would forget" } else { "forgot" };
    snapshots.iter().try_for_each(|snapshot| {
        let of = snapshot
            .source()
            .map_or_else(|| "another program".to_owned(), |source| format!("source {source}"));
        let time = moment(snapshot.time().timestamp());
        line(&format!(
            "{would} {}  {time}  {of} of host {}",
            snapshot.id().short(),
            snapshot.host()
        ))
    })
}
