//! `alarm list`, `alarm acknowledge`.

use kaleem_dr_core::{exit::Exit, sentence, tripwire::Alarms};

use super::Outcome;
use crate::{args::AlarmCommand, context::Context, failure::Failure, output};

pub fn alarm(context: &Context, command: &AlarmCommand) -> Outcome {
    let loaded = context.load()?;
    let state_directory = &loaded.config.settings.state_directory;
    let failed = |error| Failure::new(Exit::Failed, sentence(&error));
    match command {
        AlarmCommand::List => output::alarms(Alarms::load(state_directory).map_err(failed)?.standing(), context.global.json)?,
        AlarmCommand::Acknowledge { sources } => {
            let gone = Alarms::acknowledge(state_directory, sources).map_err(failed)?;
            output::acknowledged(&gone, context.global.json)?;
        }
    }
    Ok(Exit::Done)
}
