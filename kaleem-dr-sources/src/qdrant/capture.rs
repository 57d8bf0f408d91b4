//! The capture: one collection after another, each as a snapshot taken by Qdrant itself.
//!
//! The server writes a snapshot to its own disk; we download it and delete it again, even after a
//! failure or a cancellation. Snapshot names have one-second resolution, and two snapshots of a
//! collection within the same second destroy each other; so we keep those of one collection apart,
//! and fail the capture if a file is not what the server announced.

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

/// Minimum time between two snapshots of one collection.
const APART: Duration = Duration::from_secs(2);
/// Number of attempts to resume a download that makes no progress.
const RESUMPTIONS: u32 = 3;

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

/// When this process last took a snapshot of each collection. Locked while a snapshot is taken, so
/// that there is one at a time.
pub(super) type Pace = Mutex<HashMap<String, Instant>>;

pub(super) struct Snapshots<'a> {
    client: &'a QdrantClient,
    pace: &'a Pace,
    cancel: CancellationToken,
    with_content: bool,
    /// The snapshot of each collection that is on the server and must be deleted.
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

    /// Captures all selected collections, and cleans up on the server.
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
                    "a temporary snapshot was left on the server"
                );
                // The data may be complete, but every night would leave another file until the
                // server's disk is full: the run must not look successful.
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
        out.set_consistency(
            Consistency::new(ConsistencyGrade::PerCollection, out.started())
                .because("Qdrant takes the snapshots of the collections one after another"),
        );
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
                    Ok(None) => out.incomplete(
                        format!("collection {collection}"),
                        "it was deleted in the meantime",
                    ),
                    // One broken collection must not cost the others their backup; the run ends as
                    // partly done.
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
                .failed("take a snapshot", "of any collection; check the server's log"));
        }
        out.set_server(server);
        out.detail("collections", Value::Object(details));
        Ok(())
    }

    /// Takes a snapshot on the server, between two reads of the points. `None` if the collection
    /// was deleted.
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

    /// Not interrupted by a cancellation: the server would still finish the file, under a name that
    /// we never learn.
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

    /// Deletes a snapshot now, to free the server's disk. A failure is retried, and reported, at
    /// the end.
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
            .ok_or_else(|| failed("its snapshot no longer exists".into()))?;
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
                "the snapshot {} is not what {} announced: {read} bytes with SHA-256 {sha256}, not {} bytes with {}; was another snapshot \
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

/// A snapshot that the server may still finish, but whose name we never received. Reported even if
/// the capture is dropped.
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
                "the server may still finish a snapshot of this collection; look for it on the server and delete it"
            );
        }
    }
}

/// A file being downloaded.
struct Transfer<'a> {
    client: &'a QdrantClient,
    collection: &'a str,
    file: &'a SnapshotFile,
    cancel: &'a CancellationToken,
}

impl Transfer<'_> {
    /// Streams the file, and resumes after broken connections. Returns its length and SHA-256.
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
                    tracing::debug!(collection = self.collection, read, error = %error_chain(&error), "resuming the download");
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
            let action = format!("send snapshot {} of {}", self.file.name, self.collection);
            let chunk = chunk.map_err(|_| Broke::Connection(self.client.silent(&action)))?;
            match chunk.map_err(|error| Broke::Connection(self.client.unreachable(error)))? {
                Some(bytes) => {
                    *read += bytes.len() as u64;
                    rest = rest.map(|rest| rest.saturating_sub(bytes.len() as u64));
                    digest.update(&bytes);
                    writer.write(bytes).await.map_err(Broke::ForGood)?;
                }
                None if rest.unwrap_or(0) > 0 => {
                    return Err(Broke::Connection(
                        self.client.failed(&action, "the connection broke"),
                    ));
                }
                None => return Ok(()),
            }
        }
    }
}

/// The reason why a part of a download ended early.
enum Broke {
    /// The download can be resumed.
    Connection(SourceError),
    ForGood(SourceError),
}

/// A step of the capture.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Take the collection's snapshot, and write its description.
    Take(&'a str),
    /// Download its snapshot.
    Download(&'a str),
}

/// The steps in the order of artifact paths. `a.snapshot` comes after `a.k.json`, so two
/// collections may interleave.
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
