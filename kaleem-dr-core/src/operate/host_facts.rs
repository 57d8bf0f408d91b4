//! Facts about this machine, read below its own root or another directory, so that a test can make
//! each fault and observe it.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use nix::sys::statvfs::statvfs;

/// Space on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Size of the file system, in bytes.
    pub total_bytes: u64,
    /// Inodes that this user may still create.
    pub free_inodes: u64,
    /// Total inodes; 0 on file systems without a fixed number.
    pub total_inodes: u64,
}

impl Space {
    /// The free share, in percent.
    #[must_use]
    pub fn free_percent(&self) -> u64 {
        share(self.free_bytes, self.total_bytes)
    }

    /// The free share of inodes, in percent; 100 where the file system does not count them.
    #[must_use]
    pub fn free_inode_percent(&self) -> u64 {
        share(self.free_inodes, self.total_inodes)
    }
}

fn share(free: u64, total: u64) -> u64 {
    if total == 0 {
        100
    } else {
        u64::try_from(u128::from(free) * 100 / u128::from(total)).unwrap_or(100)
    }
}

/// Facts that only a running machine knows.
#[async_trait]
pub trait HostFacts: Send + Sync {
    /// The current time, by the machine's clock.
    fn now(&self) -> Timestamp;

    /// The space on the file system of a path, or of its nearest existing ancestor.
    ///
    /// # Errors
    /// The system's error.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The device of a path (`st_dev`), or of its nearest existing ancestor.
    ///
    /// # Errors
    /// The system's error.
    fn device(&self, path: &Path) -> io::Result<u64>;

    /// The addresses of a host name.
    ///
    /// # Errors
    /// If it has none.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// The output of `PROGRAM version`.
    ///
    /// # Errors
    /// If the program cannot be run.
    async fn version_of(&self, program: &Path) -> io::Result<String>;
}

/// The machine that this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisMachine;

#[async_trait]
impl HostFacts for ThisMachine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = statvfs(existing(path))?;
        let unit = found.fragment_size();
        Ok(Space {
            free_bytes: found.blocks_available().saturating_mul(unit),
            total_bytes: found.blocks().saturating_mul(unit),
            free_inodes: found.files_available(),
            total_inodes: found.files(),
        })
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        Ok(existing(path).metadata()?.dev())
    }

    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?.collect())
    }

    async fn version_of(&self, program: &Path) -> io::Result<String> {
        // Other users who may write to a program decide what it does when we run it.
        if program.metadata()?.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is not run because other users may write to it",
            ));
        }
        let mut command = tokio::process::Command::new(program);
        command.arg("version").env_clear().stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = command.output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// The machine that is examined.
#[derive(Clone)]
#[non_exhaustive]
pub struct Host {
    /// Root of its `/etc`, `/proc`, `/var/spool` and programs. Paths of the config are used
    /// unchanged.
    pub root: PathBuf,
    /// Its name, as in snapshots and locks.
    pub name: String,
    /// The user id that we run as.
    pub uid: u32,
    /// Source of its clock, disks and names.
    pub facts: Arc<dyn HostFacts>,
}

impl Host {
    /// This machine, with its files under `root`.
    #[must_use]
    pub fn this(root: PathBuf) -> Self {
        Self {
            root,
            name: crate::ground::host::name(),
            uid: nix::unistd::geteuid().as_raw(),
            facts: Arc::new(ThisMachine),
        }
    }

    /// The location of an absolute path of the machine.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The path on the machine itself.
    pub(crate) fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(&self.root) {
            Ok(below) => format!("/{}", below.display()),
            Err(_) => path.display().to_string(),
        }
    }
}
