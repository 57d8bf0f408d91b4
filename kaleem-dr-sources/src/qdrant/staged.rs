//! Points as Qdrant's own full snapshot, `full-snapshot-<DATE>.snapshot`: the handbook's format,
//! which `--storage-snapshot FILE` restores without us.
//!
//! It is a plain tar of the collections' snapshot files, followed by `config.json`, which lists
//! them. Such a file records neither the server's version nor the number of points; a restore warns
//! about this.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::{ArtifactRecord, Consistency, ConsistencyGrade, Manifest},
    ground::{
        SourceError, SourceName,
        digest::ByteDigest,
        progress::{StageProgress, Unit},
    },
    recovery::{
        point::{FilePart, FilePoint, PointReader},
        staged::{Sink, StagedForm, StagedName, StagedWork},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tar::{Archive, EntryType, Header};
use tempfile::TempDir;

use super::{
    archive::{CollectionFile, EndWatch},
    contents::{Contents, Files, Stored},
    description::{Description, Points, aliases_path, indexes_of_file},
    names::file_stem,
};

const BLOCK_BYTES: u64 = 512;
static BLOCKS_OF_ZEROS: [u8; 1024] = [0; 1024];
/// Limit for a name that fits into a tar header, in bytes; Qdrant also reads longer ones, but they
/// are not needed.
const MEMBER_BYTES: usize = 99;
/// Limit for `config.json`, in bytes.
const MAPPING_BYTES: u64 = 64 << 20;
/// The name of the last member.
const MAPPING: &str = "config.json";

/// The full snapshot as a staged form.
#[derive(Debug)]
pub(super) struct FullSnapshot {
    source: SourceName,
}

/// The content of `config.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Mapping {
    collections_mapping: BTreeMap<String, String>,
    #[serde(default)]
    collections_aliases: BTreeMap<String, String>,
}

impl FullSnapshot {
    pub(super) fn new(source: SourceName) -> Self {
        Self { source }
    }
}

#[async_trait]
impl StagedForm for FullSnapshot {
    fn name(&self) -> StagedName {
        StagedName::new("full-snapshot", "snapshot")
    }

    async fn write(&self, point: &PointReader, out: &mut Sink) -> Result<(), SourceError> {
        let contents = Contents::read(point).await?;
        let taken = point.manifest().started;
        let aliases = contents
            .aliases
            .iter()
            .map(|alias| (alias.alias_name.clone(), alias.collection_name.clone()));
        let mut mapping = Mapping { collections_aliases: aliases.collect(), ..Mapping::default() };
        for (at, stored) in contents.collections.iter().enumerate() {
            let Files::Whole(snapshot) = &stored.files else {
                return Err(SourceError::Unsupported(format!(
                    "collection {} was captured shard by shard from a cluster, and a full snapshot of Qdrant contains only the shards of one \
                     node: leave this source out of `staged.sources`; it is restored from the repository",
                    stored.name()
                )));
            };
            let member = member_name(stored, at, taken);
            write_header(out, &member, snapshot.size_bytes, taken).await?;
            let mut reader = point.artifact(&snapshot.path).await?;
            let cancel = point.cancellation();
            while let Some(bytes) =
                cancel.run_until_cancelled(reader.next()).await.ok_or(SourceError::Cancelled)??
            {
                out.write(bytes).await?;
            }
            pad(out, snapshot.size_bytes).await?;
            mapping.collections_mapping.insert(stored.name().to_owned(), member);
        }
        let mapping = serde_json::to_vec_pretty(&mapping)
            .map_err(|error| SourceError::Output(error.into()))?;
        write_header(out, MAPPING, mapping.len() as u64, taken).await?;
        let length = mapping.len() as u64;
        out.write(mapping.into()).await?;
        pad(out, length).await?;
        out.write(Bytes::from_static(&BLOCKS_OF_ZEROS)).await
    }

    async fn open(&self, file: &Path, work: &StagedWork) -> Result<PointReader, SourceError> {
        let (path, source, own) = (file.to_owned(), self.source.clone(), work.clone());
        let opened =
            tokio::task::spawn_blocking(move || Opening::new(path, &own)?.run(&source)).await;
        let (manifest, point) = opened.map_err(|panic| SourceError::Point(panic.into()))??;
        Ok(PointReader::of_file(manifest, point, work.progress.clone(), work.cancel.clone()))
    }
}

