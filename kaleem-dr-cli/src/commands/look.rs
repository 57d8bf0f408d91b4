//! Looking at what is there: `snapshots`, `points`, `stats`, `status`, `probe`.

use kaleem_dr_core::{
    engine::{
        ledger::Ledger,
        repository::{Repository, Snapshot},
    },
    ground::{Exit, RunId, SourceName},
    jiff::{SignedDuration, Timestamp},
    operate::{
        config::RepositorySettings,
        job::{SourceStatus, StatusOf, StatusRules, rebuild, status_of_hosts},
        tripwire::{Alarm, Alarms},
    },
    recovery::{objectives::rto_broken, points::recovery_points},
};

use super::Outcome;
use crate::{
    context::{Context, Loaded},
    failure::Failure,
    output,
};

pub async fn snapshots(context: &Context, source: Option<&SourceName>, run: Option<RunId>, own: bool) -> Outcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let mut snapshots = repository.snapshots().await?;
    snapshots.retain(|snapshot: &Snapshot| {
        (source.is_none() || snapshot.source().as_ref() == source)
            && (run.is_none() || snapshot.run() == run)
            && (!own || snapshot.is_ours())
            // An alarm's record holds no data: `alarm list` shows it.
            && !snapshot.is_record()
            && context.global.host.as_ref().is_none_or(|hosts| hosts.includes(snapshot.host()))
    });
    output::snapshots(&snapshots, context.global.json)?;
    Ok(Exit::Done)
}

pub async fn points(context: &Context) -> Outcome {
    let loaded = context.load()?;
    let repository = context.repository(&loaded).await?;
    let wanted = loaded.config.backup_sources();
    output::points(&recovery_points(&repository.snapshots().await?, &wanted, &loaded.identity.scope), context.global.json)?;
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
    let settings = &loaded.config.settings;
    let (own, _) = context.chosen(&loaded)?;
    let repository = context.repository(&loaded).await?;
    let snapshots = repository.snapshots().await?;
    let (ledger, sources) = (Ledger::open(&settings.state_directory)?, loaded.config.backup_sources());
    let host = settings.host_name();
    let rules = StatusRules {
        ledger: &ledger,
        objectives: &settings.objectives,
        sources: &sources,
        host: host.as_str(),
        max_age: SignedDuration::from_hours(i64::from(settings.status.max_age_hours)),
        now: Timestamp::now(),
    };
    let location = |name: &String| Ok::<_, Failure>(loaded.location(name)?.in_words());
    let of = |name: &String| {
        let mirror_of = settings.repository.get(name).and_then(|settings| settings.mirror_of.as_ref());
        Ok::<_, Failure>(StatusOf {
            name: name.clone(),
            location: location(name)?,
            mirror_of: mirror_of.map(location).transpose()?,
        })
    };
    let mut all = rules.of_repository(&of(own)?, &snapshots)?;
    let rto_broken = rto_broken(&settings.objectives, all.iter().map(|status| &status.standing));
    if context.global.repo.is_none() {
        for name in replicas(&loaded, own) {
            all.extend(rules.of_replica(&of(name)?, &snapshots)?);
        }
    }
    let recorded = Alarm::recorded(&snapshots);
    Alarms::reconcile(&settings.state_directory, repository.id(), &recorded)?;
    let alarms = Alarms::load(&settings.state_directory)?;
    output::status::status(&all, rto_broken, alarms.standing(), context.global.json)?;
    if !context.global.json {
        output::status::recorded(&recorded, alarms.standing())?;
    }
    let broken = rto_broken == Some(true) || all.iter().any(SourceStatus::is_broken);
    Ok(if broken { Exit::Stale } else { Exit::Done })
}

/// A row for each host and source.
pub async fn hosts(context: &Context) -> Outcome {
    let loaded = context.load()?;
    let settings = &loaded.config.settings;
    let snapshots = context.repository(&loaded).await?.snapshots().await?;
    let max_age = SignedDuration::from_hours(i64::from(settings.status.max_age_hours));
    let rows = status_of_hosts(&snapshots, &settings.status.expected_hosts, max_age, Timestamp::now());
    output::status::hosts(&rows, context.global.json)?;
    if !context.global.json {
        output::status::recorded(&Alarm::recorded(&snapshots), &[])?;
    }
    // No expected host and no snapshot at all is nothing to be content with.
    let broken = rows.is_empty() || rows.iter().any(|row| row.is_broken);
    Ok(if broken { Exit::Stale } else { Exit::Done })
}

/// Repositories that are fed from this one.
fn replicas<'a>(loaded: &'a Loaded, own: &'a String) -> impl Iterator<Item = &'a String> {
    let settings = &loaded.config.settings;
    let is_fed = move |name: &String, repository: &RepositorySettings| {
        repository.mirror_of.as_ref() == Some(own) || settings.backup.also.contains(name)
    };
    settings.repository.iter().filter(move |(name, repository)| *name != own && is_fed(name, repository)).map(|(name, _)| name)
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

pub async fn rebuild_history(context: &Context, last: usize) -> Outcome {
    let loaded = context.load()?;
    let ledger = Ledger::open(&loaded.config.settings.state_directory)?;
    let mut worst = Exit::Done;
    for name in loaded.config.settings.repository.keys() {
        // One that cannot be opened does not keep the others from being read.
        let added = async {
            let repository = Repository::open(&loaded.access_to(name)?).await?;
            Ok::<_, Failure>(rebuild(
                &ledger,
                &repository.location(),
                &repository.snapshots().await?,
                loaded.config.settings.host_name().as_str(),
            )?)
        };
        match added.await {
            Ok(runs) => output::rebuilt(name, runs, context.global.json)?,
            Err(failure) => {
                output::failure(&failure, context.global.json);
                worst = Exit::Partial;
            }
        }
    }
    if !context.global.json {
        output::history(&ledger.history(last)?, false)?;
    }
    Ok(worst)
}
