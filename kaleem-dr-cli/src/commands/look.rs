//! Looking at what is there: `snapshots`, `points`, `stats`, `status`, `probe`.

use kaleem_dr_core::{
    exit::Exit,
    host,
    jiff::{SignedDuration, Timestamp},
    job::{RunId, recovery_points, status as of_sources},
    ledger::Ledger,
    repository::Snapshot,
    source::SourceName,
    tripwire::Alarms,
};

use super::Outcome;
use crate::{context::Context, failure::Failure, output};

pub async fn snapshots(context: &Context, source: Option<&SourceName>, run: Option<RunId>, own: bool) -> Outcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let mut snapshots = repository.snapshots().await?;
    snapshots.retain(|snapshot: &Snapshot| {
        (source.is_none() || snapshot.source().as_ref() == source)
            && (run.is_none() || snapshot.run() == run)
            && (!own || snapshot.is_ours())
    });
    output::snapshots(&snapshots, context.global.json)?;
    Ok(Exit::Done)
}

pub async fn points(context: &Context) -> Outcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let wanted = loaded.config.backup_sources();
    output::points(&recovery_points(&repository.snapshots().await?, &wanted), context.global.json)?;
    Ok(Exit::Done)
}

pub async fn stats(context: &Context) -> Outcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    output::stats(&repository.stats().await?, context.global.json)?;
    Ok(Exit::Done)
}

pub async fn status(context: &Context) -> Outcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let sources = loaded.config.backup_sources();
    let limit = SignedDuration::from_hours(i64::from(loaded.config.settings.status.max_age_hours));
    let snapshots = repository.snapshots().await?;
    let status = of_sources(&snapshots, &sources, &host::name(), limit, Timestamp::now());
    let alarms = Alarms::load(&loaded.config.settings.state_directory)
        .map_err(|error| Failure::new(Exit::Failed, kaleem_dr_core::sentence(&error)))?;
    output::status(&status, alarms.standing(), context.global.json)?;
    Ok(if status.iter().any(|source| source.stale) { Exit::Stale } else { Exit::Done })
}

pub async fn probe(context: &Context) -> Outcome {
    let loaded = context.load()?;
    let mut failure: Option<Failure> = None;
    let mut probes = Vec::new();
    for name in loaded.config.sources.keys() {
        let probe = match loaded.source(name) {
            Ok(source) => source.probe().await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match probe {
            Ok(probe) => probes.push((name.clone(), probe)),
            Err(found) => {
                output::failure(&found, context.global.json);
                failure = Some(found);
            }
        }
    }
    output::probes(&probes, context.global.json)?;
    Ok(failure.map_or(Exit::Done, |failure| failure.exit))
}

pub fn history(context: &Context, last: usize) -> Outcome {
    let loaded = context.load()?;
    let events = Ledger::open(&loaded.config.settings.state_directory)?.history(last)?;
    output::history(&events, context.global.json)?;
    Ok(Exit::Done)
}
