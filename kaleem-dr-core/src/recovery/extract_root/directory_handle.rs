//! A directory held by its descriptor, for sources that move restored files into place themselves.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, Mode, SFlag},
    unistd::{self, Gid, Uid, UnlinkatFlags},
};

use super::{ExtractRoot, Links, is};

/// An open directory. Operations act on that directory, even if its path refers to another one by then. No link in it is
/// followed.
#[derive(Debug)]
pub struct DirectoryHandle(OwnedFd);

impl DirectoryHandle {
    /// Opens a directory; creates it with access for its owner only if it does not exist.
    ///
    /// # Errors
    /// If its path leads through a link that another user can have created (decision 9).
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = ExtractRoot::open(path, Links::None)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(fcntl::openat(&*root.root, ".", flags, Mode::empty())?))
    }

    /// Reports whether the directory belongs to the current user, so that only root and this user can change its content.
    ///
    /// # Errors
    /// If its attributes cannot be read.
    pub fn is_ours(&self) -> io::Result<bool> {
        let facts = stat::fstat(&self.0)?;
        Ok(facts.st_uid == unistd::geteuid().as_raw() && facts.st_mode & 0o022 == 0)
    }

    /// Opens a subdirectory.
    ///
    /// # Errors
    /// If it does not exist or is a link.
    pub fn directory(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self(fcntl::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Opens a directory below it, component by component.
    ///
    /// # Errors
    /// As [`DirectoryHandle::directory`].
    pub fn below(self, path: &Path) -> io::Result<Self> {
        path.components().try_fold(self, |held, component| held.directory(component.as_os_str()))
    }

    /// The names of its entries.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    }

    /// Reports whether an entry is a directory; `None` if it does not exist.
    ///
    /// # Errors
    /// If its attributes cannot be read.
    pub fn is_directory(&self, name: &OsStr) -> io::Result<Option<bool>> {
        match stat::fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(facts) => Ok(Some(is(&facts, SFlag::S_IFDIR))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sets mode and owner of the directory itself. Only root may change the owner: for other users it is left unchanged.
    ///
    /// # Errors
    /// If they cannot be set.
    pub fn give(&self, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        give(&self.0, mode, owner)
    }

    /// Sets mode and owner of a file in it, like [`DirectoryHandle::give`].
    ///
    /// # Errors
    /// If they cannot be set, or it is a link.
    pub fn give_file(&self, name: &OsStr, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        give(&fcntl::openat(&self.0, name, flags, Mode::empty())?, mode, owner)
    }

    /// Moves an entry of another directory into this one, replacing an existing entry with the new name.
    ///
    /// # Errors
    /// [`io::ErrorKind::CrossesDevices`] between file systems; other errors if it cannot be renamed.
    pub fn take(&self, from: &Self, name: &OsStr, as_name: &OsStr) -> io::Result<()> {
        Ok(fcntl::renameat(&from.0, name, &self.0, as_name)?)
    }

    /// Removes a file, if it exists.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unistd::unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Err(errno) if errno != Errno::ENOENT => Err(errno.into()),
            _ => Ok(()),
        }
    }
}

fn give(file: &OwnedFd, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        match unistd::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            Err(Errno::EPERM) => {}
            result => result?,
        }
    }
    Ok(stat::fchmod(file, Mode::from_bits_truncate(mode))?)
}
