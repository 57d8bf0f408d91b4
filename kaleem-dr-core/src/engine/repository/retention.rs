//! Decides which snapshots a policy keeps; some are never forgotten.
//!
//! Only snapshots with our tag count, unless the operator includes the rest, and only those of the selected hosts. They are
//! grouped by host and source, so that a source that stopped working never loses its last good copies to newer ones of other
//! sources.

use std::collections::BTreeMap;

use jiff::Zoned;
use rustic_core::{
    ForgetGroups, Grouped, KeepOptions, SnapshotGroupCriterion, repofile::StringList,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    RepositoryError,
    keep_slices::{DecidedSlices, Slices},
    keep_span::KeepSpan,
    snapshot::{Snapshot, SnapshotId},
};
use crate::ground::{SourceName, host::HostScope};

/// The number of snapshots to keep, per host and source. A snapshot is kept if any rule keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Keep the newest of each of this many hours.
    pub keep_hourly: u32,
    /// Keep the newest of each of this many days.
    pub keep_daily: u32,
    /// Keep the newest of each of this many weeks.
    pub keep_weekly: u32,
    /// Keep the newest of each of this many months.
    pub keep_monthly: u32,
    /// Keep the newest of each of this many years.
    pub keep_yearly: u32,
    /// Keep this many of the newest.
    pub keep_last: u32,
    /// Keep all that are at most this much older than the newest: `14d`, `2y5m7d3h`.
    pub keep_within: Option<KeepSpan>,
    /// Keep one per hour among those that are at most this much older than the newest.
    pub keep_within_hourly: Option<KeepSpan>,
    /// Keep one per day among them.
    pub keep_within_daily: Option<KeepSpan>,
    /// Keep one per week among them.
    pub keep_within_weekly: Option<KeepSpan>,
    /// Keep one per month among them.
    pub keep_within_monthly: Option<KeepSpan>,
    /// Keep one per year among them.
    pub keep_within_yearly: Option<KeepSpan>,
    /// Keep all that have one of these tags; `a,b` requires both.
    pub keep_tag: Vec<String>,
    /// Also forget snapshots that we did not make (grouped by host and paths).
    pub take_over: bool,
    /// Forget slices of a change log that are older than this, counted from the newest: `30d`. By default, a slice is kept as long
    /// as a kept snapshot precedes it.
    pub keep_slices_within: Option<KeepSpan>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_daily: 7, keep_weekly: 4, keep_monthly: 6, ..Self::nothing() }
    }
}

/// The result of forgetting, or of its plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForgetReport {
    /// The groups, by host and source.
    pub groups: Vec<ForgetGroup>,
    /// Number of foreign snapshots, which were left alone.
    pub foreign: usize,
    /// Number of our snapshots of other hosts, which were left alone.
    pub of_other_hosts: usize,
    /// True if nothing was removed.
    pub dry_run: bool,
}

impl ForgetReport {
    /// Number of snapshots that are removed.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.groups.iter().map(|group| group.remove.len()).sum()
    }
}

/// One group of a forget.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForgetGroup {
    /// Host that captured the snapshots of the group.
    pub host: String,
    /// Name of its source, or its paths if kaleem-dr did not make the snapshots.
    pub of: String,
    /// The snapshots to keep, newest first, with the reasons.
    pub keep: Vec<ForgetReason>,
    /// The snapshots that no rule keeps.
    pub remove: Vec<Snapshot>,
}

impl ForgetGroup {
    fn of_slices(decided: DecidedSlices) -> Self {
        let DecidedSlices { host, source, slices } = decided;
        let of = format!("{source} (slices of its change log)");
        let (kept, removed): (Vec<_>, Vec<_>) =
            slices.into_iter().partition(|(reasons, _)| !reasons.is_empty());
        let keep = kept
            .into_iter()
            .map(|(reasons, snapshot)| ForgetReason { snapshot, reasons })
            .collect();
        Self { host, of, keep, remove: removed.into_iter().map(|(_, slice)| slice).collect() }
    }
}

/// The reasons for keeping a snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForgetReason {
    /// The snapshot that a rule keeps.
    pub snapshot: Snapshot,
    /// The rules that apply: `daily snapshot`, `last good snapshot of the source`, …
    pub reasons: Vec<String>,
}

/// The snapshots to which a policy applies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetentionScope {
    /// The hosts whose snapshots may be forgotten.
    pub hosts: HostScope,
    /// Snapshots to keep whatever the policy, with the reason.
    pub protected: BTreeMap<SnapshotId, String>,
}

