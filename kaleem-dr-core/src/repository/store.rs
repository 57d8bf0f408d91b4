//! Bytes by key: the object store under a repository.
//!
//! [`ObjectStore`] is the seam; [`OpendalStore`] is the store for disks and S3 buckets. Wrappers (a recorder, a fault
//! injector) are stores too. A list is all or nothing: what a listing leaves out, prune would take for garbage.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use opendal::{
    Buffer, EntryMode, ErrorKind, Operator,
    layers::{ConcurrentLimitLayer, RetryLayer, TimeoutLayer},
    services,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::source::Cause;

/// Longest wait for an answer to a request that moves no body.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait for one read or write of a body to make progress.
const IO_TIMEOUT: Duration = Duration::from_mins(2);
/// Requests under way at once.
const CONCURRENCY: usize = 32;
/// Tries after the first, with jitter, for errors the service calls temporary.
const RETRIES: usize = 4;
/// Objects above this size go to S3 in parts of [`PART_BYTES`]; R2 wants all parts but the last equal.
const MULTIPART_ABOVE: usize = 16 << 20;
const PART_BYTES: usize = 8 << 20;
/// Parts of an object that is streamed, of unknown length: S3 takes 10,000 at most, so objects up to 156 GiB.
const STREAMED_PART_BYTES: usize = 16 << 20;
/// Without its default features, OpenDAL has no HTTP transport until one is installed.
static HTTP_TRANSPORT: Once = Once::new();
/// Where half-written objects of a repository on disk lie until they are renamed into place.
pub(crate) const TEMPORARY_DIRECTORY: &str = "tmp";

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key, such as `data/ab/ab12…`.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
    /// When it was written, where the store tells.
    pub modified: Option<Timestamp>,
}

/// Bytes by key. Keys are `/`-separated and relative to the store's root.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync + 'static {
    /// The store in words, without credentials.
    fn location(&self) -> String;

    /// Every object below a directory, at any depth, in no order.
    ///
    /// # Errors
    /// When any part of the listing failed: a short list is never returned.
    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError>;

    /// An object's bytes, or a range of them.
    ///
    /// # Errors
    /// [`StoreError::is_not_found`] when there is none; an error when fewer bytes came than were asked for.
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError>;

    /// Writes an object whole: readers see all of it or nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError>;

    /// Begins an object that comes piece by piece, for those too large to hold in memory.
    ///
    /// # Errors
    /// When it cannot be begun.
    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// An object's length, or `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError>;
}

/// An object on its way into a store. Nobody sees it before [`ObjectWriter::finish`]; dropped or aborted, it never was.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Adds bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the object visible, whole.
    ///
    /// # Errors
    /// When it cannot be.
    async fn finish(&mut self) -> Result<(), StoreError>;

    /// Gives it up, and takes away what was written.
    async fn abort(&mut self);
}

/// What failed in a store, on which object.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {key} in {location}")]
pub struct StoreError {
    /// `list`, `read`, `write`, `delete`, `stat`.
    pub action: &'static str,
    /// The object or directory.
    pub key: String,
    /// The store, in words.
    pub location: String,
    /// Whether the object (or the bucket) is not there.
    not_found: bool,
    #[source]
    cause: Cause,
}

impl StoreError {
    /// An error of a store of one's own.
    pub fn new(action: &'static str, key: &str, location: String, not_found: bool, cause: impl Into<Cause>) -> Self {
        Self { action, key: key.to_owned(), location, not_found, cause: cause.into() }
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.not_found
    }
}

/// How to reach an S3 bucket.
#[derive(Clone, Debug)]
pub struct S3Access {
    /// Service address, such as `https://<account>.r2.cloudflarestorage.com`.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Key prefix of the repository; empty for the bucket's root.
    pub prefix: String,
    /// Region; R2 takes `auto`.
    pub region: String,
    /// Access key id.
    pub access_key_id: SecretString,
    /// Secret access key.
    pub secret_access_key: SecretString,
}

/// A directory on disk or an S3 bucket, through OpenDAL with time-outs, retries and a limit on concurrency.
#[derive(Clone, Debug)]
pub struct OpendalStore {
    operator: Operator,
    location: String,
    directory: Option<PathBuf>,
}

