//! `backup`.

use kaleem_dr_core::{
    engine::repository::Repository,
    ground::{SourceName, error_chain, host::HostScope},
    operate::{
        job,
        job::{BackupJob, FurtherRepository, RunReport},
        monitor::Ended,
        runbook::Runbook,
    },
};

use super::JobOutcome;
use crate::{
    context::{Context, Loaded},
    failure::Failure,
    output,
};

pub async fn backup(context: &Context, wanted: &[SourceName], tags: Vec<String>, dry_run: bool) -> JobOutcome {
    let loaded = context.load()?;
    let report = run(context, &loaded, wanted, tags, dry_run).await?;
    output::backup(&report, context.global.json)?;
    Ok(Ended::of_run(&report))
}

/// A run of these sources, or of those that the config names.
pub async fn run(
    context: &Context,
    loaded: &Loaded,
    wanted: &[SourceName],
    tags: Vec<String>,
    dry_run: bool,
) -> Result<RunReport, Failure> {
    if loaded.identity.scope == HostScope::Any {
        return Err(Failure::usage("a backup is of one host; --host any does not say which"));
    }
    let (sources, unavailable) = loaded.sources(wanted)?;
    let settings = &loaded.config.settings;
    let (repository, tags, also) = repositories(context, loaded, tags).await?;
    let job = BackupJob {
        run: Some(context.run),
        host: loaded.config.settings.host_name(),
        repository,
        sources,
        unavailable,
        retention: settings.backup.forget.then(|| settings.retention.clone()),
        prune: settings.backup.prune,
        staging: settings.staged.clone(),
        tags,
        restore_text: Some(Runbook::of(&loaded.config, &loaded.environment, &loaded.path).restore_md().into()),
        dry_run,
        also,
        tripwire: Some(settings.tripwire),
        state_directory: Some(settings.state_directory.clone()),
        patience: context.global.retry_lock,
    };
    Ok(job::backup(&job, &context.progress, &context.cancel).await?)
}

/// The run's repository, the tags of what is saved in it, and the further repositories. When the first cannot be opened, the
/// next that can takes its place, and it counts as one that failed.
async fn repositories(
    context: &Context,
    loaded: &Loaded,
    tags: Vec<String>,
) -> Result<(Repository, Vec<String>, Vec<FurtherRepository>), Failure> {
    let settings = &loaded.config.settings;
    let own = context.chosen(loaded)?.0;
    let tags_of = |name: &str| settings.repository.get(name).map(|repository| repository.tags.clone()).unwrap_or_default();
    let mut also = Vec::new();
    for name in settings.backup.also.iter().filter(|name| *name != own) {
        let opened = match loaded.access_to(name) {
            Ok(access) => Repository::open(&access).await.map_err(|error| error_chain(&error)),
            Err(failure) => Err(failure.message),
        };
        also.push(FurtherRepository { name: name.clone(), repository: opened, tags: tags_of(name) });
    }
    let more = settings.backup.tags.iter().cloned().chain(tags);
    match context.repository(loaded).await {
        Ok(repository) => Ok((repository, more.chain(tags_of(own)).collect(), also)),
        Err(failure) => {
            let Some(at) = also.iter().position(|further| further.repository.is_ok()) else { return Err(failure) };
            let stand_in = also.remove(at);
            let repository = stand_in.repository.map_err(Failure::usage)?;
            also.insert(0, FurtherRepository { name: own.to_owned(), repository: Err(failure.message), tags: Vec::new() });
            Ok((repository, more.chain(stand_in.tags).collect(), also))
        }
    }
}
