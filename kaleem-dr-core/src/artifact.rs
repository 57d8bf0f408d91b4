//! The pipe between an async source and the blocking archiver.
//!
//! A source opens artifacts in path order and may then write several at once. Each has a bounded channel: a source that
//! is faster than the repository waits, so memory stays at channel depth times piece size however large the data is.
//! Bytes are counted and hashed on the way. The archiver of `rustic_core` logs a reader's error and saves the snapshot all
//! the same, so every reader here records its own end in the capture's state, and the commit gate asks that state.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Buf as _, Bytes};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    digest::ByteDigest,
    manifest::{ArtifactRecord, Consistency, ConsistencyGrade, Incomplete, ServerInfo, TreeTotals},
    source::SourceError,
};

/// Pieces that may wait in one artifact's channel.
const PIECES_IN_FLIGHT: usize = 4;
/// Entries that may wait for the archiver. Small: an artifact's channel fills behind it.
const ENTRIES_IN_FLIGHT: usize = 64;
/// Longest piece handed through a channel; longer writes are split without copying.
const PIECE_BYTES: usize = 1 << 20;

/// An artifact's absolute path in the snapshot, such as `/mongo/kaleem/users.bson`.
///
/// No component is empty, `.` or `..`, and none holds a NUL; a source escapes what its names may hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ArtifactPath(String);

impl ArtifactPath {
    /// Joins components to a path: `["mongo", "kaleem", "users.bson"]`.
    ///
    /// # Errors
    /// When there is no component, or one is empty, `.`, `..`, or holds `/` or NUL.
    pub fn join<S: AsRef<str>>(components: impl IntoIterator<Item = S>) -> Result<Self, InvalidArtifactPath> {
        let mut path = String::new();
        for component in components {
            let component = component.as_ref();
            if component.is_empty() || component == "." || component == ".." || component.contains(['/', '\0']) {
                return Err(InvalidArtifactPath(component.to_owned()));
            }
            path.push('/');
            path.push_str(component);
        }
        if path.is_empty() { Err(InvalidArtifactPath(path)) } else { Ok(Self(path)) }
    }

    /// The path as text, beginning with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path component that cannot stand in a snapshot.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be a path component of an artifact")]
pub struct InvalidArtifactPath(String);

/// Where a source puts what it captures.
///
/// Paths must ascend (compared component by component, as bytes). Parent directories are made up where the source has not
/// emitted them itself.
#[derive(Debug)]
pub struct Capture {
    entries: mpsc::Sender<Entry>,
    state: Arc<CaptureState>,
    last: PathBuf,
    cancel: CancellationToken,
}

impl Capture {
    /// Opens the next artifact.
    ///
    /// # Errors
    /// When the path does not ascend, or the repository stopped taking data.
    pub async fn artifact(&mut self, path: ArtifactPath) -> Result<ArtifactWriter, SourceError> {
        let (pieces, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let name = PathBuf::from(path.as_str());
        let reader = StreamReader {
            pieces: receiver,
            current: Bytes::new(),
            read: 0,
            ended: false,
            path: name.clone(),
            state: self.state.clone(),
        };
        let meta = EntryMeta { mode: 0o600, mtime: Some(self.state.started), ..EntryMeta::default() };
        self.send(Entry { path: name, kind: EntryKind::Stream(Box::new(reader)), meta }).await?;
        self.state.lock().opened += 1;
        Ok(ArtifactWriter { path, pieces: Some(pieces), digest: ByteDigest::default(), size_bytes: 0, state: self.state.clone() })
    }

    /// Emits one artifact that is at hand as a whole.
    ///
    /// # Errors
    /// As [`Capture::artifact`].
    pub async fn whole(&mut self, path: ArtifactPath, bytes: Bytes, items: Option<u64>) -> Result<(), SourceError> {
        let mut writer = self.artifact(path).await?;
        writer.write(bytes).await?;
        writer.finish(items, None).await
    }

    /// Emits a file-system entry. A regular file is opened when the archiver comes to it, and only if it changed.
    ///
    /// # Errors
    /// As [`Capture::artifact`].
    pub async fn entry(&mut self, entry: Entry) -> Result<(), SourceError> {
        self.send(entry).await
    }

    /// Says what the data came from.
    pub fn set_server(&mut self, server: ServerInfo) {
        self.state.lock().server = Some(server);
    }

    /// Says how far the artifacts belong to one moment.
    pub fn set_consistency(&mut self, consistency: Consistency) {
        self.state.lock().consistency = Some(consistency);
    }

    /// Adds a fact of the source's own to the manifest.
    pub fn detail(&mut self, key: &str, value: Value) {
        self.state.lock().details.insert(key.to_owned(), value);
    }

    /// Records something that had to be left out. The snapshot is kept; the run ends as done in part.
    pub fn incomplete(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.state.lock().incomplete.push(Incomplete { what: what.into(), why: why.into() });
    }

    /// When the capture began.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.state.started
    }

