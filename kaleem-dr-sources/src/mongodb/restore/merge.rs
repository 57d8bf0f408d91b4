//! Merges documents into an existing collection: inserts those with a new `_id`, keeps the others.
//!
//! Each batch is inserted unordered and then read back by `_id`, so that every document of the
//! point is known to exist, equal or with other content. A duplicate `_id` is the only expected
//! rejection. A duplicate in another unique index means that the document does not exist, which a
//! restore must report: tools that skip both alike succeed and lose documents.

use std::collections::HashMap;

use bson::{Document, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, cstr, rawdoc};
use futures::TryStreamExt as _;
use kaleem_dr_core::ground::SourceError;

use super::{destination::Destination, loaded::Loaded};
use crate::mongodb::{
    dump::documents,
    server::{Connection, codes, reply},
};

/// Sends one `insert` and determines the outcome for each of its documents.
pub(crate) async fn batch(
    connection: &Connection,
    to: &Destination,
    insert: RawDocumentBuf,
) -> Result<Loaded, SourceError> {
    let action = format!("merge into {}.{}", to.database, to.collection);
    let odd = |why: String| connection.odd_answer(&action, why);
    let reply = connection.run_raw(&to.database, insert.clone(), &action).await?;
    let sent = sent(&insert).map_err(odd)?;
    let refusals = refusals(&reply, sent.len()).map_err(odd)?;
    let found = read_back(connection, to, &action, &sent).await?;
    Ok(account(&sent, &refusals, &found))
}

/// A document of the batch: its `_id` as bytes that include the type, and its content.
struct Sent<'a> {
    key: Vec<u8>,
    id: RawBsonRef<'a>,
    bytes: &'a [u8],
}

fn sent(insert: &RawDocument) -> Result<Vec<Sent<'_>>, String> {
    let documents = insert.get_array("documents").map_err(|error| error.to_string())?;
    documents
        .into_iter()
        .map(|document| {
            let document = document.map_err(|error| error.to_string())?;
            let document =
                document.as_document().ok_or("the data to insert is not a document")?;
            let id = id(document)?.ok_or(
                "a document without an _id cannot be merged: there is no way to know whether it exists",
            )?;
            Ok(Sent { key: key(id), id, bytes: document.as_bytes() })
        })
        .collect()
}

fn id(document: &RawDocument) -> Result<Option<RawBsonRef<'_>>, String> {
    document.get("_id").map_err(|error| error.to_string())
}

fn key(id: RawBsonRef<'_>) -> Vec<u8> {
    let mut alone = RawDocumentBuf::new();
    alone.append(cstr!(""), id);
    alone.into_bytes()
}

/// The server's reason for rejecting a document.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    /// A document with this `_id`, or one that the server considers equal, exists.
    by_id: bool,
    why: String,
}

/// The rejected documents of a batch by index. Anything but a duplicate key is an error.
fn refusals(reply: &Document, sent: usize) -> Result<HashMap<usize, Refusal>, String> {
    if let Some(why) = reply::unacknowledged(reply) {
        return Err(why);
    }
    let mut refusals = HashMap::new();
    for error in reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default() {
        let error = error.as_document().ok_or("a write error is not a document")?;
        let why = error.get_str("errmsg").unwrap_or("no reason was given").to_owned();
        let index = error.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
        match index {
            Some(index) if error.get_i32("code").is_ok_and(|code| code == codes::DUPLICATE_KEY) => {
                refusals.insert(index, Refusal { by_id: is_of_id(error, &why), why });
            }
            _ => return Err(format!("a document was rejected: {why}")),
        }
    }
    let inserted = reply::inserted(reply);
    if inserted != (sent - refusals.len().min(sent)) as u64 {
        return Err(format!(
            "{sent} documents were sent and {} rejected, but the reply counts {inserted} inserted",
            refusals.len()
        ));
    }
    Ok(refusals)
}

fn is_of_id(error: &Document, why: &str) -> bool {
    match error.get_document("keyPattern") {
        Ok(pattern) => pattern.len() == 1 && pattern.contains_key("_id"),
        Err(_) => why.contains(" index: _id_ "),
    }
}

