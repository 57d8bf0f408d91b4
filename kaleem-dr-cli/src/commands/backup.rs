//! `backup`.

use kaleem_dr_core::{
    job::{BackupJob, backup as run},
    source::SourceName,
};

use super::Outcome;
use crate::{context::Context, failure::Failure, output};

pub async fn backup(context: &Context, wanted: &[SourceName], tags: Vec<String>, dry_run: bool) -> Outcome {
    let loaded = context.load()?;
    let sources = loaded.sources(wanted)?;
    if sources.is_empty() {
        return Err(Failure::usage(format!("{} has no [source.NAME]: there is nothing to back up", loaded.path.display())));
    }
    let settings = &loaded.config.settings;
    let job = BackupJob {
        repository: context.repository(&loaded).await?,
        sources,
        retention: settings.backup.forget.then_some(settings.retention),
        prune: settings.backup.prune,
        tags: settings.backup.tags.iter().cloned().chain(tags).collect(),
        dry_run,
        state_directory: Some(settings.state_directory.clone()),
        patience: context.global.retry_lock,
    };
    let report = run(&job, &context.progress, &context.cancel).await?;
    output::backup(&report, context.global.json)?;
    Ok(report.exit)
}
