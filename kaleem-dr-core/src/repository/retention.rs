//! Forgetting snapshots by age, and what is never forgotten.
//!
//! Only snapshots with our tag are touched unless the operator takes over the rest. They are grouped by host and source, so
//! that a source that stopped working never loses its last good copies to the others' fresh ones.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Zoned};
use rustic_core::{ForgetGroups, Grouped, KeepOptions, SnapshotGroupCriterion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Repository, RepositoryError, lock::Lock, snapshot::Snapshot, snapshot::SnapshotId};
use crate::{CancellationToken, progress::ProgressSink};

/// A snapshot from further ahead than this is no clock's drift: policies would keep it and forget the true ones.
const FUTURE_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// How many snapshots stay, per host and source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The newest of this many days.
    pub keep_daily: u32,
    /// The newest of this many weeks.
    pub keep_weekly: u32,
    /// The newest of this many months.
    pub keep_monthly: u32,
    /// The newest of this many years.
    pub keep_yearly: u32,
    /// The newest this many.
    pub keep_last: u32,
    /// Also forget snapshots that we did not make (grouped by host and paths).
    pub take_over: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_daily: 7, keep_weekly: 4, keep_monthly: 6, keep_yearly: 0, keep_last: 0, take_over: false }
    }
}

/// What forgetting did, or would do.
#[derive(Clone, Debug)]
pub struct ForgetReport {
    /// By host and source.
    pub groups: Vec<ForgetGroup>,
    /// Snapshots that are not ours, and were left alone.
    pub foreign: usize,
    /// Whether anything was removed at all.
    pub dry_run: bool,
}

impl ForgetReport {
    /// How many snapshots go.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.groups.iter().map(|group| group.remove.len()).sum()
    }
}

/// One group of a forget.
#[derive(Clone, Debug)]
pub struct ForgetGroup {
    /// The group's host.
    pub host: String,
    /// Its source's name, or its paths where we did not make it.
    pub of: String,
    /// What stays, newest first, and why.
    pub keep: Vec<ForgetReason>,
    /// What goes.
    pub remove: Vec<Snapshot>,
}

/// Why a snapshot stays.
#[derive(Clone, Debug)]
pub struct ForgetReason {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// `daily snapshot`, `last good snapshot of the source`, …
    pub reasons: Vec<String>,
}

impl Retention {
    fn keep_options(self) -> KeepOptions {
        let some = |n: u32| (n > 0).then(|| i32::try_from(n).unwrap_or(i32::MAX));
        let mut keep = KeepOptions::default();
        keep.keep_daily = some(self.keep_daily);
        keep.keep_weekly = some(self.keep_weekly);
        keep.keep_monthly = some(self.keep_monthly);
        keep.keep_yearly = some(self.keep_yearly);
        keep.keep_last = some(self.keep_last);
        keep
    }

    fn keeps_something(self) -> bool {
        [self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly, self.keep_last].iter().any(|&n| n > 0)
    }

    /// Decides over snapshots as they stand at `now`. Touches nothing.
    ///
    /// # Errors
    /// [`RepositoryError::Guarded`] when nothing would be kept by policy, or a snapshot is from the future.
    pub fn plan(self, snapshots: Vec<Snapshot>, now: &Zoned) -> Result<ForgetReport, RepositoryError> {
        if !self.keeps_something() {
            return Err(RepositoryError::Guarded(
                "this retention keeps nothing; set at least one of keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_last"
                    .into(),
            ));
        }
        if let Some(ahead) = snapshots.iter().find(|snapshot| snapshot.time().duration_since(now) > FUTURE_TOLERANCE) {
            return Err(RepositoryError::Guarded(format!(
                "snapshot {} is dated {}, in the future; a policy would keep it and forget true ones. \
                 Look at the clocks, and forget that snapshot by hand if it is wrong",
                ahead.id().short(),
                ahead.time().timestamp()
            )));
        }
        let mut groups: BTreeMap<(String, bool, String), Vec<Snapshot>> = BTreeMap::new();
        let mut foreign = 0;
        for snapshot in snapshots {
            let of = match snapshot.source().filter(|_| snapshot.is_ours()) {
                Some(source) => source.to_string(),
                None if self.take_over => {
                    snapshot.paths().iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
                }
                None => {
                    foreign += 1;
                    continue;
                }
            };
            groups.entry((snapshot.host().to_owned(), snapshot.is_ours(), of)).or_default().push(snapshot);
        }
        let groups = groups
            .into_iter()
            .map(|((host, _, of), snapshots)| self.decide(host, of, snapshots, now))
            .collect::<Result<_, _>>()?;
        Ok(ForgetReport { groups, foreign, dry_run: true })
    }

