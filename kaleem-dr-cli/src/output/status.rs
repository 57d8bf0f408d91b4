//! What `status` prints.

use kaleem_dr_core::{job::SourceStatus, report::duration, tripwire::Alarm};
use serde_json::Value;

use super::{Printed, age, document, line, table};

pub fn status(sources: &[SourceStatus], rto_broken: Option<bool>, alarms: &[Alarm], json: bool) -> Printed {
    if json {
        let with_alarm = |status: &SourceStatus| {
            let mut value = serde_json::to_value(status)?;
            value["alarm"] = serde_json::to_value(alarms.iter().find(|alarm| alarm.source == status.standing.source))?;
            Ok(value)
        };
        return document(&sources.iter().map(with_alarm).collect::<Result<Vec<Value>, serde_json::Error>>()?);
    }
    let mut rows = table(["repository", "source", "newest", "age", "state", "proven", "RPO", "RTO", "RTO forecast"]);
    for status in sources {
        let standing = &status.standing;
        let rpo = standing.rpo_seconds.map_or_else(|| "never proven".to_owned(), age);
        rows.add_row([
            status.repository.clone(),
            standing.source.to_string(),
            status.time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default(),
            status.age_seconds.map(age).unwrap_or_default(),
            state(status).to_owned(),
            standing.proven_level.map(|level| level.to_string()).unwrap_or_default(),
            if standing.rpo_broken { format!("{rpo}: TOO OLD") } else { rpo },
            standing.rto_seconds.map(duration).unwrap_or_default(),
            standing.rto_forecast_seconds.map(duration).unwrap_or_default(),
        ]);
    }
    line(&rows.to_string())?;
    if rto_broken == Some(true) {
        line("RTO: restoring everything should take longer than `objectives.rto_hours`, or was never tried: `kaleem-dr drill`")?;
    }
    alarms.iter().try_for_each(|alarm| line(&format!("ALARM: {alarm}")))
}

fn state(status: &SourceStatus) -> &'static str {
    match (status.stale, status.whole) {
        (true, _) if status.time.is_none() => "NEVER BACKED UP",
        (true, _) => "STALE",
        (false, false) => "incomplete",
        (false, true) => "fresh",
    }
}