/// Qdrant's naming scheme, except for the number of the peer.
fn member_name(stored: &Stored, at: usize, taken: Timestamp) -> String {
    let date = taken.strftime("%Y-%m-%d-%H-%M-%S");
    let name = format!("{}-{date}.snapshot", file_stem(stored.name()));
    if name.len() > MEMBER_BYTES { format!("collection-{at}-{date}.snapshot") } else { name }
}

async fn write_header(
    out: &mut Sink,
    name: &str,
    size_bytes: u64,
    taken: Timestamp,
) -> Result<(), SourceError> {
    let mut header = Header::new_gnu();
    header.set_path(name).map_err(SourceError::Output)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(size_bytes);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(taken.as_second()).unwrap_or(0));
    header.set_cksum();
    out.write(Bytes::copy_from_slice(header.as_bytes())).await
}

async fn pad(out: &mut Sink, size_bytes: u64) -> Result<(), SourceError> {
    let rest = usize::try_from(size_bytes.next_multiple_of(BLOCK_BYTES) - size_bytes).unwrap_or(0);
    out.write(Bytes::from_static(&BLOCKS_OF_ZEROS[..rest])).await
}

/// A snapshot file within the staged file.
struct Member {
    part: FilePart,
    sha256: String,
    found: CollectionFile,
}

/// A file being opened. Blocking.
struct Opening {
    path: PathBuf,
    /// Descriptions, and members stored with holes.
    unpacked: TempDir,
    cancel: CancellationToken,
    stage: Arc<dyn StageProgress>,
}

impl Opening {
    fn new(path: PathBuf, work: &StagedWork) -> Result<Self, SourceError> {
        let unpacked = work.directory()?;
        let size = std::fs::metadata(&path).ok().map(|meta| meta.len());
        let stage = work.progress.begin(&format!("read {}", path.display()), Unit::Bytes, size);
        Ok(Self { path, unpacked, cancel: work.cancel.clone(), stage })
    }

