//! Recovery points: the snapshots of each run, and the choice of the one to restore.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    CancellationToken,
    engine::repository::{
        PointSelector, Repository, RepositoryError, Snapshot, SnapshotId, SnapshotReader,
    },
    ground::{RunId, SourceName, host::HostScope, progress::ProgressSink},
    recovery::{
        change_log::{ChosenLog, Moment, choose_at},
        point::PointReader,
    },
};

/// The snapshots of one run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct RecoveryPoint {
    /// Id of the run that made the snapshots.
    pub run: RunId,
    /// Name of the host that the run belongs to.
    pub host: String,
    /// Time of its first snapshot.
    pub time: Timestamp,
    /// The snapshot of each source that the run saved.
    pub snapshots: BTreeMap<SourceName, SnapshotId>,
    /// Sources of the config that this point lacks, or contains only in part.
    pub missing: Vec<SourceName>,
    /// True if it is dated in the future; it then never counts as the newest.
    pub is_of_the_future: bool,
}

impl RecoveryPoint {
    /// Reports whether it contains a whole snapshot of every source of the config.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Groups our snapshots of the hosts in `hosts` by run, newest first. `wanted` are the sources a complete point has.
#[must_use]
pub fn recovery_points(
    snapshots: &[Snapshot],
    wanted: &[SourceName],
    hosts: &HostScope,
) -> Vec<RecoveryPoint> {
    let now = Timestamp::now();
    let mut points: BTreeMap<RunId, (RecoveryPoint, Vec<SourceName>)> = BTreeMap::new();
    for snapshot in
        snapshots.iter().filter(|snapshot| snapshot.is_ours() && hosts.includes(snapshot.host()))
    {
        let (Some(run), Some(source)) = (snapshot.run(), snapshot.source()) else { continue };
        let time = snapshot.time().timestamp();
        let (point, whole) = points.entry(run).or_insert_with(|| {
            let point = RecoveryPoint {
                run,
                host: snapshot.host().to_owned(),
                time,
                snapshots: BTreeMap::new(),
                missing: Vec::new(),
                is_of_the_future: false,
            };
            (point, Vec::new())
        });
        point.time = point.time.min(time);
        point.is_of_the_future |= snapshot.is_of_the_future(now);
        if snapshot.is_whole() {
            whole.push(source.clone());
        }
        point.snapshots.insert(source, snapshot.id());
    }
    let mut points: Vec<RecoveryPoint> = points
        .into_values()
        .map(|(mut point, whole)| {
            point.missing =
                wanted.iter().filter(|source| !whole.contains(source)).cloned().collect();
            point
        })
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.time));
    points
}

/// The choice of a source's point.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PointChoice {
    /// `latest` (with `~N` and `@TIME` as [`PointSelector`] describes), or the beginning of a run's or a snapshot's id. An id is
    /// searched among all hosts.
    pub wanted: String,
    /// The hosts to consider for `latest`.
    pub hosts: HostScope,
    /// Allow `latest` to select an incomplete point even if an older whole one exists.
    pub allow_incomplete: bool,
    /// Restore to this moment, from the newest point before it; `wanted` is then ignored.
    pub moment: Option<Moment>,
}

impl PointChoice {
    /// The newest whole point of these hosts.
    #[must_use]
    pub fn latest(hosts: impl Into<HostScope>) -> Self {
        Self {
            wanted: LATEST.to_owned(),
            hosts: hosts.into(),
            allow_incomplete: false,
            moment: None,
        }
    }

    /// The newest point, whole or not, as needed for a proof.
    #[must_use]
    pub fn newest(hosts: impl Into<HostScope>) -> Self {
        Self { allow_incomplete: true, ..Self::latest(hosts) }
    }
}

/// The keyword for the newest point.
const LATEST: &str = "latest";

/// The chosen snapshot, with warnings about the choice.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChosenPoint {
    /// The selected snapshot, of a single source.
    pub snapshot: Snapshot,
    /// Warnings, as one sentence each: a newer point that was skipped, a date in the future.
    pub notes: Vec<String>,
    /// The slices that lead to the chosen moment.
    log: Option<ChosenLog>,
}

