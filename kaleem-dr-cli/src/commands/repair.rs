//! `repair`: from a mirror, which needs no password; of the index and of snapshots, which does.

use std::sync::Arc;

use kaleem_dr_core::{
    engine::{
        replicate,
        replicate::RepairOptions,
        repository::{LockKind, store::ObjectStore},
    },
    ground::Exit,
    operate::monitor::Ended,
};

use super::JobOutcome;
use crate::{
    args::{Consent, Repair, RepairCommand},
    context::Context,
    failure::Failure,
    output,
};

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
    let loaded = context.load()?;
    let (name, _) = context.chosen(&loaded)?;
    let from = args.from.as_ref().ok_or_else(|| Failure::usage("say from which mirror with --from NAME"))?;
    let repository: Arc<dyn ObjectStore> = loaded.location(name)?.store()?;
    let replica = loaded.location(from)?.store()?;
    let options = RepairOptions { dry_run: args.dry_run, missing: args.missing };
    let report = replicate::repair(&repository, &replica, options, &context.progress, &context.cancel).await?;
    output::repair(&report, context.global.json)?;
    Ok(Ended { message: report.unrepaired.first().cloned(), ..Ended::new(report.exit, &report) })
}

async fn index(context: &Context, consent: Consent) -> JobOutcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let lock = context.lock(&repository, LockKind::Exclusive).await?;
    let result = async {
        let plan = repository.plan_index_repair(&context.progress, &context.cancel).await?;
        if consent.dry_run || !plan.is_needed() {
            output::repair::index(&plan, false, context.global.json)?;
            return Ok(Ended::new(Exit::Done, &plan));
        }
        output::consent(consent, "make the index fit the packs?", &context.cancel, || output::repair::index(&plan, false, false))
            .await?;
        repository.repair_index(&plan, &lock).await?;
        output::repair::index(&plan, true, context.global.json)?;
        Ok(Ended::new(Exit::Done, &plan))
    }
    .await;
    lock.release().await?;
    result
}

async fn snapshots(context: &Context, wanted: &[String], forget: bool, consent: Consent) -> JobOutcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let lock = context.lock(&repository, LockKind::Exclusive).await?;
    let result = async {
        let plan = repository.plan_snapshot_repair(wanted, &lock, &context.progress, &context.cancel).await?;
        if consent.dry_run || !plan.is_needed(forget) {
            output::repair::snapshots(&plan, None, forget, context.global.json)?;
            return Ok(Ended::new(Exit::Done, &plan));
        }
        let question = if forget { "rewrite these snapshots and forget the damaged ones?" } else { "rewrite these snapshots?" };
        output::consent(consent, question, &context.cancel, || output::repair::snapshots(&plan, None, forget, false)).await?;
        let done = repository.repair_snapshots(&plan, forget, &lock, &context.progress, &context.cancel).await?;
        output::repair::snapshots(&plan, Some(&done), forget, context.global.json)?;
        Ok(Ended::new(Exit::Done, &done))
    }
    .await;
    lock.release().await?;
    result
}
