//! Capturing: one collection after the other, each as the snapshot that Qdrant itself takes of it.
//!
//! The server writes a snapshot to its own disk, we read it from there and delete it again, also after a failure or a cancellation.
//! Names of snapshots have one-second resolution, and two of one collection within a second destroy each other; so those of one
//! collection are kept apart, and a file that is not what the server promised fails the capture.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use globset::GlobSet;
use kaleem_dr_core::{
    CancellationToken,
    engine::{
        artifact::{ArtifactWriter, Capture},
        manifest::{Consistency, ConsistencyGrade},
    },
    ground::{SourceError, digest::ByteDigest, error_chain, progress::Silent},
};
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    api::SnapshotFile,
    client::QdrantClient,
    description::{Description, Points, aliases_path},
    names::file_stem,
};

/// Snapshots of one collection are at least so far apart.
const APART: Duration = Duration::from_secs(2);
/// How often a download that makes no headway is taken up again.
const RESUMPTIONS: u32 = 3;

/// Which collections are taken.
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

/// When this process took the last snapshot of each collection. Held while one is taken: one at a time.
pub(super) type Pace = Mutex<HashMap<String, Instant>>;

/// One capture under way.
pub(super) struct Snapshots<'a> {
    client: &'a QdrantClient,
    pace: &'a Pace,
    cancel: CancellationToken,
    with_content: bool,
    /// What lies on the server and is to be deleted: the snapshot of each collection.
    on_server: BTreeMap<String, SnapshotFile>,
}

impl<'a> Snapshots<'a> {
    pub(super) fn new(
        client: &'a QdrantClient,
        pace: &'a Pace,
        with_content: bool,
        cancel: CancellationToken,
    ) -> Self {
        Self { client, pace, cancel, with_content, on_server: BTreeMap::new() }
    }

    /// Captures everything that is selected, and cleans up on the server.
    pub(super) async fn capture(
        mut self,
        selection: &Selection,
        out: &mut Capture,
    ) -> Result<(), SourceError> {
        let captured = self.emit(selection, out).await;
        for (collection, file) in std::mem::take(&mut self.on_server) {
            if let Err(error) = self.client.delete_snapshot(&collection, &file.name).await {
                let why = error_chain(&error);
                tracing::warn!(
                    collection,
                    snapshot = file.name,
                    why,
                    "a temporary snapshot stays on the server"
                );
                // The data may be safe, but each night would leave another file until the server's disk is full: the run must not
                // look done.
                out.incomplete(
                    format!(
                        "removal of the temporary snapshot {} from {}",
                        file.name,
                        self.client.server()
                    ),
                    why,
                );
            }
        }
        captured
    }

    async fn emit(&mut self, selection: &Selection, out: &mut Capture) -> Result<(), SourceError> {
        let server = self.client.version().await?;
        super::refuse_cluster(self.client).await?;
        let mut collections = self.client.collections().await?;
        collections.retain(|name| selection.takes(name));
        let mut aliases = self.client.aliases().await?;
        aliases.retain(|alias| collections.contains(&alias.collection_name));
        out.set_consistency(Consistency {
            grade: ConsistencyGrade::PerCollection,
            at: out.started(),
            note: Some("Qdrant takes a snapshot of one collection after the other".into()),
        });
        let path = aliases_path();
        let document = serde_json::to_vec_pretty(&json!({ "aliases": aliases }))
            .map_err(|e| SourceError::artifact(&path, e))?;
        out.whole(path, document.into(), Some(aliases.len() as u64)).await?;

        let mut ready: BTreeMap<&str, Description> = BTreeMap::new();
        let mut details = Map::new();
        for step in steps(&collections) {
            if self.cancel.is_cancelled() {
                return Err(SourceError::Cancelled);
            }
            match step {
                Step::Take(collection) => match self.take(collection, &server.version).await {
                    Ok(Some(description)) => {
                        details.insert(collection.to_owned(), json!(description.points));
                        out.whole(description.path(), description.to_bytes().into(), None).await?;
                        ready.insert(collection, description);
                    }
                    Ok(None) => out
                        .incomplete(format!("collection {collection}"), "it was deleted meanwhile"),
                    // One broken collection must not cost the others their backup; the run ends as done in part.
                    Err(error @ SourceError::Server { .. }) => {
                        out.incomplete(format!("collection {collection}"), error_chain(&error));
                    }
                    Err(error) => return Err(error),
                },
                Step::Download(collection) => {
                    if let Some(description) = ready.remove(collection) {
                        self.download(&description, out).await?;
                        self.discard(collection).await;
                    }
                }
            }
        }
        if !collections.is_empty() && details.is_empty() {
            return Err(self
                .client
                .failed("take a snapshot", "of no collection at all; look at the server's log"));
        }
        out.set_server(server);
        out.detail("collections", Value::Object(details));
        Ok(())
    }

