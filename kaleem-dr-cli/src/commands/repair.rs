//! `repair`: from a mirror, which needs no password; of the index and of snapshots, which does.

use clap::{Args, Subcommand};
use kaleem_dr_core::{
    engine::{
        replicate::RepairReport,
        repository::{IndexRepair, RepairedSnapshot, SnapshotRepair},
    },
    operate::{
        monitor::Ended,
        site::{MirrorRepair, SnapshotsRepair},
    },
};
use serde_json::json;

use super::JobOutcome;
use crate::{
    consent::{Asking, Consent},
    context::Context,
    failure::Failure,
    output::{Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr repair --from r2 --missing           restore damaged and missing objects from the mirror r2
  kaleem-dr repair index                         rebuild the index from the existing packs
  kaleem-dr repair snapshots --forget            without a mirror: rewrite snapshots without the lost data";

/// Arguments of `repair`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Repair {
    /// Part to repair without a mirror
    #[command(subcommand)]
    pub command: Option<RepairCommand>,
    /// Mirror to repair from, by its name in the config
    #[arg(long, value_name = "NAME", required = true)]
    pub from: Option<String>,
    /// Also fetch objects that only the mirror has
    #[arg(long)]
    pub missing: bool,
    /// Show what is damaged; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

impl Repair {
    /// Reports whether this is a dry run.
    pub fn is_dry_run(&self) -> bool {
        match &self.command {
            Some(RepairCommand::Index { consent } | RepairCommand::Snapshots { consent, .. }) => {
                consent.dry_run
            }
            None => self.dry_run,
        }
    }
}

/// Repairs that need no mirror.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// Make the index match the packs: add missing ones, drop lost ones, replace damaged index
    /// files
    Index {
        #[command(flatten)]
        consent: Consent,
    },
    /// Rewrite snapshots without the lost files and directories; the new snapshots are marked
    /// incomplete
    Snapshots {
        /// Rewrite only these snapshots, by id prefix [default: all]
        #[arg(value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
        /// Forget the damaged snapshots after they are rewritten, and those of which nothing is
        /// left
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        consent: Consent,
    },
}

pub async fn repair(context: &Context, args: &Repair) -> JobOutcome {
    match &args.command {
        None => from_mirror(context, args).await,
        Some(RepairCommand::Index { consent }) => index(context, *consent).await,
        Some(RepairCommand::Snapshots { snapshots, forget, consent }) => {
            self::snapshots(context, snapshots, *forget, *consent).await
        }
    }
}

async fn from_mirror(context: &Context, args: &Repair) -> JobOutcome {
    let from =
        args.from.as_ref().ok_or_else(|| Failure::usage("name a mirror with --from NAME"))?;
    let mut wanted = MirrorRepair::from(from);
    (wanted.missing, wanted.dry_run) = (args.missing, args.dry_run);
    let report = context.load()?.repair_from_mirror(&wanted).await?;
    print_from_mirror(&report, context.global.json)?;
    Ok(Ended::from(&report))
}

async fn index(context: &Context, consent: Consent) -> JobOutcome {
    let site = context.load()?;
    let mut asking = Asking::new(context, consent);
    let done = site
        .repair_index(consent.dry_run, async |plan| {
            let show = || print_index(plan, false, false);
            asking.agree("make the index match the packs?", show).await
        })
        .await;
    let report = asking.given(done)?;
    print_index(&report.plan, report.done, context.global.json)?;
    Ok(Ended::from(&report))
}

async fn snapshots(
    context: &Context,
    wanted: &[String],
    forget: bool,
    consent: Consent,
) -> JobOutcome {
    let site = context.load()?;
    let mut wanted = SnapshotsRepair::of(wanted.to_vec());
    (wanted.forget, wanted.dry_run) = (forget, consent.dry_run);
    let question = if forget {
        "rewrite these snapshots and forget the damaged ones?"
    } else {
        "rewrite these snapshots?"
    };
    let mut asking = Asking::new(context, consent);
    let done = site
        .repair_snapshots(&wanted, async |plan| {
            asking.agree(question, || print_snapshots(plan, None, forget, false)).await
        })
        .await;
    let report = asking.given(done)?;
    print_snapshots(&report.plan, report.done.as_deref(), forget, context.global.json)?;
    Ok(Ended::from(&report))
}

fn print_from_mirror(report: &RepairReport, json: bool) -> Printed {
    if json {
        return document(report);
    }
    line(&format!(
        "{} objects ({}) are undamaged",
        report.sound.objects,
        size(report.sound.bytes)
    ))?;
    let done = if report.dry_run { "could be restored" } else { "restored and read again" };
    for key in &report.repaired {
        line(&format!("{done}: {key}"))?;
    }
    for why in &report.unrepaired {
        line(&format!("NOT REPAIRED: {why}"))?;
    }
    if report.unexamined > 0 {
        line(&format!(
            "{} missing index file(s) were not examined, because the password is missing or wrong: run `kaleem-dr check`",
            report.unexamined
        ))?;
    }
    Ok(())
}

/// Maximum number of objects that are listed by name; the rest are counted.
const NAMED: usize = 20;

fn print_index(plan: &IndexRepair, done: bool, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(plan)?;
        value["message_type"] = "repair-index".into();
        value["done"] = done.into();
        return document(&value);
    }
    let did = |done_word: &str, plan_word: &str| {
        if done { done_word.to_owned() } else { format!("to {plan_word}") }
    };
    named(&did("added to the index", "add to the index"), plan.added.iter().cloned())?;
    named(
        &did("dropped from the index", "drop from the index"),
        plan.dropped.iter().map(|(key, why)| format!("{key}: {why}")),
    )?;
    named(&did("removed, damaged", "remove, damaged"), plan.damaged.iter().cloned())?;
    named(
        "unreadable, left unchanged",
        plan.unreadable.iter().map(|(key, why)| format!("{key}: {why}")),
    )?;
    if plan.is_needed() {
        line(&format!("{} blobs are back in the index", plan.blobs_added))
    } else {
        line("the index matches the packs")
    }
}

