//! The capture: one collection after another, each as a snapshot taken by Qdrant itself.
//!
//! A single node takes one snapshot of a collection. In a cluster of several peers each peer has
//! only some of the shards, so each shard is taken from one of the peers that hold it.

use std::{collections::BTreeMap, path::PathBuf};

use globset::GlobSet;
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        artifact::Capture,
        manifest::{Consistency, ConsistencyGrade},
    },
    ground::{ArtifactPath, SourceError, error_chain, progress::Silent},
};
use serde_json::{Map, Value, json};

use super::{
    api::Subject,
    client::QdrantClient,
    description::{Description, Points, aliases_path},
    layout::{Placed, list},
    nodes::Nodes,
    temporary::{Pace, Temporary},
    transfer::Transfer,
};

#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) wanted: Option<GlobSet>,
    pub(super) unwanted: GlobSet,
}

impl Selection {
    pub(super) fn takes(&self, collection: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.is_match(collection))
            && !self.unwanted.is_match(collection)
    }
}

/// The files that a collection is captured as.
#[derive(Clone, Debug)]
enum Parts {
    /// One snapshot.
    Whole,
    /// A snapshot of each shard.
    Shards(BTreeMap<u32, Placed>),
}

pub(super) struct Snapshots<'a> {
    nodes: &'a Nodes<'a>,
    cancel: CancellationToken,
    with_content: bool,
    temporary: Temporary<'a>,
    /// The SHA-256 that the server announced for each artifact.
    announced: Map<String, Value>,
}

impl<'a> Snapshots<'a> {
    pub(super) fn new(
        nodes: &'a Nodes<'a>,
        pace: &'a Pace,
        with_content: bool,
        cancel: CancellationToken,
    ) -> Self {
        let temporary = Temporary::new(pace, cancel.clone());
        Self { nodes, cancel, with_content, temporary, announced: Map::new() }
    }

    /// Captures all selected collections, and cleans up on the server, even after a failure or a
    /// cancellation.
    pub(super) async fn capture(
        mut self,
        selection: &Selection,
        out: &mut Capture,
    ) -> Result<(), SourceError> {
        let captured = self.emit(selection, out).await;
        self.temporary.clear(out).await;
        captured
    }

    async fn emit(&mut self, selection: &Selection, out: &mut Capture) -> Result<(), SourceError> {
        let main = self.nodes.main;
        let server = main.version().await?;
        let mut names = main.collections().await?;
        names.retain(|name| selection.takes(name));
        let mut aliases = main.aliases().await?;
        aliases.retain(|alias| names.contains(&alias.collection_name));
        let each = if self.nodes.is_spread() { "shards" } else { "collections" };
        out.set_consistency(
            Consistency::new(ConsistencyGrade::PerCollection, out.started())
                .because(format!("Qdrant takes the snapshots of the {each} one after another")),
        );
        let path = aliases_path();
        let document = serde_json::to_vec_pretty(&json!({ "aliases": aliases }))
            .map_err(|e| SourceError::artifact(&path, e))?;
        out.whole(path, document.into(), Some(aliases.len() as u64)).await?;

        let is_empty = names.is_empty();
        let collections = self.parts(names, out).await?;
        let parts: BTreeMap<_, _> = collections.iter().cloned().collect();
        let mut ready: BTreeMap<String, Description> = BTreeMap::new();
        let mut details = Map::new();
        for step in steps(&collections) {
            if self.cancel.is_cancelled() {
                return Err(SourceError::Cancelled);
            }
            match step {
                Step::Take(collection) => {
                    let taken = self.take(collection, &parts[collection], &server.version).await;
                    let Some(description) = sorted_out(collection, taken, out)? else { continue };
                    details.insert(collection.to_owned(), json!(description.points));
                    // Files of single shards have no count of their own.
                    let items = match &parts[collection] {
                        Parts::Whole => None,
                        Parts::Shards(_) => description.points.count(),
                    };
                    out.whole(description.path(), description.to_bytes().into(), items).await?;
                    ready.insert(collection.to_owned(), description);
                }
                Step::Download(subject) => {
                    if let Some(description) = ready.get(&subject.collection) {
                        self.download(description, &subject, out).await?;
                        self.temporary.discard(&subject).await;
                    }
                }
            }
        }
        if !is_empty && details.is_empty() {
            return Err(main.failed("take a snapshot", "of any collection; check the server's log"));
        }
        out.set_server(server);
        out.detail("collections", Value::Object(details));
        out.detail("server_sha256", Value::Object(std::mem::take(&mut self.announced)));
        Ok(())
    }

