//! Reads the entries of a captured oplog one by one.

use bson::RawDocument;
use bytes::Bytes;
use kaleem_dr_core::{
    ground::SourceError,
    recovery::point::{ArtifactReader, PointReader},
};

use crate::mongodb::{
    dump::DocumentSplitter,
    oplog::{Operation, parse, time},
};

/// Reads an artifact as entries of an oplog.
pub(super) struct Entries {
    reader: ArtifactReader,
    /// `None` after the end.
    splitter: Option<DocumentSplitter>,
    path: String,
}

impl Entries {
    pub(super) async fn open(point: &PointReader, path: &str) -> Result<Self, SourceError> {
        Ok(Self {
            reader: point.artifact(path).await?,
            splitter: Some(DocumentSplitter::default()),
            path: path.to_owned(),
        })
    }

    /// The operation of the next entry; `None` at the end.
    ///
    /// # Errors
    /// [`SourceError::Refused`] if the entry cannot be replayed.
    pub(super) async fn next(&mut self) -> Result<Option<Operation>, SourceError> {
        let Some(bytes) = self.next_bytes().await? else { return Ok(None) };
        let entry = RawDocument::from_bytes(&bytes).map_err(|error| self.odd(error))?;
        let at = time(entry).map_err(|why| self.odd(why))?;
        let operation = parse(entry).map_err(|why| {
            SourceError::Refused(format!(
                "the oplog cannot be replayed: its entry ({}, {}) {why}",
                at.time, at.increment
            ))
        })?;
        Ok(Some(operation))
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let Some(mut splitter) = self.splitter.take() else { return Ok(None) };
            match splitter.next().map_err(|why| self.odd(why))? {
                Some(entry) => {
                    self.splitter = Some(splitter);
                    return Ok(Some(entry));
                }
                None => match self.reader.next().await? {
                    Some(piece) => {
                        splitter.push(&piece);
                        self.splitter = Some(splitter);
                    }
                    None => splitter.finish().map_err(|why| self.odd(why))?,
                },
            }
        }
    }

    fn odd(&self, why: impl std::fmt::Display) -> SourceError {
        SourceError::Point(format!("{} is malformed: {why}", self.path).into())
    }
}
