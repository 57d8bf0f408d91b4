//! `copy`.

use kaleem_dr_core::{
    engine::repository::{CopyOptions, LockKind, Repository, Snapshot, select},
    operate::monitor::Ended,
};

use super::JobOutcome;
use crate::{args::CopySnapshots, context::Context, failure::Failure, output};

pub async fn copy(context: &Context, args: &CopySnapshots) -> JobOutcome {
    let loaded = context.load()?;
    let access = loaded.access_to(&args.to)?;
    if context.chosen(&loaded)?.0 == &args.to {
        return Err(Failure::usage(format!("{} cannot be copied into itself; --repo names where to copy from", args.to)));
    }
    let source = context.repository(&loaded).await?;
    let destination = Repository::open(&access).await?;
    let all = source.snapshots().await?;
    let mut wanted: Vec<Snapshot> = if args.snapshots.is_empty() {
        all
    } else {
        args.snapshots.iter().map(|id| select(&all, id, &loaded.identity.scope).cloned()).collect::<Result<_, _>>()?
    };
    wanted.retain(|snapshot| args.sources.is_empty() || snapshot.source().is_some_and(|source| args.sources.contains(&source)));
    let tags = loaded.config.settings.repository.get(&args.to).map(|settings| settings.tags.clone()).unwrap_or_default();
    let options = CopyOptions { tags, dry_run: args.dry_run };

    let patience = context.global.retry_lock;
    let here = source.lock_to_read(patience).await?;
    let there = match destination.lock(LockKind::Shared, patience).await {
        Ok(lock) => lock,
        Err(error) => {
            here.release().await?;
            return Err(error.into());
        }
    };
    let report = source.copy_to(&destination, &wanted, &options, (&here, &there), &context.progress, &context.cancel).await;
    let released = (there.release().await, here.release().await);
    let report = report?;
    output::copied(&report, &args.to, context.global.json)?;
    released.0?;
    released.1?;
    let message = report.failed.first().map(|failure| failure.error.clone());
    Ok(Ended { message, ..Ended::new(report.exit(), &report) })
}
