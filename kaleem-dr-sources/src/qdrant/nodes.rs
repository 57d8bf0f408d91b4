//! The nodes of a server: one, or the peers of a cluster whose HTTP APIs the config lists.
//!
//! Shards are captured from, and restored to, the peer that holds them. `GET /cluster` lists the
//! addresses that peers use among themselves, on another port than the HTTP API; so the config
//! lists the latter, and each is asked for its peer id.

use std::collections::BTreeMap;

use futures::future::join_all;
use kaleem_dr_core::ground::{SourceError, error_chain};

use super::{client::QdrantClient, layout::Membership};

/// The nodes that answer.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    /// The one that is asked for everything that all peers know.
    pub(super) main: &'a QdrantClient,
    /// `None` unless it is a cluster.
    cluster: Option<Cluster<'a>>,
    /// The URLs that do not answer: each server, and the reason.
    pub(super) silent: Vec<(String, String)>,
}

#[derive(Debug)]
struct Cluster<'a> {
    /// Every peer, and the address that other peers use.
    members: BTreeMap<u64, String>,
    reached: BTreeMap<u64, &'a QdrantClient>,
}

impl<'a> Nodes<'a> {
    /// Asks each of the config's URLs, of which there is at least one, for its place in the cluster.
    ///
    /// # Errors
    /// If none answers, if a key is denied, or if two URLs belong to different clusters.
    pub(super) async fn find(clients: &'a [QdrantClient]) -> Result<Self, SourceError> {
        let answers = join_all(clients.iter().map(QdrantClient::membership)).await;
        let (mut main, mut failure) = (None, None);
        let mut silent = Vec::new();
        let mut cluster: Option<Cluster<'a>> = None;
        for (client, answer) in clients.iter().zip(answers) {
            let membership = match answer {
                Ok(membership) => membership,
                Err(error @ (SourceError::Unreachable { .. } | SourceError::Server { .. })) => {
                    silent.push((client.server().to_owned(), error_chain(&error)));
                    failure = failure.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let first = *main.get_or_insert(client);
            let is_first = std::ptr::eq(first, client);
            match (&mut cluster, membership) {
                (None, None) if is_first => {}
                (None, Some(Membership { own, peers })) if is_first => {
                    cluster = Some(Cluster { members: peers, reached: [(own, client)].into() });
                }
                (Some(known), Some(Membership { own, .. })) if known.members.contains_key(&own) => {
                    // An entry of `peers` is the URL of one peer; `url` may be that of all of them.
                    known.reached.insert(own, client);
                }
                _ => {
                    return Err(SourceError::Unsupported(format!(
                        "{} is not a peer of the cluster of {}: correct `url` or `peers`",
                        client.server(),
                        first.server()
                    )));
                }
            }
        }
        match (main, failure) {
            (Some(main), _) => Ok(Self { main, cluster, silent }),
            (None, Some(error)) => Err(error),
            (None, None) => Err(SourceError::Unsupported("it has no URL".into())),
        }
    }

    /// Reports whether collections may be spread over several peers.
    pub(super) fn is_spread(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.members.len() > 1)
    }

    /// The number of peers; one if it is not a cluster.
    pub(super) fn count(&self) -> usize {
        self.cluster.as_ref().map_or(1, |cluster| cluster.members.len())
    }

    /// The node with this peer id, if it answers.
    pub(super) fn of(&self, peer: u64) -> Option<&'a QdrantClient> {
        match &self.cluster {
            None => Some(self.main),
            Some(cluster) => cluster.reached.get(&peer).copied(),
        }
    }

    /// Every node that answers.
    pub(super) fn all(&self) -> Vec<(u64, &'a QdrantClient)> {
        match &self.cluster {
            None => vec![(0, self.main)],
            Some(cluster) => cluster.reached.iter().map(|(id, client)| (*id, *client)).collect(),
        }
    }

    /// The peers that no URL reaches, each in words.
    pub(super) fn unreached(&self) -> Vec<String> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let unreached = cluster.members.keys().filter(|id| !cluster.reached.contains_key(id));
        unreached.map(|id| self.in_words(*id)).collect()
    }

    /// The peer for messages: its id, and the address that other peers use.
    pub(super) fn in_words(&self, peer: u64) -> String {
        let uri = self.cluster.as_ref().and_then(|cluster| cluster.members.get(&peer));
        match uri.filter(|uri| !uri.is_empty()) {
            Some(uri) => format!("peer {peer} ({uri})"),
            None => format!("peer {peer}"),
        }
    }

    /// The reason why peers are not reached, and advice.
    pub(super) fn advice(&self) -> String {
        if self.silent.is_empty() {
            return "no URL of the config reaches it: add the URL of its HTTP API to `peers`"
                .into();
        }
        let silent = self.silent.iter().map(|(server, why)| format!("{server}: {why}"));
        let silent: Vec<_> = silent.collect();
        format!(
            "it is down, or `peers` lacks the URL of its HTTP API; these do not answer: {}",
            silent.join("; ")
        )
    }
}
