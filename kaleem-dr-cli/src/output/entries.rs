//! Entries of snapshots: lines for people, and JSON in restic's format.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use kaleem_dr_core::{
    engine::repository::{Snapshot, TreeEntry},
    jiff::{Timestamp, tz::TimeZone},
    operate::document::Entry,
};
use serde_json::Value;

/// The bytes of a path.
pub fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// A line as of `ls -l`: permissions, owner and group, size in bytes, local time, path.
pub fn long(entry: &TreeEntry) -> Vec<u8> {
    let owner = |name: Option<&str>, id: Option<u32>| match (name, id) {
        (Some(name), _) => name.to_owned(),
        (None, Some(id)) => id.to_string(),
        (None, None) => "-".to_owned(),
    };
    let mut line = format!(
        "{} {:8} {:8} {:>12} {} ",
        entry.permissions(),
        owner(entry.user(), entry.uid()),
        owner(entry.group(), entry.gid()),
        entry.size_bytes(),
        entry.mtime().map_or_else(|| " ".repeat(19), local),
    )
    .into_bytes();
    line.extend(bytes(&entry.path));
    if let Some(target) = entry.link_target() {
        line.extend(b" -> ");
        line.extend(bytes(target));
    }
    line
}

/// A time in the zone of this machine.
pub fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The line before the entries of a snapshot.
pub fn heading(snapshot: &Snapshot) -> String {
    format!(
        "snapshot {} of {} on {}, {}:",
        snapshot.id().short(),
        snapshot.maker(),
        snapshot.host(),
        local(snapshot.time().timestamp())
    )
}

/// An entry as a node of `restic ls --json`, with additional fields.
pub fn node(entry: &TreeEntry) -> Value {
    // It has plain fields only, so serialisation cannot fail.
    serde_json::to_value(Entry::from(entry)).unwrap_or_default()
}

/// Adds the bytes of a path that is not UTF-8.
pub fn escaped(value: &mut Value, path: &Path) {
    if let Some(escaped) = Entry::escaped(path) {
        value["path_escaped"] = escaped.into();
    }
}