    fn run(self, source: &SourceName) -> Result<(Manifest, FilePoint), SourceError> {
        let meta = self.file()?.metadata().map_err(|cause| self.unreadable(cause))?;
        let (mapping, members) =
            if self.is_collection_file()? { self.single(meta.len())? } else { self.full()? };
        self.stage.finish();
        let taken = meta
            .modified()
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok())
            .unwrap_or_else(Timestamp::now);
        self.point(source, taken, &mapping, members)
    }

    fn file(&self) -> Result<File, SourceError> {
        File::open(&self.path).map_err(|cause| self.unreadable(cause))
    }

    fn unreadable(&self, cause: io::Error) -> SourceError {
        if self.cancel.is_cancelled() {
            return SourceError::Cancelled;
        }
        SourceError::Path { path: self.path.clone(), action: "read".into(), cause }
    }

    fn damaged(&self, why: impl Into<String>) -> SourceError {
        if self.cancel.is_cancelled() {
            return SourceError::Cancelled;
        }
        SourceError::Damaged { path: self.path.clone(), why: why.into() }
    }

    /// Reports whether this is the snapshot of a single collection: a full one contains only
    /// `.snapshot` files in its root.
    fn is_collection_file(&self) -> Result<bool, SourceError> {
        let mut magic = [0; 2];
        let mut file = self.file()?;
        if file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
            return Err(SourceError::Unsupported(format!(
                "{} is compressed with gzip, but a snapshot is read in place; decompress it first with gunzip",
                self.path.display()
            )));
        }
        let mut archive = Archive::new(self.file()?);
        let mut entries = archive.entries().map_err(|cause| self.unreadable(cause))?;
        match entries.next() {
            Some(Ok(entry)) => {
                let name = String::from_utf8_lossy(&entry.path_bytes())
                    .trim_start_matches("./")
                    .to_owned();
                Ok(name.contains('/') || !(name == MAPPING || is_snapshot(&name)))
            }
            Some(Err(error)) => Err(self.damaged(format!("it is not a Qdrant snapshot: {error}"))),
            None => Err(self.damaged("it is empty")),
        }
    }

    fn single(&self, size_bytes: u64) -> Result<(Mapping, BTreeMap<String, Member>), SourceError> {
        let file_name = self
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let mut reader = Watched::new(self.file()?, self);
        let found = CollectionFile::walk(&mut reader);
        if !found.faults.is_empty() {
            return Err(self.damaged(found.faults.join("; ")));
        }
        let part = FilePart::new(self.path.clone(), size_bytes);
        let member = Member { part, sha256: reader.digest.finish(), found };
        let mapping = Mapping {
            collections_mapping: [(collection_of(&file_name), file_name.clone())].into(),
            ..Mapping::default()
        };
        Ok((mapping, [(file_name, member)].into()))
    }

    fn full(&self) -> Result<(Mapping, BTreeMap<String, Member>), SourceError> {
        let mut file = self.file()?;
        let mut file = EndWatch::new(&mut file);
        let mut members = BTreeMap::new();
        let mut mapping = None;
        let read = self.members(&mut file, &mut members, &mut mapping);
        let whole = || {
            let names: Vec<_> = members.keys().map(String::as_str).collect();
            if names.is_empty() {
                "no collection in it is complete".to_owned()
            } else {
                format!("the complete ones are {}", names.join(", "))
            }
        };
        if let Err(error) = read.and_then(|()| file.check_end()) {
            return Err(self.damaged(format!("{error}; {}", whole())));
        }
        let mapping: Mapping = mapping.ok_or_else(|| {
            self.damaged(format!(
                "it does not end with {MAPPING}, so it is truncated or not a full snapshot of Qdrant; {}",
                whole()
            ))
        })?;
        if let Some((collection, lost)) =
            mapping.collections_mapping.iter().find(|(_, member)| !members.contains_key(*member))
        {
            return Err(self.damaged(format!(
                "{lost}, the snapshot of collection {collection}, is missing from it; {}",
                whole()
            )));
        }
        Ok((mapping, members))
    }

    fn members(
        &self,
        file: &mut EndWatch<'_>,
        members: &mut BTreeMap<String, Member>,
        mapping: &mut Option<Mapping>,
    ) -> io::Result<()> {
        for entry in Archive::new(&mut *file as &mut dyn Read).entries()? {
            let mut entry = entry?;
            let name =
                String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            if name == MAPPING {
                let mut text = String::new();
                entry.take(MAPPING_BYTES).read_to_string(&mut text)?;
                let read = serde_json::from_str(&text)
                    .map_err(|error| io::Error::other(format!("{MAPPING}: {error}")))?;
                *mapping = Some(read);
            } else if is_snapshot(&name) {
                let size_bytes = entry.size();
                let (part, mut copy) = if entry.header().entry_type() == EntryType::GNUSparse {
                    // It is stored without its holes, so its bytes are not a range of the file.
                    let path = self.unpacked.path().join(format!("member-{}", members.len()));
                    let copy = File::create(&path)?;
                    (FilePart::new(path, size_bytes), Some(copy))
                } else {
                    let offset_bytes = entry.raw_file_position();
                    (FilePart::new(self.path.clone(), size_bytes).at(offset_bytes), None)
                };
                let mut reader = Watched::new(&mut entry, self);
                reader.copy = copy.as_mut();
                let found = CollectionFile::walk(&mut reader);
                let sha256 = reader.digest.finish();
                if !found.faults.is_empty() {
                    return Err(io::Error::other(format!("{name}: {}", found.faults.join("; "))));
                }
                members.insert(name, Member { part, sha256, found });
            }
        }
        Ok(())
    }

    /// Builds the manifest, and writes what our own points have in addition to the snapshots.
    fn point(
        self,
        source: &SourceName,
        taken: Timestamp,
        mapping: &Mapping,
        mut members: BTreeMap<String, Member>,
    ) -> Result<(Manifest, FilePoint), SourceError> {
        let mut artifacts = Vec::new();
        let mut parts = BTreeMap::new();
        let aliases: Vec<_> = mapping
            .collections_aliases
            .iter()
            .map(
                |(alias, collection)| json!({ "alias_name": alias, "collection_name": collection }),
            )
            .collect();
        let document = json!({ "aliases": aliases }).to_string().into_bytes();
        self.write_beside(aliases_path().as_str(), &document, &mut artifacts, &mut parts)?;
        for (collection, file_name) in &mapping.collections_mapping {
            let Some(member) = members.remove(file_name) else {
                return Err(
                    self.damaged(format!("two collections have the same snapshot {file_name}"))
                );
            };
            let description = Description {
                name: collection.clone(),
                server_version: None,
                config: member.found.config.clone(),
                payload_schema: indexes_of_file(&member.found.payload_index),
                shards: member.found.shards(),
                points: Points::Nothing {
                    why: "a file in this format does not record their number".into(),
                    about: None,
                },
            };
            self.write_beside(
                description.path().as_str(),
                &description.to_bytes(),
                &mut artifacts,
                &mut parts,
            )?;
            let path = description.snapshot_path().as_str().to_owned();
            artifacts.push(ArtifactRecord::new(
                path.clone(),
                member.part.size_bytes,
                member.sha256,
            ));
            parts.insert(path, member.part);
        }
        artifacts.sort_by(|a, b| a.path.cmp(&b.path));
        let mut manifest = Manifest::of_file(source.as_str(), "qdrant", taken);
        manifest.tool = "Qdrant".into();
        manifest.consistency = Consistency::new(ConsistencyGrade::PerCollection, taken).because("Qdrant takes the snapshots of the collections one after another; the time is the file's");
        manifest.artifacts = artifacts;
        Ok((manifest, FilePoint::new(self.path, parts, Some(self.unpacked))))
    }

    fn write_beside(
        &self,
        artifact: &str,
        bytes: &[u8],
        artifacts: &mut Vec<ArtifactRecord>,
        parts: &mut BTreeMap<String, FilePart>,
    ) -> Result<(), SourceError> {
        let path = self.unpacked.path().join(format!("document-{}", parts.len()));
        std::fs::write(&path, bytes).map_err(|cause| SourceError::Path {
            path: path.clone(),
            action: "write".into(),
            cause,
        })?;
        let size_bytes = bytes.len() as u64;
        artifacts.push(ArtifactRecord::new(artifact.to_owned(), size_bytes, ByteDigest::of(bytes)));
        parts.insert(artifact.to_owned(), FilePart::new(path, size_bytes));
        Ok(())
    }
}

