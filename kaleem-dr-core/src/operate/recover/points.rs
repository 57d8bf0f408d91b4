//! The points of a recovery: those that belong together.

use jiff::Timestamp;

use super::options::Recover;
use crate::{
    engine::repository::{RepositoryError, Snapshot},
    ground::{RunId, SourceName, host::HostScope},
    recovery::{
        change_log::Moment,
        points::{ChosenPoint, PointChoice, choose, recovery_points},
    },
};

/// The keyword for points that belong together.
const LATEST: &str = "latest";

/// The chosen points, in the order of the sources.
pub(crate) struct Chosen {
    pub(crate) points: Vec<(SourceName, Result<ChosenPoint, RepositoryError>)>,
    /// Notes about the choice, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// Chooses the point of each source. `has_log` reports whether a source has a change log; `begun`
/// is the run whose points an interrupted recovery has restored already.
pub(crate) fn choose_together(
    snapshots: &[Snapshot],
    sources: &[SourceName],
    (wanted, begun): (&Recover, Option<RunId>),
    hosts: &HostScope,
    has_log: impl Fn(&SourceName) -> bool,
) -> Chosen {
    let now = Timestamp::now();
    let mut notes = Vec::new();
    let choice = PointChoice::latest(hosts.clone());
    if let Some(moment) = wanted.moment {
        let at = time_of(moment).unwrap_or(now);
        let before: Vec<Snapshot> = snapshots
            .iter()
            .filter(|snapshot| snapshot.time().timestamp() <= at)
            .cloned()
            .collect();
        let point = |source: &SourceName| {
            if has_log(source) {
                let choice = PointChoice { moment: Some(moment), ..choice.clone() };
                choose(snapshots, source, &choice, now)
            } else {
                choose(&before, source, &choice, now)
            }
        };
        let without: Vec<&str> =
            sources.iter().filter(|name| !has_log(name)).map(SourceName::as_str).collect();
        if !without.is_empty() {
            notes.push(format!(
                "these sources have no change log, so their newest point before that moment is used: {}",
                without.join(", ")
            ));
        }
        let points = sources.iter().map(|source| (source.clone(), point(source))).collect();
        return Chosen { points, notes };
    }
    if wanted.point != LATEST {
        let choice = PointChoice { wanted: wanted.point.clone(), ..choice };
        let point = |source: &SourceName| (source.clone(), choose(snapshots, source, &choice, now));
        return Chosen { points: sources.iter().map(point).collect(), notes };
    }
    let together = recovery_points(snapshots, sources, hosts);
    let complete = together.iter().filter(|point| point.is_complete() && !point.is_of_the_future);
    // What was begun continues with its own points, if they still exist.
    let newest = complete
        .clone()
        .find(|point| Some(point.run) == begun)
        .or_else(|| complete.clone().next())
        .map(|point| point.run);
    let point = |source: &SourceName| match newest {
        Some(run) => {
            let choice = PointChoice { wanted: run.to_string(), ..choice.clone() };
            choose(snapshots, source, &choice, now)
        }
        None => choose(snapshots, source, &choice, now),
    };
    let points: Vec<_> = sources.iter().map(|source| (source.clone(), point(source))).collect();
    let runs: std::collections::BTreeSet<Option<RunId>> =
        points.iter().filter_map(|(_, point)| Some(point.as_ref().ok()?.snapshot.run())).collect();
    if newest.is_none() && runs.len() > 1 {
        notes.push(
            "no run has a whole point of every source, so the newest of each is used: they belong to different moments".to_owned(),
        );
    }
    Chosen { points, notes }
}

/// The time of a moment; `None` for the newest one.
fn time_of(moment: Moment) -> Option<Timestamp> {
    match moment {
        Moment::Before(position) => Timestamp::from_second(i64::from(position.seconds)).ok(),
        Moment::Newest => None,
    }
}
