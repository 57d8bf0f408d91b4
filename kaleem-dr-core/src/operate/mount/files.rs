//! The file system that the WebDAV library serves.

use std::{
    io::SeekFrom,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use dav_server::{
    davpath::DavPath,
    fs::{
        DavDirEntry, DavFile, DavFileSystem, DavMetaData, FsError, FsFuture, FsResult, FsStream,
        OpenOptions, ReadDirMeta,
    },
};
use futures::{FutureExt as _, StreamExt as _, future, stream};

use super::tree::{Found, SnapshotTree};
use crate::{
    engine::repository::{FileReader, RepositoryError, SnapshotReader, TreeEntry, TreeEntryKind},
    ground::error_chain,
};

/// Snapshots as a file system. Links, sockets and devices are left out: WebDAV has none.
#[derive(Clone)]
pub(super) struct SnapshotFiles(SnapshotTree);

/// The attributes of an entry.
#[derive(Clone, Debug)]
struct Attributes {
    is_dir: bool,
    size_bytes: u64,
    modified: Option<SystemTime>,
}

struct NamedEntry {
    name: Vec<u8>,
    attributes: Attributes,
}

#[derive(Debug)]
struct OpenedFile {
    reader: FileReader,
    attributes: Attributes,
}

impl Attributes {
    const DIRECTORY: Self = Self { is_dir: true, size_bytes: 0, modified: None };

    /// `None` for what WebDAV cannot show.
    fn of(entry: &TreeEntry) -> Option<Self> {
        let is_dir = match entry.kind() {
            TreeEntryKind::Directory => true,
            TreeEntryKind::File => false,
            _ => return None,
        };
        let modified = entry.mtime().map(SystemTime::from);
        Some(Self { is_dir, size_bytes: if is_dir { 0 } else { entry.size_bytes() }, modified })
    }
}

/// The entry that a path leads to.
enum Target {
    Above(Vec<String>),
    Root(Box<SnapshotReader>),
    Entry(Box<SnapshotReader>, Box<TreeEntry>, Attributes),
}

impl SnapshotFiles {
    pub(super) fn of(tree: SnapshotTree) -> Self {
        Self(tree)
    }

    async fn target(&self, path: &Path) -> FsResult<Target> {
        match self.0.find(path).await.map_err(|error| failed(&error))? {
            None => Err(FsError::NotFound),
            Some(Found::Above(names)) => Ok(Target::Above(names)),
            Some(Found::Within(reader, path)) if path == Path::new("/") => Ok(Target::Root(reader)),
            Some(Found::Within(reader, path)) => {
                let entry = reader.entry(&path).await.map_err(|error| failed(&error))?;
                let attributes = Attributes::of(&entry).ok_or(FsError::NotFound)?;
                Ok(Target::Entry(reader, Box::new(entry), attributes))
            }
        }
    }

    async fn list(&self, path: &Path) -> FsResult<Vec<NamedEntry>> {
        let (reader, directory) = match self.target(path).await? {
            Target::Above(names) => {
                let entry = |name: String| NamedEntry {
                    name: name.into(),
                    attributes: Attributes::DIRECTORY,
                };
                return Ok(names.into_iter().map(entry).collect());
            }
            Target::Root(reader) => (reader, PathBuf::from("/")),
            Target::Entry(reader, entry, attributes) if attributes.is_dir => (reader, entry.path),
            Target::Entry(..) => return Err(FsError::Forbidden),
        };
        let mut walk = reader.entries(std::slice::from_ref(&directory), false);
        let mut found = Vec::new();
        while let Some(entry) = walk.next().await {
            let entry = entry.map_err(|error| failed(&error))?;
            // The directory itself comes before its content.
            if entry.path == directory {
                continue;
            }
            if let Some(attributes) = Attributes::of(&entry) {
                found.push(NamedEntry { name: entry.name().as_bytes().to_vec(), attributes });
            }
        }
        Ok(found)
    }
}

/// The library's error has no text, so the log has it.
fn failed(error: &RepositoryError) -> FsError {
    if let RepositoryError::NoPath { .. } = error {
        return FsError::NotFound;
    }
    tracing::error!(error = %error_chain(error), "cannot be read");
    FsError::GeneralFailure
}

impl DavFileSystem for SnapshotFiles {
    fn open<'a>(
        &'a self,
        path: &'a DavPath,
        options: OpenOptions,
    ) -> FsFuture<'a, Box<dyn DavFile>> {
        async move {
            if options.write || options.append || options.create {
                return Err(FsError::Forbidden);
            }
            match self.target(path.as_rel_ospath()).await? {
                Target::Entry(reader, entry, attributes) if !attributes.is_dir => {
                    let reader = reader.open_file(&entry).await.map_err(|error| failed(&error))?;
                    Ok(Box::new(OpenedFile { reader, attributes }) as Box<dyn DavFile>)
                }
                _ => Err(FsError::Forbidden),
            }
        }
        .boxed()
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a DavPath,
        _meta: ReadDirMeta,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        async move {
            let found = self.list(path.as_rel_ospath()).await?;
            let boxed = |entry| Ok(Box::new(entry) as Box<dyn DavDirEntry>);
            Ok(stream::iter(found.into_iter().map(boxed)).boxed() as FsStream<_>)
        }
        .boxed()
    }

    fn metadata<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, Box<dyn DavMetaData>> {
        async move {
            let attributes = match self.target(path.as_rel_ospath()).await? {
                Target::Above(_) | Target::Root(_) => Attributes::DIRECTORY,
                Target::Entry(_, _, attributes) => attributes,
            };
            Ok(Box::new(attributes) as Box<dyn DavMetaData>)
        }
        .boxed()
    }
}