    /// Makes the server take a snapshot, between two readings of the points. `None` when the collection is gone.
    async fn take(
        &mut self,
        collection: &str,
        version: &str,
    ) -> Result<Option<Description>, SourceError> {
        let Some(live) = self.client.describe(collection).await? else { return Ok(None) };
        let shards = self.client.shards(collection).await?;
        let mut description = Description::new(collection, version, &live, shards);
        description.points = if self.with_content {
            let before = self.client.content(collection, &self.cancel, &Silent).await?;
            self.snapshot(collection).await?;
            Points::between(before, &self.client.content(collection, &self.cancel, &Silent).await?)
        } else {
            let before = self.client.count(collection).await?;
            self.snapshot(collection).await?;
            Points::between_counts(before, self.client.count(collection).await?)
        };
        Ok(Some(description))
    }

    /// Not torn off by a cancellation: the server would finish the file all the same, under a name that we never hear.
    async fn snapshot(&mut self, collection: &str) -> Result<(), SourceError> {
        let mut pace = self.pace.lock().await;
        if let Some(last) = pace.get(collection) {
            let waiting = tokio::time::sleep_until(*last + APART);
            self.cancel.run_until_cancelled(waiting).await.ok_or(SourceError::Cancelled)?;
        }
        let mut unheard_of = UnheardOf { collection, is_possible: true };
        let taken = self.client.create_snapshot(collection).await;
        pace.insert(collection.to_owned(), Instant::now());
        unheard_of.is_possible = matches!(taken, Err(SourceError::Unreachable { .. }));
        let file = taken?;
        self.on_server.insert(collection.to_owned(), file);
        Ok(())
    }

    /// Deletes a snapshot now, for the sake of the server's disk. What fails is tried again, and told, at the end.
    async fn discard(&mut self, collection: &str) {
        if let Some(file) = self.on_server.get(collection)
            && self.client.delete_snapshot(collection, &file.name).await.is_ok()
        {
            self.on_server.remove(collection);
        }
    }

    async fn download(
        &self,
        description: &Description,
        out: &mut Capture,
    ) -> Result<(), SourceError> {
        let path = description.snapshot_path();
        let failed = |why: String| SourceError::artifact(&path, why);
        let file = self
            .on_server
            .get(&description.name)
            .ok_or_else(|| failed("its snapshot is gone".into()))?;
        let mut writer = out.artifact(path.clone()).await?;
        let transfer = Transfer {
            client: self.client,
            collection: &description.name,
            file,
            cancel: &self.cancel,
        };
        let (read, sha256) = transfer.run(&mut writer).await.map_err(|error| match error {
            SourceError::Cancelled | SourceError::Aborted => error,
            other => SourceError::artifact(&path, other),
        })?;
        let promised = file.checksum.as_deref();
        if (file.size != 0 && read != file.size)
            || promised.is_some_and(|promised| !promised.eq_ignore_ascii_case(&sha256))
        {
            return Err(failed(format!(
                "the snapshot {} is not what {} promised: {read} bytes with SHA-256 {sha256}, not {} bytes with {}; was another snapshot \
                 taken in the same second?",
                file.name,
                self.client.server(),
                file.size,
                promised.unwrap_or("an unknown one"),
            )));
        }
        let points = &description.points;
        writer.finish(points.count(), points.content_digest().map(str::to_owned)).await
    }
}

/// A snapshot that the server may still finish, and whose name never reached us. Told also when the capture is torn off.
struct UnheardOf<'a> {
    collection: &'a str,
    is_possible: bool,
}

