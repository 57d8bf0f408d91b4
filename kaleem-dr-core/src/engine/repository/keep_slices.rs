//! Decides which slices of a change log are kept: those that a kept recovery point can still be extended with.

use std::collections::BTreeMap;

use super::{
    keep_span::KeepSpan,
    snapshot::{Snapshot, SnapshotId},
};
use crate::{engine::change_log::LogPosition, ground::SourceName};

/// The slices of a repository, by host and source.
#[derive(Default)]
pub(super) struct Slices(BTreeMap<(String, SourceName), Vec<Snapshot>>);

impl Slices {
    pub(super) fn add(&mut self, source: SourceName, slice: Snapshot) {
        self.0.entry((slice.host().to_owned(), source)).or_default().push(slice);
    }

    /// Decides over the slices of each host and source, newest first. `needed_from` gives the position from which the oldest kept
    /// recovery point of a host and source needs the log.
    pub(super) fn decide(
        self,
        needed_from: impl Fn(&str, &SourceName) -> Option<LogPosition>,
        within: Option<KeepSpan>,
        protected: &BTreeMap<SnapshotId, String>,
    ) -> Vec<DecidedSlices> {
        let decide = |((host, source), mut slices): ((String, SourceName), Vec<Snapshot>)| {
            let oldest = needed_from(&host, &source);
            slices.sort_by_key(|slice| std::cmp::Reverse(slice.time().timestamp()));
            let limit = within.zip(slices.first()).and_then(|(within, newest)| {
                newest.time().checked_sub(within.span()).ok().map(|limit| limit.timestamp())
            });
            let reasons = |slice: &Snapshot| {
                let mut reasons: Vec<String> =
                    protected.get(&slice.id()).cloned().into_iter().collect();
                if slice.is_protected() {
                    reasons.push("protected against deletion".to_owned());
                }
                let is_young = limit.is_none_or(|limit| slice.time().timestamp() >= limit);
                reasons.extend(needed(slice, oldest).filter(|_| is_young).map(str::to_owned));
                reasons
            };
            let slices = slices.into_iter().map(|slice| (reasons(&slice), slice)).collect();
            DecidedSlices { host, source, slices }
        };
        self.0.into_iter().map(decide).collect()
    }
}

/// The slices of a host and source, each with the reasons for keeping it; without one, it is removed.
pub(super) struct DecidedSlices {
    pub(super) host: String,
    pub(super) source: SourceName,
    pub(super) slices: Vec<(Vec<String>, Snapshot)>,
}

/// The reason why a slice is needed, if it is. `oldest` is where the oldest kept recovery point begins to need the log.
fn needed(slice: &Snapshot, oldest: Option<LogPosition>) -> Option<&'static str> {
    let Some(span) = slice.log_span() else { return Some("its span is unknown") };
    match oldest {
        // A point may still be on its way: its capture can take hours.
        None => Some("no point precedes it yet"),
        Some(oldest) if span.to > oldest => Some("a kept point precedes it"),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan as _, Zoned};

    use super::super::{Retention, snapshot_for_tests, snapshot_for_tests_with};
    use super::*;
    use crate::{engine::change_log::LogSpan, ground::host::HostScope};

    #[test]
    fn a_slice_is_kept_as_long_as_a_kept_point_precedes_it() {
        let now: Zoned = "2026-11-20T12:00:00+00:00[UTC]".parse().unwrap();
        let day = |n: i64| now.checked_sub(n.days()).unwrap();
        let at = |n: u32| LogPosition { seconds: 1000 - n, increment: 1 };
        let base = |n: u8| {
            let span = LogSpan::of_base("s".into(), at(n.into()), at(n.into()));
            snapshot_for_tests_with(false, ("h", "mongo"), &day(n.into()), 50 + n, &span)
        };
        let slice = |n: u8| {
            let span = LogSpan::of_base("s".into(), at(u32::from(n) + 1), at(n.into()));
            snapshot_for_tests_with(true, ("h", "mongo"), &day(n.into()), 100 + n, &span)
        };
        let snapshots = vec![
            base(9),
            base(5),
            base(2),
            slice(7),
            slice(5),
            slice(4),
            slice(1),
            snapshot_for_tests("h", "files", &day(30), true, 3),
        ];
        let removed = |retention: &Retention, snapshots: Vec<Snapshot>| -> Vec<String> {
            let report = retention.plan(snapshots, &HostScope::Any.into(), &now).unwrap();
            let of_slices = report.groups.iter().filter(|group| group.of.contains("slices"));
            of_slices
                .flat_map(|group| &group.remove)
                .map(|slice| slice.id().to_string()[62..].to_owned())
                .collect()
        };
        let two = Retention { keep_last: 2, ..Retention::nothing() };
        assert_eq!(removed(&two, snapshots.clone()), ["69", "6b"], "7 and 5 days old");
        let all = Retention { keep_last: 9, ..Retention::nothing() };
        assert!(removed(&all, snapshots.clone()).is_empty());
        let young = Retention { keep_slices_within: Some("2d".parse().unwrap()), ..all.clone() };
        assert_eq!(removed(&young, snapshots), ["68", "69", "6b"]);
        assert!(removed(&all, vec![slice(7)]).is_empty(), "the first point is not there yet");
        let foreign = Retention { take_over: true, ..two };
        assert!(removed(&foreign, vec![slice(7)]).is_empty());
    }
}