/// Compares each existing document with the point by `_id`.
async fn read_back(
    connection: &Connection,
    to: &Destination,
    action: &str,
    sent: &[Sent<'_>],
) -> Result<HashMap<usize, bool>, SourceError> {
    let mut ids = RawArrayBuf::new();
    for sent in sent {
        ids.push(sent.id);
    }
    let find = rawdoc! { "find": to.collection.as_str(), "filter": { "_id": { "$in": ids } } };
    let database = connection.client().await?.database(&to.database);
    let mut cursor = connection
        .answer(action, async { database.run_raw_cursor_command(find).batch().await })
        .await?;
    let places: HashMap<&[u8], usize> =
        sent.iter().enumerate().map(|(at, sent)| (sent.key.as_slice(), at)).collect();
    let odd = |why: String| connection.odd_answer(action, why);
    let mut found = HashMap::new();
    while let Some(batch) = connection.answer(action, cursor.try_next()).await? {
        for document in documents(&batch).map_err(odd)? {
            let bytes = document.map_err(odd)?;
            let document =
                RawDocument::from_bytes(bytes).map_err(|error| odd(error.to_string()))?;
            // An `_id` that was not requested is one that the server considers equal: another
            // numeric type, another case.
            if let Some(id) = id(document).map_err(odd)?
                && let Some(at) = places.get(key(id).as_slice())
            {
                found.insert(*at, bytes == sent[*at].bytes);
            }
        }
    }
    Ok(found)
}

/// Counts each document once: inserted, existing and equal, existing with other content, or
/// missing.
fn account(
    sent: &[Sent<'_>],
    refusals: &HashMap<usize, Refusal>,
    found: &HashMap<usize, bool>,
) -> Loaded {
    let mut loaded = Loaded::default();
    let mut missing = |why: String| {
        loaded.missing += 1;
        loaded.why_missing.get_or_insert(why);
    };
    let (mut items, mut size_bytes, mut same, mut kept) = (0, 0, 0, 0);
    for (at, document) in sent.iter().enumerate() {
        match (refusals.get(&at), found.get(&at)) {
            (None, Some(true)) => {
                items += 1;
                size_bytes += document.bytes.len() as u64;
            }
            (None, Some(false)) => {
                missing("a document was inserted but reads back differently".to_owned());
            }
            (None, None) => missing("a document was inserted but cannot be read back".to_owned()),
            (Some(_), Some(true)) => same += 1,
            (Some(_), Some(false)) | (Some(Refusal { by_id: true, .. }), None) => kept += 1,
            (Some(Refusal { by_id: false, why }), None) => missing(why.clone()),
        }
    }
    Loaded { items, size_bytes, same, kept, ..loaded }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn duplicate(index: i32, pattern: &str) -> Document {
        doc! { "index": index, "code": 11000, "errmsg": format!("E11000 of {pattern}"), "keyPattern": { pattern: 1 } }
    }

    #[test]
    fn every_document_is_counted_once_and_for_what_it_is() {
        let insert = rawdoc! { "documents": [
            { "_id": 1 }, { "_id": 2 }, { "_id": 3 }, { "_id": 4 }, { "_id": 5 }, { "_id": 6 },
        ] };
        let sent = sent(&insert).unwrap();
        let reply = doc! {
            "n": 2, "ok": 1.0, "writeErrors": [ duplicate(1, "_id"), duplicate(2, "_id"), duplicate(3, "email"), duplicate(4, "_id") ],
        };
        let refusals = refusals(&reply, sent.len()).unwrap();
        // 1 was inserted; 2 exists; 3 exists with other content; 4 is rejected because of its email; 5 exists as 5.0; 6 was
        // inserted and has disappeared.
        let found = HashMap::from([(0, true), (1, true), (2, false)]);
        let loaded = account(&sent, &refusals, &found);
        assert_eq!((loaded.items, loaded.same, loaded.kept, loaded.missing), (1, 1, 2, 2));
        assert_eq!(loaded.why_missing.as_deref(), Some("E11000 of email"));
    }

    #[test]
    fn only_duplicates_are_expected() {
        let invalid = doc! { "n": 1, "writeErrors": [ { "index": 0, "code": 121, "errmsg": "Document failed validation" } ] };
        assert!(refusals(&invalid, 2).unwrap_err().contains("failed validation"));
        assert!(refusals(&doc! { "n": 1 }, 2).unwrap_err().contains("counts 1"));
        let old = doc! { "n": 0, "writeErrors": [
            { "index": 0, "code": 11000, "errmsg": "E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: 1 }" },
            { "index": 1, "code": 11000, "errmsg": "E11000 duplicate key error collection: d.c index: email_u dup key: { email: 1 }" },
        ] };
        let refused = refusals(&old, 2).unwrap();
        assert!(refused[&0].by_id && !refused[&1].by_id, "servers before 4.4 name the index only");
        let unsafe_write = doc! { "n": 2, "writeConcernError": { "errmsg": "waiting timed out" } };
        assert!(refusals(&unsafe_write, 2).is_err());
    }

    #[test]
    fn ids_of_other_types_are_other_ids() {
        let keys = [
            rawdoc! { "_id": 1 },
            rawdoc! { "_id": 1_i64 },
            rawdoc! { "_id": 1.0 },
            rawdoc! { "_id": "1" },
        ]
        .map(|document| key(id(&document).unwrap().unwrap()));
        assert!((1..4).all(|at| keys[at] != keys[0]));
        assert!(
            sent(&rawdoc! { "documents": [ { "a": 1 } ] }).is_err(),
            "a document without an _id is an error"
        );
    }
}
