//! The store based on OpenDAL: a directory, or a bucket.

#[cfg(feature = "s3")]
mod bucket_operator;
mod operator;
mod writers;

use std::{
    collections::HashSet,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use opendal::{Buffer, EntryMode, ErrorKind, Metadata, Operator, services};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use self::writers::{BucketWriter, DiskWriter};
use super::{
    BasicStore, Object, ObjectStore, ObjectWriter, StoreError, StoreErrorKind, Tuning,
    deferred_sync::DeferredSync,
    integrity::{PartDigests, Sent, WHOLE_MD5},
    object_store::read_each,
    opendal_error,
    temporary::Temporary,
};
#[cfg(feature = "s3")]
use super::{S3Access, region};
use crate::ground::{Cause, failpoint, failpoint::Step};

/// Objects above this size go to S3 in parts of [`PART_BYTES`]; R2 wants all parts but the last equal.
const MULTIPART_ABOVE: usize = 48 << 20;
const PART_BYTES: usize = 8 << 20;
/// Part size of a streamed object of unknown length, in bytes: S3 accepts at most 10,000 parts, so objects up to 156 GiB.
const STREAMED_PART_BYTES: usize = 16 << 20;
/// Limit for one read when an object is compared with what was sent, in bytes.
const COMPARE_BYTES: u64 = 8 << 20;

/// A directory on disk or an S3 bucket, through OpenDAL with time-outs, retries and a limit on concurrency.
#[derive(Clone, Debug)]
pub struct OpendalStore {
    /// That of a bucket is created at the first request, because its region may have to be requested.
    operator: Arc<OnceCell<Operator>>,
    location: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(Directory),
    #[cfg(feature = "s3")]
    Bucket(Arc<S3Access>),
}

#[derive(Clone, Debug)]
struct Directory {
    root: PathBuf,
    temporary: Temporary,
    /// Writes that are not durable yet.
    deferred: DeferredSync,
}

impl OpendalStore {
    /// A directory on disk. It must exist: opening must never create an empty one where a disk is not mounted.
    ///
    /// # Errors
    /// If it is not a directory.
    pub fn directory(path: &Path) -> Result<Self, StoreError> {
        let location = path.display().to_string();
        let failed = |not_found, cause: Cause| {
            StoreError::new("open", ".", location.clone(), not_found, cause)
        };
        let root = path
            .canonicalize()
            .map_err(|cause| failed(cause.kind() == std::io::ErrorKind::NotFound, cause.into()))?;
        let text = root.to_str().ok_or_else(|| failed(false, "the path is not UTF-8".into()))?;
        let operator = Operator::new(services::Fs::default().root(text))
            .map_err(|cause| failed(false, cause.into()))?;
        let operator =
            OnceCell::new_with(Some(operator::layered(operator, &location, &Tuning::default())));
        let place = Place::Directory(Directory {
            temporary: Temporary::of(root.clone()),
            root,
            deferred: DeferredSync::default(),
        });
        Ok(Self { operator: Arc::new(operator), location, place })
    }

    /// A bucket of an S3 service, addressed path-style, without checksum headers (R2 rejects trailing ones).
    ///
    /// # Errors
    /// If the access settings are invalid.
    #[cfg(feature = "s3")]
    pub fn s3(access: &S3Access) -> Result<Self, StoreError> {
        // Independent of the region, everything else is checked now.
        let operator = bucket_operator::of_bucket(access, &access.region)?;
        let operator = OnceCell::new_with((!region::is_unknown(access)).then_some(operator));
        let place = Place::Bucket(Arc::new(access.clone()));
        Ok(Self { operator: Arc::new(operator), location: access.location(), place })
    }

    /// The operator that requests use.
    async fn operator(&self) -> Result<&Operator, StoreError> {
        let make = || async {
            match &self.place {
                Place::Directory(_) => unreachable!("that of a directory is made with the store"),
                #[cfg(feature = "s3")]
                Place::Bucket(access) => {
                    bucket_operator::of_bucket(access, &region::of(access).await?)
                }
            }
        };
        self.operator.get_or_try_init(make).await
    }

    fn is_bucket(&self) -> bool {
        self.on_disk().is_none()
    }

    fn on_disk(&self) -> Option<&Directory> {
        match &self.place {
            Place::Directory(directory) => Some(directory),
            #[cfg(feature = "s3")]
            Place::Bucket(_) => None,
        }
    }

    /// Writes an object only if it does not exist, provided that the service supports that condition. Otherwise it replaces an
    /// existing one.
    ///
    /// # Errors
    /// [`StoreErrorKind::Condition`] if it exists; other errors if it cannot be written.
    #[cfg(feature = "s3")]
    pub(crate) async fn write_new(&self, key: &str, content: Bytes) -> Result<(), StoreError> {
        self.operator()
            .await?
            .write_with(key, content)
            .if_not_exists(true)
            .await
            .map_err(self.failed("write", key))?;
        Ok(())
    }

    /// Reports whether a listing contains an object.
    ///
    /// # Errors
    /// If it cannot be listed.
    #[cfg(feature = "s3")]
    pub(crate) async fn has(&self, key: &str) -> Result<bool, StoreError> {
        // Without a slash at its end, a path is a prefix.
        let listed = self.operator().await?.list(key).await.map_err(self.failed("list", key))?;
        Ok(listed.iter().any(|entry| entry.path() == key))
    }

    fn failed(&self, action: &'static str, key: &str) -> impl FnOnce(opendal::Error) -> StoreError {
        let (key, location, is_bucket) = (key.to_owned(), self.location.clone(), self.is_bucket());
        move |cause| {
            let kind = match cause.kind() {
                _ if is_bucket => StoreErrorKind::of(&cause),
                ErrorKind::NotFound => StoreErrorKind::NotFound,
                _ => StoreErrorKind::Other,
            };
            // OpenDAL's own text has many lines. For a disk, the error of the operating system is kept as the kind.
            let words = opendal_error::in_words(&cause);
            let first: &(dyn std::error::Error + 'static) = &cause;
            let io = std::iter::successors(Some(first), |error| error.source())
                .find_map(|error| error.downcast_ref::<std::io::Error>().map(std::io::Error::kind));
            let cause: Cause = match io {
                Some(kind) if !is_bucket => std::io::Error::new(kind, words).into(),
                _ => words.into(),
            };
            StoreError { action, key, location, kind, cause }
        }
    }

    /// Confirms that the bucket stored what was sent; if it stored something else, deletes it.
    async fn confirm(
        &self,
        key: &str,
        meta: &Metadata,
        sent: &Sent,
        content: &[Bytes],
    ) -> Result<(), StoreError> {
        if meta.etag().is_some_and(|etag| sent.is_proven_by(etag)) {
            return Ok(());
        }
        tracing::debug!(
            key,
            etag = meta.etag(),
            "the ETag is not a digest of what was sent; reading the object back"
        );
        let found = self
            .operator()
            .await?
            .stat(key)
            .await
            .map_err(self.failed("read back", key))?
            .content_length();
        let mut digest = Sha256::new();
        let mut at = 0;
        while found == sent.size && at < found {
            let range = at..found.min(at + COMPARE_BYTES);
            let bytes = self.read(key, Some(range.clone())).await?;
            digest.update(&bytes);
            at = range.end;
        }
        if found == sent.size && digest.finalize()[..] == sent.sha256(content) {
            return Ok(());
        }
        let removed = self.operator().await?.delete(key).await;
        let then = if removed.is_ok() { "it was deleted" } else { "and it could not be deleted" };
        let why = format!(
            "what the service stored is not what was sent ({found} bytes of {}); {then}",
            sent.size
        );
        Err(StoreError::new("write", key, self.location.clone(), false, why))
    }

    /// An ordinary write must not refer to an object that a crash could lose.
    async fn sync_deferred(&self, key: &str) -> Result<(), StoreError> {
        let Some(deferred) = self
            .on_disk()
            .map(|disk| disk.deferred.clone())
            .filter(|deferred| !deferred.is_empty())
        else {
            return Ok(());
        };
        self.ended(key, tokio::task::spawn_blocking(move || deferred.sync()).await)
    }

    fn ended<T>(
        &self,
        key: &str,
        result: Result<std::io::Result<T>, tokio::task::JoinError>,
    ) -> Result<T, StoreError> {
        let failed =
            |cause: Cause| StoreError::new("write", key, self.location.clone(), false, cause);
        result.map_err(|panic| failed(panic.into()))?.map_err(|cause| failed(cause.into()))
    }
}

/// Reads a file, or the existing part of a range of it. Blocking.
fn read_file(path: &Path, range: Option<Range<u64>>) -> std::io::Result<Bytes> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let Range { start, end } = range.unwrap_or(0..length);
    let wanted = end.min(length).saturating_sub(start);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
    file.take(wanted).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

#[async_trait]
impl BasicStore for OpendalStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        if let Some(Directory { root, .. }) = self.on_disk() {
            // OpenDAL lists a path that does not exist, or is not a directory, as empty.
            let path = root.join(directory);
            let failed = |cause: std::io::Error| {
                StoreError::new(
                    "list",
                    directory,
                    self.location.clone(),
                    cause.kind() == std::io::ErrorKind::NotFound,
                    cause,
                )
            };
            if !tokio::fs::metadata(&path).await.map_err(failed)?.is_dir() {
                return Err(StoreError::new(
                    "list",
                    directory,
                    self.location.clone(),
                    false,
                    "it is not a directory",
                ));
            }
        }
        let prefix = format!("{directory}/");
        let mut lister = self
            .operator()
            .await?
            .lister_with(&prefix)
            .recursive(true)
            .await
            .map_err(self.failed("list", directory))?;
        let mut objects = Vec::new();
        let mut seen = HashSet::new();
        while let Some(entry) = lister.try_next().await.map_err(self.failed("list", directory))? {
            match entry.metadata().mode() {
                EntryMode::FILE => {
                    let (key, meta) = entry.into_parts();
                    if self.is_bucket() && !seen.insert(key.clone()) {
                        let why = format!(
                            "{key} is in the listing twice; the service's pages do not fit together"
                        );
                        return Err(StoreError::new(
                            "list",
                            directory,
                            self.location.clone(),
                            false,
                            why,
                        ));
                    }
                    let modified = meta.last_modified().map(opendal::raw::Timestamp::into_inner);
                    let etag = meta.etag().map(|etag| etag.trim_matches('"').to_ascii_lowercase());
                    objects.push(Object { key, size_bytes: meta.content_length(), modified, etag });
                }
                EntryMode::DIR => {}
                // A socket or a broken link that another program left.
                EntryMode::Unknown
                    if !crate::engine::repository::object_key::is_object_name(entry.path()) => {}
                EntryMode::Unknown => {
                    let why = format!("{} is neither a file nor a directory", entry.path());
                    return Err(StoreError::new(
                        "list",
                        directory,
                        self.location.clone(),
                        false,
                        why,
                    ));
                }
            }
        }
        Ok(objects)
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        failpoint::reach(Step::Read).await;
        let bytes = match (self.on_disk(), range.clone()) {
            (Some(Directory { root, .. }), range) => {
                let path = root.join(key);
                let read = tokio::task::spawn_blocking(move || read_file(&path, range)).await;
                let failed = |is_gone, cause: Cause| {
                    StoreError::new("read", key, self.location.clone(), is_gone, cause)
                };
                read.map_err(|panic| failed(false, panic.into()))?.map_err(|cause| {
                    failed(cause.kind() == std::io::ErrorKind::NotFound, cause.into())
                })?
            }
            (None, Some(range)) => self
                .operator()
                .await?
                .read_with(key)
                .range(range)
                .await
                .map_err(self.failed("read", key))?
                .to_bytes(),
            (None, None) => {
                self.operator().await?.read(key).await.map_err(self.failed("read", key))?.to_bytes()
            }
        };
        match range {
            Some(range) if range.end - range.start != bytes.len() as u64 => Err(StoreError::new(
                "read",
                key,
                self.location.clone(),
                false,
                format!(
                    "{} bytes came where {} were asked for",
                    bytes.len(),
                    range.end - range.start
                ),
            )
            .with_kind(StoreErrorKind::Short)),
            _ => Ok(bytes),
        }
    }

    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        let length: usize = content.iter().map(Bytes::len).sum();
        let failed = self.failed("write", key);
        if let Some(Directory { temporary, .. }) = self.on_disk() {
            self.sync_deferred(key).await?;
            let (temporary, name) = (temporary.clone(), key.to_owned());
            self.ended(
                key,
                tokio::task::spawn_blocking(move || temporary.write(&name, &content)).await,
            )?;
            failpoint::reach(Step::Write).await;
            return Ok(());
        }
        let part = if length > MULTIPART_ABOVE { PART_BYTES } else { usize::MAX };
        let sent = PartDigests::of(&content, part);
        // Clones of reference-counted buffers, not copies. OpenDAL 0.59's buffer never gets past an empty piece: the body of the
        // request would not end.
        let buffer: Buffer = content.iter().filter(|piece| !piece.is_empty()).cloned().collect();
        let meta = if length > MULTIPART_ABOVE {
            self.operator().await?.write_with(key, buffer).chunk(PART_BYTES).concurrent(4).await
        } else {
            WHOLE_MD5
                .scope(
                    sent.whole_md5().unwrap_or_default(),
                    self.operator().await?.write(key, buffer),
                )
                .await
        }
        .map_err(failed)?;
        self.confirm(key, &meta, &sent, &content).await
    }

    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.sync_deferred(key).await?;
        if let Some(Directory { temporary, .. }) = self.on_disk() {
            let (temporary, name) = (temporary.clone(), key.to_owned());
            let begun =
                self.ended(key, tokio::task::spawn_blocking(move || temporary.begin(&name)).await)?;
            return Ok(Box::new(DiskWriter {
                unplaced: Some(begun),
                store: self.clone(),
                key: key.to_owned(),
            }));
        }
        let writer =
            self.operator().await?.writer_with(key).chunk(STREAMED_PART_BYTES).concurrent(2);
        let writer = writer.await.map_err(self.failed("write", key))?;
        let digests = Some(PartDigests::of_stream(STREAMED_PART_BYTES));
        Ok(Box::new(BucketWriter { writer, store: self.clone(), key: key.to_owned(), digests }))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.operator().await?.delete(key).await.map_err(self.failed("delete", key))?;
        failpoint::reach(Step::Delete).await;
        Ok(())
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.operator().await?.stat(key).await {
            Ok(meta) => Ok(Some(meta.content_length())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("stat", key)(error)),
        }
    }
}

