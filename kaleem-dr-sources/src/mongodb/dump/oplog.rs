//! The oplog of a capture of all databases: the writes after the time that the collections
//! represent.
//!
//! All collections are read at one cluster time, so the oplog may be read at any point in the order
//! of paths: it begins right after that time, and ends at the newest majority-committed entry when
//! it is read. Collections that are read one after another would need the oplog up to the end of
//! the last one, so it is not supported for those.

use bson::{Document, RawBsonRef, RawDocument, Timestamp, doc};
use bytes::BytesMut;
use futures::TryStreamExt as _;
use kaleem_dr_core::{
    engine::artifact::ArtifactWriter,
    ground::{SourceError, digest::MultisetDigest},
};
use serde_json::{Value, json};

use super::{documents::documents, pieces, snapshot::Reading};
use crate::mongodb::server::{Connection, listing::CollectionSpec};

/// Its file name in mongodump's layout.
pub(crate) const FILE: &str = "oplog.bson";
/// Its key in the manifest's details.
pub(crate) const KEY: &str = "oplog";

const ACTION: &str = "read the oplog local.oplog.rs (the role backup on admin allows it)";

/// The start time of the oplog: the time at which all collections are read.
///
/// # Errors
/// If there is no such time.
pub(crate) fn start(
    connection: &Connection,
    reading: &Reading,
    collections: &[CollectionSpec],
) -> Result<Timestamp, SourceError> {
    let apart = collections.iter().any(|spec| reading.at(spec).is_none());
    reading.at.filter(|_| !apart).ok_or_else(|| {
        SourceError::Unsupported(format!(
            "oplog = true requires that all collections are read at one moment, which {} does not support: a replica set of MongoDB 5.0 or later does, \
             with capped collections from 8.0; set oplog = false",
            connection.server()
        ))
    })
}

/// Copies the entries after `start` into their artifact. Returns their first and last time.
pub(crate) async fn copy(
    connection: &Connection,
    start: Timestamp,
    mut writer: ArtifactWriter,
) -> Result<Value, SourceError> {
    let path = writer.path().clone();
    let failed = |error| SourceError::artifact(&path, error);
    let end = edge(connection, -1).await.map_err(failed)?;
    let mut content = MultisetDigest::default();
    let mut pieces = BytesMut::new();
    if end > start {
        let find = doc! {
            "find": "oplog.rs", "filter": { "ts": { "$gt": start, "$lte": end } }, "noCursorTimeout": true,
            "readConcern": { "level": "majority" },
        };
        let odd = |why: String| connection.odd_answer(ACTION, why);
        let find =
            (&find).try_into().map_err(|error: bson::error::Error| odd(error.to_string()))?;
        let local = connection.client().await?.database("local");
        let cursor = connection
            .answer(ACTION, async { local.run_raw_cursor_command(find).batch().await })
            .await;
        let mut cursor = cursor.map_err(failed)?;
        while let Some(batch) =
            connection.answer(ACTION, cursor.try_next()).await.map_err(failed)?
        {
            for entry in documents(&batch).map_err(odd)? {
                let entry = RawDocument::from_bytes(entry.map_err(odd)?)
                    .map_err(|error| odd(error.to_string()))?;
                if let Some(namespace) = renamed(entry) {
                    return Err(SourceError::artifact(
                        &path,
                        format!(
                            "{namespace} was renamed during the capture, which a replay does not follow: run the capture again"
                        ),
                    ));
                }
            }
            pieces::write(&mut writer, &batch, &mut content, &mut pieces).await?;
        }
    }
    // The server drops the oldest entries in the meantime.
    let oldest = edge(connection, 1).await.map_err(failed)?;
    if oldest > start {
        return Err(SourceError::artifact(
            &path,
            "the oplog no longer reaches back to the start of the capture: increase its size (replSetResizeOplog), or set oplog = false",
        ));
    }
    writer.write(pieces.freeze()).await?;
    writer.finish(Some(content.items()), Some(content.to_hex())).await?;
    let moment = |at: Timestamp| json!({ "t": at.time, "i": at.increment });
    Ok(json!({ "after": moment(start), "to": moment(end.max(start)) }))
}

/// The time of the oldest (1) or newest (-1) entry.
async fn edge(connection: &Connection, direction: i32) -> Result<Timestamp, SourceError> {
    let find = doc! {
        "find": "oplog.rs", "sort": { "$natural": direction }, "limit": 1, "projection": { "ts": 1 },
        "readConcern": { "level": "majority" },
    };
    let found: Vec<Document> = connection.list("local", find, ACTION).await?;
    let entry = found.first().ok_or_else(|| {
        connection.odd_answer(ACTION, "it is empty: is this a member of a replica set?")
    })?;
    entry.get_timestamp("ts").map_err(|_| connection.odd_answer(ACTION, "an entry has no time"))
}

/// The previous name of a collection that this entry renames, directly or in a transaction.
fn renamed(entry: &RawDocument) -> Option<String> {
    if entry.get_str("op").ok()? != "c" {
        return None;
    }
    let operation = entry.get_document("o").ok()?;
    if let Ok(from) = operation.get_str("renameCollection") {
        return Some(from.to_owned());
    }
    let inner = operation.get_array("applyOps").ok()?;
    inner.into_iter().find_map(|inner| match inner {
        Ok(RawBsonRef::Document(inner)) => renamed(inner),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_rename_is_seen_by_itself_and_among_others() {
        let rename =
            rawdoc! { "op": "c", "ns": "d.$cmd", "o": { "renameCollection": "d.a", "to": "d.b" } };
        assert_eq!(renamed(&rename).as_deref(), Some("d.a"));
        let among = rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [ { "op": "i", "o": { "_id": 1 } }, rename ] } };
        assert_eq!(renamed(&among).as_deref(), Some("d.a"));
        // A document may well have such a field.
        assert_eq!(
            renamed(&rawdoc! { "op": "i", "ns": "d.a", "o": { "renameCollection": "d.a" } }),
            None
        );
        assert_eq!(renamed(&rawdoc! { "op": "n", "ns": "", "o": {} }), None);
    }
}
