//! A snapshot's files as a tar stream, as GNU tar reads it: pax headers where a plain one is too small.
//!
//! Owners, modes, times to the nanosecond, links of both kinds, devices and extended attributes are kept. Names are relative, so
//! that `tar -xzf FILE -C /` puts everything back. Sockets are left out, as every tar leaves them out.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use nix::sys::stat;
use rustic_core::repofile::{Node, NodeType};

use crate::{
    CancellationToken,
    engine::repository::{RepositoryError, SnapshotReader, blocking, go_mode},
    ground::{
        SourceError,
        progress::{ProgressSink, Unit},
    },
    recovery::{
        restore::{FilesReport, Item, Selection, Walk},
        staged::Sink,
        untar::{BLOCK_BYTES, encode_attribute, padding},
    },
};

/// Small pieces are gathered to this length.
const PIECE_BYTES: usize = 256 << 10;

/// A directory of a snapshot as a tar.
#[derive(Clone, Debug)]
pub struct TarOf<'a> {
    /// Absolute path of the directory; names in the tar are relative to it.
    pub directory: &'a Path,
    /// Leave out the files that each commit of ours adds.
    pub without_own_files: bool,
}

/// Writes everything below a directory of a snapshot (`/` for all of it) as a tar, without our own files in the root.
///
/// # Errors
/// As [`write_tar_of`].
pub async fn write_tar(
    snapshot: &SnapshotReader,
    directory: &Path,
    out: &mut Sink,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<FilesReport, SourceError> {
    write_tar_of(snapshot, &TarOf { directory, without_own_files: true }, out, progress, cancel)
        .await
}

/// Writes a directory of a snapshot as a tar. If the snapshot cannot be read to its end, what was written is a tar that no program
/// takes for a whole one.
///
/// # Errors
/// If the snapshot cannot be read; [`SourceError::Aborted`] if the sink failed.
pub async fn write_tar_of(
    snapshot: &SnapshotReader,
    of: &TarOf<'_>,
    out: &mut Sink,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<FilesReport, SourceError> {
    let directory = of.directory;
    let stage = progress.begin("writing the tar", Unit::Bytes, None);
    let mut tar = Tar {
        out,
        buffer: BytesMut::new(),
        first_links: HashMap::new(),
        report: FilesReport::default(),
    };
    let mut walk = begin(snapshot, of).await?;
    loop {
        let (items, next) = match window(walk).await {
            Ok(read) => read,
            Err(error) => return Err(tar.spoil(error).await),
        };
        walk = next;
        if items.is_empty() {
            break;
        }
        let entries = tar.entries(items, directory);
        let content = entries
            .iter()
            .filter(|entry| entry.link.is_none())
            .flat_map(|entry| entry.item.blobs.clone())
            .collect();
        let mut content = snapshot.stream_places(content);
        for entry in entries {
            if cancel.is_cancelled() {
                return Err(SourceError::Cancelled);
            }
            tar.header(&entry).await?;
            if entry.link.is_some() {
                continue;
            }
            for _ in &entry.item.blobs {
                let broken = || {
                    SourceError::Point(
                        format!("{}: its content broke off", entry.item.target.display()).into(),
                    )
                };
                let blob = match content.recv().await {
                    Some(Ok(blob)) => blob,
                    Some(Err(error)) => return Err(tar.break_off(point(error)).await),
                    None => return Err(tar.break_off(broken()).await),
                };
                stage.advance(blob.len() as u64);
                tar.put(blob).await?;
            }
            tar.pad(entry.item.size_bytes()).await?;
        }
    }
    let report = tar.finish().await?;
    stage.finish();
    Ok(report)
}

async fn begin(snapshot: &SnapshotReader, of: &TarOf<'_>) -> Result<Walk, SourceError> {
    let snapshot = snapshot.clone();
    let selection = Selection::below(of.directory, of.without_own_files);
    blocking(move || Walk::new(snapshot, selection, PathBuf::from("/"))).await.map_err(point)
}

async fn window(mut walk: Walk) -> Result<(Vec<Item>, Walk), SourceError> {
    blocking(move || Ok((walk.window()?, walk))).await.map_err(point)
}

fn point(error: RepositoryError) -> SourceError {
    SourceError::Point(error.into())
}

/// A node that is written to the tar.
struct Entry {
    item: Item,
    name: PathBuf,
    /// Name in the tar of the file of which it is another name.
    link: Option<OsString>,
}

struct Tar<'a> {
    out: &'a mut Sink,
    buffer: BytesMut,
    /// Name in the tar of each hard-linked inode's first path.
    first_links: HashMap<(u64, u64), OsString>,
    report: FilesReport,
}

impl Tar<'_> {
    /// The entries of a window that go into the tar. The directory itself and those above it do not.
    fn entries(&mut self, items: Vec<Item>, directory: &Path) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            let Ok(name) = item.target.strip_prefix(directory) else { continue };
            if name.as_os_str().is_empty() {
                continue;
            }
            if item.node.node_type == NodeType::Socket {
                tracing::info!(path = %item.target.display(), "a tar cannot contain sockets");
                continue;
            }
            let name = name.to_path_buf();
            let mut link = None;
            if let Some(inode) = item.inode().filter(|_| item.node.is_file()) {
                link = self.first_links.get(&inode).cloned();
                if link.is_none() {
                    self.first_links.insert(inode, name.clone().into_os_string());
                }
            }
            entries.push(Entry { item, name, link });
        }
        entries
    }

    async fn header(&mut self, entry: &Entry) -> Result<(), SourceError> {
        let size = if entry.link.is_some() { 0 } else { entry.item.size_bytes() };
        match (&entry.item.node.node_type, &entry.link) {
            (NodeType::File, None) => {
                self.report.files += 1;
                self.report.size_bytes += size;
            }
            (NodeType::File, Some(_)) => self.report.links += 1,
            (NodeType::Dir, _) => self.report.directories += 1,
            _ => self.report.others += 1,
        }
        let header = header(&entry.item.node, entry.name.as_os_str(), entry.link.as_deref(), size);
        self.put(header.into()).await
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), SourceError> {
        if bytes.len() >= PIECE_BYTES {
            self.flush().await?;
            return self.out.write(bytes).await;
        }
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn pad(&mut self, size: u64) -> Result<(), SourceError> {
        let padding = usize::try_from(padding(size)).unwrap_or_default();
        self.put(Bytes::from_static(&[0; BLOCK_BYTES]).slice(..padding)).await
    }

    async fn flush(&mut self) -> Result<(), SourceError> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            self.out.write(self.buffer.split().freeze()).await
        }
    }

    /// Writes what is buffered: the header of a member whose content does not follow, which every reader of tars reports.
    async fn break_off(&mut self, error: SourceError) -> SourceError {
        // The sink's own failure is not the first one.
        let _ = self.flush().await;
        error
    }

    /// Writes a block that is neither a header nor the end. Between members, many readers take a tar that just ends for a whole one.
    async fn spoil(&mut self, error: SourceError) -> SourceError {
        let _ = self.put(Bytes::from_static(&[b'!'; BLOCK_BYTES])).await;
        self.break_off(error).await
    }

    async fn finish(mut self) -> Result<FilesReport, SourceError> {
        self.put(Bytes::from_static(&[0; 2 * BLOCK_BYTES])).await?;
        self.flush().await?;
        Ok(self.report)
    }
}

