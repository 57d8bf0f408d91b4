//! Finds the process that has a database open, from the files that processes hold open: an idle
//! connection holds no lock.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A description of a process that has a file open. Also sees processes in containers on this host;
/// other users' processes only as root.
pub(super) fn holder(path: &Path) -> Option<String> {
    let wanted = fs::metadata(path).ok()?;
    let own = std::process::id().to_string();
    for process in entries(Path::new("/proc")) {
        let Some(id) = process.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            continue;
        };
        if id == own || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let holds = entries(&process.join("fd")).into_iter().any(|open| {
            fs::metadata(open)
                .is_ok_and(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino()))
        });
        if holds {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            return Some(format!("process {id} ({})", name.trim()));
        }
    }
    None
}

/// A directory that cannot be listed (another user's, or already gone) counts as empty.
fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
