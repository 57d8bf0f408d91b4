//! The documents and markers of an archive, encoded and decoded (mongo-tools,
//! `common/archive/archive.go`).
//!
//! An archive is one stream: magic bytes, a header, the metadata of all namespaces (the prelude),
//! and then blocks of documents. Blocks of several namespaces may be interleaved; each namespace
//! ends with a block that contains the CRC of its documents.
//!
//! Reading is at least as strict as in mongorestore: we accept what it accepts, except for content
//! that mongodump never writes and only damage can explain.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use crate::mongodb::dump::wellformed;

/// The first bytes of an archive.
pub(super) const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
/// The format version that we write and read.
const VERSION: &str = "0.1";
pub(super) const TERMINATOR: [u8; 4] = [0xff; 4];
/// The largest document that mongorestore accepts from an archive, in bytes.
pub(super) const LARGEST_DOCUMENT: usize = 16 << 20;
/// The smallest document, in bytes: its length and terminator.
pub(super) const SMALLEST_DOCUMENT: usize = 5;

/// The header of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// `x.y.z`; anything else is a read error.
    pub(super) server_version: String,
    pub(super) tool_version: String,
    /// True if the collections belong to one moment only after the oplog is replayed. This is a field of our own: only our
    /// archives have it, and mongorestore ignores it.
    pub(super) needs_oplog: bool,
}

/// The header field for [`Header::needs_oplog`].
const NEEDS_OPLOG: &str = "kaleem_dr_needs_oplog";

impl Header {
    pub(super) fn to_document(&self) -> RawDocumentBuf {
        let mut header = rawdoc! {
            // Our namespaces follow one another. mongorestore uses this as the number of collections to restore in parallel.
            "concurrent_collections": 4_i32,
            "version": VERSION,
            "server_version": self.server_version.as_str(),
            "tool_version": self.tool_version.as_str(),
        };
        if self.needs_oplog {
            header.append(bson::cstr!("kaleem_dr_needs_oplog"), true);
        }
        header
    }

    /// # Errors
    /// The reason why the header is invalid.
    pub(super) fn read(document: &[u8]) -> Result<Self, String> {
        let [concurrent, version, server_version, tool_version, needs_oplog] = fields(
            document,
            ["concurrent_collections", "version", "server_version", "tool_version", NEEDS_OPLOG],
            Others::Ignored,
        )?;
        if !matches!(concurrent, None | Some(RawBsonRef::Int32(_))) {
            return Err("its `concurrent_collections` is not a 32-bit number".to_owned());
        }
        let version = text("version", version)?;
        if version != VERSION {
            return Err(format!("its format is `{version}`, but only {VERSION} is supported"));
        }
        let server_version = text("server_version", server_version)?;
        if release(server_version).is_none() {
            return Err(format!("its server version `{server_version}` does not look like 8.0.4"));
        }
        let tool_version =
            tool_version.map_or(Ok(""), |value| text("tool_version", Some(value)))?;
        Ok(Self {
            server_version: server_version.to_owned(),
            tool_version: tool_version.to_owned(),
            needs_oplog: matches!(needs_oplog, Some(RawBsonRef::Boolean(true))),
        })
    }
}

/// A namespace entry of the prelude.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Empty for the oplog.
    pub(super) database: String,
    pub(super) collection: String,
    /// The content of the `.metadata.json`; empty if there is none.
    pub(super) metadata: String,
    /// `collection`, `view`, `timeseries`, or empty.
    pub(super) kind: String,
}

impl Entry {
    pub(super) fn to_document(&self) -> RawDocumentBuf {
        rawdoc! {
            "db": self.database.as_str(),
            "collection": self.collection.as_str(),
            "metadata": self.metadata.as_str(),
            "size": 0_i32,
            "type": self.kind.as_str(),
        }
    }

    /// # Errors
    /// The reason why the entry is invalid.
    pub(super) fn read(document: &[u8]) -> Result<Self, String> {
        let [database, collection, metadata, size, kind] =
            fields(document, ["db", "collection", "metadata", "size", "type"], Others::Ignored)?;
        if !matches!(size, None | Some(RawBsonRef::Int32(_) | RawBsonRef::Int64(_))) {
            return Err("its `size` is not an integer".to_owned());
        }
        let collection = text("collection", collection)?;
        if collection.is_empty() {
            return Err("its `collection` is empty".to_owned());
        }
        Ok(Self {
            database: text("db", database)?.to_owned(),
            collection: collection.to_owned(),
            // Every mongodump writes this field, though it may be empty: without it, indexes would
            // be lost unnoticed.
            metadata: text("metadata", metadata)?.to_owned(),
            // Releases before 4.4 have no types.
            kind: kind.map_or(Ok(""), |value| text("type", Some(value)))?.to_owned(),
        })
    }
}

/// The header of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) database: String,
    pub(super) collection: String,
    /// The CRC of all documents of the namespace, if the namespace ends here; such a block has no
    /// documents.
    pub(super) end: Option<u64>,
}

impl BlockHeader {
    pub(super) fn to_document(&self) -> RawDocumentBuf {
        rawdoc! {
            "db": self.database.as_str(),
            "collection": self.collection.as_str(),
            "EOF": self.end.is_some(),
            "CRC": self.end.unwrap_or(0).cast_signed(),
        }
    }