    fn decide(self, host: String, of: String, snapshots: Vec<Snapshot>, now: &Zoned) -> Result<ForgetGroup, RepositoryError> {
        let last_good = snapshots
            .iter()
            .filter(|snapshot| snapshot.is_whole())
            .max_by_key(|snapshot| snapshot.time().timestamp())
            .map(Snapshot::id);
        let files = snapshots.into_iter().map(|snapshot| snapshot.file).collect();
        let grouped = Grouped::from_items(files, SnapshotGroupCriterion::new());
        let decided = ForgetGroups::from_grouped_snapshots_with_retention(grouped, &self.keep_options(), now)
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
            if reasons.is_empty() {
                group.remove.push(snapshot);
            } else {
                group.keep.push(ForgetReason { snapshot, reasons });
            }
        }
        Ok(group)
    }
}

impl Repository {
    /// Forgets by policy. The lock must be exclusive.
    ///
    /// # Errors
    /// As [`Retention::plan`]; and when a snapshot cannot be removed.
    pub async fn forget(
        &self,
        retention: Retention,
        dry_run: bool,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<ForgetReport, RepositoryError> {
        let mut report = retention.plan(self.snapshots().await?, &Zoned::now())?;
        if dry_run {
            return Ok(report);
        }
        let ids: Vec<SnapshotId> = report.groups.iter().flat_map(|group| group.remove.iter().map(Snapshot::id)).collect();
        lock.confirm().await?;
        self.delete_snapshots(ids, lock, progress, cancel).await?;
        report.dry_run = false;
        Ok(report)
    }

    async fn delete_snapshots(
        &self,
        ids: Vec<SnapshotId>,
        lock: &Lock,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<(), RepositoryError> {
        if ids.is_empty() {
            return Ok(());
        }
        let progress = progress.clone();
        self.guarded(lock, cancel, move |repository, gate| {
            let engine = repository.engine(gate, &progress)?;
            let ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
            engine.delete_snapshots(&ids).map_err(RepositoryError::engine("forget snapshots of"))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use rustic_core::{SnapshotOptions, repofile::SnapshotFile};

    use super::*;

    fn snapshot(source: &str, time: &Zoned, whole: bool, number: u8) -> Snapshot {
        let tags = if source.is_empty() {
            "restic".to_owned()
        } else {
            super::super::snapshot::tags(&crate::job::RunId::new(), &source.parse().unwrap(), whole, &[])
        };
        let mut file: SnapshotFile =
            SnapshotOptions::default().host(Some("h".into())).time(time.clone()).add_tags(&tags).unwrap().to_snapshot().unwrap();
        file.id = format!("{number:064x}").parse::<rustic_core::Id>().unwrap().into();
        Snapshot::new(file)
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
        let retention = Retention { keep_daily: 1, keep_weekly: 0, keep_monthly: 0, ..Retention::default() };
        let report = retention.plan(snapshots.clone(), &now).unwrap();
        assert_eq!(report.foreign, 1);
        let kept: Vec<String> = report.groups.iter().flat_map(|g| &g.keep).map(|k| k.snapshot.id().to_string()).collect();
        let kept: Vec<&str> = kept.iter().map(|id| &id[63..]).collect();
        assert_eq!(kept, ["5", "2", "6"], "the newest, the last whole one, and the other source's only one");
        let all = Retention { take_over: true, ..retention }.plan(snapshots, &now).unwrap();
        assert_eq!(all.foreign, 0);
    }

    #[test]
    fn a_policy_that_keeps_nothing_and_a_snapshot_from_the_future_are_refused() {
        let now: Zoned = "2026-11-20T12:00:00+00:00[UTC]".parse().unwrap();
        let nothing = Retention { keep_daily: 0, keep_weekly: 0, keep_monthly: 0, ..Retention::default() };
        assert!(matches!(nothing.plan(Vec::new(), &now), Err(RepositoryError::Guarded(_))));
        let ahead = snapshot("mongo", &now.checked_add(2.days()).unwrap(), true, 1);
        assert!(matches!(Retention::default().plan(vec![ahead], &now), Err(RepositoryError::Guarded(_))));
    }
}