impl DavMetaData for Attributes {
    fn len(&self) -> u64 {
        self.size_bytes
    }

    fn modified(&self) -> FsResult<SystemTime> {
        self.modified.ok_or(FsError::NotImplemented)
    }

    fn is_dir(&self) -> bool {
        self.is_dir
    }
}

impl DavDirEntry for NamedEntry {
    fn name(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn metadata(&'_ self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let attributes = Box::new(self.attributes.clone()) as Box<dyn DavMetaData>;
        future::ready(Ok(attributes)).boxed()
    }
}

impl DavFile for OpenedFile {
    fn metadata(&'_ mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let attributes = Box::new(self.attributes.clone()) as Box<dyn DavMetaData>;
        future::ready(Ok(attributes)).boxed()
    }

    fn write_buf(&'_ mut self, _buf: Box<dyn bytes::Buf + Send>) -> FsFuture<'_, ()> {
        future::ready(Err(FsError::Forbidden)).boxed()
    }

    fn write_bytes(&'_ mut self, _bytes: Bytes) -> FsFuture<'_, ()> {
        future::ready(Err(FsError::Forbidden)).boxed()
    }

    fn read_bytes(&'_ mut self, count: usize) -> FsFuture<'_, Bytes> {
        async move { self.reader.read(count).await.map_err(|error| failed(&error)) }.boxed()
    }

    fn seek(&'_ mut self, to: SeekFrom) -> FsFuture<'_, u64> {
        let (base, by) = match to {
            SeekFrom::Start(offset) => (0, i64::try_from(offset).unwrap_or(i64::MAX)),
            SeekFrom::End(by) => (self.reader.size_bytes(), by),
            SeekFrom::Current(by) => (self.reader.offset(), by),
        };
        let offset = base.checked_add_signed(by).ok_or(FsError::GeneralFailure);
        if let Ok(offset) = offset {
            self.reader.seek(offset);
        }
        future::ready(offset).boxed()
    }

    fn flush(&'_ mut self) -> FsFuture<'_, ()> {
        future::ready(Ok(())).boxed()
    }
}
