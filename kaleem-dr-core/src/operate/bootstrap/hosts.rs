//! The hosts with points in a repository.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    engine::repository::Snapshot,
    ground::{RunId, SourceName},
};

/// A host with points in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostPoints {
    /// Name of the host.
    pub host: String,
    /// Number of its points.
    pub points: usize,
    /// Time of its newest snapshot that is not dated in the future.
    pub newest: Timestamp,
    /// Sources with snapshots, sorted.
    pub sources: Vec<SourceName>,
}

impl HostPoints {
    /// The hosts of snapshots, the one with the newest snapshot first.
    #[must_use]
    pub fn of(snapshots: &[Snapshot], now: Timestamp) -> Vec<Self> {
        let mut hosts: BTreeMap<&str, (Vec<RunId>, Timestamp, Vec<SourceName>)> = BTreeMap::new();
        let ours = |snapshot: &&Snapshot| snapshot.is_ours() && !snapshot.is_of_the_future(now);
        for snapshot in snapshots.iter().filter(ours) {
            let time = snapshot.time().timestamp();
            let (runs, newest, sources) =
                hosts.entry(snapshot.host()).or_insert((Vec::new(), time, Vec::new()));
            runs.extend(snapshot.run());
            *newest = time.max(*newest);
            sources.extend(snapshot.source());
        }
        let mut hosts: Vec<Self> = hosts
            .into_iter()
            .map(|(host, (mut runs, newest, mut sources))| {
                runs.sort();
                runs.dedup();
                sources.sort();
                sources.dedup();
                Self { host: host.to_owned(), points: runs.len(), newest, sources }
            })
            .collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.newest));
        hosts
    }
}
