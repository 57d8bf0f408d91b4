//! A fleet: what the snapshots and the evidence in repositories show about their hosts.
//!
//! Only repositories are read, without locks: neither state nor a ledger is needed, and keys that can
//! only read are enough. Proofs are what each host states in the [evidence](super::evidence).

mod judge;
mod metrics;
mod serve;

use jiff::Timestamp;
use serde::Serialize;

pub use self::metrics::{FLEET_METRICS, FleetMetric};
pub(crate) use self::{judge::Judge, serve::serve};
use crate::{
    engine::repository::{Pruned, Snapshot},
    ground::{Exit, ProofLevel, SourceName},
    operate::{evidence::Evidence, job::last_prune, tripwire::Alarm},
};

/// The state of a fleet at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FleetStatus {
    /// Time at which the repositories were read, by this machine's clock.
    pub time: Timestamp,
    /// The repositories, in the order of their names.
    pub repositories: Vec<FleetRepository>,
    /// A row for each host; for each of its repositories, if the config names those. In the order of
    /// their names.
    pub hosts: Vec<FleetHost>,
}

impl FleetStatus {
    /// The exit status: 6 if an expected host has a problem, or no host is known at all; 3 if a
    /// repository could not be read; if none could be read, the exit status of the first one.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let unread: Vec<Exit> =
            self.repositories.iter().filter_map(|repository| repository.exit).collect();
        let is_broken = self.hosts.iter().any(FleetHost::is_broken);
        match unread.first() {
            Some(first) if unread.len() == self.repositories.len() => *first,
            _ if is_broken || (self.hosts.is_empty() && unread.is_empty()) => Exit::Stale,
            Some(_) => Exit::Partial,
            None => Exit::Done,
        }
    }
}

/// A repository of the fleet.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FleetRepository {
    /// Its name in the config.
    pub name: String,
    /// Its location, without credentials.
    pub location: String,
    /// Number of its snapshots with data of a source.
    pub snapshots: usize,
    /// The last prune that was recorded there.
    pub pruned: Option<Pruned>,
    /// Why it could not be read.
    pub error: Option<String>,
    /// Exit status that the reason has; `None` if the repository could be read.
    #[serde(skip)]
    pub exit: Option<Exit>,
}

/// A host of the fleet.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct FleetHost {
    /// Name of the host.
    pub host: String,
    /// The repository that the row is about; for a host without repositories in the config, the one
    /// with its newest snapshot. `None` if it has no snapshot.
    pub repository: Option<String>,
    /// The config expects the host, or names no host.
    pub is_expected: bool,
    /// Time of the oldest of the newest whole snapshots of its sources: everything can be restored
    /// as of then. `None` if a source has none.
    pub point: Option<Timestamp>,
    /// Age of that time, in seconds.
    pub point_age_seconds: Option<i64>,
    /// Maximum age of the point, in seconds.
    pub rpo_seconds: u64,
    /// The host has no snapshot in the repositories that were read.
    pub is_missing: bool,
    /// A repository that may have its snapshots could not be read, so nothing is known.
    pub is_unknown: bool,
    /// The point is missing or too old.
    pub is_late: bool,
    /// Lowest of the levels that the newest proofs of its sources show; `None` if a source has none.
    pub proof: Option<ProofLevel>,
    /// Age of the oldest of the newest proofs of its sources, in seconds; `None` if a source has
    /// none.
    pub proof_age_seconds: Option<i64>,
    /// A required proof is missing, too old, or was revoked by a later verification.
    pub is_unproven: bool,
    /// Number of its alarms that no operator has acknowledged.
    pub alarms: usize,
    /// Its sources, by name.
    pub sources: Vec<FleetSource>,
    /// Each problem, as one sentence without the name of the host.
    pub problems: Vec<String>,
}

impl FleetHost {
    /// Reports whether the host must be in order and is not, as far as is known.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_expected
            && (self.is_late || self.is_unproven || self.alarms > 0)
            && !self.is_unknown
    }
}

/// A source of a host.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FleetSource {
    /// Name of the source.
    pub source: SourceName,
    /// Time of its newest whole snapshot.
    pub time: Option<Timestamp>,
    /// The level of its newest proof that counts.
    pub proof: Option<ProofLevel>,
    /// Time of that proof.
    pub proof_time: Option<Timestamp>,
    /// A later verification has failed.
    pub is_revoked: bool,
}

/// The content of a repository that was read.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) evidence: Evidence,
}

impl FleetRepository {
    /// A repository that could not be read.
    pub(crate) fn unread(name: &str, location: String, exit: Exit, why: String) -> Self {
        Self {
            name: name.to_owned(),
            location,
            snapshots: 0,
            pruned: None,
            error: Some(why),
            exit: Some(exit),
        }
    }

    /// A repository with these snapshots.
    pub(crate) fn read(
        name: &str,
        location: String,
        snapshots: Vec<Snapshot>,
        now: Timestamp,
    ) -> (Self, Seen) {
        let data = snapshots.iter().filter(|snapshot| snapshot.is_ours()).count();
        let read = Self {
            name: name.to_owned(),
            location,
            snapshots: data,
            pruned: last_prune(&snapshots, now),
            error: None,
            exit: None,
        };
        let evidence = Evidence::among(&snapshots);
        (read, Seen { name: name.to_owned(), snapshots, evidence })
    }
}

/// The hosts with alarms in a repository, one entry for each alarm.
fn alarming(seen: &Seen) -> impl Iterator<Item = (String, String)> {
    Alarm::recorded(&seen.snapshots).into_iter().map(|recorded| {
        let alarm = recorded.alarm.as_ref().map(ToString::to_string);
        let unreadable = || "this program cannot read the alarm; use a newer program".to_owned();
        (recorded.host, alarm.unwrap_or_else(unreadable))
    })
}

#[cfg(test)]
mod tests;
