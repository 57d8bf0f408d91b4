//! The directory an archive is extracted into, held by its descriptor.
//!
//! Every path is walked component by component from that descriptor, and the kernel is never asked to follow a link. So nothing
//! an archive holds, and nobody who exchanges a directory for a link meanwhile, leads a write elsewhere.
//!
//! A link that was there before may be followed, in place only: `/lib` or `/etc/alternatives` are such on every host. It must
//! belong to root or to us, for in `/tmp` anybody makes links; and it is followed as if the target were the root directory, so
//! that it cannot leave. A link that the archive itself brought is never followed.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::{
        stat::{self, FileStat, Mode, SFlag, UtimensatFlags},
        statvfs,
        time::TimeSpec,
    },
    unistd::{self, Gid, Uid, UnlinkatFlags},
};

use super::members::Member;

/// Links that one path may lead through, as in the kernel.
const LINKS_LIMIT: usize = 40;
/// Names of unfinished files begin so.
const UNFINISHED: &str = ".kaleem-dr-restore";

/// The target directory.
pub(super) struct Ground {
    root: OwnedFd,
    in_place: bool,
    /// Device and inode of everything made that is no directory.
    made: HashSet<(u64, u64)>,
    /// The directory asked for last: neighbours ask for it again.
    last: Option<(PathBuf, OwnedFd)>,
}

/// A place for one entry: a directory, and a name in it.
pub(super) struct Place {
    directory: OwnedFd,
    name: OsString,
}

/// A file that is being written.
pub(super) struct Unfinished {
    place: Place,
    pub(super) file: File,
    /// Its name until it is whole, where something may be there already.
    temporary: Option<OsString>,
}

impl Ground {
    /// Holds a directory, which must be there.
    pub(super) fn new(target: &Path, in_place: bool) -> io::Result<Self> {
        let root = fcntl::open(target, OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { root, in_place, made: HashSet::new(), last: None })
    }

    /// The place of a relative path. Directories above it are made where they are missing.
    pub(super) fn place(&mut self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?.to_owned();
        Ok(Place { directory: self.directory(path.parent().unwrap_or(Path::new("")))?, name })
    }

    /// Makes a directory, or takes the one that is there. `false` when a link that may be followed stands for it.
    pub(super) fn make_directory(&mut self, path: &Path) -> io::Result<bool> {
        let place = self.place(path)?;
        let made = stat::mkdirat(&place.directory, place.name.as_os_str(), Mode::S_IRWXU);
        if made.is_ok() {
            return Ok(true);
        }
        match place.look()? {
            Some(there) if is(&there, SFlag::S_IFDIR) => Ok(true),
            Some(there) if is(&there, SFlag::S_IFLNK) => self.directory(path).map(|_| false),
            Some(_) => Err(io::Error::other("something is there that is no directory")),
            None => made.map(|()| true).map_err(io::Error::from),
        }
    }

    /// Opens a directory that is there, to set its attributes.
    pub(super) fn open_directory(&mut self, path: &Path) -> io::Result<File> {
        let place = self.place(path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(fcntl::openat(&place.directory, place.name.as_os_str(), flags, Mode::empty())?))
    }

    /// Creates a file for its owner alone. What is there is replaced when the file is finished, where that was asked.
    pub(super) fn create(&mut self, place: Place) -> io::Result<Unfinished> {
        self.check_free(&place)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let create = |name: &OsStr| fcntl::openat(&place.directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from);
        let (file, temporary) = if self.in_place {
            let (file, temporary) = temporarily(create)?;
            (file, Some(temporary))
        } else {
            (create(&place.name)?, None)
        };
        Ok(Unfinished { place, file, temporary })
    }

    /// Puts a whole file in its place.
    pub(super) fn finish(&mut self, unfinished: &Unfinished) -> io::Result<()> {
        let facts = stat::fstat(&unfinished.file)?;
        if let Some(temporary) = &unfinished.temporary {
            unfinished.place.take(temporary)?;
        }
        self.made.insert(identity(&facts));
        Ok(())
    }

    /// Makes a symbolic link.
    pub(super) fn symlink(&mut self, place: &Place, to: &OsStr) -> io::Result<()> {
        self.put(place, |directory, name| unistd::symlinkat(to, directory, name))
    }

    /// Makes a pipe or a device.
    pub(super) fn special(&mut self, place: &Place, kind: SFlag, device: u64) -> io::Result<()> {
        self.put(place, |directory, name| stat::mknodat(directory, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device))
    }

