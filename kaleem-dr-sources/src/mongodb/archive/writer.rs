//! Writes a point as an archive: one namespace after another, with documents in the order of the
//! point.

use std::collections::BTreeSet;

use bytes::Bytes;
use kaleem_dr_core::{
    engine::manifest::{ArtifactRecord, Manifest},
    ground::{SourceError, progress::Unit},
    recovery::{point::PointReader, staged::Sink},
};

use super::{
    borders::Borders,
    format::{BlockHeader, Entry, Header, LARGEST_DOCUMENT, MAGIC, TERMINATOR, release},
    prelude::{ACCOUNTS, OPLOG, SERVER_ACCOUNTS},
};
use crate::mongodb::{
    dump::{catalogue, oplog},
    names,
    server::listing::{BUCKETS, CollectionKind},
};

/// From this release on, the data of a time series is dumped under its own name.
const VIEWLESS_TIME_SERIES_SINCE: (u32, u32, u32) = (8, 3, 0);

/// Writes a point to `out`.
pub(super) async fn write(point: &PointReader, out: &mut Sink) -> Result<(), SourceError> {
    let server_version = plain_version(point.manifest());
    let outgoing = outgoing(point.manifest(), &server_version)?;
    let total =
        outgoing.iter().filter_map(|each| each.data.as_ref()).map(|data| data.size_bytes).sum();
    let progress = point.progress().begin("write the archive", Unit::Bytes, Some(total));

    let header = Header {
        server_version,
        tool_version: concat!("kaleem-dr ", env!("CARGO_PKG_VERSION")).to_owned(),
        needs_oplog: point.manifest().artifact(&oplog::needed_path()).is_some(),
    };
    out.write(Bytes::from_static(&MAGIC)).await?;
    out.write(header.to_document().into_bytes().into()).await?;
    for each in &outgoing {
        let metadata = match &each.metadata {
            Some(metadata) => text(point, metadata).await?,
            None => String::new(),
        };
        let entry = Entry {
            database: each.database.clone(),
            collection: each.collection.clone(),
            metadata,
            kind: each.kind.to_owned(),
        };
        let document = entry.to_document().into_bytes();
        if document.len() > LARGEST_DOCUMENT {
            return Err(unfit(&each.collection, "its metadata is too long for an archive"));
        }
        out.write(document.into()).await?;
    }
    out.write(Bytes::from_static(&TERMINATOR)).await?;
    for each in &outgoing {
        let block = |end| BlockHeader {
            database: each.database.clone(),
            collection: each.blocks.clone(),
            end,
        };
        out.write(block(None).to_document().into_bytes().into()).await?;
        let crc = match &each.data {
            Some(data) => documents(point, data, out, |bytes| progress.advance(bytes)).await?,
            None => crc64fast::Digest::new().sum64(),
        };
        out.write(Bytes::from_static(&TERMINATOR)).await?;
        out.write(block(Some(crc)).to_document().into_bytes().into()).await?;
        out.write(Bytes::from_static(&TERMINATOR)).await?;
    }
    progress.finish();
    Ok(())
}

/// A namespace to be written.
struct Outgoing {
    database: String,
    collection: String,
    /// The name in its block headers: the data of a time series uses another name.
    blocks: String,
    kind: &'static str,
    /// The path of its metadata; `None` for the oplog and for users and roles.
    metadata: Option<String>,
    data: Option<ArtifactRecord>,
}

