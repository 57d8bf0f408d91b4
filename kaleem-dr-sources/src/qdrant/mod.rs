//! Qdrant: collections with vectors, payloads and indexes, and aliases, through the HTTP API.
//!
//! A capture contains Qdrant's own snapshot of each collection, with the information that it lacks
//! ([`description`]): the server's version, shard keys, and a digest over every point, because
//! Qdrant itself does not detect altered bytes. A restore uploads each snapshot under a new name,
//! reads it back and compares, and only then switches aliases. In a cluster of several peers, a peer's
//! snapshot of a collection contains only its own shards, so each shard is captured and restored by
//! itself, on a peer that holds it.

mod api;
mod archive;
mod as_collection;
mod by_points;
mod capture;
mod client;
mod compare;
mod config;
mod contents;
pub mod description;
mod differences;
pub(crate) mod draft;
mod engine;
mod guide;
mod inspect;
mod layout;
mod load;
mod names;
mod nodes;
mod pipe;
mod placement;
pub mod points;
mod rehearse;
mod restore;
mod shards;
mod staged;
mod switch;
mod tar_edit;
mod temporary;
mod transfer;
mod upload;
mod version;

use std::path::PathBuf;

use async_trait::async_trait;
use globset::GlobSet;
use jiff::Timestamp;
use kaleem_dr_core::{
    engine::{
        artifact::Capture,
        source::{Probe, Source},
    },
    ground::{
        SourceError, SourceName,
        diagnosis::{Diagnosis, Severity},
        error_chain,
        language::Language,
    },
    operate::config::secret::Environment,
    recovery::{
        point::PointReader,
        source::{
            EachItem, Inspection, PartDiff, Restorable, RestorePlan, RestoreReport, RestoreRequest,
            ScratchTarget, diagnosis_of_probe,
        },
        staged::{StagedForm, StagedWork},
    },
};

pub use self::{
    api::{Alias, Shard},
    client::QdrantClient,
    config::{QdrantConfig, QdrantConfigError},
};
use self::{
    capture::{Selection, Snapshots},
    nodes::Nodes,
    restore::Restoration,
    staged::FullSnapshot,
    temporary::Pace,
};

/// The directory of this source in a snapshot.
const ROOT: &str = "/qdrant";

/// The probe's warning about an API key that lacks permissions.
const MAY_NOT_SNAPSHOT: &str = "the API key may not create snapshots of any collection (it is read-only, or limited to some collections): a \
                                capture will fail; use a key with write access";

/// A source that captures the collections and aliases of one Qdrant server.
#[derive(Debug)]
pub struct QdrantSource {
    name: SourceName,
    /// The URLs of the config, of which there is at least one.
    clients: Vec<QdrantClient>,
    selection: Selection,
    content_digest: bool,
    pace: Pace,
    staged: FullSnapshot,
    engine: Option<PathBuf>,
}

impl QdrantSource {
    /// Reads the API key and prepares the client without connecting.
    ///
    /// # Errors
    /// If the URL, the key, a pattern or the certificates cannot be used.
    pub fn new(
        name: SourceName,
        config: &QdrantConfig,
        environment: &Environment,
    ) -> Result<Self, QdrantConfigError> {
        let key = config
            .api_key
            .as_ref()
            .map(|key| environment.secret(key))
            .transpose()
            .map_err(QdrantConfigError::ApiKey)?;
        let globs = |key, patterns: &[String]| -> Result<GlobSet, QdrantConfigError> {
            names::globs(patterns).map_err(|cause| QdrantConfigError::Pattern { key, cause })
        };
        let wanted = globs("collections", &config.collections)?;
        Ok(Self {
            staged: FullSnapshot::new(name.clone()),
            name,
            clients: QdrantClient::all(config, key.as_ref())?,
            selection: Selection {
                wanted: (!config.collections.is_empty()).then_some(wanted),
                unwanted: globs("exclude_collections", &config.exclude_collections)?,
            },
            content_digest: config.content_digest,
            pace: Pace::default(),
            engine: config.engine.clone(),
        })
    }

    /// The server at `url`.
    fn url(&self) -> &QdrantClient {
        // `QdrantClient::all` begins with the one of `url`.
        &self.clients[0]
    }
}

