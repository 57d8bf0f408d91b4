//! Creates a collection from a point's snapshots, and removes it again.
//!
//! The collection is created empty, with its settings, shard keys and indexes; then each shard is
//! replaced with its snapshot, on a peer that holds it. This is the same for one node and for a
//! cluster, and unlike the upload of a whole collection it leaves neither files nor directories on
//! the server. A file of a whole collection contains a directory for each shard, which is cut out
//! on the way.

use std::{collections::BTreeMap, path::Path, time::Duration};

use kaleem_dr_core::{
    ground::{SourceError, error_chain, progress::Unit},
    recovery::point::PointReader,
};
use tokio::time::Instant;

use super::{
    api::Subject,
    by_points,
    client::QdrantClient,
    contents::{Files, Stored},
    layout::{Layout, Replica, list},
    nodes::Nodes,
    upload::{ShardFile, measure},
};

/// Time between two looks at the state of replicas.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// Time in which a cluster applies a change that it has accepted.
const CONSENSUS: Duration = Duration::from_mins(1);
/// Minimum time that replicas must look complete whose points no URL reaches to count.
const UNCOUNTED: Duration = Duration::from_secs(5);

/// Creates collections from a point's snapshots, and keeps track of them.
pub(super) struct Loader<'a> {
    nodes: &'a Nodes<'a>,
    client: &'a QdrantClient,
    point: &'a PointReader,
    /// The engine that reads the points, if the server refuses the files.
    by_points: Option<&'a Path>,
    /// Collections that were, or may have been, created.
    made: Vec<String>,
}

impl<'a> Loader<'a> {
    /// With `by_points`, the engine reads the points from the files, and they are written one by one.
    pub(super) fn new(
        nodes: &'a Nodes<'a>,
        point: &'a PointReader,
        by_points: Option<&'a Path>,
    ) -> Self {
        Self { nodes, client: nodes.main, point, by_points, made: Vec::new() }
    }

    /// Creates the collection `target`, which must not exist, and checks that it has content.
    pub(super) async fn load(&mut self, stored: &Stored, target: &str) -> Result<(), SourceError> {
        let client = self.client;
        let taken = client.collections().await?.iter().any(|name| name == target)
            || client.aliases().await?.iter().any(|alias| alias.alias_name == target);
        if taken {
            return Err(SourceError::Refused(format!(
                "{target} has appeared on {} in the meantime; choose another name",
                client.server()
            )));
        }
        if let Some(program) = self.by_points {
            self.made.push(target.to_owned());
            self.create(stored, target).await?;
            self.placed(stored, target).await?;
            by_points::fill(client, self.point, stored, target, program).await?;
            return self.look_for_nothing(stored, target).await;
        }
        // Read before anything is created: a damaged file is found here.
        let files = self.files(stored).await?;
        self.made.push(target.to_owned());
        self.create(stored, target).await?;
        let layout = self.placed(stored, target).await?;
        let matched = stored.description.match_shards(&list(&layout.shards))?;
        let stage = self.point.progress().begin(
            &format!("upload {target}"),
            Unit::Bytes,
            Some(stored.size_bytes()),
        );
        let mut uploaded_to = BTreeMap::new();
        for (id, placed) in &layout.shards {
            let file = files.get(&matched[id]).ok_or_else(|| {
                SourceError::Point(
                    format!("it has no file of shard {id} of {}", stored.name()).into(),
                )
            })?;
            let holders: Vec<_> = placed.replicas.keys().copied().collect();
            let Some((peer, node)) =
                holders.iter().find_map(|peer| Some((*peer, self.nodes.of(*peer)?)))
            else {
                let holders: Vec<_> = holders.iter().map(|id| self.nodes.in_words(*id)).collect();
                return Err(client.failed(
                    &format!("restore shard {id} of {target}"),
                    format!("it placed it on {}: {}", holders.join(", "), self.nodes.advice()),
                ));
            };
            file.upload(self.point, node, &Subject::shard(target, *id), &stage).await?;
            uploaded_to.insert(*id, peer);
        }
        stage.finish();
        if self.nodes.is_spread() {
            self.settle(target, &uploaded_to).await?;
        }
        self.look_for_nothing(stored, target).await
    }

