//! The status of each source: how fresh its newest snapshot is, how much data would be lost now
//! (RPO), and how long a restore takes (RTO).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    engine::{
        ledger::{EventKind, Ledger, LedgerError},
        repository::{Snapshot, SnapshotId, is_of_the_future},
    },
    ground::{SourceName, host::HostName},
    recovery::{
        change_log::reach,
        objectives::{MirrorOf, Objectives, ProofsOf, Standing, standings},
    },
};

/// The status of a source in a repository.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct SourceStatus {
    /// Name of the repository in the config.
    pub repository: String,
    /// Host whose snapshots count, by its name.
    pub host: String,
    /// Freshness of its newest snapshot.
    #[serde(flatten)]
    pub freshness: Freshness,
    /// Its proofs, RPO and RTO.
    #[serde(flatten)]
    pub standing: Standing,
}

impl SourceStatus {
    /// Reports whether a limit is exceeded, or a snapshot is dated in the future, which makes
    /// freshness unreliable.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.freshness.stale || self.freshness.future.is_some() || self.standing.rpo_broken
    }
}

/// A repository whose sources are examined.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatusOf {
    /// Its name in the config.
    pub name: String,
    /// Its location, without credentials, as in the ledger.
    pub location: String,
    /// Location of the repository that it mirrors.
    pub mirror_of: Option<String>,
}

/// Inputs of statuses: history, objectives and limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatusRules<'a> {
    /// Known runs, mirror passes and proofs.
    pub ledger: &'a Ledger,
    /// Recovery objectives of the config.
    pub objectives: &'a Objectives,
    /// Sources that a backup captures.
    pub sources: &'a [SourceName],
    /// Host whose snapshots count, by its name.
    pub host: &'a str,
    /// Age from which a source's newest snapshot is stale.
    pub max_age: SignedDuration,
    /// Current time, from which ages are computed.
    pub now: Timestamp,
}

impl<'a> StatusRules<'a> {
    /// The rules for a host as of now, with `max_age` as the age from which a source's newest snapshot is stale.
    #[must_use]
    pub fn new(
        ledger: &'a Ledger,
        objectives: &'a Objectives,
        sources: &'a [SourceName],
        host: &'a str,
        max_age: SignedDuration,
    ) -> Self {
        Self { ledger, objectives, sources, host, max_age, now: Timestamp::now() }
    }

    /// Status of the sources in a repository whose snapshots are given.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn of_repository(
        &self,
        of: &StatusOf,
        snapshots: &[Snapshot],
    ) -> Result<Vec<SourceStatus>, LedgerError> {
        let origin = of.mirror_of.as_deref().unwrap_or(&of.location);
        let slices = self.ledger.proven_slices(origin)?;
        let known = Known {
            restorable: restorable(snapshots, self.host, self.now),
            reach: reach(snapshots, self.host, &slices),
        };
        self.judge(
            of,
            freshness(snapshots, self.sources, self.host, self.max_age, self.now),
            Some(&known),
        )
    }

    /// Status of the sources in a repository that is not opened, from the ledger: for a mirror,
    /// which of its origin's snapshots it holds; for others, what runs and copies brought there.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn of_replica(
        &self,
        of: &StatusOf,
        origin: &[Snapshot],
    ) -> Result<Vec<SourceStatus>, LedgerError> {
        if of.mirror_of.is_some() {
            let held = self.ledger.held(&of.location)?;
            let is_held = |snapshot: &&Snapshot| held.contains(&snapshot.id());
            let held: Vec<Snapshot> = origin.iter().filter(is_held).cloned().collect();
            return self.of_repository(of, &held);
        }
        let parts = self.ledger.newest_parts(true)?;
        let brings = [EventKind::Backup.word(), EventKind::Copy.word()];
        let fresh = |source: &SourceName| {
            let mine = parts.iter().filter(|past| {
                brings.contains(&past.kind.as_str())
                    && past.part.repository == of.location
                    && past.part.source == *source
            });
            let newest = mine.max_by_key(|past| past.part.finished).map(|past| Newest {
                snapshot: past.part.snapshot,
                time: past.part.consistent_at.unwrap_or(past.part.finished),
                is_whole: true,
                size_bytes: Some(past.part.size_bytes),
            });
            Freshness::of(source, &newest.into_iter().collect::<Vec<_>>(), self.max_age, self.now)
        };
        self.judge(of, self.sources.iter().map(fresh).collect(), None)
    }

    fn judge(
        &self,
        of: &StatusOf,
        fresh: Vec<Freshness>,
        known: Option<&Known>,
    ) -> Result<Vec<SourceStatus>, LedgerError> {
        let sizes: Vec<_> =
            fresh.iter().map(|fresh| (fresh.source.clone(), fresh.size_bytes)).collect();
        let mirror =
            of.mirror_of.as_deref().map(|origin| MirrorOf { origin, mirror: &of.location });
        let proofs = ProofsOf {
            repository: &of.location,
            mirror,
            host: self.host,
            restorable: known.map(|known| &known.restorable),
            reach: known.map(|known| &known.reach),
        };
        let standings = standings(self.ledger, self.objectives, &proofs, &sizes, self.now)?;
        let status = |(standing, freshness): (Standing, Freshness)| SourceStatus {
            repository: of.name.clone(),
            host: self.host.to_owned(),
            freshness,
            standing,
        };
        Ok(standings.into_iter().zip(fresh).map(status).collect())
    }
}