impl OpendalStore {
    /// A directory on disk. It must exist: opening must never make an empty one where a disk is not mounted.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn directory(path: &Path) -> Result<Self, StoreError> {
        let location = path.display().to_string();
        let failed = |not_found, cause: Cause| StoreError::new("open", ".", location.clone(), not_found, cause);
        let root = path.canonicalize().map_err(|cause| failed(cause.kind() == std::io::ErrorKind::NotFound, cause.into()))?;
        let text = root.to_str().ok_or_else(|| failed(false, "the path is not UTF-8".into()))?;
        let service = services::Fs::default().root(text).atomic_write_dir(&format!("{text}/{TEMPORARY_DIRECTORY}"));
        let operator = Operator::new(service).map_err(|cause| failed(false, cause.into()))?;
        Ok(Self { operator: layered(operator), location, directory: Some(root) })
    }

    /// A bucket of an S3 service, addressed path-style, without checksum headers (R2 refuses trailing ones).
    ///
    /// # Errors
    /// When the access data make no sense.
    pub fn s3(access: &S3Access) -> Result<Self, StoreError> {
        let location = format!("s3:{}/{}/{}", access.endpoint, access.bucket, access.prefix);
        HTTP_TRANSPORT.call_once(opendal::install_default);
        let service = services::S3::default()
            .endpoint(&access.endpoint)
            .bucket(&access.bucket)
            .root(&access.prefix)
            .region(&access.region)
            .access_key_id(access.access_key_id.expose_secret())
            .secret_access_key(access.secret_access_key.expose_secret())
            .disable_config_load()
            .disable_ec2_metadata();
        let operator = Operator::new(service).map_err(|cause| StoreError::new("open", ".", location.clone(), false, cause))?;
        Ok(Self { operator: layered(operator), location, directory: None })
    }

    fn failed(&self, action: &'static str, key: &str) -> impl FnOnce(opendal::Error) -> StoreError {
        let (key, location) = (key.to_owned(), self.location.clone());
        move |cause| StoreError { action, key, location, not_found: cause.kind() == ErrorKind::NotFound, cause: cause.into() }
    }

    /// A file is synced before its rename; the rename itself lasts only once its directory is.
    async fn sync_directory(&self, key: &str) -> Result<(), StoreError> {
        let Some(parent) = self.directory.as_ref().and_then(|root| root.join(key).parent().map(Path::to_path_buf)) else {
            return Ok(());
        };
        let synced = tokio::task::spawn_blocking(move || std::fs::File::open(parent)?.sync_all()).await;
        let failed = |cause: Cause| StoreError::new("write", key, self.location.clone(), false, cause);
        synced.map_err(|cause| failed(cause.into()))?.map_err(|cause| failed(cause.into()))
    }
}

/// An object that OpenDAL takes in parts (S3), or in a file beside its place (disk).
struct OpendalWriter {
    writer: opendal::Writer,
    store: OpendalStore,
    key: String,
}

#[async_trait]
impl ObjectWriter for OpendalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.writer.write(bytes).await.map_err(self.store.failed("write", &self.key))
    }

    async fn finish(&mut self) -> Result<(), StoreError> {
        self.writer.close().await.map_err(self.store.failed("write", &self.key))?;
        self.store.sync_directory(&self.key).await
    }

    async fn abort(&mut self) {
        if let Err(error) = self.writer.abort().await {
            tracing::debug!(key = %self.key, %error, "what was written of an object could not be taken away");
        }
    }
}

fn layered(operator: Operator) -> Operator {
    operator
        .layer(TimeoutLayer::new().with_timeout(CALL_TIMEOUT).with_io_timeout(IO_TIMEOUT))
        .layer(RetryLayer::new().with_max_times(RETRIES).with_jitter().with_min_delay(Duration::from_millis(200)))
        .layer(ConcurrentLimitLayer::new(CONCURRENCY))
}

#[async_trait]
impl ObjectStore for OpendalStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        if let Some(root) = &self.directory {
            // OpenDAL lists a directory that is not there, or is no directory, as empty.
            let path = root.join(directory);
            let failed = |cause: std::io::Error| {
                StoreError::new("list", directory, self.location.clone(), cause.kind() == std::io::ErrorKind::NotFound, cause)
            };
            if !tokio::fs::metadata(&path).await.map_err(failed)?.is_dir() {
                return Err(StoreError::new("list", directory, self.location.clone(), false, "it is not a directory"));
            }
        }
        let prefix = format!("{directory}/");
        let mut lister = self.operator.lister_with(&prefix).recursive(true).await.map_err(self.failed("list", directory))?;
        let mut objects = Vec::new();
        while let Some(entry) = lister.try_next().await.map_err(self.failed("list", directory))? {
            match entry.metadata().mode() {
                EntryMode::FILE => {
                    let (key, meta) = entry.into_parts();
                    let modified = meta.last_modified().map(opendal::raw::Timestamp::into_inner);
                    objects.push(Object { key, size_bytes: meta.content_length(), modified });
                }
                EntryMode::DIR => {}
                EntryMode::Unknown => {
                    let why = format!("{} is neither a file nor a directory", entry.path());
                    return Err(StoreError::new("list", directory, self.location.clone(), false, why));
                }
            }
        }
        Ok(objects)
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let bytes = match range.clone() {
            Some(range) => self.operator.read_with(key).range(range).await,
            None => self.operator.read(key).await,
        }
        .map_err(self.failed("read", key))?
        .to_bytes();
        match range {
            Some(range) if range.end - range.start != bytes.len() as u64 => Err(StoreError::new(
                "read",
                key,
                self.location.clone(),
                false,
                format!("{} bytes came where {} were asked for", bytes.len(), range.end - range.start),
            )),
            _ => Ok(bytes),
        }
    }

    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        let buffer: Buffer = content.into_iter().collect();
        let failed = self.failed("write", key);
        if self.directory.is_none() && buffer.len() > MULTIPART_ABOVE {
            self.operator.write_with(key, buffer).chunk(PART_BYTES).concurrent(4).await.map_err(failed)?;
        } else {
            self.operator.write(key, buffer).await.map_err(failed)?;
        }
        self.sync_directory(key).await
    }

    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let writer = self.operator.writer_with(key);
        let writer = if self.directory.is_none() { writer.chunk(STREAMED_PART_BYTES).concurrent(2) } else { writer };
        let writer = writer.await.map_err(self.failed("write", key))?;
        Ok(Box::new(OpendalWriter { writer, store: self.clone(), key: key.to_owned() }))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.operator.delete(key).await.map_err(self.failed("delete", key))
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.operator.stat(key).await {
            Ok(meta) => Ok(Some(meta.content_length())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("stat", key)(error)),
        }
    }
}
