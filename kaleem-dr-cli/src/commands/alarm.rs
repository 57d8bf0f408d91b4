//! `alarm list`, `alarm acknowledge`.

use clap::Subcommand;
use kaleem_dr_core::{
    ground::SourceName,
    operate::{site::SiteAlarms, tripwire::Alarm},
};

use super::Outcome;
use crate::{
    context::Context,
    output::{self, Printed, document, line, moment},
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
        AlarmCommand::List => print_standing(&alarms, json)?,
        AlarmCommand::Acknowledge { .. } => print_acknowledged(&alarms, json)?,
    }
    Ok(alarms.exit())
}

fn print_standing(alarms: &SiteAlarms, json: bool) -> Printed {
    let others: Vec<&Alarm> = alarms.of_others().collect();
    let SiteAlarms { own, recorded, .. } = alarms;
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
        let time = moment(alarm.time);
        line(&format!("{time}  source {} of {}, run {}", alarm.source, alarm.host, alarm.run))?;
        alarm.suspicions.iter().try_for_each(|suspicion| line(&format!("  {suspicion}")))?;
    }
    line("nothing is forgotten or pruned before `kaleem-dr alarm acknowledge`")
}

fn print_acknowledged(alarms: &SiteAlarms, json: bool) -> Printed {
    let others: Vec<&Alarm> = alarms.of_others().collect();
    let SiteAlarms { own, recorded, .. } = alarms;
    if json {
        return document(&own.iter().chain(others).collect::<Vec<_>>());
    }
    own.iter().try_for_each(|alarm| line(&format!("acknowledged: {alarm}")))?;
    others
        .iter()
        .try_for_each(|alarm| line(&format!("acknowledged: host {}, {alarm}", alarm.host)))?;
    if own.is_empty() && recorded.is_empty() { line("no such alarm is active") } else { Ok(()) }
}