    /// Makes another name of something this extraction made; of anything else it is refused.
    pub(super) fn hard_link(&mut self, place: &Place, to: &Path) -> io::Result<()> {
        let original = self.find(to)?;
        let made = match original.look()? {
            Some(there) => self.made.contains(&identity(&there)),
            None => false,
        };
        if !made {
            return Err(io::Error::other(format!("it is a hard link to {}, which was not extracted from here", to.display())));
        }
        self.put(place, |directory, name| {
            unistd::linkat(&original.directory, original.name.as_os_str(), directory, name, AtFlags::empty())
        })
    }

    /// Makes something that has no content, in one step where it replaces something.
    fn put(&mut self, place: &Place, make: impl Fn(&OwnedFd, &OsStr) -> nix::Result<()>) -> io::Result<()> {
        if self.check_free(place)? {
            let ((), temporary) = temporarily(|name| make(&place.directory, name))?;
            place.take(&temporary)?;
        } else {
            make(&place.directory, &place.name)?;
        }
        if let Some(there) = place.look()? {
            self.made.insert(identity(&there));
        }
        Ok(())
    }

    /// Whether something is there, which then may be replaced.
    fn check_free(&self, place: &Place) -> io::Result<bool> {
        let Some(there) = place.look()? else { return Ok(false) };
        if self.made.contains(&identity(&there)) {
            return Err(io::Error::other("the archive holds it twice; the first one stays"));
        }
        if is(&there, SFlag::S_IFDIR) {
            return Err(io::Error::other("a directory is there"));
        }
        if self.in_place { Ok(true) } else { Err(io::Error::other("something is there already")) }
    }

    /// The place of a relative path; nothing is made.
    fn find(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it is a hard link to nothing"))?.to_owned();
        Ok(Place { directory: self.walk(path.parent().unwrap_or(Path::new("")), false)?, name })
    }

    fn directory(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return directory.try_clone();
        }
        let directory = self.walk(path, true)?;
        self.last = Some((path.to_path_buf(), directory.try_clone()?));
        Ok(directory)
    }

    fn walk(&self, path: &Path, make: bool) -> io::Result<OwnedFd> {
        let leaves = || io::Error::other("it leads out of the target");
        // Of links: how `..` finds back. Never empty.
        let mut above = vec![self.root.try_clone()?];
        let mut pending: Vec<OsString> = path.components().rev().map(|component| component.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            let here = above.last().ok_or_else(leaves)?;
            if name == ".." {
                above.pop();
                if above.is_empty() {
                    return Err(leaves());
                }
                continue;
            }
            match enter(here, &name, make)? {
                Step::Directory(directory) => above.push(directory),
                Step::Link(facts, to) => {
                    self.check_link(&facts, &name)?;
                    links += 1;
                    if links > LINKS_LIMIT {
                        return Err(Errno::ELOOP.into());
                    }
                    if to.is_absolute() {
                        above.truncate(1);
                    }
                    let steps = to.components().rev().filter_map(|component| match component {
                        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
                        step => Some(step.as_os_str().to_owned()),
                    });
                    pending.extend(steps);
                }
            }
        }
        above.pop().ok_or_else(leaves)
    }

    fn check_link(&self, link: &FileStat, name: &OsStr) -> io::Result<()> {
        let trusted = link.st_uid == 0 || link.st_uid == unistd::geteuid().as_raw();
        if self.made.contains(&identity(link)) {
            Err(io::Error::other(format!("it goes through {}, a link from the archive itself", name.display())))
        } else if !self.in_place {
            Err(io::Error::other(format!("it goes through the link {}", name.display())))
        } else if !trusted {
            Err(io::Error::other(format!("it goes through the link {}, which user {} made", name.display(), link.st_uid)))
        } else {
            Ok(())
        }
    }
}

/// Makes something under a name of our own that is free.
fn temporarily<T>(make: impl Fn(&OsStr) -> nix::Result<T>) -> io::Result<(T, OsString)> {
    for attempt in 0..100 {
        let name = OsString::from(format!("{UNFINISHED}-{}-{attempt}", std::process::id()));
        match make(&name) {
            Err(Errno::EEXIST) => {}
            result => return Ok((result?, name)),
        }
    }
    Err(Errno::EEXIST.into())
}

/// What stands at the next component of a path.
enum Step {
    Directory(OwnedFd),
    Link(FileStat, PathBuf),
}

fn enter(here: &OwnedFd, name: &OsStr, make: bool) -> io::Result<Step> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let open = || fcntl::openat(here, name, flags, Mode::empty());
    match open() {
        Ok(directory) => Ok(Step::Directory(directory)),
        Err(Errno::ENOENT) if make => {
            // Its attributes follow, if the archive holds it; else it is one for everybody to read.
            match stat::mkdirat(here, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => Ok(Step::Directory(open()?)),
                Err(errno) => Err(errno.into()),
            }
        }
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            let facts = stat::fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if !is(&facts, SFlag::S_IFLNK) {
                return Err(io::Error::other(format!("{} above it is no directory", name.display())));
            }
            Ok(Step::Link(facts, fcntl::readlinkat(here, name)?.into()))
        }
        Err(errno) => Err(errno.into()),
    }
}

