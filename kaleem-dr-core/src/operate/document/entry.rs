//! The document of a file in a snapshot.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::repository::{TreeEntry, TreeEntryKind};

/// A file, directory or link as a node of `restic ls --json`, with additional fields.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Entry {
    /// The last component of its path, with replacement characters where it is not UTF-8.
    pub name: String,
    /// Its kind: `file`, `dir`, `symlink`, `fifo`, `socket`, `dev` or `chardev`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its path in the snapshot, with replacement characters where it is not UTF-8.
    pub path: String,
    /// Id of its owner, if recorded.
    pub uid: Option<u32>,
    /// Id of its group, if recorded.
    pub gid: Option<u32>,
    /// Name of its owner, if recorded.
    pub user: Option<String>,
    /// Name of its group, if recorded.
    pub group: Option<String>,
    /// Its mode as Go's `fs.FileMode`, as restic stores it.
    pub mode: Option<u32>,
    /// Its kind and permissions as `ls -l` shows them.
    pub permissions: String,
    /// Time of the last change of its content.
    pub mtime: Option<Timestamp>,
    /// Its inode number at the time of the capture; 0 if not recorded.
    pub inode: u64,
    /// Number of its names at the time of the capture; 0 if not recorded.
    pub links: u64,
    /// Always `node`.
    pub struct_type: &'static str,
    /// Length of a file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Target of a symbolic link, with replacement characters where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linktarget: Option<String>,
    /// The bytes of a path that is not UTF-8, with escapes as in Rust's byte strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_escaped: Option<String>,
}

impl Entry {
    /// The bytes of a path that is not UTF-8; `None` for other paths.
    #[must_use]
    pub fn escaped(path: &Path) -> Option<String> {
        let is_text = path.to_str().is_some();
        (!is_text).then(|| path.as_os_str().as_bytes().escape_ascii().to_string())
    }
}

impl From<&TreeEntry> for Entry {
    fn from(entry: &TreeEntry) -> Self {
        let is_file = entry.kind() == TreeEntryKind::File;
        Self {
            name: entry.name().to_string_lossy().into_owned(),
            kind: entry.kind().as_str(),
            path: entry.path.to_string_lossy().into_owned(),
            uid: entry.uid(),
            gid: entry.gid(),
            user: entry.user().map(str::to_owned),
            group: entry.group().map(str::to_owned),
            mode: entry.go_mode(),
            permissions: entry.permissions(),
            mtime: entry.mtime(),
            inode: entry.inode(),
            links: entry.links(),
            struct_type: "node",
            size: is_file.then(|| entry.size_bytes()),
            linktarget: entry.link_target().map(|target| target.to_string_lossy().into_owned()),
            path_escaped: Self::escaped(&entry.path),
        }
    }
}
