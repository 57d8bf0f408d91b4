//! `replicate`: needs no password.

use clap::Args;
use kaleem_dr_core::{
    Site,
    engine::{
        ledger::Ledger,
        replicate as library,
        replicate::{Count, MirrorJob, MirrorOptions, MirrorReport},
    },
    ground::Exit,
    jiff::Timestamp,
    operate::{
        monitor::{Ended, EndedPart},
        tripwire::Alarms,
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
  kaleem-dr replicate r2 --verify 5              only r2; then read 5 % of it back
  kaleem-dr replicate --from r2 --to local       a lost repository, back from its mirror
  kaleem-dr replicate --dry-run";

/// Largest share of a mirror that may be deleted unasked.
const MAX_DELETE_PERCENT: u8 = 50;

/// What to replicate, and how far it may go.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
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
    /// What these arguments ask for.
    pub fn options(&self) -> Options {
        let mut mirror = MirrorOptions::default();
        mirror.dry_run = self.dry_run;
        mirror.keep_all = self.no_delete;
        mirror.delete_foreign = self.delete_foreign;
        mirror.refill = self.refill;
        mirror.max_delete_percent = self.max_delete;
        mirror.verify_percent = self.verify;
        Options {
            mirrors: self.mirrors.clone(),
            pair: self.from.clone().zip(self.to.clone()),
            mirror,
        }
    }
}

/// What goes where, and how far a pass may go.
#[derive(Clone, Debug)]
pub struct Options {
    /// Mirrors of the config; all of them when none is named.
    pub mirrors: Vec<String>,
    /// Instead, from this repository of the config to that one.
    pub pair: Option<(String, String)>,
    /// How each pass goes. An alarm is looked for.
    pub mirror: MirrorOptions,
}

/// Every mirror of the config, as without arguments.
impl Default for Options {
    fn default() -> Self {
        let mut mirror = MirrorOptions::default();
        mirror.max_delete_percent = MAX_DELETE_PERCENT;
        Self { mirrors: Vec::new(), pair: None, mirror }
    }
}

pub async fn replicate(context: &Context, args: &Replicate) -> JobOutcome {
    run(context, &args.options()).await
}

/// A pass of each mirror that is wanted.
pub async fn run(context: &Context, wanted: &Options) -> JobOutcome {
    let site = context.load()?;
    let ledger = Ledger::open(&site.config().settings.state_directory)?;
    // Of which repository it is, only its password would tell; so any alarm keeps deletions back.
    let alarms = Alarms::load(&site.config().settings.state_directory)?;
    let alarm = alarms.standing().first().map(ToString::to_string);
    let mut options = wanted.mirror.clone();
    options.alarm = alarm;
    let mut ended = Ended { is_recorded: true, ..Ended::from(Exit::Done) };
    for (from, to) in pairs(&site, wanted)? {
        let started = Timestamp::now();
        let (exit, message) = match pass(context, &site, &ledger, options.clone(), (&from, &to))
            .await
        {
            Ok(report) => {
                print(&report, context.global.json)?;
                (
                    report.exit,
                    report.refused.or_else(|| report.wrong.into_iter().next()).or(report.postponed),
                )
            }
            // One mirror that fails does not keep the others from being made.
            Err(failure) => {
                output::failure(&failure, context.global.json);
                (failure.exit, Some(failure.message))
            }
        };
        let seconds = Timestamp::now().duration_since(started).as_secs_f64();
        ended.exit = worse(ended.exit, exit);
        ended.parts.push(EndedPart { name: to, exit, message, seconds });
        if context.cancel.is_cancelled() {
            ended.exit = Exit::Cancelled;
            break;
        }
    }
    Ok(ended)
}

/// One pass of one mirror. Where it cannot begin, it is in the ledger too.
async fn pass(
    context: &Context,
    site: &Site,
    ledger: &Ledger,
    options: MirrorOptions,
    (from, to): (&str, &str),
) -> Result<MirrorReport, Failure> {
    let stores = || -> Result<_, Failure> {
        let near = site.location(from)?.store()?;
        Ok((near, library::place(ledger, &site.location(to)?, &options)?))
    };
    let (near, far) = match stores() {
        Ok(stores) => stores,
        Err(failure) => {
            if !options.dry_run {
                let place = site
                    .location(to)
                    .map_or_else(|_| to.to_owned(), |location| location.in_words());
                library::record_not_begun(ledger, &place, failure.exit, &failure.message)?;
            }
            return Err(failure);
        }
    };
    let mut job = MirrorJob::new(near, far);
    job.ledger = Some(ledger.clone());
    // A password that was lost keeps nothing from being brought over.
    job.access = site.access_to(from).ok();
    job.options = options;
    Ok(library::mirror(&job, &context.progress, &context.cancel).await?)
}

/// The first that went wrong says how it all ended.
fn worse(so_far: Exit, next: Exit) -> Exit {
    if so_far == Exit::Done { next } else { so_far }
}

/// Which repository goes where, by their names.
pub fn pairs(site: &Site, wanted: &Options) -> Result<Vec<(String, String)>, Failure> {
    if let Some(pair) = &wanted.pair {
        return Ok(vec![pair.clone()]);
    }
    let all = &site.config().settings.repository;
    let mut pairs = Vec::new();
    for (name, repository) in all {
        if let Some(of) = &repository.mirror_of
            && (wanted.mirrors.is_empty() || wanted.mirrors.contains(name))
        {
            pairs.push((of.clone(), name.clone()));
        }
    }
    if let Some(unknown) =
        wanted.mirrors.iter().find(|name| !pairs.iter().any(|(_, to)| to == *name))
    {
        return Err(Failure::usage(format!(
            "{} has no [repository.{unknown}] with `mirror_of`",
            site.path().display()
        )));
    }
    if pairs.is_empty() {
        let mut failure = Failure::usage(format!(
            "no repository in {} has `mirror_of`: there is nothing to replicate",
            site.path().display()
        ));
        failure.advice = Some(
            "write `mirror_of = \"local\"` into the mirror's table, or say --from and --to".into(),
        );
        return Err(failure);
    }
    Ok(pairs)
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
        line(&format!("  read back     {}: each hashes to its name", count(report.verified)))?;
    }
    for wrong in &report.wrong {
        line(&format!("  DAMAGED       {wrong}"))?;
    }
    if report.lost > 0 {
        line(&format!(
            "  LOST THERE    {} objects that earlier passes had brought; they are brought again",
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
        line(&format!("  deletions wait for a later pass: {why}"))?;
    }
    if let Some(since) = report.postponed_since.filter(|_| report.postponed_passes > 1) {
        line(&format!("  they have waited since {since}, in {} passes", report.postponed_passes))?;
    }
    if let Some(why) = &report.refused {
        line(&format!("  NOTHING WAS DELETED: {why}"))?;
    }
    Ok(())
}