fn is(facts: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(facts.st_mode & SFlag::S_IFMT.bits()) == kind
}

fn identity(facts: &FileStat) -> (u64, u64) {
    (facts.st_dev, facts.st_ino)
}

impl Place {
    /// Bytes that may still be written on its file system.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let facts = statvfs::fstatvfs(&self.directory)?;
        Ok(facts.blocks_available().saturating_mul(facts.fragment_size()))
    }

    fn look(&self) -> io::Result<Option<FileStat>> {
        match stat::fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(facts) => Ok(Some(facts)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Renames what was made under a temporary name.
    fn take(&self, temporary: &OsStr) -> io::Result<()> {
        fcntl::renameat(&self.directory, temporary, &self.directory, self.name.as_os_str()).map_err(|errno| {
            // The first failure is the one to tell; the name says what it is.
            let _ = unistd::unlinkat(&self.directory, temporary, UnlinkatFlags::NoRemoveDir);
            errno.into()
        })
    }

    /// Owner, mode (not of a link, which has none) and time of something that cannot be opened.
    pub(super) fn set_attributes(&self, member: &Member, is_link: bool) -> io::Result<()> {
        let (uid, gid) = owner(member)?;
        let given = unistd::fchownat(&self.directory, self.name.as_os_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
        let given = was_given(given)?;
        if !is_link {
            let mode = mode(member, given);
            stat::fchmodat(&self.directory, self.name.as_os_str(), mode, stat::FchmodatFlags::NoFollowSymlink)?;
        }
        let time = time(member);
        let nofollow = UtimensatFlags::NoFollowSymlink;
        Ok(stat::utimensat(&self.directory, self.name.as_os_str(), &time, &time, nofollow)?)
    }
}

impl Unfinished {
    /// Removes what was written, after a failure.
    pub(super) fn discard(self) -> io::Result<()> {
        let name = self.temporary.as_ref().unwrap_or(&self.place.name);
        Ok(unistd::unlinkat(&self.place.directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?)
    }
}

/// Owner first (it clears set-id bits), then mode, extended attributes, and the time last.
pub(super) fn set_attributes(file: &File, member: &Member) -> io::Result<()> {
    let (uid, gid) = owner(member)?;
    let given = was_given(unistd::fchown(file.as_fd(), uid, gid))?;
    stat::fchmod(file, mode(member, given))?;
    for (name, value) in &member.xattrs {
        match xattr::FileExt::set_xattr(file, name, value) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !unistd::geteuid().is_root() => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("extended attribute {}: {error}", name.display()))),
            Ok(()) => {}
        }
    }
    let time = time(member);
    Ok(stat::futimens(file, &time, &time)?)
}

fn owner(member: &Member) -> io::Result<(Option<Uid>, Option<Gid>)> {
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    match (id(member.uid), id(member.gid)) {
        (Some(uid), Some(gid)) => Ok((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))),
        _ => Err(io::Error::other(format!("its owner {}:{} is none", member.uid, member.gid))),
    }
}

/// Only root may give files away; others restore what they can, as tar does.
fn was_given(chown: nix::Result<()>) -> io::Result<bool> {
    match chown {
        Ok(()) => Ok(true),
        Err(Errno::EPERM) if !unistd::geteuid().is_root() => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// A set-id bit means its owner, so it does not stay on a file that has another.
fn mode(member: &Member, given: bool) -> Mode {
    Mode::from_bits_truncate(if given { member.mode } else { member.mode & 0o1777 })
}

fn time(member: &Member) -> TimeSpec {
    TimeSpec::new(member.mtime.0, member.mtime.1.into())
}

/// A relative path of plain names; else why it is none.
pub(super) fn relative(name: &OsStr) -> Result<PathBuf, &'static str> {
    if name.as_bytes().contains(&0) {
        return Err("its name holds a NUL");
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err("its name is an absolute path"),
            Component::ParentDir => return Err("its name holds `..`"),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        assert_eq!(relative(OsStr::new("./etc//nginx/")).unwrap(), Path::new("etc/nginx"));
        assert_eq!(relative(OsStr::new("./")).unwrap(), Path::new(""));
        for bad in ["/etc/passwd", "../x", "a/../../x", "a/..", "a\0b"] {
            assert!(relative(OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }
}
