//! Unpacks an archive: the documents of each namespace go to a file of their own, and are counted
//! and hashed on the way.
//!
//! Namespaces are interleaved only in large blocks, so only one file is open at a time, and is
//! reopened when its next block comes.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use kaleem_dr_core::{
    engine::manifest::{ArtifactRecord, Consistency, ConsistencyGrade, Manifest, ServerInfo},
    ground::{
        ArtifactPath, SourceError,
        digest::{ByteDigest, MultisetDigest},
    },
    recovery::{
        point::{FilePart, FilePoint},
        staged::StagedWork,
    },
};
use tempfile::TempDir;

use super::{
    path::artifact_path,
    prelude::{Namespace, Prelude},
    reader::Contents,
};
use crate::mongodb::{
    dump::{
        catalogue::{self, Catalogued},
        oplog,
    },
    names,
    server::listing::{BUCKETS, CollectionKind},
};

/// Bytes written between two checks of the free space, and the space required at each check.
const ROOM_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Writes an archive's documents to a temporary directory.
#[derive(Debug)]
pub(super) struct Spool {
    work: StagedWork,
    directory: TempDir,
    /// The namespace written last, and its file.
    open: Option<(usize, BufWriter<File>)>,
    /// By the namespace's index in the prelude.
    tallies: BTreeMap<usize, Tally>,
    /// Bytes left to write before the next check of the free space.
    unwatched_bytes: u64,
}

/// Counts and digests of one namespace's documents.
#[derive(Debug, Default)]
struct Tally {
    size_bytes: u64,
    bytes: ByteDigest,
    content: MultisetDigest,
}

impl Spool {
    pub(super) fn new(work: &StagedWork) -> Result<Self, SourceError> {
        let directory = work.directory()?;
        Ok(Self {
            work: work.clone(),
            directory,
            open: None,
            tallies: BTreeMap::new(),
            unwatched_bytes: ROOM_BYTES,
        })
    }

    fn path(&self, namespace: usize) -> PathBuf {
        self.directory.path().join(format!("{namespace}.bson"))
    }

    fn unwritten(&self, cause: io::Error) -> SourceError {
        SourceError::Path {
            path: self.directory.path().to_owned(),
            action: "unpack the archive here".to_owned(),
            cause,
        }
    }

    fn file(&mut self, namespace: usize) -> Result<&mut BufWriter<File>, SourceError> {
        let file = match self.open.take() {
            Some((open, file)) if open == namespace => file,
            others => {
                self.open = others;
                self.close()?;
                let file = OpenOptions::new().create(true).append(true).open(self.path(namespace));
                BufWriter::with_capacity(BUFFER_BYTES, file.map_err(|cause| self.unwritten(cause))?)
            }
        };
        Ok(&mut self.open.insert((namespace, file)).1)
    }

    fn close(&mut self) -> Result<(), SourceError> {
        match self.open.take() {
            Some((_, mut file)) => file.flush().map_err(|cause| self.unwritten(cause)),
            None => Ok(()),
        }
    }

    /// Builds a point from the unpacked files. `written` is the archive's time.
    pub(super) fn finish(
        mut self,
        prelude: Prelude,
        source: String,
        file: &Path,
        written: Timestamp,
    ) -> Result<(Manifest, FilePoint), SourceError> {
        self.close()?;
        let mut parts = Parts::new(self.directory.path().join("metadata"));
        let mut listed = Vec::new();
        for (at, namespace) in prelude.namespaces.iter().enumerate() {
            let damaged = |why| SourceError::Damaged { path: file.to_owned(), why };
            let (metadata, data) = places(namespace).map_err(damaged)?;
            let mut data = data;
            if namespace.database.is_empty() && prelude.header.needs_oplog {
                data = Some(needed_oplog().map_err(SourceError::Unsupported)?);
            }
            if let Some(data) = &data {
                let tally = self.tallies.remove(&at).unwrap_or_default();
                let part = if tally.size_bytes == 0 { None } else { Some(self.path(at)) };
                parts.data(data, part, tally);
            }
            if let (Some(described), Some(metadata)) = (&namespace.described, metadata) {
                parts.metadata(&metadata, &described.json);
                listed.push(Catalogued {
                    database: namespace.database.clone(),
                    metadata: metadata.as_str().to_owned(),
                    data: data.map(|data| data.as_str().to_owned()),
                    specification: described.json.clone(),
                });
            }
        }
        listed.sort_by(|a, b| (&a.database, &a.metadata).cmp(&(&b.database, &b.metadata)));
        std::fs::write(&parts.metadata_path, &parts.metadata)
            .map_err(|cause| self.unwritten(cause))?;
        // Sorted component by component, as in a capture.
        parts.records.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        let mut manifest = Manifest::of_file(source, "mongodb", written);
        manifest.tool = prelude.header.tool_version;
        manifest.server = Some(ServerInfo::new("MongoDB", prelude.header.server_version));
        manifest.consistency = Consistency::new(ConsistencyGrade::PerCollection, written).because(
            "an archive does not record when and how it was read; the time is that of its file",
        );
        manifest.artifacts = parts.records;
        manifest.details = [(catalogue::KEY.to_owned(), catalogue::to_value(&listed))].into();
        let point = FilePoint::new(file.to_owned(), parts.places, Some(self.directory));
        Ok((manifest, point))
    }
}

