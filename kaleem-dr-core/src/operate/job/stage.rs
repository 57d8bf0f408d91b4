//! The staged file of each source under the backup root. It is made from the snapshot that a run
//! has just saved, so the server is read only once, and the file is exactly what the repository
//! restores.

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use nix::sys::statvfs::statvfs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ground::{SourceError, SourceName, durable_file::PARTIAL_SUFFIX},
    recovery::{
        point::PointReader,
        source::Restorable,
        staged::{StagedName, export_to},
    },
};

/// Date in a file's name: sorts by time and contains no colon.
const DATE: &str = "%Y-%m-%dT%H%M%SZ";

/// Location and number of staged files.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Staging {
    /// The backup root; each source has a directory of its name below it.
    pub directory: PathBuf,
    /// Number of files to keep for each source.
    #[serde(default = "seven")]
    pub keep: NonZeroU32,
    /// Share of the file system that must stay free, in percent.
    #[serde(default = "ten")]
    pub min_free_percent: u8,
    /// Only these sources [default: all that have a staged form].
    #[serde(default)]
    pub sources: Option<Vec<SourceName>>,
}

fn seven() -> NonZeroU32 {
    const { NonZeroU32::new(7).expect("seven is not zero") }
}

fn ten() -> u8 {
    10
}

/// A staged file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct StagedFile {
    /// Path of the file below the backup root.
    pub path: PathBuf,
    /// Size of the file, in bytes.
    pub size_bytes: u64,
    /// Older files that were removed.
    pub removed: Vec<PathBuf>,
}

impl Staging {
    /// The newest seven files of every source, with ten percent of the file system free.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), keep: seven(), min_free_percent: ten(), sources: None }
    }

    /// Reports whether a source's points are staged.
    #[must_use]
    pub fn wants(&self, source: &SourceName) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.contains(source))
    }

    /// Writes a point's file, then removes the oldest files beyond `keep`. `None` if the source has
    /// no staged form.
    ///
    /// # Errors
    /// [`SourceError::Refused`] if too little space would stay free; if the file cannot be written.
    /// Then no file is written and none is removed.
    pub async fn stage(
        &self,
        source: &dyn Restorable,
        point: &PointReader,
    ) -> Result<Option<StagedFile>, SourceError> {
        let Some(form) = source.staged() else { return Ok(None) };
        let (name, directory) = (form.name(), self.directory.join(source.name().as_str()));
        let failed = |cause| SourceError::Path {
            path: directory.clone(),
            action: "use the directory".into(),
            cause,
        };
        fs::create_dir_all(&directory).map_err(failed)?;
        remove_partial(&directory, name).map_err(failed)?;
        let earlier = staged_files(&directory, name).map_err(failed)?;
        let newest =
            earlier.last().and_then(|path| fs::metadata(path).ok()).map(|metadata| metadata.len());
        // A file grows little from night to night; for the first one, only the uncompressed size is
        // known.
        let expected = newest.map_or(point.manifest().size_bytes(), |size| size + size / 4);
        self.require_room(&directory, expected)?;
        let path = free_path(&directory, name, point.manifest().started);
        let size_bytes = export_to(form, point, &path, name.is_gzip()).await?;
        let files = staged_files(&directory, name).map_err(failed)?;
        let surplus = files.len().saturating_sub(self.keep.get() as usize);
        let removed: Vec<PathBuf> = files.into_iter().take(surplus).collect();
        for path in &removed {
            fs::remove_file(path).map_err(|cause| SourceError::Path {
                path: path.clone(),
                action: "remove".into(),
                cause,
            })?;
        }
        Ok(Some(StagedFile { path, size_bytes, removed }))
    }

    fn require_room(&self, directory: &Path, expected: u64) -> Result<(), SourceError> {
        let space = statvfs(directory).map_err(|errno| SourceError::Path {
            path: directory.to_path_buf(),
            action: "determine the free space of".into(),
            cause: errno.into(),
        })?;
        let unit = space.fragment_size();
        let (free, total) = (space.blocks_available() * unit, space.blocks() * unit);
        let reserve = total / 100 * u64::from(self.min_free_percent);
        if free.saturating_sub(expected) >= reserve {
            return Ok(());
        }
        Err(SourceError::Refused(format!(
            "{} has {free} of {total} bytes free; after writing about {expected} more, less than {} % would be free. Free up space, lower `staged.keep`, \
             or leave the source out of `staged.sources`",
            directory.display(),
            self.min_free_percent
        )))
    }
}