#[async_trait]
impl ObjectStore for OpendalStore {
    fn is_remote(&self) -> bool {
        self.is_bucket()
    }

    async fn read_many(&self, keys: Vec<String>) -> Result<Vec<Bytes>, StoreError> {
        let Some(root) = self.on_disk().map(|disk| disk.root.clone()) else {
            return read_each(self, keys).await;
        };
        // On disk, a thousand of them take a moment, and passing each to another thread takes much longer.
        let location = self.location.clone();
        let read = move |key: String| {
            read_file(&root.join(&key), None).map_err(|cause| {
                let is_gone = cause.kind() == std::io::ErrorKind::NotFound;
                StoreError::new("read", &key, location.clone(), is_gone, cause)
            })
        };
        let all = tokio::task::spawn_blocking(move || keys.into_iter().map(read).collect());
        all.await.map_err(|panic| {
            StoreError::new("read", "objects", self.location.clone(), false, panic)
        })?
    }

    async fn write_deferred(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        let Some(Directory { temporary, deferred, .. }) = self.on_disk().cloned() else {
            return self.write(key, content).await;
        };
        let name = key.to_owned();
        let written =
            tokio::task::spawn_blocking(move || deferred.write(&temporary, &name, &content));
        self.ended(key, written.await)?;
        failpoint::reach(Step::Write).await;
        Ok(())
    }

    async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let what = format!("{} objects", keys.len());
        self.operator().await?.delete_iter(keys).await.map_err(self.failed("delete", &what))
    }
}