impl Contents for Spool {
    fn document(&mut self, namespace: usize, document: &[u8]) -> Result<(), SourceError> {
        let length = document.len() as u64;
        if length > self.unwatched_bytes {
            self.work.ensure_room(ROOM_BYTES)?;
            self.unwatched_bytes = ROOM_BYTES;
        }
        self.unwatched_bytes -= length;
        let written = self.file(namespace)?.write_all(document);
        written.map_err(|cause| self.unwritten(cause))?;
        let tally = self.tallies.entry(namespace).or_default();
        tally.size_bytes += length;
        tally.bytes.update(document);
        tally.content.add(document);
        Ok(())
    }
}

fn needed_oplog() -> Result<ArtifactPath, String> {
    ArtifactPath::join([oplog::NEEDED_ROOT, oplog::FILE]).map_err(|error| error.to_string())
}

/// The paths of metadata and data, as a capture names them.
fn places(namespace: &Namespace) -> Result<(Option<ArtifactPath>, Option<ArtifactPath>), String> {
    let stem = names::file_stem(&namespace.collection);
    let path = |file: String| artifact_path(&namespace.database, &file);
    let metadata =
        namespace.described.as_ref().map(|_| path(format!("{stem}.metadata.json"))).transpose()?;
    let data = match namespace.kind() {
        Some(CollectionKind::View) => None,
        Some(CollectionKind::TimeSeries) => Some(path(format!(
            "{}.bson",
            names::file_stem(&format!("{BUCKETS}{}", namespace.collection))
        ))?),
        Some(CollectionKind::Collection) | None => Some(path(format!("{stem}.bson"))?),
    };
    Ok((metadata, data))
}

/// The artifacts of a point, and the files with their bytes.
struct Parts {
    records: Vec<ArtifactRecord>,
    places: BTreeMap<String, FilePart>,
    /// A single file with all metadata texts, one after another.
    metadata_path: PathBuf,
    metadata: Vec<u8>,
}

impl Parts {
    fn new(metadata_path: PathBuf) -> Self {
        Self { records: Vec::new(), places: BTreeMap::new(), metadata_path, metadata: Vec::new() }
    }

    fn metadata(&mut self, path: &ArtifactPath, json: &str) {
        let part = FilePart::new(self.metadata_path.clone(), json.len() as u64)
            .at(self.metadata.len() as u64);
        self.metadata.extend_from_slice(json.as_bytes());
        let record = ArtifactRecord::new(
            path.as_str().to_owned(),
            json.len() as u64,
            ByteDigest::of(json.as_bytes()),
        );
        self.add(record, part);
    }

    /// Adds a data artifact. An empty one has no file.
    fn data(&mut self, path: &ArtifactPath, file: Option<PathBuf>, tally: Tally) {
        let part =
            FilePart::new(file.unwrap_or_else(|| self.metadata_path.clone()), tally.size_bytes);
        let record =
            ArtifactRecord::new(path.as_str().to_owned(), tally.size_bytes, tally.bytes.finish())
                .with_content(tally.content.items(), tally.content.to_hex());
        self.add(record, part);
    }

    fn add(&mut self, record: ArtifactRecord, part: FilePart) {
        self.places.insert(record.path.clone(), part);
        self.records.push(record);
    }
}