    /// Resolves when the operator cancels; long waits in a source should end with it.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    async fn send(&mut self, entry: Entry) -> Result<(), SourceError> {
        if entry.path <= self.last && !self.last.as_os_str().is_empty() {
            return Err(SourceError::Unsupported(format!(
                "entries must ascend, but {} came after {}",
                entry.path.display(),
                self.last.display()
            )));
        }
        let missing: Vec<PathBuf> = entry
            .path
            .ancestors()
            .skip(1)
            .take_while(|ancestor| ancestor.parent().is_some() && !self.last.starts_with(ancestor))
            .map(Path::to_path_buf)
            .collect();
        for directory in missing.into_iter().rev() {
            let meta = EntryMeta { mode: 0o700, mtime: Some(self.state.started), ..EntryMeta::default() };
            self.hand_over(Entry { path: directory, kind: EntryKind::Directory, meta }).await?;
        }
        self.last.clone_from(&entry.path);
        self.hand_over(entry).await
    }

    async fn hand_over(&self, entry: Entry) -> Result<(), SourceError> {
        self.state.count(&entry);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(SourceError::Cancelled),
            sent = self.entries.send(entry) => sent.map_err(|_| SourceError::Aborted),
        }
    }
}

/// Takes the bytes of one artifact. Several may be written at once, from different tasks.
///
/// A writer dropped before [`ArtifactWriter::finish`] spoils the whole capture: half an artifact is never kept.
#[derive(Debug)]
#[must_use = "an artifact that is not finished spoils the capture"]
pub struct ArtifactWriter {
    path: ArtifactPath,
    pieces: Option<mpsc::Sender<Piece>>,
    digest: ByteDigest,
    size_bytes: u64,
    state: Arc<CaptureState>,
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

impl ArtifactWriter {
    /// The artifact's path.
    #[must_use]
    pub fn path(&self) -> &ArtifactPath {
        &self.path
    }

    /// Adds bytes; waits while the repository is behind.
    ///
    /// # Errors
    /// [`SourceError::Aborted`] when the repository stopped taking data.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), SourceError> {
        let Some(pieces) = &self.pieces else { return Err(SourceError::Aborted) };
        self.digest.update(&bytes);
        self.size_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            pieces.send(Piece::Data(piece)).await.map_err(|_| SourceError::Aborted)?;
        }
        Ok(())
    }

    /// Ends the artifact well. `items` and `content_digest` go into its record in the manifest.
    ///
    /// # Errors
    /// [`SourceError::Aborted`] when the repository stopped taking data.
    pub async fn finish(mut self, items: Option<u64>, content_digest: Option<String>) -> Result<(), SourceError> {
        let Some(pieces) = self.pieces.take() else { return Err(SourceError::Aborted) };
        pieces.send(Piece::End).await.map_err(|_| SourceError::Aborted)?;
        self.state.lock().records.insert(
            PathBuf::from(self.path.as_str()),
            ArtifactRecord {
                path: self.path.as_str().to_owned(),
                size_bytes: self.size_bytes,
                sha256: std::mem::take(&mut self.digest).finish(),
                items,
                content_digest,
            },
        );
        Ok(())
    }
}

impl Drop for ArtifactWriter {
    fn drop(&mut self) {
        if self.pieces.is_some() {
            self.state.spoil(format!("{}: the source dropped it before its end", self.path));
        }
    }
}

/// A file-system entry as it goes into a snapshot.
#[derive(Debug)]
pub struct Entry {
    /// Absolute path in the snapshot; any bytes but NUL.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Its attributes.
    pub meta: EntryMeta,
}

/// What an entry is.
pub enum EntryKind {
    /// A regular file; the function opens it.
    File(OpenFile),
    /// A directory.
    Directory,
    /// A symbolic link and what it points to.
    Symlink(PathBuf),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device and its number.
    CharDevice(u64),
    /// A block device and its number.
    BlockDevice(u64),
    /// An artifact's stream; made by [`Capture::artifact`] only.
    #[doc(hidden)]
    Stream(Box<StreamReader>),
}

