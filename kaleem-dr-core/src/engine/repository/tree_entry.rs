//! Names and marks of entries in the trees of a snapshot.

use std::path::{Path, PathBuf};

/// The path of a stream's follower: directly after it in the order of names.
pub(crate) fn follower_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("\u{1}follower");
    path.with_file_name(name)
}

/// Go's `fs.FileMode`, which restic stores: permission bits as in Unix, the rest at positions of its own.
pub(crate) mod go_mode {
    pub(crate) const DIRECTORY: u32 = 1 << 31;
    pub(crate) const SYMLINK: u32 = 1 << 27;
    pub(crate) const DEVICE: u32 = 1 << 26;
    pub(crate) const FIFO: u32 = 1 << 25;
    pub(crate) const SOCKET: u32 = 1 << 24;
    pub(crate) const CHAR_DEVICE: u32 = 1 << 21;
    const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

    /// Converts `0o7777` bits to the mode of a node.
    pub(crate) fn from_unix(mode: u32) -> u32 {
        SPECIAL
            .iter()
            .filter(|(unix, _)| mode & unix != 0)
            .fold(mode & 0o777, |mode, (_, go)| mode | go)
    }

    /// Converts the mode of a node to `0o7777` bits.
    pub(crate) fn to_unix(mode: u32) -> u32 {
        SPECIAL
            .iter()
            .filter(|(_, go)| mode & go != 0)
            .fold(mode & 0o777, |mode, (unix, _)| mode | unix)
    }
}
