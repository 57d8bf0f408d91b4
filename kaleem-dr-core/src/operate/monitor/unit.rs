//! Names of our systemd units: `kaleem-dr-backup.service`, `kaleem-dr-drill-r2.service`.

use crate::engine::ledger::EventKind;

/// The job that a unit runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitJob {
    /// Kind of the job, if it is one that is recorded.
    pub(crate) kind: Option<EventKind>,
    /// The rest of the name: the repository of a drill, the source of a backup.
    pub(crate) of: Option<String>,
    pub(crate) word: String,
}

/// Parses a unit's name; `None` if the unit does not belong to kaleem-dr.
pub(crate) fn job_of(unit: &str) -> Option<UnitJob> {
    let name = unit.strip_prefix("kaleem-dr-")?;
    let name = name.strip_suffix(".service").unwrap_or(name);
    // An instance, `kaleem-dr-backup@mongo`, covers the part after the `@`.
    let (word, of) =
        name.split_once(['-', '@']).map_or((name, None), |(word, of)| (word, Some(of.to_owned())));
    if word.is_empty() {
        return None;
    }
    let kind = EventKind::ALL.into_iter().find(|kind| kind.word() == word);
    Some(UnitJob { kind, of: of.filter(|of| !of.is_empty()), word: word.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_after_their_jobs() {
        let of = |unit| job_of(unit).map(|job| (job.kind, job.of));
        assert_eq!(of("kaleem-dr-backup.service"), Some((Some(EventKind::Backup), None)));
        assert_eq!(
            of("kaleem-dr-drill-r2.service"),
            Some((Some(EventKind::Drill), Some("r2".into())))
        );
        assert_eq!(
            of("kaleem-dr-backup@mongo"),
            Some((Some(EventKind::Backup), Some("mongo".into())))
        );
        assert_eq!(of("kaleem-dr-tidy.service"), Some((None, None)));
        assert_eq!(of("nginx.service"), None);
        assert_eq!(of("kaleem-dr-.service"), None);
    }
}