    /// Decides what each collection is captured as. A broken one is left out and reported.
    async fn parts(
        &self,
        names: Vec<String>,
        out: &mut Capture,
    ) -> Result<Vec<(String, Parts)>, SourceError> {
        if !self.nodes.is_spread() {
            return Ok(names.into_iter().map(|name| (name, Parts::Whole)).collect());
        }
        let mut collections = Vec::new();
        for name in names {
            match self.nodes.main.layout(&name).await {
                Ok(layout) => collections.push((name, Parts::Shards(layout.shards))),
                Err(error @ SourceError::Server { .. }) => {
                    out.incomplete(format!("collection {name}"), error_chain(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(collections)
    }

    /// Takes the snapshots of a collection, between two reads of the points. `None` if the
    /// collection was deleted.
    async fn take(
        &mut self,
        collection: &str,
        parts: &Parts,
        version: &str,
    ) -> Result<Option<Description>, SourceError> {
        let main = self.nodes.main;
        if let Parts::Shards(shards) = parts {
            self.check_replicas(shards)?;
        }
        let Some(live) = main.describe(collection).await? else { return Ok(None) };
        let shards = match parts {
            Parts::Whole => list(&main.layout(collection).await?.shards),
            Parts::Shards(shards) => list(shards),
        };
        let mut description = Description::new(collection, version, &live, shards);
        let counted = readable(collection, main.count(collection).await)?;
        let read = match counted {
            Some(_) if self.with_content => self.content(collection).await?,
            _ => None,
        };
        match parts {
            Parts::Whole => self.temporary.take(main, &Subject::collection(collection)).await?,
            Parts::Shards(shards) => {
                for (id, placed) in shards {
                    self.take_shard(&Subject::shard(collection, *id), placed).await?;
                }
            }
        }
        let again = readable(collection, main.count(collection).await)?;
        description.points = match (counted, again) {
            (Some(before), Some(after)) if before == after => match read {
                // Read once more only if nothing has shown yet that something was written.
                Some(read) if read.points == after => match self.content(collection).await? {
                    Some(reread) => Points::between(read, &reread),
                    None => Points::Count { count: after },
                },
                Some(read) => Points::between_counts(read.points, after),
                None => Points::Count { count: after },
            },
            (Some(before), Some(after)) => Points::between_counts(before, after),
            _ => Points::Nothing {
                why: "the server could not read its points while it was captured".into(),
                about: live.points_count,
            },
        };
        Ok(Some(description))
    }

    /// A collection without one of its shards cannot be restored, so it is captured whole or not at
    /// all.
    fn check_replicas(&self, shards: &BTreeMap<u32, Placed>) -> Result<(), SourceError> {
        for (id, placed) in shards {
            if self.replicas(placed).is_empty() {
                return Err(self.nodes.main.failed(
                    &format!("take a snapshot of shard {id}"),
                    format!("only {} has it: {}", self.holders(placed), self.nodes.advice()),
                ));
            }
        }
        Ok(())
    }

    /// The peers that answer and have an up-to-date replica.
    fn replicas(&self, placed: &Placed) -> Vec<&'a QdrantClient> {
        let active = placed.replicas.iter().filter(|(_, replica)| replica.is_active());
        active.filter_map(|(peer, _)| self.nodes.of(*peer)).collect()
    }

    fn holders(&self, placed: &Placed) -> String {
        let active = placed.replicas.iter().filter(|(_, replica)| replica.is_active());
        let holders: Vec<_> = active.map(|(peer, _)| self.nodes.in_words(*peer)).collect();
        if holders.is_empty() { "no active replica".into() } else { holders.join(", ") }
    }

    /// Takes a shard from the first peer that can take it.
    async fn take_shard(&mut self, shard: &Subject, placed: &Placed) -> Result<(), SourceError> {
        let mut failure = None;
        for client in self.replicas(placed) {
            match self.temporary.take(client, shard).await {
                Ok(()) => return Ok(()),
                Err(error @ (SourceError::Unreachable { .. } | SourceError::Server { .. })) => {
                    let why = error_chain(&error);
                    tracing::warn!(shard = %shard, server = client.server(), why, "a peer takes no snapshot; trying another replica");
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        // The error of a peer must not end the capture of the other collections.
        let why = failure.map_or_else(|| self.nodes.advice(), |error| error_chain(&error));
        Err(self.nodes.main.failed(&format!("take a snapshot of {shard}"), why))
    }

    /// The content, or `None` if the server does not read it.
    async fn content(
        &self,
        collection: &str,
    ) -> Result<Option<super::points::Content>, SourceError> {
        let read = self.nodes.main.content(collection, &self.cancel, &Silent).await;
        readable(collection, read)
    }

    async fn download(
        &mut self,
        description: &Description,
        subject: &Subject,
        out: &mut Capture,
    ) -> Result<(), SourceError> {
        let path = artifact_of(description, subject);
        let failed = |why: String| SourceError::artifact(&path, why);
        let held = self
            .temporary
            .of(subject)
            .ok_or_else(|| failed("its snapshot no longer exists".into()))?;
        let mut writer = out.artifact(path.clone()).await?;
        let transfer = Transfer { held, subject, cancel: &self.cancel };
        let received = transfer.run(&mut writer).await.map_err(|error| match error {
            SourceError::Cancelled | SourceError::Aborted => error,
            other => SourceError::artifact(&path, other),
        })?;
        let file = &held.file;
        let (read, sha256) = (received.size_bytes, received.sha256);
        let promised = file.checksum.as_deref();
        if (file.size != 0 && read != file.size)
            || promised.is_some_and(|promised| !promised.eq_ignore_ascii_case(&sha256))
        {
            return Err(failed(format!(
                "the snapshot {} is not what {} announced: {read} bytes with SHA-256 {sha256}, not {} bytes with {}; was another snapshot \
                 taken in the same second?",
                file.name,
                held.client.server(),
                file.size,
                promised.unwrap_or("an unknown one"),
            )));
        }
        if promised.is_some() {
            self.announced.insert(path.as_str().to_owned(), sha256.into());
        }
        // The points are known of the collection, not of one shard.
        let points = subject.shard.is_none().then_some(&description.points);
        let digest = points.and_then(Points::content_digest).map(str::to_owned);
        writer.finish(points.and_then(Points::count), digest).await
    }
}

/// Points that cannot be read must not cost the collection its backup: the snapshot is taken
/// all the same, only without a digest.
fn readable<T>(collection: &str, read: Result<T, SourceError>) -> Result<Option<T>, SourceError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error @ SourceError::Server { .. }) => {
            let why = error_chain(&error);
            tracing::warn!(
                collection,
                why,
                "captured without a digest, because its points cannot be read"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// One broken collection must not cost the others their backup: it is reported, and the run ends
/// as partly done.
fn sorted_out(
    collection: &str,
    taken: Result<Option<Description>, SourceError>,
    out: &mut Capture,
) -> Result<Option<Description>, SourceError> {
    let why = match taken {
        Ok(Some(description)) => return Ok(Some(description)),
        Ok(None) => "it was deleted in the meantime".to_owned(),
        Err(error @ SourceError::Server { .. }) => error_chain(&error),
        Err(error) => return Err(error),
    };
    out.incomplete(format!("collection {collection}"), why);
    Ok(None)
}

fn artifact_of(description: &Description, subject: &Subject) -> ArtifactPath {
    subject.shard.map_or_else(|| description.snapshot_path(), |id| description.shard_path(id))
}

/// A step of the capture.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Take the collection's snapshots, and write its description.
    Take(&'a str),
    /// Download one of its snapshots.
    Download(Subject),
}

/// The steps in the order of artifact paths. `a.snapshot` comes after `a.k.json`, so two
/// collections may interleave.
fn steps(collections: &[(String, Parts)]) -> Vec<Step<'_>> {
    let mut steps: BTreeMap<PathBuf, Step<'_>> = BTreeMap::new();
    for (name, parts) in collections {
        let paths = Description::named(name);
        steps.insert(paths.path().as_str().into(), Step::Take(name));
        let subjects = match parts {
            Parts::Whole => vec![Subject::collection(name)],
            Parts::Shards(shards) => shards.keys().map(|id| Subject::shard(name, *id)).collect(),
        };
        for subject in subjects {
            steps.insert(artifact_of(&paths, &subject).as_str().into(), Step::Download(subject));
        }
    }
    steps.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::{super::names::globs, *};

    #[test]
    fn steps_follow_the_paths_even_where_collections_interleave() {
        let whole = ["a", "a.k", "a-1"].map(|name| (name.to_owned(), Parts::Whole));
        let download = |name| Step::Download(Subject::collection(name));
        let expected = [
            Step::Take("a-1"),
            download("a-1"),
            Step::Take("a"),
            Step::Take("a.k"),
            download("a.k"),
            download("a"),
        ];
        assert_eq!(steps(&whole), expected);
        let shards: BTreeMap<u32, Placed> = [2, 10, 1].map(|id| (id, Placed::default())).into();
        let spread = ["b", "b.sharp"].map(|name| (name.to_owned(), Parts::Shards(shards.clone())));
        let of = |name: &'static str| [1, 10, 2].map(|id| Step::Download(Subject::shard(name, id)));
        let mut expected = vec![Step::Take("b"), Step::Take("b.sharp")];
        expected.splice(1..1, of("b"));
        expected.extend(of("b.sharp"));
        assert_eq!(steps(&spread), expected);
    }

    #[test]
    fn globs_pick_and_leave_out_collections() {
        let set = |patterns: &[&str]| {
            globs(&patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let selection = Selection { wanted: Some(set(&["docs*"])), unwanted: set(&["*_tmp"]) };
        assert!(selection.takes("docs") && selection.takes("docs_2"));
        assert!(!selection.takes("docs_tmp") && !selection.takes("sessions"));
        assert!(Selection { wanted: None, unwanted: set(&[]) }.takes("anything"));
    }
}
