//! The directory that a restore writes into, held by its descriptor.
//!
//! Every path is walked component by component from that descriptor, and the kernel never follows a link on the way. So neither
//! the content of an archive nor a directory that another user replaces with a link in the meantime leads a write elsewhere.
//!
//! Existing links may be followed only in place, only if `Links` allows it, and only if no user but root or the current one can
//! have created them (decision 9). They are resolved as if the target were the root directory, so that they cannot lead out of
//! the target.

mod attributes;
mod directory_handle;
mod place;

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{self, AtFlags, OFlag},
    sys::stat::{self, FileStat, Mode, SFlag},
    unistd::{self, UnlinkatFlags},
};

pub use self::directory_handle::DirectoryHandle;
pub(crate) use self::{
    attributes::{Attributes, Lack},
    place::{Finish, Identity, Place, Unfinished},
};

/// Limit for the links on one path, as in the kernel.
const LINKS_LIMIT: usize = 40;

/// The existing links that a restore may follow.
#[derive(Clone, Debug)]
pub(crate) enum Links {
    /// No link is followed, and nothing that existed is replaced: the target is a new directory.
    None,
    /// In place: follow links above these relative paths, which lead to the configured paths, and none below them.
    Above(Vec<PathBuf>),
    /// In place: follow all links.
    All,
}

impl Links {
    fn may_follow(&self, path: &Path) -> bool {
        match self {
            Self::None => false,
            Self::Above(roots) => is_above(path, roots),
            Self::All => true,
        }
    }
}

/// Reports whether a path is strictly above one of these.
pub(crate) fn is_above(path: &Path, roots: &[PathBuf]) -> bool {
    roots.iter().any(|root| root != path && root.starts_with(path))
}

/// The directory a restore writes into.
pub(crate) struct ExtractRoot {
    root: Arc<OwnedFd>,
    links: Links,
    /// Everything created that is not a directory; `None` if this need not be remembered.
    made: Option<HashSet<Identity>>,
    /// The last directory used: its neighbours need it again.
    last: Option<(PathBuf, Arc<OwnedFd>)>,
    /// Directories that made way for an entry of another type, and their new names.
    moved: Vec<(PathBuf, OsString)>,
}

/// The origin of a directory after [`ExtractRoot::make_directory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryOrigin {
    New,
    Existing,
    /// It is reached through a link that may be followed.
    Linked,
}