impl ChosenPoint {
    /// Opens the point for reading, with the slices that lead to the chosen moment.
    ///
    /// # Errors
    /// If a snapshot cannot be read.
    pub async fn open(
        &self,
        repository: &Repository,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<PointReader, RepositoryError> {
        self.open_with(&repository.read(&self.snapshot).await?, progress, cancel).await
    }

    /// Like [`ChosenPoint::open`], with the index that a reader of the same repository has in memory.
    ///
    /// # Errors
    /// As [`ChosenPoint::open`].
    pub async fn open_with(
        &self,
        reader: &SnapshotReader,
        progress: &Arc<dyn ProgressSink>,
        cancel: &CancellationToken,
    ) -> Result<PointReader, RepositoryError> {
        let own = reader.at(&self.snapshot);
        let point = PointReader::open(own, progress.clone(), cancel.clone()).await?;
        match &self.log {
            Some(log) => log.extend(point, reader).await,
            None => Ok(point),
        }
    }
}

/// Chooses among snapshots as of `now`. `latest` is the newest whole point that is not dated in the future; if no whole one
/// exists, the newest incomplete one.
///
/// # Errors
/// [`RepositoryError::NoPoint`] with the hosts that have points of the source; [`RepositoryError::Ambiguous`] for an id that
/// several match; [`RepositoryError::Guarded`] for a moment that cannot be reached, with the reason.
pub fn choose(
    snapshots: &[Snapshot],
    source: &SourceName,
    choice: &PointChoice,
    now: Timestamp,
) -> Result<ChosenPoint, RepositoryError> {
    if let Some(moment) = choice.moment {
        let (snapshot, log) = choose_at(snapshots, source, moment, &choice.hosts)?;
        return Ok(ChosenPoint { snapshot, notes: Vec::new(), log: Some(log) });
    }
    let of_source: Vec<&Snapshot> = snapshots
        .iter()
        .filter(|snapshot| snapshot.is_ours() && snapshot.source().as_ref() == Some(source))
        .collect();
    let newest = match PointSelector::parse(&choice.wanted)? {
        PointSelector::Id(_) => return by_id(&of_source, source, choice, now),
        PointSelector::Newest(newest) => newest,
    };
    let (future, past): (Vec<&Snapshot>, Vec<&Snapshot>) = of_source
        .iter()
        .filter(|snapshot| choice.hosts.includes(snapshot.host()))
        .partition(|snapshot| snapshot.is_of_the_future(now));
    let mut notes: Vec<String> = future
        .iter()
        .map(|snapshot| format!("{}; it was passed over", in_the_future(snapshot)))
        .collect();
    if past.is_empty() {
        return Err(no_point(source, choice, &of_source, now));
    }
    let whole: Vec<&Snapshot> = past
        .iter()
        .copied()
        .filter(|snapshot| snapshot.is_whole() && newest.permits(snapshot))
        .collect();
    let only_whole = !choice.allow_incomplete && !whole.is_empty();
    let candidates = if only_whole { &whole } else { &past };
    let found = newest.of(candidates.iter().copied());
    let snapshot =
        found.ok_or_else(|| newest.out_of_reach(&format!("source {source}"), candidates))?;
    let any = newest.of(past.iter().copied()).filter(|_| newest.back == 0);
    if let Some(any) = any.filter(|any| any.id() != snapshot.id()) {
        notes.push(format!(
            "a newer point, snapshot {} of {}, is incomplete and was skipped; --allow-incomplete selects it",
            any.id().short(),
            any.time().timestamp()
        ));
    }
    Ok(ChosenPoint { snapshot: snapshot.clone(), notes, log: None })
}

fn by_id(
    of_source: &[&Snapshot],
    source: &SourceName,
    choice: &PointChoice,
    now: Timestamp,
) -> Result<ChosenPoint, RepositoryError> {
    let wanted = &choice.wanted;
    let matches = |snapshot: &&&Snapshot| {
        snapshot.id().to_string().starts_with(wanted)
            || snapshot.run().is_some_and(|run| run.to_string().starts_with(&wanted.to_uppercase()))
    };
    let found: Vec<&Snapshot> =
        of_source.iter().filter(|_| !wanted.is_empty()).filter(matches).copied().collect();
    match found[..] {
        [] => Err(RepositoryError::NoSnapshot { wanted: format!("{wanted} of source {source}") }),
        [snapshot] => {
            let mut notes = Vec::new();
            if snapshot.is_of_the_future(now) {
                notes.push(in_the_future(snapshot));
            }
            Ok(ChosenPoint { snapshot: snapshot.clone(), notes, log: None })
        }
        _ => Err(RepositoryError::ambiguous(wanted, &found)),
    }
}

fn in_the_future(snapshot: &Snapshot) -> String {
    format!(
        "snapshot {} of host {} is dated {}, in the future",
        snapshot.id().short(),
        snapshot.host(),
        snapshot.time().timestamp()
    )
}

fn no_point(
    source: &SourceName,
    choice: &PointChoice,
    of_source: &[&Snapshot],
    now: Timestamp,
) -> RepositoryError {
    let past: Vec<&Snapshot> =
        of_source.iter().copied().filter(|snapshot| !snapshot.is_of_the_future(now)).collect();
    let future = of_source
        .iter()
        .find(|snapshot| choice.hosts.includes(snapshot.host()) && snapshot.is_of_the_future(now));
    let future = future.map(|snapshot| in_the_future(snapshot));
    RepositoryError::no_point(&format!("source {source}"), &choice.hosts, &past, future)
}

/// Opens the chosen point of a source for reading. Also returns warnings about the choice.
///
/// # Errors
/// As [`choose`], or if the snapshot cannot be read.
pub async fn open_point(
    repository: &Repository,
    source: &SourceName,
    choice: &PointChoice,
    progress: &Arc<dyn ProgressSink>,
    cancel: &CancellationToken,
) -> Result<(PointReader, Vec<String>), RepositoryError> {
    let chosen = find_snapshot(repository, source, choice).await?;
    let point = chosen.open(repository, progress, cancel).await?;
    Ok((point, chosen.notes))
}

/// The snapshot that [`open_point`] opens.
///
/// # Errors
/// As [`choose`].
pub async fn find_snapshot(
    repository: &Repository,
    source: &SourceName,
    choice: &PointChoice,
) -> Result<ChosenPoint, RepositoryError> {
    choose(&repository.snapshots().await?, source, choice, Timestamp::now())
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;
    use crate::{engine::repository::snapshot_for_tests, ground::host::HostName};

    fn scope(host: &str) -> HostScope {
        HostScope::One(host.parse().unwrap())
    }

    /// Snapshots of source `s`: host, hours ago, whether whole.
    fn snapshots(of: &[(&str, i64, bool)]) -> Vec<Snapshot> {
        let now = Timestamp::now();
        let one = |(number, &(host, hours, whole)): (usize, &(&str, i64, bool))| {
            let time = (now - hours.hours()).to_zoned(jiff::tz::TimeZone::UTC);
            snapshot_for_tests(host, "s", &time, whole, u8::try_from(number + 1).unwrap())
        };
        of.iter().enumerate().map(one).collect()
    }

    fn chosen(
        of: &[(&str, i64, bool)],
        choice: &PointChoice,
    ) -> Result<(usize, String), RepositoryError> {
        let snapshots = snapshots(of);
        let chosen = choose(&snapshots, &"s".parse().unwrap(), choice, Timestamp::now())?;
        let at =
            snapshots.iter().position(|snapshot| snapshot.id() == chosen.snapshot.id()).unwrap();
        Ok((at, chosen.notes.join("\n")))
    }

    #[test]
    fn latest_is_this_hosts_newest_whole_point_that_is_not_of_the_future() {
        let all = [("db1", 30, true), ("web1", 1, true), ("db1", 2, false), ("db1", -50, true)];
        let (at, notes) = chosen(&all, &PointChoice::latest(scope("db1"))).unwrap();
        assert_eq!(at, 0);
        assert!(notes.contains("in the future") && notes.contains("--allow-incomplete"), "{notes}");
        assert_eq!(chosen(&all, &PointChoice::newest(scope("db1"))).unwrap().0, 2);
        assert_eq!(chosen(&all, &PointChoice::latest(HostScope::Any)).unwrap().0, 1);
        let only = [("db1", 2, false)];
        assert_eq!(
            chosen(&only, &PointChoice::latest(scope("db1"))).unwrap().0,
            0,
            "better than nothing"
        );
    }

    #[test]
    fn latest_goes_back_among_the_whole_points() {
        let all = [("db1", 30, true), ("db1", 20, true), ("db1", 2, false), ("web1", 25, true)];
        let choice = |wanted: &str| PointChoice {
            wanted: wanted.to_owned(),
            ..PointChoice::latest(scope("db1"))
        };
        assert_eq!(chosen(&all, &choice("latest")).unwrap().0, 1);
        assert_eq!(chosen(&all, &choice("latest~1")).unwrap().0, 0);
        let none = chosen(&all, &choice("latest~2")).unwrap_err().to_string();
        assert!(none.contains("2 exist"), "{none}");
        let at = Timestamp::now() - 22.hours();
        assert_eq!(chosen(&all, &choice(&format!("latest@{at}"))).unwrap().0, 0);
        let incomplete = PointChoice { allow_incomplete: true, ..choice("latest~1") };
        assert_eq!(chosen(&all, &incomplete).unwrap().0, 1);
        let before = Timestamp::now() - 40.hours();
        let none = chosen(&all, &choice(&format!("latest@{before}"))).unwrap_err().to_string();
        assert!(none.contains("the oldest of"), "{none}");
    }

    #[test]
    fn a_host_without_a_point_hears_which_hosts_have_one() {
        let error = chosen(
            &[("db1", 3, true), ("db1", 5, true)],
            &PointChoice::latest(HostName::of_machine()),
        )
        .unwrap_err();
        let RepositoryError::NoPoint { others, .. } = &error else { panic!("{error}") };
        assert_eq!((others.len(), others[0].host.as_str()), (1, "db1"));
        assert!(error.to_string().contains("db1"), "{error}");
    }

    #[test]
    fn an_id_names_a_point_of_any_host() {
        let all = [("db1", 30, true), ("web1", 1, true)];
        let id = snapshots(&all)[1].id().to_string();
        let choice = PointChoice { wanted: id, ..PointChoice::latest(scope("db1")) };
        assert_eq!(chosen(&all, &choice).unwrap().0, 1);
        let none = PointChoice { wanted: String::new(), ..choice };
        assert!(chosen(&all, &none).is_err(), "an empty id matches nothing");
    }
}
