//! The place of an entry, and a file that is written there.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Seek as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::{
        stat::{self, FileStat, Mode, SFlag},
        statvfs,
    },
    unistd::{self, UnlinkatFlags},
};
use ulid::Ulid;

use super::is;

/// The prefix of unfinished files. Followed by a ULID, it is shorter than any file system's limit, whatever the final name.
const UNFINISHED: &str = ".kaleem-dr-restore-";
/// Limit for the part of a name, in bytes, that is kept when a directory makes way.
const KEPT_NAME_BYTES: usize = 200;

/// A directory, and a name in it.
pub(crate) struct Place {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: OsString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    pub(crate) fn of(facts: &FileStat) -> Self {
        Self(facts.st_dev, facts.st_ino)
    }
}

/// A file that is being written.
pub(crate) struct Unfinished {
    place: Place,
    /// The name until it is finished.
    name: OsString,
    pub(crate) identity: Identity,
}

/// The way in which a finished file came into its place.
pub(crate) enum Finish {
    /// The written file now has the final name.
    Named,
    /// The place is a mount point: the content was written into the mounted file, which keeps its own attributes.
    WrittenThrough(File),
}

/// A name that cannot be guessed.
pub(super) fn temporary() -> OsString {
    format!("{UNFINISHED}{}", Ulid::generate()).into()
}

/// The name of a directory that makes way.
pub(super) fn kept(name: &OsStr) -> OsString {
    let name = name.as_bytes();
    let mut kept = OsStr::from_bytes(&name[..name.len().min(KEPT_NAME_BYTES)]).to_owned();
    kept.push(format!(".before-restore-{}", Ulid::generate()));
    kept
}

impl Place {
    /// Free space of its file system, in bytes; `None` if the file system does not report it, such as ramfs.
    pub(crate) fn free_bytes(&self) -> io::Result<Option<u64>> {
        let facts = statvfs::fstatvfs(&*self.directory)?;
        let free = facts.blocks_available().saturating_mul(facts.fragment_size());
        Ok((facts.blocks() > 0).then_some(free))
    }

    /// Its path through the descriptor, for system calls that only accept a path.
    pub(super) fn by_descriptor(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd())).join(&self.name)
    }

    pub(super) fn look(&self) -> io::Result<Option<FileStat>> {
        match stat::fstatat(&*self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(facts) => Ok(Some(facts)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn create(self, replaces: bool) -> io::Result<(Unfinished, File)> {
        let name = if replaces { temporary() } else { self.name.clone() };
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = fcntl::openat(
            &*self.directory,
            name.as_os_str(),
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )?;
        let identity = Identity::of(&stat::fstat(&file)?);
        Ok((Unfinished { place: self, name, identity }, File::from(file)))
    }

    /// Renames the entry created under a temporary name.
    pub(super) fn take(&self, temporary: &OsStr) -> io::Result<()> {
        fcntl::renameat(&*self.directory, temporary, &*self.directory, self.name.as_os_str())
            .map_err(|errno| {
                // The first failure is the one to report; the name marks the file as temporary.
                let _ = unistd::unlinkat(&*self.directory, temporary, UnlinkatFlags::NoRemoveDir);
                errno.into()
            })
    }

    fn open(&self, name: &OsStr) -> io::Result<(File, FileStat)> {
        let flags = OFlag::O_RDWR
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let file = fcntl::openat(&*self.directory, name, flags, Mode::empty())?;
        let facts = stat::fstat(&file)?;
        Ok((File::from(file), facts))
    }
}

impl Unfinished {
    /// Opens the file again.
    ///
    /// # Errors
    /// If it is not the file that was created, but another one put in its place.
    pub(crate) fn open(&self) -> io::Result<File> {
        let (file, facts) = self.place.open(&self.name)?;
        if Identity::of(&facts) == self.identity {
            Ok(file)
        } else {
            Err(io::Error::other("someone exchanged it while it was written"))
        }
    }

    pub(super) fn finish(&self, file: &File) -> io::Result<Finish> {
        if self.name == self.place.name {
            return Ok(Finish::Named);
        }
        let directory = &*self.place.directory;
        match fcntl::renameat(
            directory,
            self.name.as_os_str(),
            directory,
            self.place.name.as_os_str(),
        ) {
            Ok(()) => Ok(Finish::Named),
            // A file that is a mount point, such as /etc/hosts in a container, cannot be replaced.
            Err(Errno::EBUSY) => self.write_through(file).map(Finish::WrittenThrough),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_through(&self, mut from: &File) -> io::Result<File> {
        let (mut into, facts) = self.place.open(&self.place.name)?;
        if !is(&facts, SFlag::S_IFREG) {
            return Err(io::Error::other("something that is not a file is mounted there"));
        }
        from.rewind()?;
        into.set_len(0)?;
        io::copy(&mut from, &mut into)?;
        self.discard()?;
        Ok(into)
    }

    /// Removes the written file after a failure.
    pub(crate) fn discard(&self) -> io::Result<()> {
        Ok(unistd::unlinkat(
            &*self.place.directory,
            self.name.as_os_str(),
            UnlinkatFlags::NoRemoveDir,
        )?)
    }
}
