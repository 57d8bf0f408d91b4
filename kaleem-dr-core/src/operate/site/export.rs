//! `export`: writes a source's point as one file, in the format of the service's own tools.

use std::{io::Write, path::PathBuf};

use super::{Site, SiteError, parts::released};
use crate::{
    ground::SourceName,
    operate::job::file_name,
    recovery::{points::open_point, source::Restorable, staged},
};

/// Destination of [`Site::export`]: a file, or a directory for a dated one.
pub enum ExportTo {
    /// A file with the usual name in this directory, compressed if that is the usual form.
    Directory(PathBuf),
    /// This file, compressed if requested.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Compresses the data.
        gzip: bool,
    },
    /// A stream, for example standard output.
    Stream {
        /// Destination of the data.
        out: Box<dyn Write + Send>,
        /// Compresses the data.
        gzip: bool,
    },
}

/// Options of [`Site::export`]. By default the newest whole point is exported.
#[non_exhaustive]
pub struct Export {
    /// A source of the site.
    pub source: SourceName,
    /// `latest`, or the id prefix of a run or a snapshot.
    pub point: String,
    /// Uses the newest point even if it is incomplete and an older whole one exists.
    pub allow_incomplete: bool,
    /// Destination: a file, or a directory.
    pub to: ExportTo,
}

impl Export {
    /// The newest point of a source.
    #[must_use]
    pub fn latest(source: SourceName, to: ExportTo) -> Self {
        Self { source, point: "latest".into(), allow_incomplete: false, to }
    }
}

/// The result of [`Site::export`]: the file that was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exported {
    /// The file; `None` for a stream.
    pub path: Option<PathBuf>,
    /// Size of the written file, in bytes.
    pub size_bytes: u64,
    /// Name of the source in the config.
    pub source: String,
    /// The run that made the point.
    pub run: String,
}

impl Site {
    /// Writes a source's point as one file. Notes about the choice of the point are logged as
    /// warnings.
    ///
    /// # Errors
    /// [`SiteError::Config`] if the source has no staged form; if the point does not exist, or the
    /// file cannot be written.
    pub async fn export(&self, wanted: Export) -> Result<Exported, SiteError> {
        self.until_cancelled(Box::pin(self.export_wanted(wanted))).await
    }

    async fn export_wanted(&self, wanted: Export) -> Result<Exported, SiteError> {
        let source = self.source(&wanted.source)?;
        if source.staged().is_none() {
            return Err(no_form(&wanted.source));
        }
        let repository = self.repository().await?;
        let lock = self.wait_for(repository.lock_to_read(self.patience)).await?;
        let done = async {
            let choice = self.point(&wanted.point, wanted.allow_incomplete);
            let (progress, cancel) = (&self.progress, &self.cancel);
            let (point, notes) =
                open_point(&repository, source.name(), &choice, progress, cancel).await?;
            notes.iter().for_each(|note| tracing::warn!("{note}"));
            self.export_point(&*source, &point, wanted.to).await
        }
        .await;
        released(lock, done).await
    }

    async fn export_point(
        &self,
        source: &dyn Restorable,
        point: &crate::recovery::point::PointReader,
        to: ExportTo,
    ) -> Result<Exported, SiteError> {
        let form = source.staged().ok_or_else(|| no_form(source.name()))?;
        let manifest = point.manifest();
        let (path, gzip) = match to {
            ExportTo::Directory(directory) => {
                (directory.join(file_name(form.name(), manifest.started)), form.name().is_gzip())
            }
            ExportTo::File { path, gzip } => (path, gzip),
            ExportTo::Stream { out, gzip } => {
                let size_bytes = staged::export(form, point, out, gzip).await?;
                let (source, run) = (manifest.source.clone(), manifest.run.clone());
                return Ok(Exported { path: None, size_bytes, source, run });
            }
        };
        let size_bytes = staged::export_to(form, point, &path, gzip).await?;
        let (source, run) = (manifest.source.clone(), manifest.run.clone());
        Ok(Exported { path: Some(path), size_bytes, source, run })
    }
}

/// The error for a source whose points are never one file.
pub(super) fn no_form(source: &SourceName) -> SiteError {
    SiteError::Config(format!("points of source {source} cannot be exported as a single file"))
}