/// The facts about a repository that are known only from its snapshots.
struct Known {
    /// Ids of the snapshots that can be restored.
    restorable: BTreeSet<SnapshotId>,
    /// The moment to which proven slices extend a snapshot, by its id.
    reach: BTreeMap<SnapshotId, Timestamp>,
}

/// Freshness of a source's newest snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Freshness {
    /// Source that made the snapshots.
    #[serde(skip)]
    pub source: SourceName,
    /// Its newest snapshot that is not dated in the future; `None` if there is none.
    pub snapshot: Option<SnapshotId>,
    /// Time of that snapshot; `None` if there is none.
    pub time: Option<Timestamp>,
    /// Age of that snapshot, in seconds; `None` if there is none.
    pub age_seconds: Option<i64>,
    /// The newest snapshot is whole.
    pub whole: bool,
    /// Time of the newest whole snapshot.
    pub whole_time: Option<Timestamp>,
    /// The newest whole snapshot is missing, or older than the limit.
    pub stale: bool,
    /// A snapshot of the source that is dated in the future.
    pub future: Option<SnapshotId>,
    /// Size of the newest snapshot in bytes, if it records one.
    #[serde(skip)]
    pub size_bytes: Option<u64>,
}

impl Freshness {
    fn of(
        source: &SourceName,
        snapshots: &[Newest],
        max_age: SignedDuration,
        now: Timestamp,
    ) -> Self {
        let (future, past): (Vec<&Newest>, Vec<&Newest>) =
            snapshots.iter().partition(|snapshot| is_of_the_future(snapshot.time, now));
        let newest = past.iter().max_by_key(|snapshot| snapshot.time);
        let whole_time =
            past.iter().filter(|snapshot| snapshot.is_whole).map(|snapshot| snapshot.time).max();
        Self {
            source: source.clone(),
            snapshot: newest.and_then(|newest| newest.snapshot),
            time: newest.map(|newest| newest.time),
            age_seconds: newest.map(|newest| now.duration_since(newest.time).as_secs()),
            whole: newest.is_some_and(|newest| newest.is_whole),
            whole_time,
            stale: whole_time.is_none_or(|time| now.duration_since(time) > max_age),
            future: future.first().and_then(|snapshot| snapshot.snapshot),
            size_bytes: newest.and_then(|newest| newest.size_bytes),
        }
    }
}

/// Freshness of each source's newest snapshot of a host.
#[must_use]
pub fn freshness(
    snapshots: &[Snapshot],
    sources: &[SourceName],
    host: &str,
    max_age: SignedDuration,
    now: Timestamp,
) -> Vec<Freshness> {
    let of_source = |source: &SourceName| -> Vec<Newest> {
        let mine = snapshots.iter().filter(|snapshot| {
            snapshot.is_ours()
                && snapshot.host() == host
                && snapshot.source().as_ref() == Some(source)
        });
        mine.map(|snapshot| Newest {
            snapshot: Some(snapshot.id()),
            time: snapshot.time().timestamp(),
            is_whole: snapshot.is_whole(),
            size_bytes: snapshot.size_bytes(),
        })
        .collect()
    };
    sources.iter().map(|source| Freshness::of(source, &of_source(source), max_age, now)).collect()
}

/// Freshness of a source of a host in a repository.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct HostStatus {
    /// Host that made the snapshots, by its name.
    pub host: String,
    /// The source; `None` for an expected host without any snapshot.
    pub source: Option<SourceName>,
    /// Its freshness; `None` if there is no snapshot.
    #[serde(flatten)]
    pub freshness: Option<Freshness>,
    /// The config expects fresh snapshots of this host.
    pub is_expected: bool,
    /// The host must be fresh, but is missing, late, or dated in the future.
    pub is_broken: bool,
}

