//! `alarm list`, `alarm acknowledge`.

use clap::Subcommand;
use kaleem_dr_core::{
    ground::{Exit, SourceName},
    operate::tripwire::{Alarm, RecordedAlarm},
};

use super::Outcome;
use crate::{
    context::Context,
    output::{self, Printed, document, line},
};

/// Subcommands of `alarm`.
#[derive(Debug, Subcommand)]
pub enum AlarmCommand {
    /// List active alarms
    List,
    /// Accept what raised the alarms as normal from now on
    Acknowledge {
        /// Only alarms of these sources [default: all]
        sources: Vec<SourceName>,
    },
}

pub async fn alarm(context: &Context, command: &AlarmCommand) -> Outcome {
    let (site, json) = (context.load()?, context.global.json);
    let alarms = match command {
        AlarmCommand::List => site.alarms().await?,
        AlarmCommand::Acknowledge { sources } => site.acknowledge_alarms(sources).await?,
    };
    for (_, error) in &alarms.failed {
        output::failure(&error.into(), json);
    }
    match command {
        AlarmCommand::List => print_standing(&alarms.own, &alarms.recorded, json)?,
        AlarmCommand::Acknowledge { .. } => {
            print_acknowledged(&alarms.own, &alarms.recorded, json)?;
        }
    }
    Ok(if alarms.failed.is_empty() { Exit::Done } else { Exit::Partial })
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
