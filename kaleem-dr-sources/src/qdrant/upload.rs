//! The snapshot file of one shard as the body of an upload.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::stream::try_unfold;
use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::ArtifactRecord,
    ground::{SourceError, digest::ByteDigest, progress::StageProgress},
    recovery::point::{ArtifactReader, PointReader},
};
use reqwest::Body;

use super::{
    api::Subject,
    client::QdrantClient,
    tar_edit::{OnlyShard, TarEditor},
};

/// The snapshot file of a shard: an artifact, or a part of one.
#[derive(Clone, Debug)]
pub(super) struct ShardFile {
    artifact: String,
    /// The shard to cut out of the file of a whole collection.
    cut: Option<u32>,
    size_bytes: u64,
    sha256: String,
}

impl ShardFile {
    /// An artifact of its own.
    pub(super) fn own(record: &ArtifactRecord) -> Self {
        Self {
            artifact: record.path.clone(),
            cut: None,
            size_bytes: record.size_bytes,
            sha256: record.sha256.clone(),
        }
    }

    /// Uploads it to a shard on the peer `node`, which verifies its SHA-256.
    pub(super) async fn upload(
        &self,
        point: &PointReader,
        node: &QdrantClient,
        shard: &Subject,
        stage: &Arc<dyn StageProgress>,
    ) -> Result<(), SourceError> {
        let failure = Arc::new(Mutex::new(None));
        let source = Upload {
            reader: point.artifact(&self.artifact).await?,
            cutter: self.cut.map(OnlyShard::of),
            is_read: false,
            ready: VecDeque::new(),
            stage: stage.clone(),
            cancel: point.cancellation(),
            failure: failure.clone(),
        };
        let body = Body::wrap_stream(try_unfold(source, Upload::next));
        let uploaded = node.upload_shard(shard, &self.sha256, self.size_bytes, body).await;
        // The error that broke the body is more useful than the fact that it broke.
        let why = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        why.map_or(uploaded, Err)
    }
}

/// Reads the file of a whole collection once, to learn the length and SHA-256 of the snapshot of
/// each shard in it.
///
/// # Errors
/// If it cannot be read, or has entries that cannot be cut out.
pub(super) async fn measure(
    point: &PointReader,
    record: &ArtifactRecord,
    shards: impl Iterator<Item = u32>,
) -> Result<BTreeMap<u32, ShardFile>, SourceError> {
    let damaged = |error: io::Error| SourceError::Point(format!("{}: {error}", record.path).into());
    let mut measures: Vec<_> =
        shards.map(|id| (id, OnlyShard::of(id), ByteDigest::default(), 0)).collect();
    let mut reader = point.artifact(&record.path).await?;
    let cancel = point.cancellation();
    let mut out = Vec::new();
    let add = |out: &mut Vec<Bytes>, digest: &mut ByteDigest, size: &mut u64| {
        for bytes in out.drain(..) {
            digest.update(&bytes);
            *size += bytes.len() as u64;
        }
    };
    while let Some(piece) =
        cancel.run_until_cancelled(reader.next()).await.ok_or(SourceError::Cancelled)??
    {
        for (_, cutter, digest, size) in &mut measures {
            cutter.push(piece.clone(), &mut out).map_err(damaged)?;
            add(&mut out, digest, size);
        }
    }
    let mut files = BTreeMap::new();
    for (id, cutter, mut digest, mut size_bytes) in measures {
        cutter.finish(&mut out).map_err(damaged)?;
        add(&mut out, &mut digest, &mut size_bytes);
        let sha256 = digest.finish();
        let artifact = record.path.clone();
        files.insert(id, ShardFile { artifact, cut: Some(id), size_bytes, sha256 });
    }
    Ok(files)
}

/// An artifact as the body of a request.
struct Upload {
    reader: ArtifactReader,
    cutter: Option<TarEditor<OnlyShard>>,
    /// The artifact was read to its end.
    is_read: bool,
    ready: VecDeque<Bytes>,
    stage: Arc<dyn StageProgress>,
    cancel: CancellationToken,
    failure: Arc<Mutex<Option<SourceError>>>,
}

impl Upload {
    /// An incomplete body is never accepted as a snapshot; so a cancellation ends it here, which
    /// the server notices.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, io::Error> {
        match self.piece().await {
            Ok(piece) => Ok(piece.map(|bytes| (bytes, self))),
            Err(error) => {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).replace(error);
                Err(io::Error::other("the snapshot could not be read"))
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, SourceError> {
        while self.ready.is_empty() {
            if self.is_read {
                return Ok(None);
            }
            let reading = self.cancel.run_until_cancelled(self.reader.next());
            let piece = reading.await.unwrap_or(Err(SourceError::Cancelled))?;
            let mut out = Vec::new();
            match (piece, &mut self.cutter) {
                (Some(bytes), Some(cutter)) => cutter.push(bytes, &mut out).map_err(unreadable)?,
                (Some(bytes), None) => out.push(bytes),
                (None, _) => {
                    self.is_read = true;
                    if let Some(cutter) = self.cutter.take() {
                        cutter.finish(&mut out).map_err(unreadable)?;
                    }
                }
            }
            self.ready.extend(out);
        }
        let bytes = self.ready.pop_front();
        self.stage.advance(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(bytes)
    }
}

fn unreadable(error: io::Error) -> SourceError {
    SourceError::Point(error.into())
}
