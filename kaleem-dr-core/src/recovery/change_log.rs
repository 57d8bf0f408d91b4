//! Recovery to a moment: which moments a repository holds, and the chain of slices that reaches one.

use std::collections::BTreeMap;
#[cfg(feature = "operate")]
use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

#[cfg(feature = "operate")]
use crate::engine::repository::SnapshotId;
use crate::{
    engine::{
        change_log::{LogPosition, LogSpan},
        repository::{RepositoryError, Snapshot, SnapshotReader},
    },
    ground::{SourceName, host::HostScope},
    recovery::point::{LogTail, PointReader},
};

/// Slices opened at once.
const OPENED_AT_ONCE: usize = 8;

/// The moment to recover to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The state just before this position: every write before it, none at it or after it.
    Before(LogPosition),
    /// The newest state that the slices reach.
    Newest,
}

/// A base with the slices that extend it without a gap.
#[derive(Clone, Debug)]
pub(crate) struct LogChain<'a> {
    pub(crate) base: &'a Snapshot,
    /// The slices, in the order of the log.
    pub(crate) slices: Vec<&'a Snapshot>,
    /// Position that the data of the base represent.
    pub(crate) from: LogPosition,
    /// The last position that can be reached.
    pub(crate) to: LogPosition,
    /// The entry after `to` that no replay can follow.
    pub(crate) broken_at: Option<LogPosition>,
}

/// The slices of a repository, by what they extend: host, source and selection. Those of each are sorted by their starts, so that a
/// chain takes one pass, however many there are.
#[derive(Default)]
pub(crate) struct Slices<'a>(BTreeMap<Extended<'a>, Vec<(LogSpan, &'a Snapshot)>>);

/// Host, source and selection.
type Extended<'a> = (&'a str, SourceName, String);

impl<'a> Slices<'a> {
    /// The whole slices that `counts` accepts.
    pub(crate) fn among(snapshots: &'a [Snapshot], counts: impl Fn(&Snapshot) -> bool) -> Self {
        let mut slices = Self::default();
        for slice in snapshots.iter().filter(|slice| slice.is_whole()) {
            let Some((source, span)) = slice.sliced().zip(slice.log_span()) else { continue };
            if counts(slice) {
                let of = (slice.host(), source, span.scope.clone());
                slices.0.entry(of).or_default().push((span, slice));
            }
        }
        for slices in slices.0.values_mut() {
            slices.sort_by_key(|(span, _)| (span.after, span.to));
        }
        slices
    }
}

impl<'a> LogChain<'a> {
    /// The chain that begins at a base; `None` if the base has no position in a change log.
    pub(crate) fn from(base: &'a Snapshot, slices: &Slices<'a>) -> Option<Self> {
        let (span, source) = (base.log_span()?, base.source()?);
        let mut chain =
            Self { base, slices: Vec::new(), from: span.to, to: span.to, broken_at: None };
        let of = (base.host(), source, span.scope);
        let mut rest = slices.0.get(&of).map_or(&[][..], Vec::as_slice).iter().peekable();
        let mut reached = span.after;
        let (mut farthest, mut farthest_after_gap): (Option<&(LogSpan, &Snapshot)>, _) =
            (None, None);
        loop {
            while let Some(next) = rest.next_if(|(slice, _)| slice.after <= reached) {
                let best =
                    if next.0.gap.is_none() { &mut farthest } else { &mut farthest_after_gap };
                if best.is_none_or(|best: &(LogSpan, _)| best.0.to < next.0.to) {
                    *best = Some(next);
                }
            }
            // A slice after a gap continues nothing, but it extends a base that was taken since.
            let after_gap = farthest_after_gap.filter(|_| chain.slices.is_empty());
            let next = farthest.into_iter().chain(after_gap).max_by_key(|(slice, _)| slice.to);
            let Some((next, slice)) = next.filter(|(next, _)| next.to > reached) else { break };
            chain.slices.push(slice);
            // Entries that the base contains already are not replayed.
            let past = chain.from.max(reached);
            reached = next.to;
            let broken = next.breaks.iter().map(|cut| cut.at).filter(|at| *at > past).min();
            if let Some(at) = broken {
                chain.to = chain.to.max(before(at));
                chain.broken_at = Some(at);
                break;
            }
            chain.to = chain.to.max(reached);
        }
        Some(chain)
    }