impl ExtractRoot {
    /// Opens the target; creates it with access for its owner only if it does not exist.
    ///
    /// # Errors
    /// If the path leads through a link that another user can have created; if it existed, is in a directory where every user may
    /// create entries, such as `/tmp`, and belongs to another user.
    pub(crate) fn open(target: &Path, links: Links) -> io::Result<Self> {
        let target = std::path::absolute(target)?;
        let below = target.strip_prefix("/").unwrap_or(&target);
        let top =
            fcntl::open("/", OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut whole = Self {
            root: Arc::new(top),
            links: Links::All,
            made: None,
            last: None,
            moved: Vec::new(),
        };
        if !below.as_os_str().is_empty() {
            let origin = whole.make_directory(below)?;
            let directory = whole.directory(below)?;
            if origin != DirectoryOrigin::New {
                whole.check_owner(below, &directory)?;
            }
            whole.root = directory;
        }
        Ok(Self { links, last: None, moved: Vec::new(), ..whole })
    }

    /// Remembers everything created: the names of an archive may occur twice, and its links must not be followed.
    pub(crate) fn remembering(self) -> Self {
        Self { made: Some(HashSet::new()), ..self }
    }

    /// Directories that made way, with their current names.
    pub(crate) fn moved(&mut self) -> Vec<(PathBuf, OsString)> {
        std::mem::take(&mut self.moved)
    }

    /// The place of a relative path. Missing directories above it are created.
    pub(crate) fn place(&mut self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?.to_owned();
        Ok(Place { directory: self.directory(path.parent().unwrap_or(Path::new("")))?, name })
    }

    /// Creates a directory, or uses the existing one. An entry of another type makes way, if it may be replaced.
    pub(crate) fn make_directory(&mut self, path: &Path) -> io::Result<DirectoryOrigin> {
        let place = self.place(path)?;
        let make = || stat::mkdirat(&place.directory, place.name.as_os_str(), Mode::S_IRWXU);
        match make() {
            Ok(()) => return Ok(DirectoryOrigin::New),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let Some(there) = place.look()? else {
            make()?;
            return Ok(DirectoryOrigin::New);
        };
        if is(&there, SFlag::S_IFDIR) {
            return Ok(DirectoryOrigin::Existing);
        }
        let made = self.has_made(&there);
        if is(&there, SFlag::S_IFLNK) && !made && self.links.may_follow(path) {
            return self.directory(path).map(|_| DirectoryOrigin::Linked);
        }
        if !made && matches!(self.links, Links::None) {
            return Err(io::Error::other("it exists and is not a directory"));
        }
        unistd::unlinkat(&place.directory, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        make()?;
        Ok(DirectoryOrigin::New)
    }

    /// Opens an existing directory, to set its attributes.
    pub(crate) fn open_directory(&mut self, path: &Path) -> io::Result<File> {
        let place = self.place(path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(fcntl::openat(
            &place.directory,
            place.name.as_os_str(),
            flags,
            Mode::empty(),
        )?))
    }

    /// Creates a file with access for its owner only. An existing file is replaced when the new one is finished.
    pub(crate) fn create(&mut self, path: &Path, place: Place) -> io::Result<(Unfinished, File)> {
        let replaces = self.make_way(path, &place)?;
        place.create(replaces)
    }

    /// Moves a finished file to its place.
    pub(crate) fn finish(&mut self, unfinished: &Unfinished, file: &File) -> io::Result<Finish> {
        let finish = unfinished.finish(file)?;
        if let Some(made) = &mut self.made {
            made.insert(unfinished.identity);
        }
        Ok(finish)
    }

    pub(crate) fn symlink(&mut self, path: &Path, place: &Place, to: &OsStr) -> io::Result<()> {
        self.put(path, place, |directory, name| unistd::symlinkat(to, directory, name))
    }

    /// Creates a pipe, a socket or a device.
    pub(crate) fn special(
        &mut self,
        path: &Path,
        place: &Place,
        kind: SFlag,
        device: u64,
    ) -> io::Result<()> {
        self.put(path, place, |directory, name| {
            stat::mknodat(directory, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)
        })
    }

    /// Creates another name for a file that this restore created; refuses to do so for any other file. `expected` is the file
    /// created there, if not everything is remembered.
    pub(crate) fn hard_link(
        &mut self,
        path: &Path,
        place: &Place,
        to: &Path,
        expected: Option<Identity>,
    ) -> io::Result<()> {
        let original = self.find(to)?;
        let ours = original.look()?.filter(|there| match expected {
            Some(expected) => Identity::of(there) == expected,
            None => self.has_made(there),
        });
        let Some(ours) = ours else {
            return Err(io::Error::other(format!(
                "it is a hard link to {}, which was not extracted from here",
                to.display()
            )));
        };
        // It is already a name of that file: renaming one name over another of the same file does nothing, and leaves both.
        if place.look()?.is_some_and(|there| Identity::of(&there) == Identity::of(&ours)) {
            return Ok(());
        }
        self.put(path, place, |directory, name| {
            unistd::linkat(
                &original.directory,
                original.name.as_os_str(),
                directory,
                name,
                AtFlags::empty(),
            )
        })
    }

    /// Creates an entry without content, in one step if it replaces another one.
    fn put(
        &mut self,
        path: &Path,
        place: &Place,
        make: impl Fn(&OwnedFd, &OsStr) -> nix::Result<()>,
    ) -> io::Result<()> {
        if self.make_way(path, place)? {
            let name = place::temporary();
            make(&place.directory, &name)?;
            place.take(&name)?;
        } else {
            make(&place.directory, &place.name)?;
        }
        if let (Some(made), Some(there)) = (&mut self.made, place.look()?) {
            made.insert(Identity::of(&there));
        }
        Ok(())
    }

    /// Reports whether something exists at a path that may then be replaced by something other than a directory. A directory
    /// makes way.
    fn make_way(&mut self, path: &Path, place: &Place) -> io::Result<bool> {
        let Some(there) = place.look()? else { return Ok(false) };
        let in_place = !matches!(self.links, Links::None);
        if !is(&there, SFlag::S_IFDIR) {
            let free = in_place || self.has_made(&there);
            return if free { Ok(true) } else { Err(io::Error::other("it already exists")) };
        }
        if !in_place && self.made.is_none() {
            return Err(io::Error::other("it is an existing directory"));
        }
        self.last = None;
        match unistd::unlinkat(&place.directory, place.name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) => Ok(false),
            // No snapshot known to us contains its content, so it is kept.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if in_place => {
                let kept = place::kept(&place.name);
                fcntl::renameat(
                    &place.directory,
                    place.name.as_os_str(),
                    &place.directory,
                    kept.as_os_str(),
                )?;
                self.moved.push((path.to_path_buf(), kept));
                Ok(false)
            }
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                Err(io::Error::other("it is an existing directory that is not empty"))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn has_made(&self, there: &FileStat) -> bool {
        self.made.as_ref().is_some_and(|made| made.contains(&Identity::of(there)))
    }

    /// The place of a relative path; creates nothing.
    fn find(&self, path: &Path) -> io::Result<Place> {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::other("it is a hard link to nothing"))?
            .to_owned();
        Ok(Place { directory: self.walk(path.parent().unwrap_or(Path::new("")), false)?, name })
    }

    fn directory(&mut self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(directory.clone());
        }
        let directory = self.walk(path, true)?;
        self.last = Some((path.to_path_buf(), directory.clone()));
        Ok(directory)
    }

    fn walk(&self, path: &Path, make: bool) -> io::Result<Arc<OwnedFd>> {
        let leaves = || io::Error::other("it leads out of the target");
        // For links: the directories to which `..` returns. Never empty.
        let mut above = vec![self.root.clone()];
        // Each with the relative path that it represents; the components of a link's target represent no path of their own.
        let mut pending: Vec<(OsString, Option<PathBuf>)> = Vec::new();
        let mut whole = PathBuf::new();
        for component in path.components() {
            whole.push(component);
            pending.push((component.as_os_str().to_owned(), Some(whole.clone())));
        }
        pending.reverse();
        let mut links = 0;
        while let Some((name, stands_for)) = pending.pop() {
            let here = above.last().ok_or_else(leaves)?;
            if name == ".." {
                above.pop();
                if above.is_empty() {
                    return Err(leaves());
                }
                continue;
            }
            match enter(here, &name, make)? {
                Step::Directory(directory) => above.push(Arc::new(directory)),
                Step::Link(facts, to) => {
                    self.check_link(here, &facts, &name, stands_for.as_deref())?;
                    links += 1;
                    if links > LINKS_LIMIT {
                        return Err(Errno::ELOOP.into());
                    }
                    if to.is_absolute() {
                        above.truncate(1);
                    }
                    let steps = to.components().rev().filter_map(|component| match component {
                        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
                        step => Some((step.as_os_str().to_owned(), None)),
                    });
                    pending.extend(steps);
                }
            }
        }
        above.pop().ok_or_else(leaves)
    }

    fn check_link(
        &self,
        here: &OwnedFd,
        link: &FileStat,
        name: &OsStr,
        path: Option<&Path>,
    ) -> io::Result<()> {
        let through = format!("it goes through the link {}", name.display());
        if self.has_made(link) {
            Err(io::Error::other(format!(
                "it goes through {}, a link from the archive itself",
                name.display()
            )))
        } else if !path.is_none_or(|path| self.links.may_follow(path)) {
            Err(io::Error::other(through))
        } else if !is_trusted(link.st_uid) {
            Err(io::Error::other(format!("{through}, which user {} created", link.st_uid)))
        } else if !is_closed(&stat::fstat(here)?) {
            Err(io::Error::other(format!(
                "{through}, in a directory where other users can exchange it"
            )))
        } else {
            Ok(())
        }
    }

    /// A directory that another user created in a place where every user may create entries can be a trap; elsewhere it is the
    /// operator's choice.
    fn check_owner(&mut self, path: &Path, directory: &OwnedFd) -> io::Result<()> {
        let place = self.place(path)?;
        let (facts, above) = (stat::fstat(directory)?, stat::fstat(&*place.directory)?);
        if above.st_mode & 0o002 != 0 && !is_trusted(facts.st_uid) {
            let why = format!(
                "user {} created it in a place where every user may; choose another directory",
                facts.st_uid
            );
            return Err(io::Error::other(why));
        }
        Ok(())
    }
}

/// Reports whether a user is root or the current one.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == unistd::geteuid().as_raw()
}

/// Reports whether only root and the current user can replace the entries of a directory that belong to root or the current user.
fn is_closed(directory: &FileStat) -> bool {
    let mode = directory.st_mode;
    let sticky = mode & 0o1000 != 0;
    let our_group = directory.st_gid == 0 || directory.st_gid == unistd::getegid().as_raw();
    is_trusted(directory.st_uid)
        && (sticky || mode & 0o002 == 0 && (mode & 0o020 == 0 || our_group))
}

/// The next component of a path.
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
            // Its attributes follow if the archive contains it; otherwise every user may read it.
            match stat::mkdirat(here, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => Ok(Step::Directory(open()?)),
                Err(errno) => Err(errno.into()),
            }
        }
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            let facts = stat::fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if !is(&facts, SFlag::S_IFLNK) {
                return Err(io::Error::other(format!(
                    "{} above it is not a directory",
                    name.display()
                )));
            }
            Ok(Step::Link(facts, fcntl::readlinkat(here, name)?.into()))
        }
        Err(errno) => Err(errno.into()),
    }
}

fn is(facts: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(facts.st_mode & SFlag::S_IFMT.bits()) == kind
}