    async fn files(&self, stored: &Stored) -> Result<BTreeMap<u32, ShardFile>, SourceError> {
        match &stored.files {
            Files::Whole(record) => {
                let ids = stored.description.shards.iter().map(|shard| shard.shard_id);
                measure(self.point, record, ids).await
            }
            Files::Shards(records) => {
                Ok(records.iter().map(|(id, record)| (*id, ShardFile::own(record))).collect())
            }
        }
    }

    /// Creates it empty. Indexes must exist before the shards arrive: an index that is only in the
    /// segments is unknown to the collection, and later segments would lack it.
    async fn create(&self, stored: &Stored, target: &str) -> Result<(), SourceError> {
        let (client, description) = (self.client, &stored.description);
        client.create_collection(target, &description.definition()).await?;
        if let Some(change) = description.late_settings() {
            client.change_collection(target, &change).await?;
        }
        if description.is_sharded_by_key() {
            for (key, shards) in description.shard_keys()? {
                client.create_shard_key(target, key, shards.len() as u64).await?;
            }
        }
        for (field, schema) in description.index_requests() {
            client.create_index(target, field, &schema).await?;
        }
        Ok(())
    }

    /// The shards of the new collection, once every node that answers knows them and all replicas are
    /// active. A peer learns of a new collection a moment after the one that was asked to create it,
    /// and a replica that becomes active only after an upload to another one would stay empty.
    async fn placed(&self, stored: &Stored, target: &str) -> Result<Layout, SourceError> {
        let began = Instant::now();
        let expected = stored.description.shards.len();
        loop {
            let layout = self.client.layout(target).await?;
            let mut replicas = layout.shards.values().flat_map(|placed| placed.replicas.values());
            let mut known = layout.shards.len() == expected && replicas.all(Replica::is_active);
            for (peer, node) in self.nodes.all() {
                let held =
                    layout.shards.values().filter(|placed| placed.replicas.contains_key(&peer));
                let of_peer = held.count();
                if known && self.nodes.is_spread() && of_peer > 0 {
                    let counted = |layout: Layout| {
                        layout
                            .shards
                            .values()
                            .filter_map(|placed| placed.replicas.get(&peer)?.points)
                            .count()
                    };
                    known = node.layout(target).await.map_or(0, counted) == of_peer;
                }
            }
            // A difference is reported by what follows.
            if known || began.elapsed() > CONSENSUS || !self.nodes.is_spread() {
                return Ok(layout);
            }
            self.wait().await?;
        }
    }

    /// Waits until all replicas are filled from those that were uploaded.
    async fn settle(
        &self,
        target: &str,
        uploaded_to: &BTreeMap<u32, u64>,
    ) -> Result<(), SourceError> {
        let began = Instant::now();
        let mut quiet_since = None;
        loop {
            let unsettled = self.unsettled(target, uploaded_to).await?;
            match unsettled {
                None => return Ok(()),
                Some(Unsettled::Uncounted) => {
                    let since = *quiet_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > UNCOUNTED {
                        return Ok(());
                    }
                }
                Some(Unsettled::Waiting(why)) => {
                    quiet_since = None;
                    if began.elapsed() > self.client.snapshot_timeout() {
                        return Err(self
                            .client
                            .failed(&format!("fill the replicas of {target}"), why));
                    }
                }
                Some(Unsettled::Different(why)) => {
                    // The change of a replica's state follows the upload after a moment.
                    let since = *quiet_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > CONSENSUS {
                        return Err(self
                            .client
                            .failed(&format!("fill the replicas of {target}"), why));
                    }
                }
            }
            self.wait().await?;
        }
    }

