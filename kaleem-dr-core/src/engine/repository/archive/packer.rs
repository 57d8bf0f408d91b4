//! Collects new blobs in packs, and packs in index files (restic, `doc/design.rst`, "Pack Format" and "Indexing").
//!
//! The thread that fills a pack writes it, and while it does, the others fill the next one and then wait. So two packs of a kind
//! are in memory, however slow the store is.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::{
    FileType, Id, WriteBackend as _,
    repofile::{BlobType, ConfigFile},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::engine::repository::{RepositoryError, backend::Backend, crypto::RepositoryKey};

/// Limits of a pack, apart from its size.
const BLOBS_IN_PACK: usize = 10_000;
/// Limits of an index file: after these it is written, so that a run that breaks off leaves most of its packs indexed.
const BLOBS_IN_INDEX: usize = 50_000;
const INDEX_AGE: Duration = Duration::from_mins(5);

/// SHA-256 of a blob or an object, its name.
pub(super) fn id_of(bytes: &[u8]) -> Id {
    Id::new(Sha256::digest(bytes).into())
}

/// The destination of packs and index files, and the encoding of blobs.
pub(super) struct Output<'a> {
    pub(super) backend: &'a Backend,
    pub(super) key: &'a RepositoryKey,
    /// Format version of the repository.
    pub(super) version: u32,
    /// Level of zstd; `None` stores blobs uncompressed.
    pub(super) zstd: Option<i32>,
    /// Decode each blob before it is stored, and compare.
    pub(super) verifies: bool,
    /// Encode everything, write nothing.
    pub(super) is_dry_run: bool,
}

impl Output<'_> {
    fn write(&self, kind: FileType, bytes: Bytes) -> Result<Id, RepositoryError> {
        let id = id_of(&bytes);
        if !self.is_dry_run {
            self.backend
                .write_bytes(kind, &id, false, bytes.into())
                .map_err(RepositoryError::engine("write to"))?;
        }
        Ok(id)
    }
}

/// Encodes blobs; each thread has its own, and reuses its memory: an allocation of this size would otherwise be given back to
/// the system and faulted in again for each blob.
pub(super) struct Encoder<'a> {
    output: &'a Output<'a>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: zstd::bulk::Decompressor<'static>,
    zipped: Vec<u8>,
    encrypted: Vec<u8>,
    decrypted: Vec<u8>,
    decoded: Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(output: &'a Output<'a>) -> Result<Self, RepositoryError> {
        let compressor = output.zstd.map(zstd::bulk::Compressor::new).transpose().map_err(odd)?;
        Ok(Self {
            output,
            compressor,
            decompressor: zstd::bulk::Decompressor::new().map_err(odd)?,
            zipped: Vec::new(),
            encrypted: Vec::new(),
            decrypted: Vec::new(),
            decoded: Vec::new(),
        })
    }

    /// The encrypted bytes of a blob, and its length before compression if it is compressed.
    fn encode(&mut self, plain: &[u8]) -> Result<(&[u8], Option<u32>), RepositoryError> {
        let key = self.output.key;
        let Some(compressor) = &mut self.compressor else {
            key.encrypt_into(plain, &mut self.encrypted);
            return Ok((&self.encrypted, None));
        };
        self.zipped.clear();
        self.zipped.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        compressor.compress_to_buffer(plain, &mut self.zipped).map_err(odd)?;
        key.encrypt_into(&self.zipped, &mut self.encrypted);
        if self.output.verifies && !self.decodes_to(plain) {
            return Err(RepositoryError::NotCommitted(
                "a blob decodes to other bytes than it was made of; the memory of this machine may be faulty".into(),
            ));
        }
        Ok((&self.encrypted, Some(length(plain.len())?)))
    }

    /// Reports whether the encrypted bytes can be decoded, to these.
    fn decodes_to(&mut self, plain: &[u8]) -> bool {
        self.decrypted.clear();
        self.decrypted.extend_from_slice(&self.encrypted);
        let Ok(zipped) = self.output.key.decrypt_in_place(&mut self.decrypted) else {
            return false;
        };
        self.decoded.clear();
        self.decoded.reserve(plain.len());
        self.decompressor.decompress_to_buffer(zipped, &mut self.decoded).is_ok()
            && self.decoded == plain
    }
}

fn odd(error: std::io::Error) -> RepositoryError {
    RepositoryError::Engine { action: "compress a blob for", cause: error.into() }
}

fn length(bytes: usize) -> Result<u32, RepositoryError> {
    u32::try_from(bytes)
        .map_err(|_| RepositoryError::NotCommitted("a pack would have 4 GiB or more".into()))
}

/// The blobs of one kind that a run adds.
pub(super) struct Packer<'a> {
    output: &'a Output<'a>,
    indexer: &'a Indexer<'a>,
    kind: BlobType,
    /// A pack is written once it has this many bytes.
    pack_bytes: usize,
    seen: Mutex<HashSet<Id>>,
    filling: Mutex<Filling>,
    /// Held while a pack is written.
    writing: Mutex<()>,
    added: Added,
}

/// The amount of data that a run adds.
#[derive(Debug, Default)]
pub(super) struct Added {
    blobs: AtomicU64,
    /// Before compression.
    plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

impl Added {
    /// Number of blobs, bytes before compression, and stored bytes.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.blobs), of(&self.plain_bytes), of(&self.stored_bytes))
    }
}

/// A pack that is not complete.
#[derive(Default)]
struct Filling {
    bytes: Vec<u8>,
    header: Vec<u8>,
    blobs: Vec<IndexBlob>,
}

#[derive(Serialize)]
struct IndexBlob {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobType,
    offset: u32,
    length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<u32>,
}