    /// Reports whether the chain leads to the state just before a position.
    fn reaches(&self, until: LogPosition) -> bool {
        self.from < until && until <= self.to.next()
    }
}

/// The position before this one.
fn before(at: LogPosition) -> LogPosition {
    match at.increment.checked_sub(1) {
        Some(increment) => LogPosition { increment, ..at },
        None => LogPosition { seconds: at.seconds.saturating_sub(1), increment: u32::MAX },
    }
}

/// A span of time of which every moment can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct RestorableSpan {
    /// Host of the snapshots.
    pub host: String,
    /// The source.
    pub source: SourceName,
    /// The first moment.
    pub from: LogPosition,
    /// The last moment.
    pub to: LogPosition,
    /// Time of the first moment.
    pub from_time: Timestamp,
    /// Time of the last moment.
    pub to_time: Timestamp,
    /// Number of recovery points in it.
    pub bases: usize,
    /// Number of slices in it.
    pub slices: usize,
    /// An entry at its end that no replay can follow.
    pub broken_at: Option<LogPosition>,
}

/// The spans of which every moment can be restored, by host and source, oldest first. Points without a slice are not among them.
#[must_use]
pub fn restorable_spans(snapshots: &[Snapshot], hosts: &HostScope) -> Vec<RestorableSpan> {
    let now = Timestamp::now();
    let slices = Slices::among(snapshots, |_| true);
    let mut chains: BTreeMap<(String, SourceName), Vec<LogChain<'_>>> = BTreeMap::new();
    for base in bases(snapshots, hosts, now) {
        let Some(source) = base.source() else { continue };
        let Some(chain) = LogChain::from(base, &slices) else { continue };
        if !chain.slices.is_empty() {
            chains.entry((base.host().to_owned(), source)).or_default().push(chain);
        }
    }
    let mut spans = Vec::new();
    for ((host, source), mut chains) in chains {
        chains.sort_by_key(|chain| chain.from);
        let mut merged: Vec<(RestorableSpan, Vec<LogChain<'_>>)> = Vec::new();
        for chain in chains {
            if let Some((span, within)) =
                merged.last_mut().filter(|(span, _)| chain.from <= span.to)
            {
                if chain.to >= span.to {
                    (span.to, span.broken_at) = (chain.to, chain.broken_at);
                }
                span.bases += 1;
                within.push(chain);
            } else {
                let span = RestorableSpan {
                    host: host.clone(),
                    source: source.clone(),
                    from: chain.from,
                    to: chain.to,
                    from_time: chain.from.time(),
                    to_time: chain.to.time(),
                    bases: 1,
                    slices: 0,
                    broken_at: chain.broken_at,
                };
                merged.push((span, vec![chain]));
            }
        }
        spans.extend(merged.into_iter().map(|(mut span, chains)| {
            let mut slices: Vec<_> =
                chains.iter().flat_map(|chain| &chain.slices).map(|slice| slice.id()).collect();
            slices.sort_unstable();
            slices.dedup();
            span.slices = slices.len();
            span.to_time = span.to.time();
            span
        }));
    }
    spans
}

/// For each recovery point of a host that proven slices extend, the moment that they reach. `proven` are the ids of these slices.
#[cfg(feature = "operate")]
pub(crate) fn reach(
    snapshots: &[Snapshot],
    host: &str,
    proven: &BTreeSet<SnapshotId>,
) -> BTreeMap<SnapshotId, Timestamp> {
    let slices = Slices::among(snapshots, |slice| proven.contains(&slice.id()));
    snapshots
        .iter()
        .filter(|base| base.is_ours() && base.host() == host)
        .filter_map(|base| {
            let chain = LogChain::from(base, &slices)?;
            (!chain.slices.is_empty()).then(|| (base.id(), chain.to.time()))
        })
        .collect()
}

/// Whole recovery points with a place in a change log.
fn bases<'a>(
    snapshots: &'a [Snapshot],
    hosts: &'a HostScope,
    now: Timestamp,
) -> impl Iterator<Item = &'a Snapshot> {
    snapshots.iter().filter(move |snapshot| {
        snapshot.is_ours()
            && snapshot.is_whole()
            && hosts.includes(snapshot.host())
            && !snapshot.is_of_the_future(now)
            && snapshot.log_span().is_some()
    })
}

