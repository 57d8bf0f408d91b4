//! The age from which the newest success of a job is late, by its schedule.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::{
    JobKind, When,
    plan::{default_repository, jobs},
};
use crate::operate::config::Settings;

/// A nightly job may begin a little later and take a little longer.
const SLACK: SignedDuration = SignedDuration::from_hours(2);
/// A drill may be repeated on the next day.
const SLACK_OF_DRILLS: SignedDuration = SignedDuration::from_hours(24);
/// The schedules that count for a config that has none: other programs run its jobs.
const USUAL: [(JobKind, When); 2] =
    [(JobKind::Backup, When::daily(3, 0)), (JobKind::Drill, When::monthly(1, 3, 20))];

/// The age for each kind of job, by its word, and repository; the repository is empty for jobs that are not drills. Backups and drills
/// that the config does not schedule count as daily and monthly.
pub(crate) fn late_after(settings: &Settings) -> BTreeMap<(&'static str, String), SignedDuration> {
    // A config with a contradiction is reported elsewhere.
    let scheduled = jobs(settings).unwrap_or_default();
    let own = default_repository(settings).unwrap_or_default();
    let mut ages: BTreeMap<(&'static str, String), SignedDuration> = BTreeMap::new();
    let mut add = |kind: JobKind, when: When, repository: &str| {
        let Some(gap) = when.longest_gap() else { return };
        let (repository, slack) =
            if kind == JobKind::Drill { (repository, SLACK_OF_DRILLS) } else { ("", SLACK) };
        let age = gap + slack.min(gap);
        // Of two schedules, the more frequent one counts.
        let known = ages.entry((kind.word(), repository.to_owned())).or_insert(age);
        *known = age.min(*known);
    };
    // The log of changes has alerts of its own, and backups decide whether points are late.
    for job in scheduled.iter().filter(|job| job.kind != JobKind::Oplog) {
        let repository = match &job.args[..] {
            [flag, name, ..] if flag == "--repo" => name,
            _ => own,
        };
        add(job.kind, job.when, repository);
    }
    for (kind, when) in USUAL {
        if !scheduled.iter().any(|job| job.kind == kind) {
            add(kind, when, own);
        }
    }
    ages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(more: &str) -> Vec<String> {
        let text =
            format!("[repository.local]\nlocation = \"/r\"\npassword = {{ env = \"P\" }}\n{more}");
        let settings: Settings = toml::from_str(&text).unwrap();
        let hours = |((kind, repository), age): ((&str, String), SignedDuration)| {
            format!("{kind} {repository} {}", age.as_mins())
        };
        late_after(&settings).into_iter().map(hours).collect()
    }

    #[test]
    fn a_job_is_late_after_its_own_interval() {
        assert_eq!(ages(""), ["backup  1560", "check  10200", "drill local 46080", "verify  1560"]);
        let text = "[repository.r2]\nlocation = \"/m\"\npassword = { env = \"P\" }\nmirror_of = \"local\"\n\
                    [schedule]\nbackup = \"hourly\"\nverify = \"off\"\ncheck = \"off\"\ndrill = \"weekly sun 03:00\"\n\
                    drill_of = { r2 = \"off\" }";
        let expected = ["backup  120", "drill local 11520", "drill r2 133920", "replicate  1560"];
        assert_eq!(ages(text), expected, "the quarterly drill from nothing is the only one of r2");
    }

    #[test]
    fn what_is_not_scheduled_counts_as_usual() {
        let off =
            "[schedule]\nbackup = \"off\"\nverify = \"off\"\ncheck = \"off\"\ndrill = \"off\"";
        assert_eq!(ages(off), ["backup  1560", "drill local 46080"]);
    }
}
