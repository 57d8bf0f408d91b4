//! Checks the state of this host: active alarms, and the last passes of its mirrors.

use super::Examination;
use crate::{
    engine::{
        ledger::{EventKind, Ledger, LedgerError, PastEvent},
        repository::Location,
    },
    ground::{diagnosis::Diagnosis, error_chain},
    operate::tripwire::Alarms,
};

pub(super) fn alarms(job: &Examination) -> Vec<Diagnosis> {
    let alarms = match Alarms::load(&job.config.settings.state_directory) {
        Ok(alarms) => alarms,
        Err(error) => return vec![Diagnosis::unseen("the alarms", &error_chain(&error))],
    };
    if alarms.standing().is_empty() {
        return vec![Diagnosis::ok("alarms", "no alarm is active")];
    }
    let of = |alarm: &crate::operate::tripwire::Alarm| {
        Diagnosis::error("alarm-standing", format!("an alarm is active: {alarm}"))
            .because("the data looked lost or encrypted; nothing is forgotten or pruned until the alarm is acknowledged")
            .fix(format!("check {}, then run `kaleem-dr alarm acknowledge {}`", alarm.source, alarm.source))
    };
    alarms.standing().iter().map(of).collect()
}

/// The last pass of each mirror.
pub(super) fn mirrors(job: &Examination) -> Vec<Diagnosis> {
    let wanted: Vec<_> = job
        .config
        .settings
        .repository
        .iter()
        .filter(|(_, repository)| repository.mirror_of.is_some())
        .collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let known = match known(job) {
        Ok(known) => known,
        Err(error) => {
            return vec![Diagnosis::unseen("the history of the mirrors", &error_chain(&error))];
        }
    };
    let mut found = Vec::new();
    for (name, repository) in wanted {
        // An invalid location has its own finding.
        let Ok(location) = repository.location(&job.environment) else { continue };
        found.push(of_mirror(name, &location, known.as_ref()));
    }
    found
}

type Known = (Ledger, Vec<PastEvent>);

fn known(job: &Examination) -> Result<Option<Known>, LedgerError> {
    let Some(ledger) = Ledger::find(&job.config.settings.state_directory)? else { return Ok(None) };
    let events = ledger.newest_events(false)?;
    Ok(Some((ledger, events)))
}

fn of_mirror(name: &str, location: &Location, known: Option<&Known>) -> Diagnosis {
    let words = location.in_words();
    let newest = known.and_then(|(_, events)| {
        events
            .iter()
            .find(|event| event.kind == EventKind::Replicate.word() && event.repository == words)
    });
    let fix = format!("kaleem-dr replicate {name}");
    let Some((ledger, _)) = known.filter(|_| newest.is_some()) else {
        return Diagnosis::warning(
            "mirror-never-made",
            format!("this host never replicated to the mirror {name}"),
        )
        .fix(fix);
    };
    let Some(event) = newest else {
        return Diagnosis::unseen(&format!("the mirror {name}"), "the ledger has no pass of it");
    };
    if event.exit != 0 {
        let what = format!(
            "the last pass of the mirror {name}, run {} at {}, ended with {}",
            event.run, event.finished, event.exit
        );
        return Diagnosis::error("mirror-broken", what)
            .because("snapshots since the last successful pass may be on this machine only")
            .fix(format!("{fix}; `kaleem-dr --json history` shows its report"));
    }
    match ledger.begun(&words) {
        Ok(begun) if begun.is_empty() => Diagnosis::ok(
            "mirror",
            format!("the mirror {name} was updated at {} (run {})", event.finished, event.run),
        ),
        Ok(begun) => Diagnosis::warning(
            "mirror-cut-short",
            format!(
                "a pass of the mirror {name} was interrupted; {} objects are unproven",
                begun.len()
            ),
        )
        .because("it was killed, or the machine stopped")
        .fix(fix),
        Err(error) => Diagnosis::unseen(&format!("the mirror {name}"), &error_chain(&error)),
    }
}