/// A staged file's name: `mongo-2026-01-31T030000Z.archive.gz`.
#[must_use]
pub fn file_name(name: StagedName, time: Timestamp) -> String {
    format!("{}-{}.{}", name.stem, time.strftime(DATE), name.suffix)
}

/// The name for that time, or for the first second after it that no file has: two runs may begin
/// within one second.
fn free_path(directory: &Path, name: StagedName, time: Timestamp) -> PathBuf {
    let mut time = time;
    loop {
        let path = directory.join(file_name(name, time));
        if !path.exists() {
            return path;
        }
        time += SignedDuration::from_secs(1);
    }
}

/// Our files in a directory, oldest first. Files of other programs have dates in another format and
/// are never touched.
fn staged_files(directory: &Path, name: StagedName) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let date = path.file_name().and_then(|file| file.to_str()).and_then(|file| {
            file.strip_prefix(name.stem)?
                .strip_prefix('-')?
                .strip_suffix(name.suffix)?
                .strip_suffix('.')
                .map(str::to_owned)
        });
        if date.is_some_and(|date| jiff::civil::DateTime::strptime(DATE, &date).is_ok()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The incomplete file of a killed run. No other run of this host is active here, because runs
/// queue.
fn remove_partial(directory: &Path, name: StagedName) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        if file.starts_with(&format!(".{}-", name.stem)) && file.ends_with(PARTIAL_SUFFIX) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: StagedName = StagedName { stem: "mongo", suffix: "archive.gz" };

    #[test]
    fn only_files_of_ours_are_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let ours = ["mongo-2026-01-02T030000Z.archive.gz", "mongo-2026-01-01T030000Z.archive.gz"];
        for name in ours.into_iter().chain([
            "mongo-2025-10-01.archive.gz",
            "mongo-2026-01-02T030000Z.archive",
            "other-2026-01-02T030000Z.archive.gz",
            ".mongo-2026-01-03T030000Z.archive.gz.Xy.partial",
        ]) {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        let found = staged_files(directory.path(), NAME).unwrap();
        assert_eq!(found, [directory.path().join(ours[1]), directory.path().join(ours[0])]);
        remove_partial(directory.path(), NAME).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5);
    }

    #[test]
    fn a_name_is_the_handbooks_with_a_date_that_sorts() {
        let time = "2026-01-31T03:00:05.7Z".parse().unwrap();
        assert_eq!(file_name(NAME, time), "mongo-2026-01-31T030005Z.archive.gz");
    }

    #[test]
    fn two_files_of_one_second_have_two_names_that_sort() {
        let directory = tempfile::tempdir().unwrap();
        let time = "2026-01-31T03:00:59.7Z".parse().unwrap();
        for expected in
            ["mongo-2026-01-31T030059Z.archive.gz", "mongo-2026-01-31T030100Z.archive.gz"]
        {
            let path = free_path(directory.path(), NAME, time);
            assert_eq!(path, directory.path().join(expected));
            fs::write(path, "x").unwrap();
        }
    }

    #[test]
    fn too_little_room_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Staging {
            directory: directory.path().into(),
            keep: seven(),
            min_free_percent: 0,
            sources: None,
        };
        staging.require_room(directory.path(), 0).unwrap();
        let error = Staging { min_free_percent: 100, ..staging }
            .require_room(directory.path(), 1)
            .unwrap_err();
        assert!(
            matches!(&error, SourceError::Refused(why) if why.contains("Free up space")),
            "{error:?}"
        );
    }
}