/// The slices that lead from a chosen point to a moment.
#[derive(Clone, Debug)]
pub(crate) struct ChosenLog {
    slices: Vec<Snapshot>,
    from: LogPosition,
    until: LogPosition,
}

impl ChosenLog {
    /// Opens the slices, and adds them to the point that they extend.
    pub(crate) async fn extend(
        &self,
        point: PointReader,
        reader: &SnapshotReader,
    ) -> Result<PointReader, RepositoryError> {
        let (progress, cancel) = (point.progress().clone(), point.cancellation());
        let open = |slice: Snapshot| {
            let (progress, cancel) = (progress.clone(), cancel.clone());
            async move { PointReader::open(reader.at(&slice), progress, cancel).await }
        };
        let slices: Vec<PointReader> = futures::stream::iter(self.slices.clone())
            .map(open)
            .buffered(OPENED_AT_ONCE)
            .try_collect()
            .await?;
        Ok(point.with_log(LogTail { slices, from: self.from, until: self.until }))
    }
}

/// Chooses the newest base before a moment from which slices lead to it.
///
/// # Errors
/// [`RepositoryError::Guarded`] if there is none, with the reason.
pub(crate) fn choose_at(
    snapshots: &[Snapshot],
    source: &SourceName,
    moment: Moment,
    hosts: &HostScope,
) -> Result<(Snapshot, ChosenLog), RepositoryError> {
    let slices = Slices::among(snapshots, |_| true);
    let mut chains: Vec<LogChain<'_>> = bases(snapshots, hosts, Timestamp::now())
        .filter(|base| base.source().as_ref() == Some(source))
        .filter_map(|base| LogChain::from(base, &slices))
        .collect();
    if chains.is_empty() {
        return Err(RepositoryError::Guarded(format!(
            "source {source} of {hosts} has no point with a position in a change log, from which a recovery to a moment starts: \
             `kaleem-dr points` shows what can be restored"
        )));
    }
    chains.sort_by_key(|chain| (chain.from, chain.base.time().timestamp()));
    let until = match moment {
        Moment::Before(until) => until,
        Moment::Newest => chains.iter().map(|chain| chain.to).max().unwrap_or_default().next(),
    };
    let Some(chain) = chains.iter().rfind(|chain| chain.reaches(until)) else {
        return Err(RepositoryError::Guarded(unreachable(&chains, source, until)));
    };
    let begins_before =
        |slice: &&&Snapshot| slice.log_span().is_some_and(|span| span.after < until);
    let slices = chain.slices.iter().filter(begins_before).map(|slice| (*slice).clone()).collect();
    Ok((chain.base.clone(), ChosenLog { slices, from: chain.from, until }))
}