fn print_snapshots(
    plan: &SnapshotRepair,
    done: Option<&[RepairedSnapshot]>,
    forget: bool,
    json: bool,
) -> Printed {
    if json {
        return document(&json!({
            "message_type": "repair-snapshots",
            "whole": plan.whole,
            "lost": plan.lost,
            "unreadable": plan.unreadable,
            "forget": forget,
            "repaired": done,
        }));
    }
    for lost in &plan.lost {
        let of =
            lost.source.as_ref().map_or_else(String::new, |source| format!(" of source {source}"));
        line(&format!("snapshot {}{of}: {}", lost.snapshot.short(), lost.what))?;
        let repaired =
            done.and_then(|done| done.iter().find(|repaired| repaired.from == lost.snapshot));
        match (repaired, lost.is_gone) {
            (_, true) => line("  nothing is left of it")?,
            (None, false) => line("  to be rewritten without it")?,
            (Some(repaired), false) => {
                let id = repaired.snapshot.map(|id| id.short()).unwrap_or_default();
                line(&format!("  rewritten without it as {id}"))?;
            }
        }
        if forget {
            line(if repaired.is_some() { "  forgotten" } else { "  to be forgotten" })?;
        }
    }
    for unreadable in &plan.unreadable {
        let then = match (forget, done) {
            (true, Some(_)) => "forgotten",
            (true, None) => "to be forgotten",
            (false, _) => "stays; --forget removes it",
        };
        line(&format!(
            "{}: {}; nothing of it can be rewritten: {then}",
            unreadable.object, unreadable.why
        ))?;
    }
    line(&format!("{} snapshots are whole", plan.whole))
}

fn named(what: &str, objects: impl ExactSizeIterator<Item = String>) -> Printed {
    let more = objects.len().saturating_sub(NAMED);
    objects.take(NAMED).try_for_each(|object| line(&format!("{what}: {object}")))?;
    if more > 0 { line(&format!("{what}: {more} more")) } else { Ok(()) }
}