/// A row for each host and source with snapshots, and one for each expected host without any. If no
/// hosts are configured as expected, all are.
#[must_use]
pub fn status_of_hosts(
    snapshots: &[Snapshot],
    expected: &[HostName],
    max_age: SignedDuration,
    now: Timestamp,
) -> Vec<HostStatus> {
    let mut sources: BTreeMap<&str, BTreeSet<SourceName>> =
        expected.iter().map(|host| (host.as_str(), BTreeSet::new())).collect();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.is_ours()) {
        sources.entry(snapshot.host()).or_default().extend(snapshot.source());
    }
    let mut rows = Vec::new();
    for (host, sources) in sources {
        let is_expected =
            expected.is_empty() || expected.iter().any(|expected| expected.as_str() == host);
        let host = host.to_owned();
        if sources.is_empty() {
            rows.push(HostStatus {
                host,
                source: None,
                freshness: None,
                is_expected,
                is_broken: is_expected,
            });
            continue;
        }
        let sources: Vec<SourceName> = sources.into_iter().collect();
        for freshness in freshness(snapshots, &sources, &host, max_age, now) {
            let is_broken = is_expected && (freshness.stale || freshness.future.is_some());
            let source = Some(freshness.source.clone());
            rows.push(HostStatus {
                host: host.clone(),
                source,
                freshness: Some(freshness),
                is_expected,
                is_broken,
            });
        }
    }
    rows
}

/// The whole snapshots of a host that are not dated in the future, by id.
fn restorable(snapshots: &[Snapshot], host: &str, now: Timestamp) -> BTreeSet<SnapshotId> {
    snapshots
        .iter()
        .filter(|snapshot| {
            snapshot.is_data()
                && snapshot.host() == host
                && snapshot.is_whole()
                && !snapshot.is_of_the_future(now)
        })
        .map(Snapshot::id)
        .collect()
}

/// The facts about a snapshot that determine freshness.
struct Newest {
    snapshot: Option<SnapshotId>,
    time: Timestamp,
    is_whole: bool,
    size_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan as _, tz::TimeZone};

    use super::*;
    use crate::engine::repository::snapshot_for_tests;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn snapshots(of: &[(&str, i64, bool)], now: Timestamp) -> Vec<Snapshot> {
        let numbered = of.iter().zip(1u8..);
        let one = |(&(host, hours, whole), number): (&(&str, i64, bool), u8)| {
            snapshot_for_tests(
                host,
                "s",
                &(now - hours.hours()).to_zoned(TimeZone::UTC),
                whole,
                number,
            )
        };
        numbered.map(one).collect()
    }

    #[test]
    fn a_source_is_as_fresh_as_its_newest_whole_snapshot_that_is_not_of_the_future() {
        let now = Timestamp::now();
        let of = |of: &[(&str, i64, bool)]| {
            freshness(&snapshots(of, now), &["s".parse().unwrap()], "h", DAY, now).pop().unwrap()
        };
        let fresh = of(&[("h", 30, true), ("h", 2, true), ("other", 1, true)]);
        assert_eq!(
            (fresh.age_seconds, fresh.whole, fresh.stale, fresh.future),
            (Some(7200), true, false, None)
        );
        let incomplete = of(&[("h", 30, true), ("h", 2, false)]);
        assert_eq!(
            (incomplete.age_seconds, incomplete.whole, incomplete.stale),
            (Some(7200), false, true)
        );
        let future = of(&[("h", 2, true), ("h", -90, true)]);
        assert_eq!(
            (future.age_seconds, future.stale, future.future.is_some()),
            (Some(7200), false, true)
        );
        let only_future = of(&[("h", -90, true)]);
        assert_eq!((only_future.age_seconds, only_future.stale), (None, true));
    }

    #[test]
    fn hosts_that_are_expected_are_judged_and_missing_ones_have_a_row() {
        let now = Timestamp::now();
        let snapshots = snapshots(&[("db1", 2, true), ("old", 900, true)], now);
        let rows = |expected: &[&str]| -> Vec<(String, bool)> {
            let expected: Vec<HostName> =
                expected.iter().map(|host| host.parse().unwrap()).collect();
            let rows = status_of_hosts(&snapshots, &expected, DAY, now);
            rows.into_iter().map(|row| (row.host, row.is_broken)).collect()
        };
        let row = |host: &str, broken| (host.to_owned(), broken);
        assert_eq!(rows(&[]), [row("db1", false), row("old", true)]);
        assert_eq!(
            rows(&["db1", "web1"]),
            [row("db1", false), row("old", false), row("web1", true)]
        );
    }
}