#[async_trait]
impl Source for QdrantSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "qdrant"
    }

    fn roots(&self) -> Vec<PathBuf> {
        vec![ROOT.into()]
    }

    async fn probe(&self) -> Result<Probe, SourceError> {
        let nodes = Nodes::find(&self.clients).await?;
        let client = nodes.main;
        let server = client.version().await?;
        let mut warnings: Vec<String> = nodes
            .silent
            .iter()
            .map(|(server, why)| format!("{server} does not answer: {why}"))
            .collect();
        warnings.extend(nodes.unreached().into_iter().map(|peer| {
            format!(
                "of a cluster of {} peers, {peer} is not reached, and a capture leaves out collections that have a shard only there: {}",
                nodes.count(),
                nodes.advice()
            )
        }));
        let mut collections = client.collections().await?;
        collections.retain(|collection| self.selection.takes(collection));
        if collections.is_empty() {
            warnings.push("there is no collection to capture".into());
        }
        for collection in &collections {
            match client.describe(collection).await {
                Ok(Some(live)) if live.status == "red" => {
                    warnings
                        .push(format!("collection {collection} has status red: Qdrant reports that an operation on it failed"));
                }
                Ok(_) => {}
                Err(error @ SourceError::Server { .. }) => {
                    warnings.push(format!(
                        "collection {collection} is broken, and a capture leaves it out: {}",
                        error_chain(&error)
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        // Requesting a snapshot of a collection that does not exist writes nothing, and a read-only
        // key is refused before the server checks for the collection.
        let absent = format!("kaleem-dr-no-such-collection-{}", Timestamp::now().as_nanosecond());
        if !client.may_snapshot(&absent).await? {
            warnings.push(MAY_NOT_SNAPSHOT.into());
        }
        warnings.extend(self.clients.iter().filter(|client| client.is_exposed()).map(|client| {
            format!("the API key is sent to {} unencrypted; use https", client.server())
        }));
        Ok(Probe::new(Some(server), None, warnings))
    }

    async fn capture(&self, out: &mut Capture) -> Result<(), SourceError> {
        let nodes = Nodes::find(&self.clients).await?;
        let snapshots = Snapshots::new(&nodes, &self.pace, self.content_digest, out.cancellation());
        snapshots.capture(&self.selection, out).await
    }
}

#[async_trait]
impl Restorable for QdrantSource {
    async fn diagnose(&self) -> Vec<Diagnosis> {
        let probe = self.probe().await;
        let mut found = diagnosis_of_probe(&self.name, &probe);
        for seen in found.iter_mut().filter(|seen| seen.what.ends_with(MAY_NOT_SNAPSHOT)) {
            (seen.id, seen.severity) = ("qdrant-no-snapshots", Severity::Error);
            seen.fix = Some(format!(
                "write a key with write access into the file that `api_key` of [source.{}] refers to",
                self.name
            ));
        }
        let client = self.url();
        let server = client.server();
        for open in self.clients.iter().filter(|client| client.is_open()) {
            let server = open.server();
            found.push(
                Diagnosis::warning("qdrant-open", format!("source {}: {server} requires no API key", self.name))
                    .because("anyone who can reach it over the network can read and delete every collection")
                    .fix("set `service.api_key` in Qdrant's config and configure it in `api_key`; or let Qdrant listen on 127.0.0.1 only"),
            );
        }
        if probe.is_ok() {
            // Some replies have no date: proxies in front of Qdrant remove it.
            let clock = match client.date().await {
                Ok(date) => {
                    date.and_then(|date| Diagnosis::of_http_date(server, &date, Timestamp::now()))
                }
                Err(error) => {
                    Some(Diagnosis::unseen(&format!("the clock of {server}"), &error_chain(&error)))
                }
            };
            found.extend(clock);
        }
        found
    }

    async fn plan_restore(
        &self,
        point: &PointReader,
        request: RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        let nodes = Nodes::find(&self.clients).await?;
        Ok(Restoration::prepare(&nodes, point, request, self.engine.as_deref()).await?.plan())
    }

    async fn restore(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        let nodes = Nodes::find(&self.clients).await?;
        Restoration::prepare(&nodes, point, plan.request, self.engine.as_deref())
            .await?
            .run(&plan.actions)
            .await
    }

    async fn inspect(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        inspect::inspect(point, self.engine.as_deref()).await
    }

    async fn compare_points(
        &self,
        old: &PointReader,
        new: &PointReader,
        work: &StagedWork,
        each: &mut EachItem<'_>,
    ) -> Result<Vec<PartDiff>, SourceError> {
        differences::differences(old, new, self.engine.as_deref(), work, each).await
    }

    async fn rehearse(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        let nodes = Nodes::find(&self.clients).await?;
        rehearse::rehearse(&nodes, point, scratch, self.engine.as_deref()).await
    }

    async fn clear_scratch(&self, name: &str) -> Result<Vec<String>, SourceError> {
        let nodes = Nodes::find(&self.clients).await?;
        rehearse::clear(nodes.main, name).await
    }

    fn address(&self) -> Option<String> {
        Some(self.url().url().to_owned())
    }

    fn guide(&self, language: Language, restored: &str) -> Option<String> {
        Some(guide::guide(language, restored, self.url().url()))
    }

    fn staged(&self) -> Option<&dyn StagedForm> {
        Some(&self.staged)
    }
}

/// The fuzz target for the snapshot file of a collection.
#[cfg(feature = "fuzzing")]
pub fn fuzz_tar(mut bytes: &[u8]) {
    let (mut edited, mut cut) = (Vec::new(), Vec::new());
    let (mut times, mut shard) = (tar_edit::Times::of_snapshot(), tar_edit::OnlyShard::of(0));
    for piece in bytes.chunks(777) {
        let piece = bytes::Bytes::copy_from_slice(piece);
        times.push(piece.clone(), &mut edited).expect("what is not a tar is passed on");
        if shard.push(piece, &mut cut).is_err() {
            shard = tar_edit::OnlyShard::of(0);
        }
    }
    times.finish(&mut edited).expect("what is not a tar is passed on");
    assert_eq!(edited.concat().len(), bytes.len(), "only times in headers change");
    let file = archive::CollectionFile::walk(&mut bytes);
    let _ = (file.segments(), file.shards());
}