    async fn unsettled(
        &self,
        target: &str,
        uploaded_to: &BTreeMap<u32, u64>,
    ) -> Result<Option<Unsettled>, SourceError> {
        let layout = self.client.layout(target).await?;
        // A peer that is down is filled once it is back; nothing waits for that.
        let is_reached = |peer: u64| self.nodes.of(peer).is_some();
        let transfers = layout.transfers.iter().filter(|to| to.is_none_or(is_reached)).count();
        if transfers > 0 {
            return Ok(Some(Unsettled::Waiting(format!("{transfers} transfers go on"))));
        }
        let mut points: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for (peer, node) in self.nodes.all() {
            for (id, placed) in node.layout(target).await?.shards {
                if let Some(count) = placed.replicas.get(&peer).and_then(|replica| replica.points) {
                    points.insert((id, peer), count);
                }
            }
        }
        let mut uncounted = false;
        for (id, placed) in &layout.shards {
            let expected = uploaded_to.get(id).and_then(|peer| points.get(&(*id, *peer)));
            for (peer, replica) in &placed.replicas {
                let replica_of = || format!("shard {id} on {}", self.nodes.in_words(*peer));
                if !is_reached(*peer) {
                    uncounted = true;
                    continue;
                }
                if !replica.is_active() {
                    return Ok(Some(Unsettled::Waiting(format!("{} is not active", replica_of()))));
                }
                match (points.get(&(*id, *peer)), expected) {
                    (Some(found), Some(expected)) if found != expected => {
                        return Ok(Some(Unsettled::Different(format!(
                            "{} has {found} points instead of {expected}",
                            replica_of()
                        ))));
                    }
                    (Some(_), Some(_)) => {}
                    _ => uncounted = true,
                }
            }
        }
        Ok(uncounted.then_some(Unsettled::Uncounted))
    }

    async fn wait(&self) -> Result<(), SourceError> {
        let waiting = tokio::time::sleep(BETWEEN_LOOKS);
        let cancel = self.point.cancellation();
        cancel.run_until_cancelled(waiting).await.ok_or(SourceError::Cancelled)
    }

    /// Detects a success reported by the server that restored nothing.
    async fn look_for_nothing(&self, stored: &Stored, target: &str) -> Result<(), SourceError> {
        let action = format!("restore collection {target}");
        let nothing = |what: &str| {
            self.client.failed(
                &action,
                format!(
                    "it accepted the upload and reported success, but the collection has {what}"
                ),
            )
        };
        if self.client.describe(target).await?.is_none() {
            return Err(nothing("not been created"));
        }
        if !stored.description.shards.is_empty()
            && self.client.layout(target).await?.shards.is_empty()
        {
            return Err(nothing("no shards"));
        }
        if stored.description.points.about().is_some_and(|points| points > 0)
            && self.client.count(target).await? == 0
        {
            return Err(nothing("no points"));
        }
        Ok(())
    }

    /// Excludes a collection from the removal after a failure.
    pub(super) fn keep(&mut self, target: &str) {
        self.made.retain(|made| made != target);
    }

    /// Removes one collection created by this restore.
    pub(super) async fn remove(&mut self, target: &str) -> Result<(), SourceError> {
        self.client.delete_collection(target).await?;
        if self.client.collections().await?.iter().any(|name| name == target) {
            return Err(self
                .client
                .failed(&format!("delete collection {target}"), "it still exists"));
        }
        self.keep(target);
        Ok(())
    }

    /// Removes every collection created by this restore: a broken collection makes every later full
    /// snapshot of the server fail. Returns `after`, extended with what could not be removed.
    pub(super) async fn remove_all(&mut self, after: SourceError) -> SourceError {
        let mut left = Vec::new();
        for target in std::mem::take(&mut self.made) {
            match self.remove(&target).await {
                Ok(()) => {
                    tracing::info!(collection = target, "removed a collection of a failed restore");
                }
                Err(error) => {
                    tracing::warn!(collection = target, error = %error_chain(&error), "cannot remove a collection of a failed restore");
                    left.push(target);
                }
            }
        }
        if left.is_empty() {
            return after;
        }
        let action =
            format!("remove {} after a failed restore; delete it by hand", left.join(", "));
        self.client.failed(&action, format!("the restore failed: {}", error_chain(&after)))
    }
}

/// The reason why a collection is not complete yet.
enum Unsettled {
    /// A transfer goes on, or a replica is not active.
    Waiting(String),
    /// All is quiet, but a replica has another number of points.
    Different(String),
    /// All is quiet; no URL reaches some replica to count its points.
    Uncounted,
}
