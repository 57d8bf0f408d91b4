//! The oplog in a capture: the writes during the capture.
//!
//! There are two cases. A capture of all databases with `oplog = true` reads the collections at one cluster time and adds the
//! writes after it, as mongodump does; its oplog can be read at any time, so it takes its place in the order of paths. A capture
//! that takes longer than the server keeps a snapshot continues without one. Its oplog, from before its first read until after
//! its last one and filtered to the captured collections, then brings them to one moment, the end. That oplog is read last, into
//! a directory that sorts after all collections.

use std::time::Duration;

use bson::{Document, RawBsonRef, RawDocument, Timestamp, doc};
use futures::TryStreamExt as _;
use kaleem_dr_core::{engine::artifact::ArtifactWriter, ground::SourceError};
use mongodb::error::Error;
use serde_json::Value;

use super::{
    documents::documents,
    moment::Moment,
    pieces::DocumentWriter,
    position::{ACTION, edge},
    snapshot::{Listed, Reading},
};
use crate::mongodb::{
    names::ROOT,
    oplog::{Filter, Window, time},
    server::{
        Connection, is_passing,
        listing::{CollectionSpec, Scope},
    },
};

/// Its file name in mongodump's layout.
pub(crate) const FILE: &str = "oplog.bson";
/// The manifest's detail with the window of the oplog that `oplog = true` captured.
pub(crate) const KEY: &str = "oplog";
/// The manifest's detail with the window of the oplog that is needed to bring the collections to one moment.
pub(crate) const NEEDED_KEY: &str = "oplog_needed";
/// The directory of the needed oplog. Paths ascend in a capture, so it must sort after [`ROOT`].
pub(crate) const NEEDED_ROOT: &str = "mongo-oplog";

/// Attempts to resume a read of the oplog without progress in between.
const TRIES: u32 = 20;

/// The path of the oplog that `oplog = true` captures.
pub(crate) fn path() -> String {
    format!("/{ROOT}/{FILE}")
}

/// The path of the oplog that brings the collections to one moment.
pub(crate) fn needed_path() -> String {
    format!("/{NEEDED_ROOT}/{FILE}")
}

/// The start time of the oplog: the time at which all collections are read.
///
/// # Errors
/// If there is no such time.
pub(crate) fn start(
    connection: &Connection,
    reading: &Reading,
    collections: &[CollectionSpec],
) -> Result<Timestamp, SourceError> {
    let apart = collections.iter().any(|spec| !reading.is_in_snapshot(spec));
    reading.at.filter(|_| !apart).ok_or_else(|| {
        SourceError::Unsupported(format!(
            "oplog = true requires that all collections are read at one moment, which {} does not support: a replica set of MongoDB 5.0 or later does, \
             with capped collections from 8.0; set oplog = false",
            connection.server()
        ))
    })
}

/// Copies the entries after `start` into their artifact, and returns the window they cover.
pub(crate) async fn copy(
    connection: &Connection,
    start: Timestamp,
    writer: ArtifactWriter,
) -> Result<Value, SourceError> {
    let mut to = DocumentWriter::new(writer);
    let end =
        edge(connection, -1).await.map_err(|error| SourceError::artifact(to.path(), error))?;
    let window = Window { after: start, to: end.max(start) };
    copy_entries(connection, &window, false, &doc! {}, &mut to, |entry| {
        if let Some(namespace) = renamed(entry) {
            return Err(format!(
                "{namespace} was renamed during the capture, which a replay by mongorestore does not follow: run the capture again"
            ));
        }
        Ok(Some(entry.as_bytes().to_vec()))
    })
    .await?;
    to.finish().await?;
    Ok(window.to_value())
}

/// Copies the writes to the captured collections since `moment` began, which bring these to one moment, and returns the window
/// they cover. Must be called after the last read.
///
/// # Errors
/// If the oplog no longer reaches back to the start, or contains an operation that cannot be replayed.
pub(crate) async fn copy_needed(
    connection: &Connection,
    moment: &Moment,
    scope: &Scope,
    listed: &Listed,
    writer: ArtifactWriter,
) -> Result<Window, SourceError> {
    let mut to = DocumentWriter::new(writer);
    let path = to.path().clone();
    let Some(after) = moment.read_oplog_after() else {
        return Err(SourceError::artifact(&path, "no place in the oplog was kept"));
    };
    let end = edge(connection, -1).await.map_err(|error| SourceError::artifact(&path, error))?;
    let window = Window { after, to: end.max(after) };
    let mut filter = Filter::new(scope, &listed.collections, moment);
    copy_entries(connection, &window, false, &namespaces(scope), &mut to, |entry| {
        filter.keep(entry)
    })
    .await?;
    filter.end().map_err(|why| SourceError::artifact(&path, why))?;
    let kept = to.items();
    to.finish().await?;
    tracing::info!(entries = kept, "the oplog brings the collections to one moment");
    Ok(window)
}

/// A filter with which the server omits most writes to other databases; [`Filter`] handles the rest.
pub(super) fn namespaces(scope: &Scope) -> Document {
    match scope.named() {
        [] => doc! {},
        named => {
            let any: Vec<String> = named.iter().map(|name| literal(name)).collect();
            let own = format!("^(?:{})\\.", any.join("|"));
            doc! { "$or": [ { "ns": { "$regex": own } }, { "op": "c", "ns": { "$regex": "^admin\\." } } ] }
        }
    }
}