/// The reason why no chain leads to a moment.
fn unreachable(chains: &[LogChain<'_>], source: &SourceName, until: LogPosition) -> String {
    let shown = |at: LogPosition| format!("{} ({at})", at.time());
    let Some(newest) = chains.iter().rfind(|chain| chain.from < until) else {
        let oldest = chains.iter().map(|chain| chain.from).min().unwrap_or_default();
        return format!(
            "{} is before the oldest point of {source}, which represents {}",
            shown(until),
            shown(oldest)
        );
    };
    let why = match newest.broken_at {
        Some(at) => format!(
            "the entry of its change log at {} cannot be replayed, and there is no point between it and that moment",
            shown(at)
        ),
        None if newest.slices.is_empty() => {
            "no slice of its change log continues it (`kaleem-dr oplog` saves them)".to_owned()
        }
        None => format!(
            "the slices that continue it end at {}: a slice is missing, or not saved yet",
            shown(newest.to)
        ),
    };
    format!(
        "{source} cannot be restored to {}: the newest point before it represents {}, and {why}. `kaleem-dr points` shows which moments \
         can be restored",
        shown(until),
        shown(newest.from)
    )
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::engine::{change_log::LogBreak, repository::snapshot_for_tests_with};

    fn at(seconds: u32) -> LogPosition {
        LogPosition { seconds, increment: 1 }
    }

    fn span(after: u32, to: u32) -> LogSpan {
        LogSpan::of_base("s".into(), at(after), at(to))
    }

    /// Bases and slices of `mongo` on host `h`, numbered in this order.
    fn snapshots(bases: &[LogSpan], slices: &[LogSpan]) -> Vec<Snapshot> {
        let time = Timestamp::from_second(1000).unwrap().to_zoned(TimeZone::UTC);
        let numbered = (1u8..).zip(bases);
        let made = numbered
            .map(|(n, span)| snapshot_for_tests_with(false, ("h", "mongo"), &time, n, span));
        let numbered = (100u8..).zip(slices);
        let also =
            numbered.map(|(n, span)| snapshot_for_tests_with(true, ("h", "mongo"), &time, n, span));
        made.chain(also).collect()
    }

    fn chosen(snapshots: &[Snapshot], until: LogPosition) -> Result<(String, usize), String> {
        let source = "mongo".parse().unwrap();
        choose_at(snapshots, &source, Moment::Before(until), &HostScope::Any)
            .map(|(base, log)| (base.id().to_string()[..2].to_owned(), log.slices.len()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_base_before_the_moment_is_extended_without_gaps() {
        let all =
            snapshots(&[span(10, 10), span(30, 31)], &[span(9, 20), span(20, 40), span(40, 50)]);
        assert_eq!(chosen(&all, at(25)), Ok(("01".into(), 2)));
        assert_eq!(chosen(&all, at(31)), Ok(("01".into(), 2)), "the state before it");
        assert_eq!(chosen(&all, at(45)), Ok(("02".into(), 2)));
        assert_eq!(chosen(&all, at(50).next()), Ok(("02".into(), 2)));
        assert_eq!(chosen(&all, LogPosition::start_of(50)), Ok(("02".into(), 2)));
        assert!(chosen(&all, LogPosition::start_of(51)).unwrap_err().contains("not saved yet"));
        assert!(chosen(&all, at(10)).unwrap_err().contains("before the oldest point"));
        let spans = restorable_spans(&all, &HostScope::Any);
        assert_eq!(spans.len(), 1);
        assert_eq!(
            (spans[0].from, spans[0].to, spans[0].bases, spans[0].slices),
            (at(10), at(50), 2, 3)
        );
    }

    #[test]
    fn a_missing_slice_a_gap_and_a_break_end_a_chain() {
        let missing = snapshots(&[span(10, 10)], &[span(10, 20), span(30, 40)]);
        assert!(chosen(&missing, at(35)).unwrap_err().contains("a slice is missing"));
        let after_gap = LogSpan { gap: Some(String::new()), ..span(20, 40) };
        let gap = snapshots(&[span(10, 10), span(25, 25)], &[span(10, 20), after_gap]);
        assert!(
            chosen(&gap, at(23)).is_err(),
            "the slice after the gap does not continue the first"
        );
        assert_eq!(chosen(&gap, at(30)), Ok(("02".into(), 1)), "but a base taken since");
        let mut broken = span(10, 40);
        broken.breaks = vec![LogBreak { at: at(20), why: String::new() }];
        let broken = snapshots(&[span(10, 10), span(20, 20)], &[broken]);
        assert_eq!(chosen(&broken, at(20)), Ok(("01".into(), 1)));
        assert_eq!(chosen(&broken, at(30)), Ok(("02".into(), 1)), "a base that contains the entry");
        let only = snapshots(
            &[span(10, 10)],
            &[LogSpan {
                breaks: vec![LogBreak { at: at(20), why: String::new() }],
                ..span(10, 40)
            }],
        );
        assert!(chosen(&only, at(30)).unwrap_err().contains("cannot be replayed"));
    }

    #[test]
    fn slices_that_overlap_are_passed_over() {
        // Two programs saved at once, and one slice covers a damaged one.
        let all = [span(10, 20), span(10, 30), span(20, 25), span(30, 40), span(25, 35)];
        let all = snapshots(&[span(10, 10)], &all);
        assert_eq!(chosen(&all, at(38)), Ok(("01".into(), 2)));
    }

    #[test]
    fn slices_of_another_selection_or_without_the_transactions_in_progress_do_not_extend() {
        let other = LogSpan { scope: "t".into(), ..span(10, 40) };
        assert!(chosen(&snapshots(&[span(10, 10)], &[other]), at(30)).is_err());
        let late = snapshots(&[span(10, 20)], &[span(15, 40)]);
        assert!(chosen(&late, at(30)).unwrap_err().contains("no slice"));
    }
}