    /// # Errors
    /// The reason why the header is invalid.
    pub(super) fn read(document: &[u8]) -> Result<Self, String> {
        let [database, collection, end, crc] =
            fields(document, ["db", "collection", "EOF", "CRC"], Others::Refused)?;
        let Some(RawBsonRef::Boolean(end)) = end else {
            return Err("its `EOF` is missing or not a boolean".to_owned());
        };
        let Some(RawBsonRef::Int64(crc)) = crc else {
            return Err("its `CRC` is missing or not a 64-bit number".to_owned());
        };
        if !end && crc != 0 {
            return Err("it has a CRC although the namespace does not end there".to_owned());
        }
        Ok(Self {
            database: text("db", database)?.to_owned(),
            collection: text("collection", collection)?.to_owned(),
            end: end.then_some(crc.cast_unsigned()),
        })
    }
}

/// The treatment of unknown fields. mongorestore ignores them in the prelude and rejects them after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Ignored,
    Refused,
}

/// Extracts the named fields of a document, each at most once.
fn fields<'a, const N: usize>(
    document: &'a [u8],
    names: [&str; N],
    others: Others,
) -> Result<[Option<RawBsonRef<'a>>; N], String> {
    // Checked before anything is decoded: reading raw values relies on it.
    match wellformed::check(document) {
        Ok(None) => {}
        Ok(Some(at)) => return Err(format!("the text at its byte {at} is not UTF-8")),
        Err(flaw) => return Err(format!("it is malformed at its byte {}: {}", flaw.at, flaw.why)),
    }
    let mut found = [None; N];
    for element in RawDocument::from_bytes(document).map_err(|error| error.to_string())? {
        let (name, value) = element.map_err(|error| error.to_string())?;
        match names.iter().position(|known| *known == name.as_str()) {
            Some(at) if found[at].is_some() => {
                return Err(format!("it has the field `{}` twice", names[at]));
            }
            Some(at) => found[at] = Some(value),
            None if others == Others::Refused => {
                return Err(format!("it has an unknown field `{}`", name.as_str()));
            }
            None => {}
        }
    }
    Ok(found)
}

fn text<'a>(name: &str, value: Option<RawBsonRef<'a>>) -> Result<&'a str, String> {
    match value {
        Some(RawBsonRef::String(text)) => Ok(text),
        Some(_) => Err(format!("its `{name}` is not a string")),
        None => Err(format!("it has no `{name}`")),
    }
}

/// The first three numbers of a server version.
pub(super) fn release(version: &str) -> Option<(u32, u32, u32)> {
    let plain = version.split_once(['-', '+']).map_or(version, |(plain, _)| plain);
    let mut numbers = plain.split('.').map(|number| {
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if digits { number.parse().ok() } else { None }
    });
    let release = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_written() {
        let header =
            Header { server_version: "8.0.4".into(), tool_version: "t".into(), needs_oplog: false };
        assert_eq!(Header::read(header.to_document().as_bytes()), Ok(header));
        let entry = Entry {
            database: String::new(),
            collection: "oplog".into(),
            metadata: String::new(),
            kind: String::new(),
        };
        assert_eq!(Entry::read(entry.to_document().as_bytes()), Ok(entry));
        for end in [None, Some(0), Some(u64::MAX - 7)] {
            let block = BlockHeader { database: "d".into(), collection: "c".into(), end };
            assert_eq!(BlockHeader::read(block.to_document().as_bytes()), Ok(block));
        }
    }

    #[test]
    fn unknown_fields_are_fine_in_the_prelude_and_not_after_it() {
        let mut header =
            Header { server_version: "8.0.4".into(), tool_version: "t".into(), needs_oplog: false }
                .to_document();
        header.append(bson::cstr!("new"), 1);
        assert!(Header::read(header.as_bytes()).is_ok());
        let mut block =
            BlockHeader { database: "d".into(), collection: "c".into(), end: None }.to_document();
        block.append(bson::cstr!("new"), 1);
        assert!(BlockHeader::read(block.as_bytes()).unwrap_err().contains("unknown field `new`"));
    }

    #[test]
    fn what_no_dump_writes_is_refused() {
        let no_end = rawdoc! { "db": "d", "collection": "c", "CRC": 0_i64 };
        let stray = rawdoc! { "db": "d", "collection": "c", "EOF": false, "CRC": 1_i64 };
        let twice = rawdoc! { "db": "d", "collection": "c", "EOF": false, "CRC": 0_i64, "db": "e" };
        for (document, why) in [(no_end, "`EOF`"), (stray, "has a CRC"), (twice, "`db` twice")] {
            let error = BlockHeader::read(document.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let other = rawdoc! { "version": "0.2", "server_version": "8.0.4" };
        assert!(Header::read(other.as_bytes()).unwrap_err().contains("`0.2`"));
        let unnamed = rawdoc! { "db": "d", "collection": "c", "size": 0, "type": "collection" };
        assert!(Entry::read(unnamed.as_bytes()).unwrap_err().contains("no `metadata`"));
    }

    #[test]
    fn a_version_has_three_numbers() {
        assert_eq!(release("8.2.11"), Some((8, 2, 11)));
        assert_eq!(release("8.3.0-rc1"), Some((8, 3, 0)));
        for odd in ["", "8", "8.2", "8.2.x", "8.2.1.0", "8..1", "-8.0.1"] {
            assert_eq!(release(odd), None, "{odd}");
        }
    }
}