/// The progress of a read of the oplog.
struct Progress {
    /// The time of the last entry, and the number of entries read with this time: on some servers, those of a transaction share
    /// one.
    at: Timestamp,
    seen: usize,
    begun: bool,
}

/// Passes each entry of a window to `keep`, and writes the result; with `with_first`, also the entries at the start of the window.
/// If a cursor is lost, continues after the last entry.
pub(super) async fn copy_entries<K>(
    connection: &Connection,
    window: &Window,
    with_first: bool,
    of: &Document,
    to: &mut DocumentWriter,
    mut keep: K,
) -> Result<(), SourceError>
where
    K: FnMut(&RawDocument) -> Result<Option<Vec<u8>>, String> + Send,
{
    let path = to.path().clone();
    let failed = |error| SourceError::artifact(&path, error);
    let mut progress = Progress { at: window.after, seen: 0, begun: with_first };
    let mut tries = 0;
    while with_first || !window.is_empty() {
        let before = (progress.at, progress.seen);
        let Some(error) = read_on(connection, window, of, to, &mut keep, &mut progress).await?
        else {
            break;
        };
        tries = if (progress.at, progress.seen) == before { tries + 1 } else { 0 };
        let told = connection.error(ACTION, &error);
        if tries > TRIES || !is_passing(&error) {
            return Err(failed(told));
        }
        tracing::warn!(error = %told, "the read of the oplog was interrupted; resuming it");
        tokio::time::sleep(Duration::from_millis(100 << tries.min(6))).await;
    }
    // The server discards the oldest entries in the meantime.
    if edge(connection, 1).await.map_err(failed)? > window.after {
        return Err(SourceError::artifact(
            &path,
            "the oplog no longer reaches back to the beginning of the capture: make it larger (replSetResizeOplog)",
        ));
    }
    Ok(())
}

/// Reads from the current position to the end of the window. Returns the driver's error if a cursor or a connection failed.
async fn read_on<K>(
    connection: &Connection,
    window: &Window,
    of: &Document,
    to: &mut DocumentWriter,
    keep: &mut K,
    progress: &mut Progress,
) -> Result<Option<Error>, SourceError>
where
    K: FnMut(&RawDocument) -> Result<Option<Vec<u8>>, String> + Send,
{
    let odd = |why: String| connection.odd_answer(ACTION, why);
    let path = to.path().clone();
    let from = if progress.begun { "$gte" } else { "$gt" };
    let mut filter = doc! { "ts": { from: progress.at, "$lte": window.to } };
    if !of.is_empty() {
        filter = doc! { "$and": [filter, of.clone()] };
    }
    let find =
        doc! { "find": "oplog.rs", "filter": filter, "readConcern": { "level": "majority" } };
    let find = (&find).try_into().map_err(|error: bson::error::Error| odd(error.to_string()))?;
    let local = connection.client().await?.database("local");
    let opened = async { Ok(local.run_raw_cursor_command(find).batch().await) };
    let mut cursor = match connection.answer(ACTION, opened).await? {
        Ok(cursor) => cursor,
        Err(error) => return Ok(Some(error)),
    };
    let (resumed_at, mut passed_over) = (progress.at, progress.seen);
    loop {
        let next = async { Ok(cursor.try_next().await) };
        let batch = match connection.answer(ACTION, next).await? {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        };
        for entry in documents(&batch).map_err(odd)? {
            let entry = RawDocument::from_bytes(entry.map_err(odd)?)
                .map_err(|error| odd(error.to_string()))?;
            let at = time(entry).map_err(odd)?;
            if progress.begun && at == resumed_at && passed_over > 0 {
                passed_over -= 1;
                continue;
            }
            if let Some(kept) = keep(entry).map_err(|why| SourceError::artifact(&path, why))? {
                to.write(&kept).await?;
            }
            progress.seen = if progress.begun && at == progress.at { progress.seen + 1 } else { 1 };
            (progress.at, progress.begun) = (at, true);
        }
    }
}

/// Escapes a name for a regular expression.
fn literal(name: &str) -> String {
    let mut literal = String::with_capacity(name.len());
    for character in name.chars() {
        if !character.is_alphanumeric() && character != '_' && character.is_ascii() {
            literal.push('\\');
        }
        literal.push(character);
    }
    literal
}

/// The old name of a collection that this entry renames, directly or in a transaction.
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
        // A document may have such a field.
        assert_eq!(
            renamed(&rawdoc! { "op": "i", "ns": "d.a", "o": { "renameCollection": "d.a" } }),
            None
        );
        assert_eq!(renamed(&rawdoc! { "op": "n", "ns": "", "o": {} }), None);
    }

    #[test]
    fn the_needed_oplog_sorts_after_all_collections_and_names_are_literal() {
        assert!(
            NEEDED_ROOT > ROOT
                && std::path::Path::new(&needed_path())
                    > std::path::Path::new("/mongo/\u{10ffff}/z")
        );
        assert_eq!(literal("a-b_ü.c"), "a\\-b_ü\\.c");
    }
}