impl From<HostScope> for RetentionScope {
    fn from(hosts: HostScope) -> Self {
        Self { hosts, protected: BTreeMap::new() }
    }
}

impl Retention {
    /// A policy without rules, which cannot forget anything.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            keep_hourly: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
            keep_last: 0,
            keep_within: None,
            keep_within_hourly: None,
            keep_within_daily: None,
            keep_within_weekly: None,
            keep_within_monthly: None,
            keep_within_yearly: None,
            keep_tag: Vec::new(),
            take_over: false,
            keep_slices_within: None,
        }
    }

    fn keep_options(&self) -> Result<KeepOptions, RepositoryError> {
        let some = |n: u32| (n > 0).then(|| i32::try_from(n).unwrap_or(i32::MAX));
        let within = |span: Option<KeepSpan>| span.map(KeepSpan::span);
        let mut keep = KeepOptions::default();
        keep.keep_hourly = some(self.keep_hourly);
        keep.keep_daily = some(self.keep_daily);
        keep.keep_weekly = some(self.keep_weekly);
        keep.keep_monthly = some(self.keep_monthly);
        keep.keep_yearly = some(self.keep_yearly);
        keep.keep_last = some(self.keep_last);
        keep.keep_within = within(self.keep_within);
        keep.keep_within_hourly = within(self.keep_within_hourly);
        keep.keep_within_daily = within(self.keep_within_daily);
        keep.keep_within_weekly = within(self.keep_within_weekly);
        keep.keep_within_monthly = within(self.keep_within_monthly);
        keep.keep_within_yearly = within(self.keep_within_yearly);
        keep.keep_tags = self
            .keep_tag
            .iter()
            .map(|tags| {
                tags.parse::<StringList>().map_err(|_| {
                    RepositoryError::Guarded(format!("keep_tag `{tags}` is not a list of tags"))
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(keep)
    }

    fn keeps_something(&self) -> bool {
        let (take_over, keep_slices_within) = (self.take_over, self.keep_slices_within);
        *self != Self { take_over, keep_slices_within, ..Self::nothing() }
    }

    /// Distance in hours between the points that the finest rule keeps: 0 if a rule keeps every point, `None` without such a
    /// rule.
    #[must_use]
    pub fn finest_hours(&self) -> Option<u32> {
        let counts = |n: u32, within: Option<KeepSpan>| n > 0 || within.is_some();
        let rules = [
            (counts(self.keep_last, self.keep_within), 0),
            (counts(self.keep_hourly, self.keep_within_hourly), 1),
            (counts(self.keep_daily, self.keep_within_daily), 24),
            (counts(self.keep_weekly, self.keep_within_weekly), 7 * 24),
            (counts(self.keep_monthly, self.keep_within_monthly), 28 * 24),
            (counts(self.keep_yearly, self.keep_within_yearly), 365 * 24),
        ];
        rules.into_iter().find_map(|(applies, hours)| applies.then_some(hours))
    }

    /// Decides over snapshots as they are at `now`. Touches nothing.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] if nothing would be kept by policy, or a snapshot that the policy would judge is dated in the future.
    pub fn plan(
        &self,
        snapshots: Vec<Snapshot>,
        scope: &RetentionScope,
        now: &Zoned,
    ) -> Result<ForgetReport, RepositoryError> {
        if !self.keeps_something() {
            return Err(RepositoryError::Guarded(
                "this retention keeps nothing; set at least one of keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, \
                 keep_yearly, keep_within, keep_within_… and keep_tag"
                    .into(),
            ));
        }
        let mut groups: BTreeMap<(String, bool, String), Vec<Snapshot>> = BTreeMap::new();
        let (mut foreign, mut of_other_hosts) = (0, 0);
        let mut slices = Slices::default();
        for snapshot in snapshots {
            if let Some(source) = snapshot.sliced() {
                if scope.hosts.includes(snapshot.host()) {
                    slices.add(source, snapshot);
                } else {
                    of_other_hosts += 1;
                }
                continue;
            }
            let of = match snapshot.source().filter(|_| snapshot.is_ours()) {
                Some(source) => source.to_string(),
                None if self.take_over && snapshot.is_data() => snapshot
                    .paths()
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
                None => {
                    foreign += usize::from(!snapshot.is_record());
                    continue;
                }
            };
            if !scope.hosts.includes(snapshot.host()) {
                of_other_hosts += 1;
                continue;
            }
            groups
                .entry((snapshot.host().to_owned(), snapshot.is_ours(), of))
                .or_default()
                .push(snapshot);
        }
        let mut groups = groups
            .into_iter()
            .map(|((host, _, of), snapshots)| self.decide(host, of, snapshots, scope, now))
            .collect::<Result<Vec<_>, _>>()?;
        let needed_from = |host: &str, source: &SourceName| {
            groups
                .iter()
                .filter(|group| group.host == host && group.of == source.as_str())
                .flat_map(|group| &group.keep)
                .filter_map(|kept| Some(kept.snapshot.log_span()?.after))
                .min()
        };
        let decided = slices.decide(needed_from, self.keep_slices_within, &scope.protected);
        groups.extend(decided.into_iter().map(ForgetGroup::of_slices));
        Ok(ForgetReport { groups, foreign, of_other_hosts, dry_run: true })
    }

    fn decide(
        &self,
        host: String,
        of: String,
        snapshots: Vec<Snapshot>,
        scope: &RetentionScope,
        now: &Zoned,
    ) -> Result<ForgetGroup, RepositoryError> {
        refuse_the_future(&snapshots, now)?;
        let last_good = snapshots
            .iter()
            .filter(|snapshot| snapshot.is_whole())
            .max_by_key(|snapshot| snapshot.time().timestamp())
            .map(Snapshot::id);
        let files = snapshots.into_iter().map(|snapshot| snapshot.file).collect();
        let grouped = Grouped::from_items(files, SnapshotGroupCriterion::new());
        let decided = ForgetGroups::from_grouped_snapshots_with_retention(
            grouped,
            &self.keep_options()?,
            now,
        )
        .map_err(RepositoryError::engine("apply the retention of"))?;
        let mut group = ForgetGroup { host, of, keep: Vec::new(), remove: Vec::new() };
        for item in decided.0.into_iter().flat_map(|group| group.items) {
            let snapshot = Snapshot::new(item.snapshot);
            let mut reasons = if item.keep { item.reasons } else { Vec::new() };
            if Some(snapshot.id()) == last_good {
                reasons.push("last good snapshot of the source".to_owned());
            }
            if snapshot.is_protected() {
                reasons.push("protected against deletion".to_owned());
            }
            reasons.extend(scope.protected.get(&snapshot.id()).cloned());
            if reasons.is_empty() {
                group.remove.push(snapshot);
            } else {
                group.keep.push(ForgetReason { snapshot, reasons });
            }
        }
        Ok(group)
    }
}

fn refuse_the_future(snapshots: &[Snapshot], now: &Zoned) -> Result<(), RepositoryError> {
    let Some(ahead) = snapshots.iter().find(|snapshot| snapshot.is_of_the_future(now.timestamp()))
    else {
        return Ok(());
    };
    Err(RepositoryError::Guarded(format!(
        "snapshot {} is dated {}, in the future; a policy would keep it and forget true ones. \
         Check the clocks; if it is wrong, run `kaleem-dr forget {}`",
        ahead.id().short(),
        ahead.time().timestamp(),
        ahead.id().short()
    )))
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan as _, tz::TimeZone};

    use super::*;
    use crate::engine::repository::snapshot_for_tests;

    fn scope(host: &str) -> RetentionScope {
        HostScope::One(host.parse().unwrap()).into()
    }

    fn snapshot(source: &str, time: &Zoned, whole: bool, number: u8) -> Snapshot {
        snapshot_for_tests("h", source, time, whole, number)
    }

    fn kept(report: &ForgetReport) -> Vec<String> {
        let ids = report
            .groups
            .iter()
            .flat_map(|group| &group.keep)
            .map(|kept| kept.snapshot.id().to_string());
        ids.map(|id| id[62..].to_owned()).collect()
    }

    #[test]
    fn foreign_snapshots_and_the_last_good_one_stay() {
        let now: Zoned = "2026-11-20T12:00:00+00:00[UTC]".parse().unwrap();
        let day = |n: i64| now.checked_sub(n.days()).unwrap();
        let snapshots = vec![
            snapshot("", &day(400), true, 1),
            snapshot("mongo", &day(300), true, 2),
            snapshot("mongo", &day(2), false, 3),
            snapshot("mongo", &day(1), false, 4),
            snapshot("mongo", &day(0), false, 5),
            snapshot("rabbitmq", &day(200), true, 6),
        ];
        let retention = Retention { keep_daily: 1, ..Retention::nothing() };
        let report = retention.plan(snapshots.clone(), &scope("h"), &now).unwrap();
        assert_eq!(report.foreign, 1);
        assert_eq!(
            kept(&report),
            ["05", "02", "06"],
            "the newest, the last whole one, and the other source's only one"
        );
        let all =
            Retention { take_over: true, ..retention }.plan(snapshots, &scope("h"), &now).unwrap();
        assert_eq!(all.foreign, 0);
    }

    #[test]
    fn another_hosts_snapshots_are_left_alone_unless_they_are_meant() {
        let now: Zoned = "2026-11-20T12:00:00+00:00[UTC]".parse().unwrap();
        let day = |n: i64| now.checked_sub(n.days()).unwrap();
        let of = |host: &str, n: i64, number: u8| {
            snapshot_for_tests(host, "configs", &day(n), true, number)
        };
        let snapshots =
            vec![of("a", 3, 1), of("a", 2, 2), of("b", 3, 3), of("b", 2, 4), of("b", -9, 5)];
        let retention = Retention { keep_last: 1, ..Retention::nothing() };
        let report = retention.plan(snapshots.clone(), &scope("a"), &now).unwrap();
        assert_eq!(
            (report.removed(), report.of_other_hosts, kept(&report)),
            (1, 3, vec!["02".to_owned()])
        );
        assert!(
            retention.plan(snapshots, &HostScope::Any.into(), &now).is_err(),
            "b has a snapshot of the future"
        );
    }

    #[test]
    fn what_a_scope_protects_stays() {
        let now: Zoned = "2026-11-20T12:00:00+00:00[UTC]".parse().unwrap();
        let day = |n: i64| now.checked_sub(n.days()).unwrap();
        let snapshots =
            vec![snapshot("mongo", &day(9), true, 1), snapshot("mongo", &day(1), true, 2)];
        let protected = [(snapshots[0].id(), "normal before an alarm".to_owned())].into();
        let scope = RetentionScope { protected, ..scope("h") };
        let report = Retention { keep_last: 1, ..Retention::nothing() }
            .plan(snapshots, &scope, &now)
            .unwrap();
        assert_eq!((report.removed(), kept(&report)), (0, vec!["02".to_owned(), "01".to_owned()]));
    }

    #[test]
    fn rules_by_hour_by_span_and_by_tag_keep_what_they_say() {
        let now: Zoned = "2026-11-20T12:00:00+00:00[UTC]".parse().unwrap();
        let at = |minutes: i64| now.checked_sub(minutes.minutes()).unwrap();
        let snapshots: Vec<_> = (0..8u8)
            .map(|n| {
                snapshot("mongo", &at(i64::from(n) * 30).with_time_zone(TimeZone::UTC), true, n)
            })
            .collect();
        let of = |retention: Retention| {
            kept(&retention.plan(snapshots.clone(), &scope("h"), &now).unwrap())
        };
        assert_eq!(
            of(Retention { keep_hourly: 2, ..Retention::nothing() }),
            ["00", "01"],
            "12:00 and 11:30"
        );
        let within = Retention { keep_within: Some("1h".parse().unwrap()), ..Retention::nothing() };
        assert_eq!(of(within), ["00", "01"], "an hour back from the newest, itself excluded");
        let hourly =
            Retention { keep_within_hourly: Some("2h".parse().unwrap()), ..Retention::nothing() };
        assert_eq!(of(hourly), ["00", "01", "03"]);
        let run = snapshots[5].tags().into_iter().find(|tag| tag.starts_with("run:")).unwrap();
        let tagged = Retention { keep_last: 1, keep_tag: vec![run], ..Retention::nothing() };
        assert_eq!(of(tagged), ["00", "05"]);
    }

    #[test]
    fn a_policy_that_keeps_nothing_and_a_snapshot_from_the_future_are_refused() {
        let now: Zoned = "2026-11-20T12:00:00+00:00[UTC]".parse().unwrap();
        let nothing = Retention { take_over: true, ..Retention::nothing() };
        assert!(matches!(
            nothing.plan(Vec::new(), &scope("h"), &now),
            Err(RepositoryError::Guarded(_))
        ));
        let ahead = snapshot("mongo", &now.checked_add(2.days()).unwrap(), true, 1);
        assert!(matches!(
            Retention::default().plan(vec![ahead], &scope("h"), &now),
            Err(RepositoryError::Guarded(_))
        ));
    }
}
