//! Handmade archives for the tests, valid or not, block by block.

use bson::{Document, RawDocumentBuf, doc, rawdoc};

use super::{
    format::{BlockHeader, MAGIC, TERMINATOR},
    reader::Contents,
};
use kaleem_dr_core::ground::SourceError;

/// An archive under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(pub(super) Vec<u8>);

impl Sample {
    /// Starts with magic bytes and a header.
    pub(super) fn new() -> Self {
        let mut sample = Self(MAGIC.to_vec());
        sample.put(&rawdoc! {
            "concurrent_collections": 4, "version": "0.1", "server_version": "8.0.4", "tool_version": "100.13.0",
        });
        sample
    }

    pub(super) fn put(&mut self, document: &RawDocumentBuf) -> &mut Self {
        self.0.extend_from_slice(document.as_bytes());
        self
    }

    pub(super) fn end_block(&mut self) -> &mut Self {
        self.0.extend_from_slice(&TERMINATOR);
        self
    }

    /// Appends an entry of the prelude.
    pub(super) fn entry(&mut self, database: &str, collection: &str, kind: &str) -> &mut Self {
        let metadata = match kind {
            "" => String::new(),
            "view" => format!(
                r#"{{"options":{{"viewOn":"a","pipeline":[]}},"indexes":[],"collectionName":"{collection}","type":"view"}}"#
            ),
            kind => format!(
                r#"{{"indexes":[{{"v":{{"$numberInt":"2"}},"key":{{"_id":{{"$numberInt":"1"}}}},"name":"_id_"}}],"collectionName":"{collection}","type":"{kind}"}}"#
            ),
        };
        self.put(&rawdoc! { "db": database, "collection": collection, "metadata": metadata.as_str(), "size": 0, "type": kind })
    }

    /// Appends a complete block of documents.
    pub(super) fn block(
        &mut self,
        database: &str,
        collection: &str,
        documents: &[Vec<u8>],
    ) -> &mut Self {
        self.put(
            &BlockHeader { database: database.into(), collection: collection.into(), end: None }
                .to_document(),
        );
        self.0.extend(documents.concat());
        self.end_block()
    }

    /// Appends the final block of a namespace with these documents.
    pub(super) fn end(
        &mut self,
        database: &str,
        collection: &str,
        documents: &[Vec<u8>],
    ) -> &mut Self {
        let mut crc = crc64fast::Digest::new();
        crc.write(&documents.concat());
        let end = Some(crc.sum64());
        self.put(
            &BlockHeader { database: database.into(), collection: collection.into(), end }
                .to_document(),
        )
        .end_block()
    }
}

pub(super) fn document(n: i32, text: &str) -> Vec<u8> {
    bson::serialize_to_vec(&doc! { "_id": n, "text": text }).unwrap()
}

/// Contains every kind of namespace, interleaved: two collections, one of them empty, a view, a
/// time series, users, and the oplog.
pub(super) fn everything() -> Sample {
    let mut sample = Sample::new();
    let (a, b) = (
        vec![document(1, "one"), document(2, &"2".repeat(70))],
        vec![document(3, "three"), document(4, "")],
    );
    let oplog = vec![bson::serialize_to_vec(&doc! { "op": "n", "o": {} } as &Document).unwrap()];
    sample
        .entry("d", "series", "timeseries")
        .entry("d", "a", "collection")
        .entry("d", "empty", "collection")
        .entry("d", "view", "view")
        .entry("d", "$admin.system.users", "")
        .entry("", "oplog", "")
        .end_block();
    sample
        .block("d", "a", &a)
        .block("d", "system.buckets.series", &b[..1])
        .block("d", "empty", &[])
        .end("d", "empty", &[])
        .block("d", "a", &b)
        .end("d", "a", &[a, b.clone()].concat())
        .block("d", "view", &[])
        .end("d", "view", &[])
        .block("d", "system.buckets.series", &b[1..])
        .block("", "oplog", &oplog)
        .end("d", "system.buckets.series", &b)
        .end("", "oplog", &oplog)
        .block("d", "$admin.system.users", &[])
        .end("d", "$admin.system.users", &[]);
    sample
}

/// Keeps the documents of each namespace, concatenated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept(pub(super) Vec<Vec<u8>>);

impl Contents for Kept {
    fn document(&mut self, namespace: usize, document: &[u8]) -> Result<(), SourceError> {
        if self.0.len() <= namespace {
            self.0.resize(namespace + 1, Vec::new());
        }
        self.0[namespace].extend_from_slice(document);
        Ok(())
    }
}
