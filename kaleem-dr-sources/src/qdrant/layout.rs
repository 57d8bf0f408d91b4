//! The peers of a cluster, and which of them hold a collection's shards.

use std::collections::BTreeMap;

use kaleem_dr_core::ground::SourceError;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{
    api::{Shard, collection},
    client::QdrantClient,
};

/// The members of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    /// The id of the peer that answered.
    pub(super) own: u64,
    /// Every peer, and its URI for other peers. That is not the URL of its HTTP API.
    pub(super) peers: BTreeMap<u64, String>,
}

/// The shards of a collection by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub(super) shards: BTreeMap<u32, Placed>,
    /// Transfers between peers in progress: the peer that each fills, if it is known.
    pub(super) transfers: Vec<Option<u64>>,
}

/// A shard, and its replicas by peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    pub(super) key: Option<Value>,
    pub(super) replicas: BTreeMap<u64, Replica>,
}

/// One copy of a shard.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    state: String,
    /// Number of points; known only of the replicas of the peer that answered.
    pub(super) points: Option<u64>,
}

impl Replica {
    /// Reports whether it can be read and is up to date. Other states are those of a replica that is
    /// down, or being filled from another one.
    pub(super) fn is_active(&self) -> bool {
        self.state == "Active"
    }
}

/// The shards with their keys, sorted by id.
pub(super) fn list(shards: &BTreeMap<u32, Placed>) -> Vec<Shard> {
    let one =
        |(&shard_id, placed): (&u32, &Placed)| Shard { shard_id, shard_key: placed.key.clone() };
    shards.iter().map(one).collect()
}

impl QdrantClient {
    /// The cluster as this peer sees it; `None` if the server is not clustered.
    pub(super) async fn membership(&self) -> Result<Option<Membership>, SourceError> {
        #[derive(Deserialize)]
        struct Cluster {
            status: String,
            peer_id: Option<u64>,
            #[serde(default)]
            peers: BTreeMap<String, Peer>,
        }
        #[derive(Deserialize)]
        struct Peer {
            #[serde(default)]
            uri: String,
        }
        let action = "describe its cluster";
        let cluster: Cluster = self.call(Method::GET, "cluster", None, action).await?.result()?;
        if cluster.status == "disabled" {
            return Ok(None);
        }
        let own = cluster.peer_id.ok_or_else(|| self.failed(action, "it has no peer id"))?;
        let peers = cluster.peers.into_iter().map(|(id, peer)| Ok((id.parse()?, peer.uri)));
        let peers: Result<_, std::num::ParseIntError> = peers.collect();
        let peers = peers.map_err(|_| self.failed(action, "the id of a peer is not a number"))?;
        Ok(Some(Membership { own, peers }))
    }

    /// The shards of a collection, and where their replicas are, as this peer sees them.
    pub(super) async fn layout(&self, name: &str) -> Result<Layout, SourceError> {
        #[derive(Deserialize)]
        struct Distribution {
            #[serde(default)]
            peer_id: u64,
            local_shards: Vec<Part>,
            #[serde(default)]
            remote_shards: Vec<Part>,
            #[serde(default)]
            shard_transfers: Vec<Transfer>,
        }
        #[derive(Deserialize)]
        struct Transfer {
            to: Option<u64>,
        }
        #[derive(Deserialize)]
        struct Part {
            #[serde(flatten)]
            shard: Shard,
            peer_id: Option<u64>,
            #[serde(default)]
            state: String,
            points_count: Option<u64>,
        }
        let path = format!("{}/cluster", collection(name));
        let found: Distribution = self
            .call(Method::GET, &path, None, &format!("list shards of {name}"))
            .await?
            .result()?;
        let own = found.peer_id;
        let transfers = found.shard_transfers.iter().map(|transfer| transfer.to).collect();
        let mut layout = Layout { transfers, ..Layout::default() };
        for part in found.local_shards.into_iter().chain(found.remote_shards) {
            let known = layout.shards.entry(part.shard.shard_id).or_default();
            known.key = known.key.take().or(part.shard.shard_key);
            let replica = Replica { state: part.state, points: part.points_count };
            known.replicas.insert(part.peer_id.unwrap_or(own), replica);
        }
        Ok(layout)
    }
}
