//! Finds the process that has a database open: from the files that processes hold open, because an
//! idle connection without WAL holds no lock; and from the lock of WAL, because processes of other
//! containers are invisible in a container.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc::{self, c_short},
};

/// The byte of a database's shared memory that each connection in WAL mode keeps locked (`UNIX_SHM_DMS` in SQLite's `os_unix.c`).
const LOCKED_BYTE: libc::off_t = 128;

/// A description of a process that has a database open. On the host, it also sees processes in
/// containers; other users' processes only as root. In a container, it sees those of other
/// containers only if the database is in WAL mode.
pub(super) fn holder(path: &Path) -> Option<String> {
    open_file(path).or_else(|| wal_lock(path))
}

/// A connection in WAL mode, from its lock.
fn wal_lock(database: &Path) -> Option<String> {
    let mut shared_memory = database.as_os_str().to_owned();
    shared_memory.push("-shm");
    let file = File::open(shared_memory).ok()?;
    let narrow = |constant: i32| c_short::try_from(constant).ok();
    let mut lock = libc::flock {
        l_type: narrow(libc::F_WRLCK)?,
        l_whence: narrow(libc::SEEK_SET)?,
        l_start: LOCKED_BYTE,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    (i32::from(lock.l_type) != libc::F_UNLCK)
        .then(|| "a process that is not visible here, such as one in another container".to_owned())
}

fn open_file(path: &Path) -> Option<String> {
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