/// A reader that hashes and counts a snapshot on its way through the check, and keeps a copy if
/// necessary.
struct Watched<'a, R> {
    inner: R,
    digest: ByteDigest,
    copy: Option<&'a mut File>,
    opening: &'a Opening,
}

impl<'a, R: Read> Watched<'a, R> {
    fn new(inner: R, opening: &'a Opening) -> Self {
        Self { inner, digest: ByteDigest::default(), copy: None, opening }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.opening.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let taken = self.inner.read(buffer)?;
        self.digest.update(&buffer[..taken]);
        if let Some(copy) = &mut self.copy {
            copy.write_all(&buffer[..taken])?;
        }
        self.opening.stage.advance(taken as u64);
        Ok(taken)
    }
}

fn is_snapshot(name: &str) -> bool {
    !name.contains('/') && name.strip_suffix(".snapshot").is_some_and(|stem| !stem.is_empty())
}

/// The collection in the name of its snapshot: `docs` in
/// `docs-6214784781599714-2026-11-23-05-01-03.snapshot`.
fn collection_of(file_name: &str) -> String {
    let stem = file_name.strip_suffix(".snapshot").unwrap_or(file_name);
    let mut parts = stem.rsplitn(8, '-');
    let numbers = parts
        .by_ref()
        .take(7)
        .filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let all = numbers.count() == 7;
    match parts.next() {
        Some(collection) if all && !collection.is_empty() => collection.to_owned(),
        _ => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_snapshot_contains_its_collection() {
        assert_eq!(collection_of("docs-6214784781599714-2026-11-23-05-01-03.snapshot"), "docs");
        assert_eq!(
            collection_of("my-docs-1-2-6214784781599714-2026-11-23-05-01-03.snapshot"),
            "my-docs-1-2"
        );
        assert_eq!(collection_of("weekly-copy.snapshot"), "weekly-copy");
        assert_eq!(collection_of("2026-11-23-05-01-03.snapshot"), "2026-11-23-05-01-03");
    }
}
