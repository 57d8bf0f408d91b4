//! `replicate`: needs no password.

use clap::Args;
use kaleem_dr_core::{
    engine::replicate::{Count, MirrorOptions, MirrorReport},
    ground::RunId,
    operate::{
        monitor::Ended,
        site::{MAX_DELETE_PERCENT, MirrorPass, Replication},
    },
};

use super::JobOutcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr replicate                            every repository that has `mirror_of` in the config
  kaleem-dr replicate r2 --verify 5              only r2; then read 5 % of it back and compare
  kaleem-dr replicate --from r2 --to local       restore a lost repository from its mirror
  kaleem-dr replicate --dry-run";

/// Arguments of `replicate`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Replicate {
    /// Mirrors to update [default: all mirrors of the config]
    pub mirrors: Vec<String>,
    /// Read from this repository of the config instead of the one in `mirror_of`
    #[arg(long, value_name = "NAME", requires = "to", conflicts_with = "mirrors")]
    pub from: Option<String>,
    /// Write to this repository of the config
    #[arg(long, value_name = "NAME", requires = "from")]
    pub to: Option<String>,
    /// Show what would be done; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Delete nothing from the mirror
    #[arg(long)]
    pub no_delete: bool,
    /// Also delete snapshots and keys on the mirror that did not come from this repository
    #[arg(long)]
    pub delete_foreign: bool,
    /// Fill a mirror again that held snapshots before and is empty now
    #[arg(long)]
    pub refill: bool,
    /// Maximum share of the mirror that may be deleted, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = MAX_DELETE_PERCENT, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_delete: u8,
    /// After the pass, read this share of the mirror back and compare it, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub verify: f64,
}

impl Replicate {
    /// The options that these arguments set.
    pub fn options(&self, run: RunId) -> Replication {
        let mut options = MirrorOptions::default();
        options.dry_run = self.dry_run;
        options.keep_all = self.no_delete;
        options.delete_foreign = self.delete_foreign;
        options.refill = self.refill;
        options.max_delete_percent = self.max_delete;
        options.verify_percent = self.verify;
        let mut wanted = match self.from.clone().zip(self.to.clone()) {
            Some((from, to)) => Replication::between(from, to, options),
            None => Replication::of(self.mirrors.clone(), options),
        };
        wanted.run = Some(run);
        wanted
    }
}

pub async fn replicate(context: &Context, args: &Replicate) -> JobOutcome {
    let mut printed = Ok(());
    let report = context
        .load()?
        .replicate(&args.options(context.run), |pass| {
            let now = print_pass(pass, context.global.json);
            if printed.is_ok() {
                printed = now;
            }
        })
        .await?;
    printed?;
    Ok(Ended::from(&report))
}

/// Prints the report of a pass, or the reason why there is none.
pub fn print_pass(pass: &MirrorPass, json: bool) -> Printed {
    match &pass.result {
        Ok(report) => print(report, json),
        Err(error) => {
            output::failure(&Failure::from(error), json);
            Ok(())
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    number
        .parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "write a number from 0 to 100".to_owned())
}

fn print(report: &MirrorReport, json: bool) -> Printed {
    if json {
        return document(report);
    }
    let done = if report.dry_run { "would be " } else { "" };
    let count = |count: Count| format!("{} objects, {}", count.objects, size(count.bytes));
    line(&format!("{} -> {}", report.from, report.to))?;
    line(&format!(
        "  {done}copied     {} ({} snapshots)",
        count(report.copied),
        report.copied_snapshots
    ))?;
    line(&format!("  there already {}", count(report.unchanged)))?;
    if report.refused.is_none() {
        line(&format!(
            "  {done}deleted    {} ({} snapshots)",
            count(report.deleted),
            report.deleted_snapshots
        ))?;
    }
    if report.verified != Count::default() || !report.wrong.is_empty() {
        line(&format!("  read back     {}: each matches its SHA-256", count(report.verified)))?;
    }
    for wrong in &report.wrong {
        line(&format!("  DAMAGED       {wrong}"))?;
    }
    if report.lost > 0 {
        line(&format!(
            "  LOST THERE    {} objects that earlier passes had copied; they are copied again",
            report.lost
        ))?;
    }
    for key in &report.kept_keys {
        line(&format!(
            "  kept          key {}…, which only the mirror has",
            key.get(..8).unwrap_or(key)
        ))?;
    }
    if let Some(why) = &report.postponed {
        line(&format!("  deletions are postponed to a later pass: {why}"))?;
    }
    if let Some(since) = report.postponed_since.filter(|_| report.postponed_passes > 1) {
        line(&format!(
            "  they have been postponed since {since}, for {} passes",
            report.postponed_passes
        ))?;
    }
    if let Some(why) = &report.refused {
        line(&format!("  NOTHING WAS DELETED: {why}"))?;
    }
    Ok(())
}