/// Opens a file when the archiver comes to it.
pub type OpenFile = Box<dyn FnOnce() -> io::Result<Box<dyn io::Read + Send>> + Send>;

impl fmt::Debug for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Directory => "Directory",
            Self::Symlink(_) => "Symlink",
            Self::Fifo => "Fifo",
            Self::Socket => "Socket",
            Self::CharDevice(_) => "CharDevice",
            Self::BlockDevice(_) => "BlockDevice",
            Self::Stream(_) => "Stream",
        })
    }
}

/// An entry's attributes. Times are the file's own; `None` where there is none.
#[derive(Clone, Debug, Default)]
pub struct EntryMeta {
    /// Unix permission bits with set-id and sticky bits: `0o7777` at most.
    pub mode: u32,
    /// Last change of the content. A file whose name, size and mtime (and ctime, inode) equal the parent snapshot's is not read again.
    pub mtime: Option<Timestamp>,
    /// Last change of the attributes.
    pub ctime: Option<Timestamp>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Owner's name on the captured host.
    pub user: Option<String>,
    /// Group's name on the captured host.
    pub group: Option<String>,
    /// Inode number; hard links share it.
    pub inode: u64,
    /// Device the inode is on.
    pub device_id: u64,
    /// Size in bytes of a regular file.
    pub size_bytes: u64,
    /// How many hard links there are.
    pub links: u64,
    /// Extended attributes, names with their name space (`user.comment`).
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// Feeds one artifact's pieces to the archiver's blocking thread.
#[doc(hidden)]
#[derive(Debug)]
pub struct StreamReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    read: u64,
    ended: bool,
    path: PathBuf,
    state: Arc<CaptureState>,
}

impl io::Read for StreamReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            self.state.still_wanted()?;
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::End) => {
                    self.ended = true;
                    self.state.ended(&self.path, self.read, 0, true);
                }
                None => {
                    self.state.spoil(format!("{}: the stream broke off after {} bytes", self.path.display(), self.read));
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream broke off"));
                }
            }
        }
        let n = self.current.len().min(buf.len());
        self.current.copy_to_slice(&mut buf[..n]);
        self.read += n as u64;
        Ok(n)
    }
}

/// Counts a regular file's bytes and records how its reading ended.
#[derive(Debug)]
pub(crate) struct FileReader<R> {
    file: R,
    path: PathBuf,
    declared: u64,
    read: u64,
    state: Arc<CaptureState>,
}

impl<R: io::Read> io::Read for FileReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.state.still_wanted()?;
        match self.file.read(buf) {
            Ok(0) if !buf.is_empty() => {
                self.state.ended(&self.path, self.read, self.declared, false);
                Ok(0)
            }
            Ok(n) => {
                self.read += n as u64;
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.state.unreadable(&self.path, &error);
                Err(error)
            }
        }
    }
}

impl Entry {
    /// Opens what the archiver reads: the stream, or the file wrapped to be counted.
    pub(crate) fn open(
        kind: EntryKind,
        path: PathBuf,
        declared: u64,
        state: Arc<CaptureState>,
    ) -> io::Result<Box<dyn io::Read + Send>> {
        match kind {
            EntryKind::Stream(reader) => Ok(reader),
            // Not opened, so that a capture that was given up does not go through all its files.
            EntryKind::File(_) if state.is_given_up() => Err(given_up()),
            EntryKind::File(open) => match open() {
                Ok(file) => Ok(Box::new(FileReader { file, path, declared, read: 0, state })),
                Err(error) => {
                    state.unreadable(&path, &error);
                    Err(error)
                }
            },
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "this entry has no content")),
        }
    }
}

fn given_up() -> io::Error {
    // Not `Interrupted`: a reader that meets that tries again.
    io::Error::new(io::ErrorKind::BrokenPipe, "the capture was given up")
}

/// What is known of a running capture: shared by its writers, its readers and the commit gate.
#[derive(Debug)]
pub(crate) struct CaptureState {
    pub(crate) started: Timestamp,
    poison: Arc<AtomicBool>,
    stop: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    opened: u64,
    records: BTreeMap<PathBuf, ArtifactRecord>,
    delivered: BTreeMap<PathBuf, u64>,
    /// True sizes of files whose length was not what their entry declared.
    sizes: HashMap<PathBuf, u64>,
    entries: u64,
    unreadable: u64,
    totals: TreeTotals,
    server: Option<ServerInfo>,
    consistency: Option<Consistency>,
    details: BTreeMap<String, Value>,
    incomplete: Vec<Incomplete>,
    spoiled: Option<String>,
}

