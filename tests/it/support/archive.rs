//! A second reader and writer of mongodump's archive format 0.1, for tests only: small, strict
//! about every byte, and independent of the ones under test.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};

const TERMINATOR: [u8; 4] = [0xff; 4];

/// A parsed archive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Archive {
    pub header: Document,
    pub namespaces: Vec<Namespace>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// The entry in the prelude.
    pub entry: Document,
    /// The name in its block headers.
    pub blocks: String,
    pub documents: Vec<Vec<u8>>,
}

impl Namespace {
    pub fn name(&self) -> String {
        format!(
            "{}.{}",
            self.entry.get_str("db").expect("db"),
            self.entry.get_str("collection").expect("collection")
        )
    }
}

/// CRC-64/XZ, bit by bit.
pub fn crc64(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mut crc = !0_u64;
    for byte in bytes {
        crc ^= u64::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xc96c_5795_d787_0f42 } else { crc >> 1 };
        }
    }
    !crc
}

/// Splits off the next document; `None` at a terminator.
fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = i32::from_le_bytes(rest[..4].try_into().expect("four bytes"));
    let (taken, after) =
        rest.split_at(if length == -1 { 4 } else { usize::try_from(length).expect("a length") });
    *rest = after;
    if length == -1 {
        return None;
    }
    assert!(
        (5..=16_777_216).contains(&length) && taken.last() == Some(&0),
        "a document of {length} bytes"
    );
    Some(taken)
}

fn parsed(bytes: &[u8], keys: &[&str]) -> Document {
    let document: Document = bson::deserialize_from_slice(bytes).expect("a document");
    assert_eq!(
        document.keys().map(String::as_str).collect::<Vec<_>>(),
        keys,
        "the fields in mongodump's order"
    );
    document
}

impl Archive {
    /// Reads an uncompressed archive of a mongodump that dumps one collection after another.
    pub fn read(mut rest: &[u8]) -> Self {
        assert_eq!(rest[..4], 0x8199_e26d_u32.to_le_bytes(), "the magic bytes");
        rest = &rest[4..];
        let header = next(&mut rest).expect("a header");
        let header = parsed(
            header,
            &["concurrent_collections", "version", "server_version", "tool_version"],
        );
        assert!(matches!(header["concurrent_collections"], Bson::Int32(1..)), "{header}");
        assert_eq!(header["version"], Bson::from("0.1"));
        let mut namespaces = Vec::new();
        while let Some(entry) = next(&mut rest) {
            let entry = parsed(entry, &["db", "collection", "metadata", "size", "type"]);
            assert_eq!(entry["size"], Bson::Int32(0));
            namespaces.push(Namespace { entry, ..Namespace::default() });
        }
        let mut at = BTreeMap::new();
        for (place, namespace) in namespaces.iter().enumerate() {
            let (db, name) = (
                namespace.entry.get_str("db").expect("db"),
                namespace.entry.get_str("collection").expect("collection"),
            );
            let viewless = header.get_str("server_version").expect("server_version") >= "8.3";
            let is_series =
                namespace.entry.get_str("type").expect("type") == "timeseries" && !viewless;
            let blocks = if is_series { format!("system.buckets.{name}") } else { name.to_owned() };
            assert_eq!(
                at.insert((db.to_owned(), blocks), place),
                None,
                "a name space is listed once"
            );
        }
        while !rest.is_empty() {
            let begin = next(&mut rest).expect("a block begins with a header");
            let begin = parsed(begin, &["db", "collection", "EOF", "CRC"]);
            let (db, blocks) = (
                begin.get_str("db").expect("db"),
                begin.get_str("collection").expect("collection"),
            );
            let key = (db.to_owned(), blocks.to_owned());
            let place = *at
                .get(&key)
                .unwrap_or_else(|| panic!("{db}.{blocks} is not in the prelude, or has ended"));
            blocks.clone_into(&mut namespaces[place].blocks);
            let Bson::Int64(crc) = begin["CRC"] else { panic!("{begin}") };
            if begin["EOF"] == Bson::Boolean(true) {
                let found = crc64(namespaces[place].documents.iter().flatten().copied());
                assert_eq!(crc.cast_unsigned(), found, "the CRC of {db}.{blocks}");
                assert!(next(&mut rest).is_none(), "no document comes after the end");
                at.remove(&key);
                continue;
            }
            assert_eq!((&begin["EOF"], crc), (&Bson::Boolean(false), 0));
            while let Some(document) = next(&mut rest) {
                namespaces[place].documents.push(document.to_vec());
            }
        }
        assert!(at.is_empty(), "these have no end: {at:?}");
        Self { header, namespaces }
    }

    /// An archive whose namespaces are interleaved document by document.
    pub fn interleaved(&self) -> Vec<u8> {
        let mut out = 0x8199_e26d_u32.to_le_bytes().to_vec();
        let put = |out: &mut Vec<u8>, document: &Document| {
            out.extend(bson::serialize_to_vec(document).expect("bytes"));
        };
        put(&mut out, &self.header);
        for namespace in &self.namespaces {
            put(&mut out, &namespace.entry);
        }
        out.extend(TERMINATOR);
        let most =
            self.namespaces.iter().map(|namespace| namespace.documents.len()).max().unwrap_or(0);
        for round in 0..=most {
            for namespace in &self.namespaces {
                let db = namespace.entry.get_str("db").expect("db");
                let all = &namespace.documents;
                if round > all.len() {
                    continue;
                }
                let crc = if round == all.len() { crc64(all.iter().flatten().copied()) } else { 0 };
                let end = round == all.len();
                put(
                    &mut out,
                    &doc! { "db": db, "collection": &namespace.blocks, "EOF": end, "CRC": crc.cast_signed() },
                );
                out.extend(all.get(round).into_iter().flatten());
                out.extend(TERMINATOR);
            }
        }
        out
    }
}
