//! mongodump's archive format 0.1: points written as archives, and archives opened as points.
//!
//! An archive is one stream: magic bytes, a header, the metadata of all namespaces (the prelude), and then blocks of documents.
//! Blocks of several namespaces may come in turns; each namespace ends with a block that holds the CRC of its documents. The
//! source of the format is mongo-tools, `common/archive`. Reader and writer stream, and hold one document at a time.

mod borders;
mod format;
mod frames;
mod prelude;
mod reader;
mod spool;
mod writer;

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod sample;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use kaleem_dr_core::engine::source::Source;
use kaleem_dr_core::{
    ground::{
        SourceError, gzip,
        progress::{StageProgress, Unit},
    },
    recovery::{
        point::PointReader,
        staged::{Sink, StagedForm, StagedName, StagedWork},
    },
};

use self::{reader::ReadError, spool::Spool};
use super::MongoSource;

#[async_trait]
impl StagedForm for MongoSource {
    fn name(&self) -> StagedName {
        StagedName { stem: "mongo", suffix: "archive.gz" }
    }

    async fn write(&self, point: &PointReader, out: &mut Sink) -> Result<(), SourceError> {
        let cancel = point.cancellation();
        cancel.run_until_cancelled(writer::write(point, out)).await.unwrap_or(Err(SourceError::Cancelled))
    }

    async fn open(&self, file: &Path, work: &StagedWork) -> Result<PointReader, SourceError> {
        let (source, file, work) = (Source::name(self).to_string(), file.to_owned(), work.clone());
        match tokio::task::spawn_blocking(move || open(source, &file, &work)).await {
            Ok(opened) => opened,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(SourceError::Cancelled),
        }
    }
}

/// Reads an archive through and takes it apart.
fn open(source: String, path: &Path, work: &StagedWork) -> Result<PointReader, SourceError> {
    let failed = |action: &str| {
        let (path, action) = (path.to_owned(), action.to_owned());
        move |cause| SourceError::Path { path, action, cause }
    };
    let file = File::open(path).map_err(failed("open"))?;
    let facts = file.metadata().map_err(failed("read the length and time of"))?;
    // Documents take what they take in the file, and more when they are compressed in it.
    work.ensure_room(facts.len())?;
    let mut spool = Spool::new(work)?;
    let watched = Watched {
        file,
        progress: work.progress.begin(&format!("read {}", path.display()), Unit::Bytes, Some(facts.len())),
        cancel: work.cancel.clone(),
    };
    let progress = watched.progress.clone();
    let stream = gzip::decompressed(watched).map_err(failed("read"))?;
    let prelude = reader::read(stream, &mut spool).map_err(|error| match error {
        _ if work.cancel.is_cancelled() => SourceError::Cancelled,
        ReadError::Damaged(damage) => SourceError::Damaged { path: path.to_owned(), why: damage.to_string() },
        ReadError::Contents(error) => error,
    })?;
    progress.finish();
    let written = facts.modified().ok().and_then(|time| time.try_into().ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let (manifest, point) = spool.finish(prelude, source, path, written)?;
    Ok(PointReader::of_file(manifest, point, work.progress.clone(), work.cancel.clone()))
}

/// A file whose reading is shown and can be cancelled.
struct Watched {
    file: File,
    progress: Arc<dyn StageProgress>,
    cancel: kaleem_dr_core::CancellationToken,
}

impl Read for Watched {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let read = self.file.read(buf)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

/// Where a name space's data lies among the artifacts.
fn artifact_path(database: &str, file: &str) -> Result<kaleem_dr_core::ground::ArtifactPath, String> {
    let components = [super::capture::ROOT, database, file];
    kaleem_dr_core::ground::ArtifactPath::join(components.into_iter().filter(|component| !component.is_empty()))
        .map_err(|_| format!("the database name `{database}` cannot stand in a path"))
}

/// Reads an archive through.
#[cfg(feature = "fuzzing")]
pub fn fuzz_archive(bytes: &[u8]) {
    struct Dropped;
    impl reader::Contents for Dropped {
        fn document(&mut self, _: usize, document: &[u8]) -> Result<(), kaleem_dr_core::ground::SourceError> {
            drop(super::wellformed::check(document));
            Ok(())
        }
    }
    // That it is damaged is a good answer.
    drop(reader::read(bytes, &mut Dropped));
}
