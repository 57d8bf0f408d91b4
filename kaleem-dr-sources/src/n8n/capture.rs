//! Captures n8n: the database first, so that the files it refers to are read after it.

use std::{
    fs::{self, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use jiff::Timestamp;
use kaleem_dr_core::{
    engine::{
        artifact::{Capture, Entry, EntryKind, EntryMeta},
        manifest::{Consistency, ConsistencyGrade, ServerInfo},
    },
    ground::SourceError,
};
use nix::fcntl::OFlag;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    BINARY_DATA, DATABASE, KEY_FILE, N8nSource, ROOT, TABLES, TREES, artifact_path, blocking,
    database, path_error,
};

/// Every n8n database has these tables.
pub(super) const EXPECTED: [&str; 2] = ["workflow_entity", "credentials_entity"];
/// Size of the pieces in which the copy is read, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Capacity of the channel from the walk to the repository, in entries.
const FOUND_IN_FLIGHT: usize = 256;
/// Opens a file without following links or blocking, in case it was replaced by a link or a pipe
/// after the listing.
const OPEN_FLAGS: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);

enum Found {
    Entry(Box<Entry>),
    Problem(PathBuf, io::Error),
}

impl N8nSource {
    pub(super) async fn capture_all(&self, out: &mut Capture) -> Result<(), SourceError> {
        let scratch = tempfile::Builder::new()
            .prefix("kaleem-dr-n8n-")
            .tempdir_in(&self.config.scratch_directory)
            .map_err(path_error(
                &self.config.scratch_directory,
                "create a temporary directory in",
            ))?;
        let copy = scratch.path().join(DATABASE);
        let at = Timestamp::now();
        let (from, to, cancel) = (self.database(), copy.clone(), out.cancellation());
        fs::metadata(&from).map_err(|cause| self.no_database(cause))?;
        let tables = blocking(move || {
            database::copy(&from, &to, &cancel)?;
            database::count(&to)
        })
        .await?;
        out.set_server(ServerInfo::new("n8n on SQLite", database::version()));
        out.set_consistency(
            Consistency::new(ConsistencyGrade::PointInTime, at).because(
                "the database is a single committed state; files were read right after it",
            ),
        );
        for expected in EXPECTED {
            if !tables.keys().any(|name| name.ends_with(expected)) {
                out.incomplete(
                    self.database().to_string_lossy(),
                    format!("it has no table {expected}; is it n8n's?"),
                );
            }
        }
        out.detail(TABLES, json!(tables));

        // In path order.
        self.tree_entries(out, BINARY_DATA).await?;
        self.key_file(out).await?;
        self.database_artifact(out, &copy).await?;
        for tree in TREES.into_iter().filter(|tree| *tree != BINARY_DATA) {
            self.tree_entries(out, tree).await?;
        }
        scratch.close().map_err(path_error(
            &self.config.scratch_directory,
            "remove the temporary directory in",
        ))
    }

    async fn key_file(&self, out: &mut Capture) -> Result<(), SourceError> {
        let path = self.config.directory.join(KEY_FILE);
        let content = match tokio::fs::read(&path).await {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(path_error(&path, "read n8n's key from")(cause)),
        };
        if let Some(why) = self.key_problem(content.as_deref()) {
            out.incomplete(path.to_string_lossy(), why);
        }
        match content {
            Some(content) => out.whole(artifact_path(KEY_FILE)?, content.into(), None).await,
            None => Ok(()),
        }
    }