/// The header of one member, with a pax header before it where it needs one.
fn header(node: &Node, name: &OsStr, link: Option<&OsStr>, size: u64) -> Vec<u8> {
    let meta = &node.meta;
    let (kind, to, device) = match &node.node_type {
        NodeType::File if link.is_some() => (b'1', link.map(OsStr::to_owned), 0),
        NodeType::File | NodeType::Socket => (b'0', None, 0),
        NodeType::Dir => (b'5', None, 0),
        symlink @ NodeType::Symlink { .. } => {
            (b'2', Some(symlink.to_link().as_os_str().to_owned()), 0)
        }
        NodeType::Chardev { device } => (b'3', None, *device),
        NodeType::Dev { device } => (b'4', None, *device),
        NodeType::Fifo => (b'6', None, 0),
    };
    let mut name = name.as_bytes().to_vec();
    if kind == b'5' {
        name.push(b'/');
    }
    let mut block = Block::new(kind);
    let mut pax = Pax::default();
    pax.text(&mut block, 0..100, "path", &name);
    pax.text(&mut block, 157..257, "linkpath", to.as_deref().unwrap_or_default().as_bytes());
    block.number(100..108, meta.mode.map_or(0, go_mode::to_unix).into());
    pax.number(&mut block, 108..116, "uid", meta.uid.unwrap_or_default().into());
    pax.number(&mut block, 116..124, "gid", meta.gid.unwrap_or_default().into());
    pax.number(&mut block, 124..136, "size", size);
    pax.text(&mut block, 265..297, "uname", meta.user.as_deref().unwrap_or_default().as_bytes());
    pax.text(&mut block, 297..329, "gname", meta.group.as_deref().unwrap_or_default().as_bytes());
    let nanoseconds = meta.mtime.as_ref().map_or(0, |mtime| mtime.as_nanosecond());
    pax.time(&mut block, nanoseconds);
    if device != 0 {
        block.number(329..337, stat::major(device));
        block.number(337..345, stat::minor(device));
    }
    for attribute in &meta.extended_attributes {
        let value = attribute.value.as_deref().unwrap_or_default();
        pax.record(&format!("SCHILY.xattr.{}", encode_attribute(&attribute.name)), value);
    }
    let mut bytes = pax.finish();
    bytes.extend_from_slice(&block.finish());
    bytes
}

