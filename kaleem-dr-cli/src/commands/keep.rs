//! Making and keeping a repository: `init`, `forget`, `prune`, `check`.

use kaleem_dr_core::{
    exit::Exit,
    monitor::Ended,
    repository::{LockKind, PruneOptions, ReadData, Repository, Retention},
    tripwire::Alarms,
};

use serde_json::json;

use super::{JobOutcome, Outcome};
use crate::{
    args::{Consent, Forget},
    context::Context,
    output,
};

pub async fn init(context: &Context, version: u32, like: Option<&str>) -> Outcome {
    let loaded = context.load()?;
    let access = context.access(&loaded)?;
    let repository = match like {
        Some(name) => {
            let like = Repository::open(&loaded.access_to(name)?).await?;
            Repository::init_like(&access, version, &like).await?
        }
        None => Repository::init(&access, version).await?,
    };
    output::init(&repository, context.global.json)?;
    Ok(Exit::Done)
}

pub async fn forget(context: &Context, args: &Forget) -> JobOutcome {
    let loaded = context.load()?;
    let retention = retention(args, loaded.config.settings.retention);
    if !args.consent.dry_run {
        Alarms::guard(&loaded.config.settings.state_directory)?;
    }
    let repository = context.repository(&loaded).await?;
    let lock = repository.lock(LockKind::Exclusive, context.global.retry_lock).await?;
    let result = async {
        let plan = repository.forget(retention, true, &lock, &context.progress, &context.cancel).await?;
        let question = format!("forget {} snapshots?", plan.removed());
        let mut pruned = None;
        if args.consent.dry_run || plan.removed() == 0 {
            output::forget(&plan, context.global.json)?;
        } else {
            output::consent(args.consent, &question, &context.cancel, || output::forget(&plan, false)).await?;
            let done = repository.forget(retention, false, &lock, &context.progress, &context.cancel).await?;
            output::forget(&done, context.global.json)?;
        }
        if args.prune {
            let options = PruneOptions { dry_run: args.consent.dry_run, ..PruneOptions::default() };
            let report = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
            output::prune(&report, context.global.json)?;
            pruned = Some(report);
        }
        Ok(Ended::new(Exit::Done, &json!({ "forgotten": plan.removed(), "prune": pruned })))
    }
    .await;
    lock.release().await?;
    result
}

/// Any `--keep-…` replaces the config's policy as a whole, as it does for restic.
fn retention(args: &Forget, config: Retention) -> Retention {
    let given = [args.keep_daily, args.keep_weekly, args.keep_monthly, args.keep_yearly, args.keep_last];
    let take_over = args.take_over || config.take_over;
    if given.iter().all(Option::is_none) {
        return Retention { take_over, ..config };
    }
    let [keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_last] = given.map(Option::unwrap_or_default);
    Retention { keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_last, take_over }
}

pub async fn prune(context: &Context, consent: Consent, instant: bool, max_unused_percent: u64) -> JobOutcome {
    let loaded = context.load()?;
    if !consent.dry_run {
        Alarms::guard(&loaded.config.settings.state_directory)?;
    }
    let repository = context.repository(&loaded).await?;
    let options = PruneOptions { instant, max_unused_percent, dry_run: true, ..PruneOptions::default() };
    let lock = repository.lock(LockKind::Exclusive, context.global.retry_lock).await?;
    let result = async {
        let plan = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
        if consent.dry_run {
            output::prune(&plan, context.global.json)?;
            return Ok(Ended::from(Exit::Done));
        }
        output::consent(consent, "prune?", &context.cancel, || output::prune(&plan, false)).await?;
        let options = PruneOptions { dry_run: false, ..options };
        let report = repository.prune(options, &lock, &context.progress, &context.cancel).await?;
        output::prune(&report, context.global.json)?;
        Ok(Ended::new(Exit::Done, &report))
    }
    .await;
    lock.release().await?;
    result
}

pub async fn check(context: &Context, read_data: bool, subset: Option<ReadData>) -> JobOutcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let read = subset.unwrap_or(if read_data { ReadData::All } else { ReadData::Nothing });
    let lock = repository.lock(LockKind::Shared, context.global.retry_lock).await?;
    let report = repository.check(read, &lock, &context.progress, &context.cancel).await;
    lock.release().await?;
    let report = report?;
    output::check(&report, context.global.json)?;
    let exit = if report.errors() == 0 { Exit::Done } else { Exit::NotVerified };
    let message = report.findings.iter().find(|finding| finding.is_error).map(|finding| finding.message.clone());
    Ok(Ended { message, ..Ended::new(exit, &json!({ "num_errors": report.errors(), "findings": report.findings })) })
}