impl Drop for UnheardOf<'_> {
    fn drop(&mut self) {
        if self.is_possible {
            let collection = self.collection;
            tracing::warn!(
                collection,
                "the server may still finish a snapshot of this collection; look for it there and delete it"
            );
        }
    }
}

/// One file on its way from the server.
struct Transfer<'a> {
    client: &'a QdrantClient,
    collection: &'a str,
    file: &'a SnapshotFile,
    cancel: &'a CancellationToken,
}

impl Transfer<'_> {
    /// Streams the file, taking it up again where a connection broke. Gives its length and SHA-256.
    async fn run(&self, writer: &mut ArtifactWriter) -> Result<(u64, String), SourceError> {
        let mut digest = ByteDigest::default();
        let (mut read, mut etag, mut fruitless) = (0, None, 0);
        loop {
            let before = read;
            match self.part(&mut read, &mut etag, &mut digest, writer).await {
                Ok(()) => return Ok((read, digest.finish())),
                Err(Broke::Connection(error)) => {
                    fruitless = if read > before { 0 } else { fruitless + 1 };
                    if fruitless > RESUMPTIONS {
                        return Err(error);
                    }
                    tracing::debug!(collection = self.collection, read, error = %error_chain(&error), "taking the download up again");
                }
                Err(Broke::ForGood(error)) => return Err(error),
            }
        }
    }

    /// Reads until the end, or until the connection breaks.
    async fn part(
        &self,
        read: &mut u64,
        etag: &mut Option<reqwest::header::HeaderValue>,
        digest: &mut ByteDigest,
        writer: &mut ArtifactWriter,
    ) -> Result<(), Broke> {
        let asking = self.client.download(self.collection, &self.file.name, *read, etag.as_ref());
        let asked = self
            .cancel
            .run_until_cancelled(asking)
            .await
            .ok_or(Broke::ForGood(SourceError::Cancelled))?;
        let mut download = asked.map_err(|error| match error {
            SourceError::Unreachable { .. } => Broke::Connection(error),
            other => Broke::ForGood(other),
        })?;
        *etag = etag.take().or(download.etag.take());
        let mut rest = download.length();
        loop {
            let reading = tokio::time::timeout(self.client.timeout(), download.response.chunk());
            let chunk = self
                .cancel
                .run_until_cancelled(reading)
                .await
                .ok_or(Broke::ForGood(SourceError::Cancelled))?;
            let action = format!("give snapshot {} of {}", self.file.name, self.collection);
            let chunk = chunk.map_err(|_| Broke::Connection(self.client.silent(&action)))?;
            match chunk.map_err(|error| Broke::Connection(self.client.unreachable(error)))? {
                Some(bytes) => {
                    *read += bytes.len() as u64;
                    rest = rest.map(|rest| rest.saturating_sub(bytes.len() as u64));
                    digest.update(&bytes);
                    writer.write(bytes).await.map_err(Broke::ForGood)?;
                }
                None if rest.unwrap_or(0) > 0 => {
                    return Err(Broke::Connection(self.client.failed(&action, "it broke off")));
                }
                None => return Ok(()),
            }
        }
    }
}

/// How a part of a download ended before its end.
enum Broke {
    /// It can be taken up again.
    Connection(SourceError),
    ForGood(SourceError),
}

/// What is done for one artifact.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Its snapshot is taken, and its description written.
    Take(&'a str),
    /// Its snapshot is read.
    Download(&'a str),
}

/// The steps in the order of the artifacts' paths. `a.snapshot` comes after `a.k.json`, so two collections may interleave.
fn steps(collections: &[String]) -> Vec<Step<'_>> {
    let mut steps: BTreeMap<String, Step<'_>> = BTreeMap::new();
    for collection in collections {
        let stem = file_stem(collection);
        steps.insert(format!("{stem}.json"), Step::Take(collection));
        steps.insert(format!("{stem}.snapshot"), Step::Download(collection));
    }
    steps.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::{super::names::globs, *};

    #[test]
    fn steps_follow_the_paths_even_where_collections_interleave() {
        let collections = ["a", "a.k", "a-1"].map(str::to_owned);
        let expected = [
            Step::Take("a-1"),
            Step::Download("a-1"),
            Step::Take("a"),
            Step::Take("a.k"),
            Step::Download("a.k"),
            Step::Download("a"),
        ];
        assert_eq!(steps(&collections), expected);
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