/// A header block under construction.
struct Block([u8; BLOCK_BYTES]);

impl Block {
    fn new(kind: u8) -> Self {
        let mut block = [0; BLOCK_BYTES];
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        Self(block)
    }

    /// Writes octal digits and a NUL; returns false if they do not fit.
    fn number(&mut self, range: std::ops::Range<usize>, value: u64) -> bool {
        let width = range.len() - 1;
        let digits = format!("{value:0width$o}");
        let fits = digits.len() <= width;
        if fits {
            self.0[range][..width].copy_from_slice(digits.as_bytes());
        }
        fits
    }

    fn finish(mut self) -> [u8; BLOCK_BYTES] {
        self.0[148..156].copy_from_slice(b"        ");
        let sum: u64 = self.0.iter().map(|&byte| u64::from(byte)).sum();
        // 512 bytes sum up to six octal digits at most.
        self.0[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0
    }
}

/// Records for values that do not fit into a header block.
#[derive(Default)]
struct Pax(Vec<u8>);

impl Pax {
    fn text(&mut self, block: &mut Block, range: std::ops::Range<usize>, key: &str, value: &[u8]) {
        let taken = value.len().min(range.len());
        block.0[range][..taken].copy_from_slice(&value[..taken]);
        if taken < value.len() {
            self.record(key, value);
        }
    }

    fn number(&mut self, block: &mut Block, range: std::ops::Range<usize>, key: &str, value: u64) {
        if !block.number(range.clone(), value) {
            block.number(range, 0);
            self.record(key, value.to_string().as_bytes());
        }
    }

    fn time(&mut self, block: &mut Block, nanoseconds: i128) {
        let (second, rest) =
            (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
        let fits = u64::try_from(second).is_ok_and(|second| block.number(136..148, second));
        if !fits {
            block.number(136..148, 0);
        }
        if !fits || rest != 0 {
            let sign = if nanoseconds < 0 { "-" } else { "" };
            let (second, rest) =
                (nanoseconds.abs() / 1_000_000_000, nanoseconds.abs() % 1_000_000_000);
            self.record("mtime", format!("{sign}{second}.{rest:09}").as_bytes());
        }
    }

    /// `LENGTH KEY=VALUE\n`; the length counts its own digits.
    fn record(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// The complete pax header; empty if no record is needed.
    fn finish(self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut block = Block::new(b'x');
        block.0[..10].copy_from_slice(b"PaxHeaders");
        block.number(100..108, 0o644);
        block.number(124..136, self.0.len() as u64);
        let mut bytes = block.finish().to_vec();
        bytes.extend_from_slice(&self.0);
        let padding = usize::try_from(padding(self.0.len() as u64)).unwrap_or_default();
        bytes.resize(bytes.len() + padding, 0);
        bytes
    }
}