/// A capture that ended well, as the commit needs it.
#[derive(Clone, Debug)]
pub(crate) struct CaptureOutcome {
    pub(crate) artifacts: Vec<ArtifactRecord>,
    /// True size of every entry whose declared size is wrong.
    pub(crate) sizes: HashMap<PathBuf, u64>,
    /// Files, links and devices that must be in the tree.
    pub(crate) entries: u64,
    pub(crate) tree: TreeTotals,
    pub(crate) server: Option<ServerInfo>,
    pub(crate) consistency: Consistency,
    pub(crate) details: BTreeMap<String, Value>,
    pub(crate) incomplete: Vec<Incomplete>,
}

impl CaptureState {
    /// A new capture: the source's end, and the entries the archiver pulls. `poison` is raised when anything goes wrong.
    pub(crate) fn begin(poison: Arc<AtomicBool>, cancel: CancellationToken) -> (Capture, mpsc::Receiver<Entry>, Arc<Self>) {
        let state = Arc::new(Self { started: Timestamp::now(), poison, stop: cancel.clone(), inner: Mutex::default() });
        let (entries, receiver) = mpsc::channel(ENTRIES_IN_FLIGHT);
        (Capture { entries, state: state.clone(), last: PathBuf::new(), cancel }, receiver, state)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held leaves counters that are at worst stale; the poison flag still vetoes the commit.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Records why the capture can no longer be committed; the first reason is kept.
    pub(crate) fn spoil(&self, why: String) {
        self.poison.store(true, Ordering::SeqCst);
        self.lock().spoiled.get_or_insert(why);
    }

    /// Whether nothing that is still read can reach a snapshot: the capture was spoiled or cancelled.
    pub(crate) fn is_given_up(&self) -> bool {
        self.poison.load(Ordering::SeqCst) || self.stop.is_cancelled()
    }

    /// An error once the capture was given up. rustic_core has no cancellation: it ends early only when its readers fail.
    fn still_wanted(&self) -> io::Result<()> {
        if self.is_given_up() { Err(given_up()) } else { Ok(()) }
    }

    /// Why the capture cannot be committed, if something happened already.
    pub(crate) fn spoiled(&self) -> Option<String> {
        self.lock().spoiled.clone()
    }

    fn count(&self, entry: &Entry) {
        let mut inner = self.lock();
        match entry.kind {
            EntryKind::Directory => inner.totals.directories += 1,
            EntryKind::Stream(_) => inner.entries += 1,
            EntryKind::File(_) => {
                inner.entries += 1;
                inner.totals.files += 1;
                inner.totals.size_bytes += entry.meta.size_bytes;
            }
            _ => {
                inner.entries += 1;
                inner.totals.others += 1;
            }
        }
    }

    fn ended(&self, path: &Path, read: u64, declared: u64, stream: bool) {
        let mut inner = self.lock();
        if stream {
            inner.delivered.insert(path.to_path_buf(), read);
        } else {
            inner.totals.size_bytes = (inner.totals.size_bytes + read).saturating_sub(declared);
        }
        if read != declared {
            inner.sizes.insert(path.to_path_buf(), read);
        }
    }

    fn unreadable(&self, path: &Path, error: &io::Error) {
        let mut inner = self.lock();
        inner.unreadable += 1;
        inner.totals.files = inner.totals.files.saturating_sub(1);
        inner.incomplete.push(Incomplete { what: path.to_string_lossy().into_owned(), why: error.to_string() });
    }

    /// Closes the books. An error says why this capture must not be committed.
    pub(crate) fn conclude(&self) -> Result<CaptureOutcome, String> {
        let mut inner = std::mem::take(&mut *self.lock());
        if let Some(why) = inner.spoiled {
            return Err(why);
        }
        if inner.opened != inner.records.len() as u64 {
            return Err(format!("{} artifacts were opened but {} ended well", inner.opened, inner.records.len()));
        }
        for (path, record) in &inner.records {
            if inner.delivered.remove(path) != Some(record.size_bytes) {
                return Err(format!("{}: the repository did not read it to its end", record.path));
            }
        }
        let consistency = inner.consistency.unwrap_or(Consistency {
            grade: if inner.records.is_empty() { ConsistencyGrade::PerFile } else { ConsistencyGrade::PerCollection },
            at: self.started,
            note: None,
        });
        Ok(CaptureOutcome {
            artifacts: inner.records.into_values().collect(),
            sizes: inner.sizes,
            entries: inner.entries - inner.unreadable,
            tree: inner.totals,
            server: inner.server,
            consistency,
            details: inner.details,
            incomplete: inner.incomplete,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn begin() -> (Capture, mpsc::Receiver<Entry>, Arc<CaptureState>) {
        CaptureState::begin(Arc::default(), CancellationToken::new())
    }

    fn path(name: &str) -> ArtifactPath {
        ArtifactPath::join(["t", name]).unwrap()
    }

    /// Reads every stream to its end on a thread of its own, as the archiver does.
    fn drain(mut entries: mpsc::Receiver<Entry>) -> std::thread::JoinHandle<Vec<(PathBuf, io::Result<Vec<u8>>)>> {
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            while let Some(entry) = entries.blocking_recv() {
                if let EntryKind::Stream(mut reader) = entry.kind {
                    let mut bytes = Vec::new();
                    seen.push((entry.path, reader.read_to_end(&mut bytes).map(|_| bytes)));
                }
            }
            seen
        })
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_and_is_recorded() {
        let (mut capture, entries, state) = begin();
        let reader = drain(entries);
        let body = Bytes::from(vec![7; 3 * PIECE_BYTES + 11]);
        capture.whole(path("a"), body.clone(), Some(3)).await.unwrap();
        capture.whole(path("b"), Bytes::new(), None).await.unwrap();
        drop(capture);
        let seen = reader.join().unwrap();
        assert_eq!(seen[0].1.as_ref().unwrap(), &body);
        assert!(seen[1].1.as_ref().unwrap().is_empty());
        let outcome = state.conclude().unwrap();
        assert_eq!(outcome.artifacts[0].sha256, ByteDigest::of(&body));
        assert_eq!(outcome.artifacts[0].items, Some(3));
        assert_eq!(outcome.sizes[Path::new("/t/a")], body.len() as u64);
        assert_eq!(outcome.tree.directories, 1, "the parent directory is made up once");
    }

    #[tokio::test]
    async fn a_dropped_writer_spoils_the_capture_and_breaks_the_stream() {
        let (mut capture, entries, state) = begin();
        let reader = drain(entries);
        let mut writer = capture.artifact(path("a")).await.unwrap();
        writer.write(Bytes::from_static(b"half")).await.unwrap();
        drop(writer);
        drop(capture);
        assert!(reader.join().unwrap()[0].1.is_err());
        assert!(state.conclude().unwrap_err().contains("/t/a"));
    }

    #[tokio::test]
    async fn a_stream_nobody_read_to_its_end_is_not_committed() {
        let (mut capture, mut entries, state) = begin();
        capture.whole(path("a"), Bytes::from_static(b"abc"), None).await.unwrap();
        drop(capture);
        while entries.recv().await.is_some() {}
        assert!(state.conclude().unwrap_err().contains("did not read it to its end"));
    }

    #[tokio::test]
    async fn a_cancelled_capture_stops_in_the_middle_of_a_file() {
        let stop = CancellationToken::new();
        let (_capture, _entries, state) = CaptureState::begin(Arc::default(), stop.clone());
        let endless = EntryKind::File(Box::new(|| Ok(Box::new(io::repeat(7)))));
        let mut reader = Entry::open(endless, "/a".into(), 0, state.clone()).unwrap();
        assert_eq!(reader.read(&mut [0; 9]).unwrap(), 9);
        stop.cancel();
        assert_eq!(reader.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let another = EntryKind::File(Box::new(|| panic!("it is not even opened")));
        assert!(Entry::open(another, "/b".into(), 0, state.clone()).is_err());
        assert!(state.conclude().unwrap().incomplete.is_empty(), "that is not a fault of the file");
    }

    #[tokio::test]
    async fn paths_must_ascend() {
        let (mut capture, entries, _state) = begin();
        let reader = drain(entries);
        capture.whole(path("b"), Bytes::new(), None).await.unwrap();
        let error = capture.artifact(path("a")).await.unwrap_err();
        assert!(error.to_string().contains("must ascend"), "{error}");
        drop(capture);
        reader.join().unwrap();
    }

    #[test]
    fn components_that_could_leave_their_place_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(ArtifactPath::join(["t", bad]).is_err(), "{bad:?}");
        }
    }
}
