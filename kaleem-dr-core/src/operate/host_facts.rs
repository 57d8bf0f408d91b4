//! What is asked of this machine, and where: its own root or another directory, so that each fault can be made and seen.

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

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are free for us.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
    /// Inodes that are free for us.
    pub free_inodes: u64,
    /// All inodes; 0 on file systems that have no fixed number.
    pub total_inodes: u64,
}

impl Space {
    /// The free share, in percent.
    #[must_use]
    pub fn free_percent(&self) -> u64 {
        share(self.free_bytes, self.total_bytes)
    }

    /// The free share of inodes, in percent; 100 where they are not counted.
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

/// What only a running machine can tell.
#[async_trait]
pub trait HostFacts: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;

    /// The room on the file system of a path; of its nearest directory that is there, where the path is not.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The device that a path lies on (`st_dev`), likewise.
    ///
    /// # Errors
    /// What the system says.
    fn device(&self, path: &Path) -> io::Result<u64>;

    /// The addresses of a name.
    ///
    /// # Errors
    /// When it has none.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// What `PROGRAM version` prints.
    ///
    /// # Errors
    /// When it cannot be run.
    async fn version_of(&self, program: &Path) -> io::Result<String>;
}

/// The machine we run on.
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
        // Whoever may write to a program decides what it does when we run it.
        if program.metadata()?.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others may write to it, so it is not run",
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

/// The machine that is looked at.
#[derive(Clone)]
pub struct Host {
    /// Where its `/etc`, `/proc`, `/var/spool` and programs lie. Paths of the config are taken as they are.
    pub root: PathBuf,
    /// Its name, as snapshots and locks have it.
    pub name: String,
    /// The user we run as.
    pub uid: u32,
    /// What it tells.
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

    /// Where an absolute path of this machine lies.
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
