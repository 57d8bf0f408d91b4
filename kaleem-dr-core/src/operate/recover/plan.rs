//! The plan of a recovery, which is shown before anything is written.

use jiff::Timestamp;
use serde::Serialize;

use super::forecast::Forecast;
use crate::{
    engine::repository::SnapshotId,
    ground::{RunId, SourceName},
    recovery::source::RestorePlan,
};

/// The intended effects of a recovery.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RecoveryPlan {
    /// Id of the recovery.
    pub run: RunId,
    /// Name of the repository that the points are read from.
    pub repository: String,
    /// Location of that repository, without credentials.
    pub location: String,
    /// Over the live data; otherwise next to them.
    pub in_place: bool,
    /// Repositories of the config that do not exist and are filled first.
    pub repositories: Vec<PlannedRepository>,
    /// The sources, in the order of their recovery.
    pub sources: Vec<PlannedSource>,
    /// Notes about the choice of the points, one sentence each.
    pub notes: Vec<String>,
    /// The expected duration of everything: filled repositories, restores, and updates of mirrors; `None`
    /// if not every source was measured.
    pub forecast: Option<Forecast>,
}

impl RecoveryPlan {
    /// Reports whether existing data would be overwritten.
    #[must_use]
    pub fn overwrites(&self) -> bool {
        self.overwritten().next().is_some()
    }

    /// The sources whose existing data would be overwritten.
    pub fn overwritten(&self) -> impl Iterator<Item = &PlannedSource> {
        self.sources
            .iter()
            .filter(|source| source.plan.as_ref().is_some_and(RestorePlan::overwrites))
    }
}

/// A repository of the config that does not exist.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedRepository {
    /// Its name in the config.
    pub name: String,
    /// Its location, without credentials.
    pub location: String,
    /// The origin of its content.
    pub from: RepositoryFrom,
    /// Size of the objects to copy, in bytes; `None` if they were not listed.
    pub size_bytes: Option<u64>,
    /// The expected duration; `None` if no pass was ever measured.
    pub forecast: Option<Forecast>,
}

impl PlannedRepository {
    /// A repository that is filled from this origin.
    pub(crate) fn new(name: String, location: String, from: RepositoryFrom) -> Self {
        Self { name, location, from, size_bytes: None, forecast: None }
    }
}

/// The origin of a repository's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepositoryFrom {
    /// Object by object from the repository that is recovered from, which is its mirror.
    Mirror,
    /// It is created, and the points are copied into it.
    Copy,
}

/// A source in the plan.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedSource {
    /// Name of the source in the config.
    pub source: SourceName,
    /// Kind of the source: its `type` in the config.
    pub kind: String,
    /// Sources that are recovered before it.
    pub after: Vec<SourceName>,
    /// An earlier attempt of this recovery has recovered it, so nothing is done.
    pub is_recovered: bool,
    /// Run of its point.
    pub run: Option<RunId>,
    /// Snapshot of its point.
    pub snapshot: Option<SnapshotId>,
    /// Time that its data represent.
    pub consistent_at: Option<Timestamp>,
    /// Size of its data, in bytes.
    pub size_bytes: u64,
    /// Its change log brings it to the requested moment.
    pub uses_log: bool,
    /// The changes; `None` if it cannot be planned now.
    pub plan: Option<RestorePlan>,
    /// Why it cannot be planned now. It is tried all the same when its turn comes.
    pub error: Option<String>,
    /// The expected duration; `None` if it was never measured.
    pub forecast: Option<Forecast>,
}

impl PlannedSource {
    /// A source of which nothing else is known.
    pub(crate) fn new(source: SourceName, kind: String, after: Vec<SourceName>) -> Self {
        Self {
            source,
            kind,
            after,
            is_recovered: false,
            run: None,
            snapshot: None,
            consistent_at: None,
            size_bytes: 0,
            uses_log: false,
            plan: None,
            error: None,
            forecast: None,
        }
    }
}
