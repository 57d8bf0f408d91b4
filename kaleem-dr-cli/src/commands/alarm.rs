//! `alarm list`, `alarm acknowledge`.

use kaleem_dr_core::{
    engine::repository::{LockKind, Repository},
    ground::Exit,
    operate::tripwire::{Alarm, Alarms, RecordedAlarm},
};

use super::Outcome;
use crate::{
    args::AlarmCommand,
    context::{Context, Loaded},
    failure::Failure,
    output,
};

pub async fn alarm(context: &Context, command: &AlarmCommand) -> Outcome {
    let loaded = context.load()?;
    let state_directory = &loaded.config.settings.state_directory;
    let mut worst = Exit::Done;
    let mut recorded = Vec::new();
    let mut gone = Vec::new();
    if let AlarmCommand::Acknowledge { sources } = command {
        gone = Alarms::acknowledge(state_directory, &loaded.identity.scope, sources)?;
    }
    for name in repositories(context, &loaded)? {
        let done = match command {
            AlarmCommand::List => listed(&loaded, &name).await,
            AlarmCommand::Acknowledge { sources } => {
                let is_meant = |alarm: &RecordedAlarm| {
                    loaded.identity.scope.includes(&alarm.host)
                        && (sources.is_empty() || alarm.alarm.as_ref().is_some_and(|alarm| sources.contains(&alarm.source)))
                };
                acknowledged(context, &loaded, &name, is_meant).await
            }
        };
        match done {
            Ok(found) => recorded.extend(found),
            // One that cannot be opened does not keep the others from being looked at.
            Err(failure) => {
                output::failure(&failure, context.global.json);
                worst = Exit::Partial;
            }
        }
    }
    match command {
        AlarmCommand::List => output::alarms(Alarms::load(state_directory)?.standing(), &recorded, context.global.json)?,
        AlarmCommand::Acknowledge { .. } => output::acknowledged(&gone, &recorded, context.global.json)?,
    }
    Ok(worst)
}

/// The repository of runs and those that are fed by them. Mirrors follow with their next pass.
fn repositories(context: &Context, loaded: &Loaded) -> Result<Vec<String>, Failure> {
    let own = context.chosen(loaded)?.0;
    let also = &loaded.config.settings.backup.also;
    Ok(std::iter::once(own).chain(also.iter().filter(|name| *name != own)).cloned().collect())
}

async fn listed(loaded: &Loaded, name: &str) -> Result<Vec<RecordedAlarm>, Failure> {
    let repository = Repository::open(&loaded.access_to(name)?).await?;
    let recorded = Alarm::recorded(&repository.snapshots().await?);
    Alarms::reconcile(&loaded.config.settings.state_directory, repository.id(), &recorded)?;
    Ok(recorded)
}

/// Removes the records that are meant. Gives them.
async fn acknowledged(
    context: &Context,
    loaded: &Loaded,
    name: &str,
    is_meant: impl Fn(&RecordedAlarm) -> bool,
) -> Result<Vec<RecordedAlarm>, Failure> {
    let repository = Repository::open(&loaded.access_to(name)?).await?;
    let meant = |recorded: Vec<RecordedAlarm>| recorded.into_iter().filter(&is_meant).collect::<Vec<_>>();
    if meant(Alarm::recorded(&repository.snapshots().await?)).is_empty() {
        return Ok(Vec::new());
    }
    let lock = repository.lock(LockKind::Exclusive, context.global.retry_lock).await?;
    let removed = async {
        let meant = meant(Alarm::recorded(&repository.snapshots().await?));
        let records: Vec<_> = meant.iter().map(|alarm| alarm.record).collect();
        repository.remove_records(&records, &lock, &context.progress, &context.cancel).await?;
        Ok(meant)
    }
    .await;
    lock.release().await?;
    removed
}
