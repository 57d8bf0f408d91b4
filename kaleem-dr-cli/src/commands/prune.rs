//! `prune`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::{PruneOptions, PruneReport},
    ground::Exit,
    operate::{monitor::Ended, tripwire::Removal},
};

use super::{JobOutcome, alarm::guard};
use crate::{
    consent::{self, Consent},
    context::Context,
    output::{Printed, document, line, size},
};

/// How far to go.
#[derive(Clone, Copy, Debug, Args)]
pub struct Prune {
    #[command(flatten)]
    pub consent: Consent,
    /// Delete at once what would be marked now and deleted by a prune a day later
    #[arg(long)]
    pub instant: bool,
    /// Unused space that may stay, in percent; 100 is any
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub max_unused: u64,
}

pub async fn prune(context: &Context, args: &Prune) -> JobOutcome {
    let Prune { consent, instant, max_unused } = *args;
    let site = context.load()?;
    let repository = site.repository().await?;
    if !consent.dry_run {
        guard(&site, &repository, &site.identity().scope, Removal::Prune).await?;
    }
    let mut options = PruneOptions::default();
    options.instant = instant;
    options.max_unused_percent = max_unused;
    options.dry_run = true;
    let lock = context.lock_to_free(&repository).await?;
    let result = async {
        let plan = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
        if consent.dry_run {
            print(&plan, context.global.json)?;
            return Ok(Ended::from(Exit::Done));
        }
        if instant || !plan.deletes_nothing() {
            consent::ask(consent, "prune?", &context.cancel, || print(&plan, false)).await?;
        }
        options.dry_run = false;
        let report = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
        print(&report, context.global.json)?;
        Ok(Ended::new(Exit::Done, &report))
    }
    .await;
    lock.release().await?;
    result
}

/// What a prune gave back, or would.
pub fn print(report: &PruneReport, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        return document(&value);
    }
    line(&sentence(report))
}

/// What a prune gave back, or would, in a sentence.
pub fn sentence(report: &PruneReport) -> String {
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
