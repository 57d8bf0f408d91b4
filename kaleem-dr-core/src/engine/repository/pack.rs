//! Creates and parses packs: encrypted blobs, then the encrypted header, then the header's length (restic, `doc/design.rst`).

use std::{collections::BTreeSet, num::NonZeroU32};

use bytes::Bytes;
use rustic_core::{TreeId, repofile::Tree};
use serde_json::{Value, json};

use super::{
    RepositoryError,
    crypto::{OVERHEAD, RepositoryKey},
};
use crate::ground::{digest::ByteDigest, error_chain};

const ZSTD_LEVEL: i32 = 3;
/// Bytes of the header's length, at the end of a pack.
pub(crate) const LENGTH_BYTES: u64 = 4;

/// An object that must be written, in this order.
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) bytes: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobKind {
    Data,
    Tree,
}

/// Builds one pack in memory: encrypted blobs, then the encrypted header, then the header's length (restic, `doc/design.rst`).
pub(crate) struct PackWriter<'k> {
    key: &'k RepositoryKey,
    compress: bool,
    kind: BlobKind,
    bytes: Vec<u8>,
    header: Vec<u8>,
    blobs: Vec<Value>,
    seen: BTreeSet<String>,
}

impl<'k> PackWriter<'k> {
    pub(crate) fn new(key: &'k RepositoryKey, version: u32, kind: BlobKind) -> Self {
        Self {
            key,
            compress: version >= 2,
            kind,
            bytes: Vec::new(),
            header: Vec::new(),
            blobs: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Bytes of its blobs so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a blob, unless the pack has it.
    pub(crate) fn blob(&mut self, plain: &[u8]) -> rustic_core::BlobId {
        let hex = ByteDigest::of(plain);
        let id: rustic_core::Id = hex.parse().expect("64 hex digits are an id");
        if self.seen.insert(hex.clone()) {
            let zipped = self.compress.then(|| zstd::encode_all(plain, ZSTD_LEVEL).ok()).flatten();
            let encrypted = self.key.encrypt(zipped.as_deref().unwrap_or(plain));
            let kind_byte =
                u8::from(self.kind == BlobKind::Tree) + if zipped.is_some() { 2 } else { 0 };
            self.header.push(kind_byte);
            self.header.extend(length(encrypted.len()).to_le_bytes());
            if zipped.is_some() {
                self.header.extend(length(plain.len()).to_le_bytes());
            }
            self.header.extend(hex::decode(&hex).expect("a digest is hex"));
            let mut entry = json!({
                "id": hex,
                "type": if self.kind == BlobKind::Tree { "tree" } else { "data" },
                "offset": self.bytes.len(),
                "length": encrypted.len(),
            });
            if zipped.is_some()
                && let Some(plain) = NonZeroU32::new(length(plain.len()))
            {
                entry["uncompressed_length"] = plain.get().into();
            }
            self.blobs.push(entry);
            self.bytes.extend(encrypted);
        }
        id.into()
    }

    /// Adds a tree and returns its id.
    pub(crate) fn tree(&mut self, tree: &Tree) -> Result<TreeId, RepositoryError> {
        let (json, _) = tree.serialize().map_err(|error| {
            RepositoryError::NotCommitted(format!(
                "a tree cannot be written: {}",
                error_chain(&error)
            ))
        })?;
        Ok(TreeId::from(self.blob(&json)))
    }

    /// Returns the pack and its entry for an index.
    pub(crate) fn finish(mut self) -> (Object, Value) {
        let header = self.key.encrypt(&self.header);
        self.bytes.extend(&header);
        self.bytes.extend(length(header.len()).to_le_bytes());
        debug_assert!(header.len() >= OVERHEAD);
        let id = ByteDigest::of(&self.bytes);
        let index = json!({ "id": id, "blobs": self.blobs });
        (Object { key: format!("data/{}/{id}", &id[..2]), bytes: Bytes::from(self.bytes) }, index)
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("packs we build hold manifests and trees, far below 4 GiB")
}

/// The length of a pack's encrypted header, from the last bytes of the pack.
///
/// # Errors
/// If a pack of this length cannot have such a header.
pub(crate) fn header_length(tail: &[u8], pack_bytes: u64) -> Result<u64, String> {
    let bytes: [u8; 4] = tail.try_into().map_err(|_| "it is too short for a pack".to_owned())?;
    let length = u64::from(u32::from_le_bytes(bytes));
    if length < OVERHEAD as u64 || length + LENGTH_BYTES > pack_bytes {
        return Err(format!(
            "its header should have {length} bytes, but the pack has {pack_bytes}"
        ));
    }
    Ok(length)
}

/// The index entry of a pack, from its header.
///
/// # Errors
/// If the header does not match the length of the pack.
pub(crate) fn parse_header(id: &str, header: &[u8], pack_bytes: u64) -> Result<Value, String> {
    let cut = || "its header is cut".to_owned();
    let (mut rest, mut offset, mut blobs) = (header, 0_u64, Vec::new());
    while let Some((&kind, more)) = rest.split_first() {
        let number = |at: usize| Some(u32::from_le_bytes(more.get(at..at + 4)?.try_into().ok()?));
        let length = number(0).ok_or_else(cut)?;
        let plain = if kind >= 2 { Some(number(4).ok_or_else(cut)?) } else { None };
        let at = if plain.is_some() { 8 } else { 4 };
        let name = more.get(at..at + 32).ok_or_else(cut)?;
        if kind > 3 {
            return Err(format!("its header has a blob of the unknown kind {kind}"));
        }
        let mut entry = json!({
            "id": hex::encode(name),
            "type": if kind % 2 == 1 { "tree" } else { "data" },
            "offset": offset,
            "length": length,
        });
        if let Some(plain) = plain.and_then(NonZeroU32::new) {
            entry["uncompressed_length"] = plain.get().into();
        }
        blobs.push(entry);
        offset += u64::from(length);
        rest = &more[at + 32..];
    }
    if offset + header.len() as u64 + OVERHEAD as u64 + LENGTH_BYTES != pack_bytes {
        return Err(format!("its blobs and header do not add up to its {pack_bytes} bytes"));
    }
    Ok(json!({ "id": id, "blobs": blobs }))
}

#[cfg(test)]
mod tests {
    use rustic_core::repofile::MasterKey;

    use super::*;

    #[test]
    fn a_pack_that_was_made_is_read_from_its_header() {
        let key = RepositoryKey::new(MasterKey::new());
        for version in [1, 2] {
            let mut writer = PackWriter::new(&key, version, BlobKind::Data);
            for blob in [&b"one"[..], b"", b"two", b"one"] {
                writer.blob(blob);
            }
            let (object, index) = writer.finish();
            let size = object.bytes.len() as u64;
            let tail = object.bytes.len() - 4;
            let length =
                usize::try_from(header_length(&object.bytes[tail..], size).unwrap()).unwrap();
            let header = key.decrypt(&object.bytes[tail - length..tail]).unwrap();
            assert_eq!(parse_header(index["id"].as_str().unwrap(), &header, size).unwrap(), index);
            assert!(parse_header("", &header, size - 1).is_err());
            assert!(parse_header("", &header[..header.len() - 1], size - 1).is_err());
            assert!(
                header_length(&[0xff; 4], size).is_err() && header_length(&[0; 4], size).is_err()
            );
        }
    }
}
