//! `prune`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::PruneReport,
    operate::{monitor::Ended, site},
};

use super::JobOutcome;
use crate::{
    consent::{Asking, Consent},
    context::Context,
    output::{Printed, document, line, moment, size},
};

/// Arguments of `prune`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Prune {
    #[command(flatten)]
    pub consent: Consent,
    /// Delete packs at once, instead of marking them for a prune at least a day later
    #[arg(long)]
    pub instant: bool,
    /// Maximum unused space in the repository, in percent; 100 for no limit
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub max_unused: u64,
    /// Prune for all hosts of a shared repository, unless one of them has done so within
    /// `backup.prune_every_hours`; wait for their locks for half an hour at least
    #[arg(long, conflicts_with = "instant")]
    pub elected: bool,
}

impl Prune {
    pub fn options(&self) -> site::Prune {
        let mut options = site::Prune::of(self.instant, self.max_unused);
        (options.dry_run, options.elected) = (self.consent.dry_run, self.elected);
        options
    }
}

pub async fn prune(context: &Context, args: &Prune) -> JobOutcome {
    let site = context.load()?;
    let mut asking = Asking::new(context, args.consent);
    let done = site
        .prune(args.options(), async |plan| asking.agree("prune?", || print(plan, false)).await)
        .await;
    let report = asking.given(done)?;
    print(&report, context.global.json)?;
    Ok(Ended::from(&report))
}

/// Prints how much a prune deleted, or would delete.
pub fn print(report: &PruneReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        return document(&value);
    }
    line(&sentence(report))
}

/// Describes how much a prune deleted, or would delete, in one sentence.
pub fn sentence(report: &PruneReport) -> String {
    if let Some(done) = &report.done_by {
        let time = moment(done.time);
        return format!(
            "prune: host {} has pruned this repository at {time}; nothing to do",
            done.host
        );
    }
    let (deleted, marked) =
        if report.dry_run { ("would delete", "would mark") } else { ("deleted", "marked") };
    format!(
        "prune: {deleted} {} packs ({}), {marked} {} packs ({}) for a prune a day from now; in use {}, unused {}",
        report.packs_deleted + report.packs_unreferenced,
        size(report.bytes_deleted + report.bytes_unreferenced),
        report.packs_marked,
        size(report.bytes_marked),
        size(report.bytes_used),
        size(report.bytes_unused)
    )
}
