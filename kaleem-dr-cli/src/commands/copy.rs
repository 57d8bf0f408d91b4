//! `copy`.

use clap::Args;
use kaleem_dr_core::{
    engine::repository::{CopyOptions, CopyReport, LockKind, Repository, Snapshot, select},
    ground::SourceName,
    operate::monitor::Ended,
};

use super::JobOutcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{Printed, document, line, size},
};

pub const EXAMPLES: &str = "Examples:
  kaleem-dr copy --to r2                          everything that r2 does not have yet
  kaleem-dr copy --to r2 --source mongo 4f3a      one snapshot of mongo
  kaleem-dr --repo r2 copy --to local             and back";

/// What to copy, and where to.
#[derive(Debug, Args)]
pub struct CopySnapshots {
    /// Repository of the config to copy into
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// Only of this source; may be repeated
    #[arg(long = "source", value_name = "SOURCE")]
    pub sources: Vec<SourceName>,
    /// Only these, by the beginning of their ids, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Show what would be copied, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

pub async fn copy(context: &Context, args: &CopySnapshots) -> JobOutcome {
    let site = context.load()?;
    let access = site.access_to(&args.to)?;
    if site.chosen_repository()?.0 == args.to {
        return Err(Failure::usage(format!(
            "{} cannot be copied into itself; --repo names where to copy from",
            args.to
        )));
    }
    let source = site.repository().await?;
    let destination = Repository::open(&access).await?;
    let all = source.snapshots().await?;
    let mut wanted: Vec<Snapshot> = if args.snapshots.is_empty() {
        all
    } else {
        args.snapshots
            .iter()
            .map(|id| select(&all, id, &site.identity().scope).cloned())
            .collect::<Result<_, _>>()?
    };
    wanted.retain(|snapshot| {
        args.sources.is_empty()
            || snapshot.source().is_some_and(|source| args.sources.contains(&source))
    });
    let tags = site
        .config()
        .settings
        .repository
        .get(&args.to)
        .map(|settings| settings.tags.clone())
        .unwrap_or_default();
    let mut options = CopyOptions::default();
    options.tags = tags;
    options.dry_run = args.dry_run;

    let patience = context.global.retry_lock;
    let here = source.lock_to_read(patience).await?;
    let there = match destination.lock(LockKind::Shared, patience).await {
        Ok(lock) => lock,
        Err(error) => {
            here.release().await?;
            return Err(error.into());
        }
    };
    let report = source
        .copy_to(
            &destination,
            &wanted,
            &options,
            (&here, &there),
            &context.progress,
            &context.cancel,
        )
        .await;
    let released = (there.release().await, here.release().await);
    let report = report?;
    print(&report, &args.to, context.global.json)?;
    released.0?;
    released.1?;
    let message = report.failed.first().map(|failure| failure.error.clone());
    Ok(Ended { message, ..Ended::new(report.exit(), &report) })
}

fn print(report: &CopyReport, to: &str, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(report)?;
        value["message_type"] = "summary".into();
        value["repository"] = to.into();
        return document(&value);
    }
    let (copied, would) = if report.dry_run { ("would be copied", "") } else { ("copied", "as ") };
    for snapshot in &report.copied {
        let source =
            snapshot.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        let id = snapshot.snapshot.map(|id| id.short()).unwrap_or_default();
        line(format!("  {}{source} {would}{id}", snapshot.from.short()).trim_end())?;
    }
    for failure in &report.failed {
        let source =
            failure.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        line(&format!(
            "error: {}{source} is not copied: {}",
            failure.snapshot.short(),
            failure.error
        ))?;
    }
    if report.chunkers_differ {
        line(CHUNKERS_DIFFER)?;
    }
    line(&format!(
        "{} snapshots {copied} to {to}, {} were there already, {} failed; added {}",
        report.copied.len(),
        report.skipped.len(),
        report.failed.len(),
        size(report.added_bytes)
    ))
}

const CHUNKERS_DIFFER: &str = "note: the two repositories cut files in different places, so what is copied shares nothing with what is saved \
there directly; `init --copy-chunker-params` makes one that agrees";
