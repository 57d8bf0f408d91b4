//! A point of this source as one file, and back: an archive compressed with gzip.

use std::{fs::File, io, io::Read, path::Path, sync::Arc};

use async_trait::async_trait;
use kaleem_dr_core::{
    engine::source::Source,
    ground::{
        SourceError, gzip,
        progress::{StageProgress, Unit},
    },
    recovery::{
        point::PointReader,
        staged::{Sink, StagedForm, StagedName, StagedWork},
    },
};

use super::{reader, reader::ReadError, spool::Spool, writer};
use crate::mongodb::MongoSource;

#[async_trait]
impl StagedForm for MongoSource {
    fn name(&self) -> StagedName {
        StagedName::new("mongo", "archive.gz")
    }

    async fn write(&self, point: &PointReader, out: &mut Sink) -> Result<(), SourceError> {
        let cancel = point.cancellation();
        cancel
            .run_until_cancelled(writer::write(point, out))
            .await
            .unwrap_or(Err(SourceError::Cancelled))
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

/// Reads an archive completely and unpacks it.
fn open(source: String, path: &Path, work: &StagedWork) -> Result<PointReader, SourceError> {
    let failed = |action: &str| {
        let (path, action) = (path.to_owned(), action.to_owned());
        move |cause| SourceError::Path { path, action, cause }
    };
    let file = File::open(path).map_err(failed("open"))?;
    let facts = file.metadata().map_err(failed("read the length and time of"))?;
    // Unpacked documents need at least the file's size, and more if they are compressed in it.
    work.ensure_room(facts.len())?;
    let mut spool = Spool::new(work)?;
    let watched = Watched {
        file,
        progress: work.progress.begin(
            &format!("read {}", path.display()),
            Unit::Bytes,
            Some(facts.len()),
        ),
        cancel: work.cancel.clone(),
    };
    let progress = watched.progress.clone();
    let stream = gzip::decompressed(watched).map_err(failed("read"))?;
    let prelude = reader::read(stream, &mut spool).map_err(|error| match error {
        _ if work.cancel.is_cancelled() => SourceError::Cancelled,
        ReadError::Damaged(damage) => {
            SourceError::Damaged { path: path.to_owned(), why: damage.to_string() }
        }
        ReadError::Contents(error) => error,
    })?;
    progress.finish();
    let written = facts
        .modified()
        .ok()
        .and_then(|time| time.try_into().ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let (manifest, point) = spool.finish(prelude, source, path, written)?;
    Ok(PointReader::of_file(manifest, point, work.progress.clone(), work.cancel.clone()))
}

/// A file with progress reporting and cancellation.
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