/// All namespaces of a point: its collections, then users and roles, then the oplog.
///
/// # Errors
/// If the point contains something that an archive cannot represent: it would be lost unnoticed.
fn outgoing(manifest: &Manifest, server_version: &str) -> Result<Vec<Outgoing>, SourceError> {
    let viewless =
        release(server_version).is_some_and(|release| release >= VIEWLESS_TIME_SERIES_SINCE);
    let mut outgoing = Vec::new();
    for stored in catalogue::read(manifest)? {
        let name = stored.spec.name;
        outgoing.push(Outgoing {
            blocks: if stored.spec.kind == CollectionKind::TimeSeries && !viewless {
                format!("{BUCKETS}{name}")
            } else {
                name.clone()
            },
            database: stored.spec.database,
            collection: name,
            kind: stored.spec.kind.as_str(),
            metadata: Some(stored.entry.metadata),
            data: stored.data,
        });
    }
    let placed: BTreeSet<&str> = outgoing
        .iter()
        .flat_map(|each| {
            each.metadata
                .as_deref()
                .into_iter()
                .chain(each.data.as_ref().map(|data| data.path.as_str()))
        })
        .collect();
    let needs_oplog = manifest.artifact(&oplog::needed_path()).is_some();
    let others = manifest
        .artifacts
        .iter()
        .filter(|artifact| !placed.contains(artifact.path.as_str()))
        // An archive has room for one oplog, and the required one covers a longer time.
        .filter(|artifact| !(needs_oplog && artifact.path == oplog::path()));
    let mut others: Vec<&ArtifactRecord> = others.collect();
    others.sort_by_key(|artifact| is_oplog(&artifact.path));
    for artifact in others {
        let (database, collection) = special(&artifact.path).ok_or_else(|| {
            SourceError::Unsupported(format!(
                "the recovery point contains {}, which an archive cannot represent",
                artifact.path
            ))
        })?;
        outgoing.push(Outgoing {
            blocks: collection.clone(),
            database,
            collection,
            kind: "",
            metadata: None,
            data: Some(artifact.clone()),
        });
    }
    if outgoing.is_empty() {
        return Err(SourceError::Unsupported(
            "the recovery point contains no collection to write".to_owned(),
        ));
    }
    Ok(outgoing)
}

fn is_oplog(path: &str) -> bool {
    path == oplog::path() || path == oplog::needed_path()
}

/// Database and collection of an artifact that belongs to no collection: the oplog, or a database's
/// users and roles.
fn special(path: &str) -> Option<(String, String)> {
    if is_oplog(path) {
        return Some((String::new(), OPLOG.to_owned()));
    }
    let (directory, file) = path.rsplit_once('/')?;
    let (_, database) = directory.rsplit_once('/')?;
    let of_server = SERVER_ACCOUNTS.into_iter().filter(|_| database == "admin");
    let name = ACCOUNTS
        .into_iter()
        .chain(of_server)
        .find(|name| file.strip_suffix(".bson") == Some(names::file_stem(name).as_str()))?;
    Some((database.to_owned(), name.to_owned()))
}

/// The server version in the form that mongorestore parses: three numbers.
fn plain_version(manifest: &Manifest) -> String {
    let version = manifest.server.as_ref().map_or("", |server| server.version.as_str());
    release(version).map_or_else(
        || "0.0.0".to_owned(),
        |(major, minor, patch)| format!("{major}.{minor}.{patch}"),
    )
}

async fn text(point: &PointReader, path: &str) -> Result<String, SourceError> {
    let bytes = point.artifact(path).await?.read_all(LARGEST_DOCUMENT as u64).await?;
    String::from_utf8(bytes).map_err(|_| SourceError::Point(format!("{path} is not UTF-8").into()))
}

/// Passes on the documents of one artifact, and returns their CRC.
async fn documents(
    point: &PointReader,
    data: &ArtifactRecord,
    out: &mut Sink,
    advance: impl Fn(u64),
) -> Result<u64, SourceError> {
    let mut reader = point.artifact(&data.path).await?;
    let mut crc = crc64fast::Digest::new();
    let mut borders = Borders::default();
    while let Some(piece) = reader.next().await? {
        borders.follow(&piece).map_err(|why| unfit(&data.path, &why))?;
        crc.write(&piece);
        advance(piece.len() as u64);
        out.write(piece).await?;
    }
    let documents = borders.finish().map_err(|why| unfit(&data.path, &why))?;
    match data.items {
        Some(items) if items != documents => Err(SourceError::Point(
            format!("{} has {documents} documents, but the manifest records {items}", data.path)
                .into(),
        )),
        _ => Ok(crc.sum64()),
    }
}

fn unfit(what: &str, why: &str) -> SourceError {
    SourceError::Unsupported(format!("{what} cannot be written into an archive: {why}"))
}
