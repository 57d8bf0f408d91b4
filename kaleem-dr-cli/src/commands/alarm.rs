//! `alarm list`, `alarm acknowledge`; and what an alarm stops.

use clap::Subcommand;
use kaleem_dr_core::{
    Site,
    engine::repository::{LockKind, Repository},
    ground::{Exit, SourceName, error_chain, host::HostScope},
    operate::tripwire::{Alarm, Alarms, RecordedAlarm, Removal},
};

use super::Outcome;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Printed, document, line},
};

/// What to do with alarms.
#[derive(Debug, Subcommand)]
pub enum AlarmCommand {
    /// List those that stand
    List,
    /// What raised them is all right: it is normal from now on
    Acknowledge {
        /// Only alarms of these sources
        sources: Vec<SourceName>,
    },
}

pub async fn alarm(context: &Context, command: &AlarmCommand) -> Outcome {
    let site = context.load()?;
    let state_directory = &site.config().settings.state_directory;
    let mut worst = Exit::Done;
    let mut recorded = Vec::new();
    let mut gone = Vec::new();
    if let AlarmCommand::Acknowledge { sources } = command {
        gone = Alarms::acknowledge(state_directory, &site.identity().scope, sources)?;
    }
    for name in repositories(context, &site)? {
        let done = match command {
            AlarmCommand::List => listed(&site, &name).await,
            AlarmCommand::Acknowledge { sources } => {
                let is_meant = |alarm: &RecordedAlarm| {
                    site.identity().scope.includes(&alarm.host)
                        && (sources.is_empty()
                            || alarm
                                .alarm
                                .as_ref()
                                .is_some_and(|alarm| sources.contains(&alarm.source)))
                };
                acknowledged(context, &site, &name, is_meant).await
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
        AlarmCommand::List => print_standing(
            Alarms::load(state_directory)?.standing(),
            &recorded,
            context.global.json,
        )?,
        AlarmCommand::Acknowledge { .. } => {
            print_acknowledged(&gone, &recorded, context.global.json)?;
        }
    }
    Ok(worst)
}

/// The repository of runs and those that are fed by them. Mirrors follow with their next pass.
fn repositories(_context: &Context, site: &Site) -> Result<Vec<String>, Failure> {
    let own = site.chosen_repository()?.0;
    let also = &site.config().settings.backup.also;
    Ok(std::iter::once(own)
        .chain(also.iter().map(String::as_str).filter(|name| *name != own))
        .map(str::to_owned)
        .collect())
}

async fn listed(site: &Site, name: &str) -> Result<Vec<RecordedAlarm>, Failure> {
    let repository = Repository::open(&site.access_to(name)?).await?;
    let recorded = Alarm::recorded(&repository.snapshots().await?);
    Alarms::reconcile(&site.config().settings.state_directory, repository.id(), &recorded)?;
    Ok(recorded)
}

/// Removes the records that are meant. Gives them.
async fn acknowledged(
    context: &Context,
    site: &Site,
    name: &str,
    is_meant: impl Fn(&RecordedAlarm) -> bool,
) -> Result<Vec<RecordedAlarm>, Failure> {
    let repository = Repository::open(&site.access_to(name)?).await?;
    let meant =
        |recorded: Vec<RecordedAlarm>| recorded.into_iter().filter(&is_meant).collect::<Vec<_>>();
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

/// Refuses what an alarm stops.
pub async fn guard(
    site: &Site,
    repository: &Repository,
    hosts: &HostScope,
    removal: Removal,
) -> Result<(), Failure> {
    let recorded = Alarm::recorded(&repository.snapshots().await?);
    let state_directory = &site.config().settings.state_directory;
    // Where the alarms cannot be read, the guard refuses.
    if let Err(error) = Alarms::reconcile(state_directory, repository.id(), &recorded) {
        tracing::warn!(error = %error_chain(&error), "the alarms of this host cannot be read");
    }
    Ok(Alarms::guard(state_directory, &recorded, hosts, removal)?)
}

fn print_standing(own: &[Alarm], recorded: &[RecordedAlarm], json: bool) -> Printed {
    // An alarm of this host is in its state directory and, as a record, in the repository.
    let others: Vec<&Alarm> =
        recorded.iter().filter_map(|recorded| recorded.alarm.as_ref()).collect();
    let others: Vec<&Alarm> = others
        .into_iter()
        .filter(|other| !own.iter().any(|own| own.run == other.run && own.source == other.source))
        .collect();
    if json {
        return document(&own.iter().chain(others).collect::<Vec<_>>());
    }
    if own.is_empty() && recorded.is_empty() {
        return line("no alarm is active");
    }
    for unreadable in recorded.iter().filter(|recorded| recorded.alarm.is_none()) {
        line(&unreadable.to_string())?;
    }
    for alarm in own.iter().chain(others) {
        let time = alarm.time.strftime("%Y-%m-%d %H:%M:%S UTC");
        line(&format!("{time}  source {} of {}, run {}", alarm.source, alarm.host, alarm.run))?;
        alarm.suspicions.iter().try_for_each(|suspicion| line(&format!("  {suspicion}")))?;
    }
    line("nothing is forgotten or pruned before `kaleem-dr alarm acknowledge`")
}

fn print_acknowledged(gone: &[Alarm], records: &[RecordedAlarm], json: bool) -> Printed {
    let others = records.iter().filter_map(|record| record.alarm.as_ref());
    let others: Vec<&Alarm> = others
        .filter(|other| !gone.iter().any(|own| own.run == other.run && own.source == other.source))
        .collect();
    if json {
        return document(&gone.iter().chain(others).collect::<Vec<_>>());
    }
    gone.iter().try_for_each(|alarm| line(&format!("acknowledged: {alarm}")))?;
    others
        .iter()
        .try_for_each(|alarm| line(&format!("acknowledged: host {}, {alarm}", alarm.host)))?;
    if gone.is_empty() && records.is_empty() { line("no such alarm is active") } else { Ok(()) }
}
