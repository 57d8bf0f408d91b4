//! Moves restored data from the staging directory to their destination.
//!
//! In place the database comes last, after the log files of the old one were removed: SQLite would
//! replay them into the new one.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use kaleem_dr_core::{ground::SourceError, recovery::extract_root::DirectoryHandle};

use super::{DATABASE, KEY_FILE, database, path_error};

/// The restored data, held by descriptor, because n8n's user may have write access to the staging
/// directory's parent.
pub(super) struct Restored {
    /// Our staging directory.
    pub(super) scratch: DirectoryHandle,
    /// The path of n8n's directory in it.
    pub(super) below: PathBuf,
}

impl Restored {
    fn base(&self) -> io::Result<DirectoryHandle> {
        self.scratch.directory(OsStr::new("."))?.below(&self.below)
    }

    pub(super) fn move_beside(
        &self,
        target: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<(), SourceError> {
        let moved = || {
            give(&self.base()?, owner)?;
            let (above, name) = split(&self.below)?;
            let (parent, target_name) = split(target)?;
            // Replaces an empty directory, but not one that was filled in the meantime.
            let from = self.scratch.directory(OsStr::new("."))?.below(above)?;
            DirectoryHandle::open(parent)?.take(&from, name, target_name)
        };
        moved().map_err(path_error(target, "put the restored directory at"))
    }

    pub(super) fn move_over(
        &self,
        target: &Path,
        places: &[(&str, PathBuf)],
        owner: Option<(u32, u32)>,
    ) -> Result<(), SourceError> {
        // Checked before any change: a refusal leaves everything as it was.
        let database = target.join(DATABASE);
        if database.exists() {
            database::take_over(&database)?;
        }
        let is_new = !target.exists();
        let into =
            DirectoryHandle::open(target).map_err(path_error(target, "create the directory"))?;
        let base = self.base().map_err(path_error(target, "find what was restored for"))?;
        give(&base, owner)
            .map_err(path_error(target, "set modes and owners of the restored data for"))?;
        if is_new {
            into.give(0o700, owner).map_err(path_error(target, "set the mode and owner of"))?;
        }
        for (name, to) in places {
            let failed = path_error(to, "put the restored files at");
            if base
                .is_directory(OsStr::new(name))
                .map_err(path_error(to, "look at what was restored for"))?
                .is_none()
            {
                continue;
            }
            let place = split(to)
                .and_then(|(parent, to_name)| Ok((DirectoryHandle::open(parent)?, to_name)));
            let (parent, to_name) = place.map_err(failed)?;
            merge(&base, OsStr::new(name), &parent, to_name)
                .map_err(|error| put_error(to, error))?;
        }
        let rename = |name: &str| {
            let name = OsStr::new(name);
            into.take(&base, name, name)
                .map_err(path_error(&target.join(name), "put the restored file at"))
        };
        if base
            .is_directory(OsStr::new(KEY_FILE))
            .map_err(path_error(target, "look at what was restored for"))?
            .is_some()
        {
            rename(KEY_FILE)?;
        }
        for suffix in ["-wal", "-shm", "-journal"] {
            let log = format!("{DATABASE}{suffix}");
            into.remove(OsStr::new(&log)).map_err(path_error(&target.join(&log), "remove"))?;
        }
        rename(DATABASE)
    }
}

/// Sets modes, and the owner of n8n's own directory: a capture is made by root, but n8n does not
/// run as root.
fn give(base: &DirectoryHandle, owner: Option<(u32, u32)>) -> io::Result<()> {
    for name in [DATABASE, KEY_FILE] {
        if base.is_directory(OsStr::new(name))?.is_some() {
            base.give_file(OsStr::new(name), 0o600, owner)?;
        }
    }
    base.give(0o700, owner)
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
    Ok((path.parent().unwrap_or(Path::new("")), name))
}

fn put_error(to: &Path, error: io::Error) -> SourceError {
    if error.kind() == io::ErrorKind::CrossesDevices {
        return SourceError::Unsupported(format!(
            "{} is on another file system than n8n's directory: restore to another directory with --to DIRECTORY, and copy it there",
            to.display()
        ));
    }
    path_error(to, "put the restored file at")(error)
}

/// Moves the content of one directory over another's; entries that exist only there stay. A link in
/// place of a directory is not followed.
fn merge(
    from: &DirectoryHandle,
    name: &OsStr,
    into: &DirectoryHandle,
    into_name: &OsStr,
) -> io::Result<()> {
    if from.is_directory(name)? != Some(true) || into.is_directory(into_name)?.is_none() {
        return into.take(from, name, into_name);
    }
    let (from, into) = (from.directory(name)?, into.directory(into_name)?);
    from.names()?.iter().try_for_each(|name| merge(&from, name, &into, name))
}