#[derive(Serialize)]
struct IndexPack {
    id: Id,
    blobs: Vec<IndexBlob>,
    time: Timestamp,
}

impl<'a> Packer<'a> {
    /// `repository_bytes` is the present size of the repository: larger ones have larger packs.
    pub(super) fn new(
        indexer: &'a Indexer<'a>,
        kind: BlobType,
        config: &ConfigFile,
        repository_bytes: u64,
    ) -> Self {
        let (smallest, factor, largest) = config.packsize(kind);
        let grown = u64::from(smallest) + repository_bytes.isqrt() * u64::from(factor);
        Self {
            output: indexer.output,
            indexer,
            kind,
            pack_bytes: usize::try_from(grown.min(u64::from(largest))).unwrap_or(usize::MAX),
            seen: Mutex::default(),
            filling: Mutex::default(),
            writing: Mutex::default(),
            added: Added::default(),
        }
    }

    /// The amount of data added so far.
    pub(super) fn added(&self) -> &Added {
        &self.added
    }

    /// Adds a blob, unless this run has added it already. The caller has looked it up in the index.
    ///
    /// # Errors
    /// If a pack or an index file cannot be written.
    pub(super) fn add(
        &self,
        id: Id,
        plain: &[u8],
        encoder: &mut Encoder<'_>,
    ) -> Result<(), RepositoryError> {
        if !held(&self.seen).insert(id) {
            return Ok(());
        }
        let (encrypted, plain_length) = encoder.encode(plain)?;
        let full = {
            let mut filling = held(&self.filling);
            filling.push(id, self.kind, encrypted, plain_length)?;
            let is_full =
                filling.bytes.len() >= self.pack_bytes || filling.blobs.len() >= BLOBS_IN_PACK;
            // Waits for the pack before, with this one in hand, so that no third one is begun.
            is_full.then(|| (held(&self.writing), mem::take(&mut *filling)))
        };
        self.added.blobs.fetch_add(1, Ordering::Relaxed);
        self.added.plain_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        match full {
            Some((_writing, pack)) => self.write(pack),
            None => Ok(()),
        }
    }

    /// Writes what is left.
    pub(super) fn finish(&self) -> Result<(), RepositoryError> {
        let rest = mem::take(&mut *held(&self.filling));
        if rest.blobs.is_empty() { Ok(()) } else { self.write(rest) }
    }

    fn write(&self, pack: Filling) -> Result<(), RepositoryError> {
        let Filling { mut bytes, header, blobs } = pack;
        let header = self.output.key.encrypt(&header);
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&length(header.len())?.to_le_bytes());
        length(bytes.len())?;
        self.added.stored_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let id = self.output.write(FileType::Pack, bytes.into())?;
        self.indexer.add(IndexPack { id, blobs, time: Timestamp::now() })
    }
}

impl Filling {
    fn push(
        &mut self,
        id: Id,
        kind: BlobType,
        encrypted: &[u8],
        plain_length: Option<u32>,
    ) -> Result<(), RepositoryError> {
        let (offset, stored) = (length(self.bytes.len())?, length(encrypted.len())?);
        let is_tree = u8::from(kind == BlobType::Tree);
        self.header.push(is_tree + if plain_length.is_some() { 2 } else { 0 });
        self.header.extend_from_slice(&stored.to_le_bytes());
        if let Some(plain) = plain_length {
            self.header.extend_from_slice(&plain.to_le_bytes());
        }
        let mut name = [0; 32];
        hex::decode_to_slice(id.to_hex().as_str(), &mut name).expect("an id has 64 hex digits");
        self.header.extend_from_slice(&name);
        self.bytes.extend_from_slice(encrypted);
        let uncompressed_length = plain_length;
        self.blobs.push(IndexBlob { id, kind, offset, length: stored, uncompressed_length });
        Ok(())
    }
}

/// The packs of a run that no index file names yet.
pub(super) struct Indexer<'a> {
    output: &'a Output<'a>,
    pending: Mutex<Pending>,
}

struct Pending {
    packs: Vec<IndexPack>,
    blobs: usize,
    since: Instant,
}

impl Default for Pending {
    fn default() -> Self {
        Self { packs: Vec::new(), blobs: 0, since: Instant::now() }
    }
}

impl<'a> Indexer<'a> {
    pub(super) fn new(output: &'a Output<'a>) -> Self {
        Self { output, pending: Mutex::default() }
    }

    fn add(&self, pack: IndexPack) -> Result<(), RepositoryError> {
        let due = {
            let mut pending = held(&self.pending);
            pending.blobs += pack.blobs.len();
            pending.packs.push(pack);
            let is_due = pending.blobs >= BLOBS_IN_INDEX || pending.since.elapsed() >= INDEX_AGE;
            is_due.then(|| mem::take(&mut *pending))
        };
        due.map_or(Ok(()), |due| self.write(&due))
    }

    /// Writes the index of the packs that are left.
    pub(super) fn finish(&self) -> Result<(), RepositoryError> {
        let rest = mem::take(&mut *held(&self.pending));
        if rest.packs.is_empty() { Ok(()) } else { self.write(&rest) }
    }

    fn write(&self, pending: &Pending) -> Result<(), RepositoryError> {
        #[derive(Serialize)]
        struct File<'a> {
            packs: &'a [IndexPack],
        }
        let json = serde_json::to_vec(&File { packs: &pending.packs }).map_err(|cause| {
            RepositoryError::Engine { action: "write an index to", cause: cause.into() }
        })?;
        let encrypted = self.output.key.encrypt_file(&json, self.output.version);
        self.output.write(FileType::Index, encrypted.into()).map(drop)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panics fails the run, so what it left is not used.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