    async fn database_artifact(&self, out: &mut Capture, copy: &Path) -> Result<(), SourceError> {
        let path = artifact_path(DATABASE)?;
        let mut writer = out.artifact(path.clone()).await?;
        let (sender, mut pieces) = mpsc::channel::<io::Result<Bytes>>(2);
        let copy = copy.to_path_buf();
        let reader = tokio::task::spawn_blocking(move || {
            let mut file = match fs::File::open(&copy) {
                Ok(file) => file,
                // The receiver may be gone; then the capture has already failed.
                Err(error) => return drop(sender.blocking_send(Err(error))),
            };
            loop {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                let read = file
                    .by_ref()
                    .take(PIECE_BYTES as u64)
                    .read_to_end(&mut piece)
                    .map(|_| Bytes::from(piece));
                let ended = read.as_ref().map_or(true, Bytes::is_empty);
                if read.as_ref().is_ok_and(Bytes::is_empty)
                    || sender.blocking_send(read).is_err()
                    || ended
                {
                    return;
                }
            }
        });
        while let Some(piece) = pieces.recv().await {
            writer.write(piece.map_err(|error| SourceError::artifact(&path, error))?).await?;
        }
        reader.await.map_err(|panic| SourceError::artifact(&path, panic))?;
        writer.finish(None, None).await
    }

    async fn tree_entries(&self, out: &mut Capture, name: &'static str) -> Result<(), SourceError> {
        let from = self.tree(name);
        let (sender, mut found) = mpsc::channel(FOUND_IN_FLIGHT);
        let walk =
            tokio::task::spawn_blocking(move || walk(&from, &Path::new(ROOT).join(name), &sender));
        while let Some(next) = found.recv().await {
            match next {
                Found::Entry(entry) => out.entry(*entry).await?,
                // An entry removed after the listing is not a loss: n8n deleted it.
                Found::Problem(_, error) if error.kind() == io::ErrorKind::NotFound => {}
                Found::Problem(path, error) => {
                    out.incomplete(path.to_string_lossy(), error.to_string());
                }
            }
        }
        walk.await.map_err(|panic| {
            SourceError::Unsupported(format!("the walk of n8n's files aborted: {panic}"))
        })
    }
}

/// Emits a path and everything below it, in path order. Packages installed in `nodes` are omitted:
/// they can be reinstalled from `package.json`.
fn walk(path: &Path, name: &Path, found: &mpsc::Sender<Found>) {
    let problem = |error| {
        // If the receiver is gone, the capture has already failed.
        let _ = found.blocking_send(Found::Problem(path.to_path_buf(), error));
    };
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return problem(error),
    };
    let kind = if meta.is_dir() {
        EntryKind::Directory
    } else if meta.is_symlink() {
        match fs::read_link(path) {
            Ok(to) => EntryKind::Symlink(to),
            Err(error) => return problem(error),
        }
    } else if meta.is_file() {
        let path = path.to_path_buf();
        EntryKind::File(Box::new(move || {
            let file =
                fs::OpenOptions::new().read(true).custom_flags(OPEN_FLAGS.bits()).open(&path)?;
            Ok(Box::new(file) as Box<dyn io::Read + Send>)
        }))
    } else {
        return problem(io::Error::other(
            "it is a socket, pipe or device, which n8n never creates",
        ));
    };
    let entry = Entry::new(name.to_path_buf(), kind, entry_meta(&meta));
    if found.blocking_send(Found::Entry(Box::new(entry))).is_err() || !meta.is_dir() {
        return;
    }
    let entries = match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => return problem(error),
    };
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    for child in names.into_iter().filter(|child| child != "node_modules") {
        walk(&path.join(&child), &name.join(&child), found);
    }
}

fn entry_meta(meta: &Metadata) -> EntryMeta {
    let time = |second, nanosecond: i64| {
        Timestamp::new(second, i32::try_from(nanosecond).unwrap_or(0)).ok()
    };
    let mut entry = EntryMeta::default();
    entry.mode = meta.mode() & 0o7777;
    entry.mtime = time(meta.mtime(), meta.mtime_nsec());
    entry.ctime = time(meta.ctime(), meta.ctime_nsec());
    entry.uid = Some(meta.uid());
    entry.gid = Some(meta.gid());
    entry.inode = meta.ino();
    entry.device_id = meta.dev();
    entry.size_bytes = if meta.is_file() { meta.len() } else { 0 };
    entry.links = if meta.is_dir() { 0 } else { meta.nlink() };
    entry
}
