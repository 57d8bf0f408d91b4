//! Sets attributes by descriptor, or by a name in a directory's descriptor. An attribute that cannot be set never affects the
//! content.

use std::{borrow::Cow, ffi::OsStr, fmt, fs::File, io, os::fd::AsFd as _};

use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::{
        stat::{self, FchmodatFlags, Mode, UtimensatFlags},
        time::TimeSpec,
    },
    unistd::{self, Gid, Uid},
};

use super::Place;

/// The extended attribute in which Linux stores an access list.
const ACCESS_LIST: &str = "system.posix_acl_access";
/// The extended attribute in which Linux stores the capabilities of a program.
const CAPABILITIES: &str = "security.capability";

/// The attributes of an entry when it was captured. Those that are `None` are not set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    /// Permission bits, `0o7777` at most.
    pub(crate) mode: Option<u32>,
    pub(crate) mtime: Option<TimeSpec>,
    pub(crate) xattrs: Vec<(Cow<'a, OsStr>, &'a [u8])>,
}

/// An attribute that could not be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) what: String,
    pub(crate) why: String,
    /// Only root may set it, and we are not root: it is reported as a note, not as a failure.
    pub(crate) is_roots: bool,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its {} could not be set: {}", self.what, self.why)
    }
}

impl Lack {
    fn of(what: impl Into<String>, cause: &io::Error) -> Self {
        let denied = cause.raw_os_error() == Some(Errno::EPERM as i32);
        Self {
            what: what.into(),
            why: cause.to_string(),
            is_roots: denied && !unistd::geteuid().is_root(),
        }
    }
}

impl Attributes<'_> {
    /// Sets them on an open file or directory. Extended attributes come first: only the owner may set them, and the mode may
    /// forbid even that. Then the owner (which clears set-id bits and capabilities), the capabilities, the mode, and the time.
    pub(crate) fn set(&self, file: &File) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let xattr = |name: &OsStr, value: &[u8]| {
            let set = || xattr::FileExt::set_xattr(file, name, value);
            set().or_else(|error| match error.kind() {
                // An existing directory that its owner may not write to.
                io::ErrorKind::PermissionDenied if stat::fchmod(file, Mode::S_IRWXU).is_ok() => {
                    set()
                }
                _ => Err(error),
            })
        };
        self.extend(&mut lacks, false, xattr);
        let given = self.own(&mut lacks, |uid, gid| unistd::fchown(file.as_fd(), uid, gid));
        self.extend(&mut lacks, true, xattr);
        if let Some(mode) = self.mode_where(given, &lacks)
            && let Err(errno) = stat::fchmod(file, mode)
        {
            lacks.push(Lack::of("mode", &errno.into()));
        }
        if let Some(time) = &self.mtime
            && let Err(errno) = stat::futimens(file, time, time)
        {
            lacks.push(Lack::of("time", &errno.into()));
        }
        lacks
    }

    /// Sets them on an entry that cannot be opened: a link, a pipe, a device.
    pub(crate) fn set_at(&self, place: &Place, is_link: bool) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let (directory, name) = (&*place.directory, place.name.as_os_str());
        self.extend(&mut lacks, false, |attribute, value| {
            xattr::set(place.by_descriptor(), attribute, value)
        });
        let given = self.own(&mut lacks, |uid, gid| {
            unistd::fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
        });
        // A link has no mode.
        if !is_link
            && let Some(mode) = self.mode_where(given, &lacks)
            && let Err(errno) =
                stat::fchmodat(directory, name, mode, FchmodatFlags::NoFollowSymlink)
        {
            lacks.push(Lack::of("mode", &errno.into()));
        }
        if let Some(time) = &self.mtime
            && let Err(errno) =
                stat::utimensat(directory, name, time, time, UtimensatFlags::NoFollowSymlink)
        {
            lacks.push(Lack::of("time", &errno.into()));
        }
        lacks
    }

    /// Sets the extended attributes: capabilities, or all others.
    fn extend(
        &self,
        lacks: &mut Vec<Lack>,
        capabilities: bool,
        set: impl Fn(&OsStr, &[u8]) -> io::Result<()>,
    ) {
        for (name, value) in
            self.xattrs.iter().filter(|(name, _)| (**name == *CAPABILITIES) == capabilities)
        {
            if let Err(error) = set(name, value) {
                lacks.push(Lack::of(format!("extended attribute {}", name.display()), &error));
            }
        }
    }

    /// Changes the owner; returns true if this succeeded.
    fn own(
        &self,
        lacks: &mut Vec<Lack>,
        chown: impl Fn(Option<Uid>, Option<Gid>) -> nix::Result<()>,
    ) -> bool {
        let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
        let shown = || {
            let shown = |id: Option<u64>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
            format!("owner {}:{}", shown(self.uid), shown(self.gid))
        };
        let (uid, gid) = (self.uid.map(id), self.gid.map(id));
        if uid == Some(None) || gid == Some(None) {
            lacks.push(Lack {
                what: shown(),
                why: "no such number can be an owner".into(),
                is_roots: false,
            });
            return false;
        }
        let (uid, gid) = (uid.flatten().map(Uid::from_raw), gid.flatten().map(Gid::from_raw));
        if uid.is_none() && gid.is_none() {
            return true;
        }
        match chown(uid, gid) {
            Ok(()) => true,
            Err(errno) => {
                lacks.push(Lack::of(shown(), &errno.into()));
                false
            }
        }
    }

    /// A set-id bit refers to the owner, so it is dropped if the file has another one. If an access list is missing, the group's
    /// bits are its mask and would grant more than the list did.
    fn mode_where(&self, given: bool, lacks: &[Lack]) -> Option<Mode> {
        let mut mode = self.mode?;
        if !given {
            mode &= 0o1777;
        }
        let has_list = self.xattrs.iter().any(|(name, _)| **name == *ACCESS_LIST);
        if has_list && lacks.iter().any(|lack| lack.what.ends_with(ACCESS_LIST)) {
            mode &= !0o070;
        }
        Some(Mode::from_bits_truncate(mode))
    }
}
