//! How each source stands: how fresh its newest snapshot is, how much would be lost now, how long getting it back takes.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    ledger::{EventKind, Ledger, LedgerError},
    objectives::{MirrorOf, Objectives, Standing, standings},
    repository::{Snapshot, SnapshotId},
    source::SourceName,
};

/// How one source stands in one repository.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    /// The repository, by its name in the config.
    pub repository: String,
    /// Its newest snapshot from this host; `None` when there is none.
    pub snapshot: Option<SnapshotId>,
    /// When it was taken.
    pub time: Option<Timestamp>,
    /// How old it is.
    pub age_seconds: Option<i64>,
    /// Whether the source gave everything.
    pub whole: bool,
    /// Whether it is missing or older than the limit.
    pub stale: bool,
    /// What is proven, RPO and RTO.
    #[serde(flatten)]
    pub standing: Standing,
}

impl SourceStatus {
    /// Whether a limit is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.stale || self.standing.rpo_broken
    }
}

/// A repository whose sources are looked at.
#[derive(Clone, Debug)]
pub struct StatusOf {
    /// Its name in the config.
    pub name: String,
    /// Where it is, in words.
    pub location: String,
    /// Where the repository is that it mirrors, in words.
    pub mirror_of: Option<String>,
}

/// What statuses are judged by.
#[derive(Clone, Debug)]
pub struct StatusRules<'a> {
    /// What is known of runs, mirrors and proofs.
    pub ledger: &'a Ledger,
    /// What is promised.
    pub objectives: &'a Objectives,
    /// Sources that a backup takes.
    pub sources: &'a [SourceName],
    /// The host whose snapshots count.
    pub host: &'a str,
    /// Age at which a source's newest snapshot is stale.
    pub max_age: SignedDuration,
    /// The moment of the look.
    pub now: Timestamp,
}

impl StatusRules<'_> {
    /// How the sources stand in a repository whose snapshots are at hand.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn of_repository(&self, of: &StatusOf, snapshots: &[Snapshot]) -> Result<Vec<SourceStatus>, LedgerError> {
        self.judge(of, freshness(snapshots, self.sources, self.host, self.max_age, self.now))
    }

    /// How they stand in one that is not opened, by what the ledger knows: of a mirror, which of its origin's snapshots it holds; of
    /// another, what runs and copies have brought there.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn of_replica(&self, of: &StatusOf, origin: &[Snapshot]) -> Result<Vec<SourceStatus>, LedgerError> {
        if of.mirror_of.is_some() {
            let held = self.ledger.held(&of.location)?;
            let is_held = |snapshot: &&Snapshot| held.contains(&snapshot.id().to_string());
            let held: Vec<Snapshot> = origin.iter().filter(is_held).cloned().collect();
            return self.of_repository(of, &held);
        }
        let parts = self.ledger.newest_parts(true)?;
        let brings = [EventKind::Backup.word(), EventKind::Copy.word()];
        let fresh = |source: &SourceName| {
            let mine = parts.iter().filter(|past| {
                brings.contains(&past.kind.as_str()) && past.part.repository == of.location && past.part.source == source.as_str()
            });
            let newest = mine.max_by_key(|past| past.part.finished).map(|past| Newest {
                snapshot: past.part.snapshot.as_ref().and_then(|id| id.parse().ok()),
                time: past.part.consistent_at.unwrap_or(past.part.finished),
                whole: true,
                size_bytes: Some(past.part.size_bytes),
            });
            Freshness::of(source, newest, self.max_age, self.now)
        };
        self.judge(of, self.sources.iter().map(fresh).collect())
    }

    fn judge(&self, of: &StatusOf, fresh: Vec<Freshness>) -> Result<Vec<SourceStatus>, LedgerError> {
        let sizes: Vec<_> = fresh.iter().map(|fresh| (fresh.source.clone(), fresh.size_bytes)).collect();
        let mirror = of.mirror_of.as_deref().map(|origin| MirrorOf { origin, mirror: &of.location });
        let standings = standings(self.ledger, self.objectives, &of.location, mirror, &sizes, self.now)?;
        let status = |(standing, fresh): (Standing, Freshness)| SourceStatus {
            repository: of.name.clone(),
            snapshot: fresh.snapshot,
            time: fresh.time,
            age_seconds: fresh.age_seconds,
            whole: fresh.whole,
            stale: fresh.stale,
            standing,
        };
        Ok(standings.into_iter().zip(fresh).map(status).collect())
    }
}

/// How fresh one source's newest snapshot is.
#[derive(Clone, Debug, PartialEq)]
pub struct Freshness {
    /// The source.
    pub source: SourceName,
    /// Its newest snapshot; `None` when there is none.
    pub snapshot: Option<SnapshotId>,
    /// When it was taken.
    pub time: Option<Timestamp>,
    /// How old it is.
    pub age_seconds: Option<i64>,
    /// Whether the source gave everything.
    pub whole: bool,
    /// Whether it is missing or older than the limit.
    pub stale: bool,
    /// Bytes in it, where it tells.
    pub size_bytes: Option<u64>,
}

impl Freshness {
    fn of(source: &SourceName, newest: Option<Newest>, max_age: SignedDuration, now: Timestamp) -> Self {
        let age = newest.as_ref().map(|newest| now.duration_since(newest.time));
        Self {
            source: source.clone(),
            snapshot: newest.as_ref().and_then(|newest| newest.snapshot),
            time: newest.as_ref().map(|newest| newest.time),
            age_seconds: age.map(|age| age.as_secs()),
            whole: newest.as_ref().is_some_and(|newest| newest.whole),
            stale: age.is_none_or(|age| age > max_age),
            size_bytes: newest.and_then(|newest| newest.size_bytes),
        }
    }
}

/// How fresh each source's newest snapshot of a host is.
#[must_use]
pub fn freshness(
    snapshots: &[Snapshot],
    sources: &[SourceName],
    host: &str,
    max_age: SignedDuration,
    now: Timestamp,
) -> Vec<Freshness> {
    let newest = |source: &SourceName| {
        let mine = snapshots
            .iter()
            .filter(|snapshot| snapshot.is_ours() && snapshot.host() == host && snapshot.source().as_ref() == Some(source));
        mine.max_by_key(|snapshot| snapshot.time().timestamp()).map(|newest| Newest {
            snapshot: Some(newest.id()),
            time: newest.time().timestamp(),
            whole: newest.is_whole(),
            size_bytes: newest.size_bytes(),
        })
    };
    sources.iter().map(|source| Freshness::of(source, newest(source), max_age, now)).collect()
}

/// A source's newest snapshot.
struct Newest {
    snapshot: Option<SnapshotId>,
    time: Timestamp,
    whole: bool,
    size_bytes: Option<u64>,
}
