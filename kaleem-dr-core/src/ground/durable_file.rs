//! Files that are written atomically: after a crash, a file has its old content or its new content, never a part of it.
//!
//! The content is written to a temporary file in the target's directory, which gets its mode, is synced and is renamed over the
//! target. Then the directory is synced, so that the new name survives a crash too. A temporary file that is not renamed is
//! removed when it is dropped; only a killed process leaves one behind. Its name begins with a dot, which cron and systemd skip,
//! and ends in [`PARTIAL_SUFFIX`], which node exporter does not read.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// The ending of a temporary file's name.
pub(crate) const PARTIAL_SUFFIX: &str = ".partial";

/// A file that is being written under a temporary name. Dropping it removes it and leaves the target unchanged.
#[derive(Debug)]
#[must_use = "the target changes only once the file is put in place"]
pub(crate) struct DurableFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl DurableFile {
    /// Creates the temporary file, which gets exactly these permission bits, whatever the umask. Until then only its owner has
    /// access. Blocking.
    ///
    /// # Errors
    /// If the target's directory is missing or not writable.
    pub(crate) fn begin(target: &Path, mode: u32) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(PARTIAL_SUFFIX)
            .tempfile_in(directory_of(target))?;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(Self { temporary, target: target.to_path_buf() })
    }

    /// The open file, to write to.
    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Moves the file to the target, replacing an existing file. Blocking.
    ///
    /// # Errors
    /// If the file or its directory cannot be synced, or the file cannot be renamed.
    pub(crate) fn replace(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.target).map_err(|error| error.error)?;
        sync_directory(directory_of(&self.target))
    }

    /// Moves the file to the target, which must not exist. Blocking.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the target exists, which then keeps its content; otherwise as [`DurableFile::replace`].
    pub(crate) fn create_new(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist_noclobber(&self.target).map_err(|error| error.error)?;
        sync_directory(directory_of(&self.target))
    }
}

/// Writes `content` to `target`, replacing an existing file. Blocking.
///
/// # Errors
/// As [`DurableFile::begin`] and [`DurableFile::replace`]; if the content cannot be written. The target then keeps its old
/// content.
pub(crate) fn replace(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    written(target, content, mode)?.replace()
}

/// Writes `content` to `target`, which must not exist. Blocking.
///
/// # Errors
/// As [`DurableFile::begin`] and [`DurableFile::create_new`]; if the content cannot be written.
pub(crate) fn create_new(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    written(target, content, mode)?.create_new()
}

/// Makes the creation, renaming and removal of names in a directory durable. Blocking.
///
/// # Errors
/// If the directory cannot be opened or synced.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn written(target: &Path, content: &[u8], mode: u32) -> io::Result<DurableFile> {
    let file = DurableFile::begin(target, mode)?;
    file.file().write_all(content)?;
    Ok(file)
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_content_is_replaced_and_the_mode_is_the_one_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("kaleem-dr.prom");
        // 0o666 is more than a usual umask leaves.
        for (content, wanted) in [("one", 0o600), ("two", 0o644), ("three", 0o666)] {
            replace(&target, content.as_bytes(), wanted).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), content);
            assert_eq!(mode(&target), wanted);
            assert_eq!(names(home.path()), ["kaleem-dr.prom"]);
        }
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_content_and_no_temporary_file() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("alarms.json");
        replace(&target, b"old", 0o600).unwrap();
        let file = DurableFile::begin(&target, 0o600).unwrap();
        file.file().write_all(b"ne").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let all = names(home.path());
        let temporary = all.iter().find(|name| *name != "alarms.json").unwrap();
        assert!(temporary.starts_with('.') && temporary.ends_with(PARTIAL_SUFFIX), "{temporary}");
        drop(file);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(names(home.path()), ["alarms.json"]);
        // A rename that fails: a directory is in the way.
        fs::create_dir(home.path().join("taken")).unwrap();
        replace(&home.path().join("taken"), b"x", 0o600).unwrap_err();
        assert_eq!(names(home.path()).len(), 2);
    }

    #[test]
    fn a_reader_of_the_old_file_reads_it_to_its_end() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("file");
        replace(&target, b"old", 0o600).unwrap();
        let reader = File::open(&target).unwrap();
        replace(&target, b"new", 0o600).unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "old");
    }

    #[test]
    fn a_new_file_is_not_written_over_an_existing_one() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("file");
        create_new(&target, b"first", 0o600).unwrap();
        let error = create_new(&target, b"second", 0o644).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&target).unwrap(), mode(&target)), (b"first".to_vec(), 0o600));
        assert_eq!(names(home.path()), ["file"]);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let error = replace(&home.path().join("nowhere/file"), b"", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
