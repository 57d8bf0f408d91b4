//! The archiver's end of a capture: entries, and readers that record how they ended.

use std::{fmt, io, path::PathBuf, sync::Arc};

use bytes::{Buf as _, Bytes};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::state::{CaptureState, given_up};

/// A file-system entry as it goes into a snapshot.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Absolute path in the snapshot; any bytes but NUL.
    pub path: PathBuf,
    /// Type of the entry, and its content.
    pub kind: EntryKind,
    /// Attributes; an unknown one is `None` or 0.
    pub meta: EntryMeta,
}

impl Entry {
    /// An entry at an absolute path.
    pub fn new(path: impl Into<PathBuf>, kind: EntryKind, meta: EntryMeta) -> Self {
        Self { path: path.into(), kind, meta }
    }
}

/// The type of an entry.
pub enum EntryKind {
    /// A regular file; the function opens it.
    File(OpenFile),
    /// A directory; its content follows as entries of its own.
    Directory,
    /// A symbolic link with its target.
    Symlink(PathBuf),
    /// A named pipe, recorded without content.
    Fifo,
    /// A socket, recorded without content.
    Socket,
    /// A character device and its number.
    CharDevice(u64),
    /// A block device and its number.
    BlockDevice(u64),
    /// An artifact's stream; created by [`Capture::artifact`](super::Capture::artifact) only.
    #[doc(hidden)]
    Stream(Box<StreamReader>),
}

/// Opens a file when the archiver reaches it.
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

/// An entry's attributes. Times are the file's own; `None` if unknown.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EntryMeta {
    /// Unix permission bits with set-id and sticky bits: `0o7777` at most.
    pub mode: u32,
    /// Last change of the content. A file whose name, size and mtime (and ctime, inode) equal the parent snapshot's is not read again.
    pub mtime: Option<Timestamp>,
    /// Last change of the attributes.
    pub ctime: Option<Timestamp>,
    /// Numeric id of the owner.
    pub uid: Option<u32>,
    /// Numeric id of the group.
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
    /// Number of hard links; 0 if unknown.
    pub links: u64,
    /// Extended attributes, names with their name space (`user.comment`).
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// A message from a writer to its reader.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, at most a piece's length.
    Data(Bytes),
    End,
}

/// Feeds one artifact's pieces to the archiver's blocking thread.
#[doc(hidden)]
#[derive(Debug)]
pub struct StreamReader {
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) current: Bytes,
    pub(super) read: u64,
    pub(super) ended: bool,
    pub(super) path: PathBuf,
    pub(super) state: Arc<CaptureState>,
}

impl io::Read for StreamReader {
    /// Fills the buffer, unless the stream ends: rustic_core 0.13's chunker shortens its buffer to the length of the last read, so
    /// that after a short read all later ones are as short.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            self.receive()?;
            if self.current.is_empty() {
                break;
            }
            let n = self.current.len().min(buf.len() - filled);
            self.current.copy_to_slice(&mut buf[filled..filled + n]);
            filled += n;
            self.read += n as u64;
        }
        Ok(filled)
    }
}

impl StreamReader {
    /// Waits for the next piece if the current one is used up. Leaves it empty at the end of the stream.
    fn receive(&mut self) -> io::Result<()> {
        while self.current.is_empty() && !self.ended {
            self.state.still_wanted()?;
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::End) => {
                    self.ended = true;
                    self.state.ended(&self.path, self.read, 0, true);
                }
                None => {
                    self.state.spoil(format!(
                        "{}: the stream broke off after {} bytes",
                        self.path.display(),
                        self.read
                    ));
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the stream broke off",
                    ));
                }
            }
        }
        Ok(())
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
    /// Opens the archiver's input: the stream, or the file with a counter around it.
    pub(crate) fn open(
        kind: EntryKind,
        path: PathBuf,
        declared: u64,
        state: Arc<CaptureState>,
    ) -> io::Result<Box<dyn io::Read + Send>> {
        match kind {
            EntryKind::Stream(reader) => Ok(reader),
            // Not opened, so that an aborted capture does not read all of its files.
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
