//! `backup`.

use kaleem_dr_core::{
    job::{BackupJob, Unavailable, backup as run},
    sentence,
    source::SourceName,
};

use super::Outcome;
use crate::{context::Context, failure::Failure, output};

pub async fn backup(context: &Context, wanted: &[SourceName], tags: Vec<String>, dry_run: bool) -> Outcome {
    let loaded = context.load()?;
    let wanted = if wanted.is_empty() { loaded.config.backup_sources() } else { wanted.to_vec() };
    let (mut sources, mut unavailable) = (Vec::new(), Vec::new());
    for name in &wanted {
        let declared = loaded.declared(name)?;
        match declared.make(&loaded.environment) {
            Ok(source) => sources.push(source),
            // Its secret is missing, say: it fails alone, and the others are saved.
            Err(error) => {
                let (source, kind) = (name.clone(), declared.kind.to_owned());
                unavailable.push(Unavailable { source, kind, why: sentence(&*error) });
            }
        }
    }
    if wanted.is_empty() {
        return Err(Failure::usage(format!("{} has no [source.NAME]: there is nothing to back up", loaded.path.display())));
    }
    let settings = &loaded.config.settings;
    let job = BackupJob {
        repository: context.repository(&loaded).await?,
        sources,
        unavailable,
        retention: settings.backup.forget.then_some(settings.retention),
        prune: settings.backup.prune,
        staging: settings.staged.clone(),
        tags: settings.backup.tags.iter().cloned().chain(tags).collect(),
        dry_run,
        state_directory: Some(settings.state_directory.clone()),
        patience: context.global.retry_lock,
    };
    let report = run(&job, &context.progress, &context.cancel).await?;
    output::backup(&report, context.global.json)?;
    Ok(report.exit)
}
