//! Reads the documents of one collection, even if its cursor is lost.
//!
//! A cursor does not survive a stepdown, a dropped connection, a time-out, or half an hour without a request (the server ends its
//! session, also with `noCursorTimeout`). So a reader remembers the last document that it returned, and opens another cursor
//! after it. It uses `_id` if it reads by the index on `_id`, or if the collection is stored in that order; in a capped
//! collection, which preserves insertion order, it skips to that document. Reads by `_id` also never return a document twice,
//! which a read in natural order does if a document is deleted and inserted again in the meantime.
//!
//! A collection that is renamed keeps its UUID, and is read on under its new name ([`super::identity`]).

use std::{sync::Arc, time::Duration};

use bson::{Bson, Document, RawBsonRef, RawDocument, doc};
use futures::TryStreamExt as _;
use kaleem_dr_core::ground::SourceError;
use mongodb::{
    error::Error,
    options::SelectionCriteria,
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use tokio::time::Instant;

use super::{
    batch::Batch,
    documents::{DataPlace, batch_documents, documents},
    identity::{Identity, Whereabouts},
    moment::Moment,
    range::Range,
};
use crate::mongodb::server::{
    Connection, code, codes, index, is_passing,
    listing::{CollectionKind, CollectionSpec},
};

/// A read is retried for this long without progress: longer than the election of a primary takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// The initial pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The parameters of a read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) connection: Arc<Connection>,
    pub(crate) spec: CollectionSpec,
    pub(crate) place: DataPlace,
    pub(crate) moment: Arc<Moment>,
    /// True if the server can read this collection in a snapshot.
    pub(crate) in_snapshot: bool,
    /// The members to read from; `None` for the primary.
    pub(crate) from: Option<SelectionCriteria>,
    pub(crate) order: Order,
}

impl Read {
    /// A read of the current content from the primary, in the order on disk.
    pub(crate) fn now(
        connection: &Arc<Connection>,
        spec: &CollectionSpec,
        place: &DataPlace,
    ) -> Self {
        Self {
            connection: connection.clone(),
            spec: spec.clone(),
            place: place.clone(),
            moment: Arc::new(Moment::none()),
            in_snapshot: false,
            from: None,
            order: Order::Natural,
        }
    }
}

impl Read {
    pub(super) fn identity(&self) -> Identity<'_> {
        let is_read_elsewhere = self.from.is_some();
        Identity { connection: &self.connection, spec: &self.spec, is_read_elsewhere }
    }

    /// Reports whether a cursor may read another collection than the listed one: in a snapshot, a name keeps its meaning.
    fn follows_renames(&self) -> bool {
        self.identity().can_be_followed()
            && self.moment.oplog_after().is_some()
            && !self.moment.reads_snapshot(self.in_snapshot)
    }
}

/// The order in which documents are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order on disk, which is the fastest.
    Natural,
    /// The order of the index on `_id`, in which a read can be resumed.
    ById,
}

impl Order {
    /// The order in which a read of this collection can be resumed after its cursor is lost.
    pub(crate) fn resumable(spec: &CollectionSpec) -> Self {
        if has_plain_ids(spec) { Self::ById } else { Self::Natural }
    }
}

/// Reports whether the order of documents is not significant, and an index contains every `_id` in the plain order of its type.
pub(crate) fn has_plain_ids(spec: &CollectionSpec) -> bool {
    spec.kind == CollectionKind::Collection
        && !spec.is_capped()
        && !is_collated(spec)
        && spec.indexes.iter().any(index::is_id)
}

fn is_collated(spec: &CollectionSpec) -> bool {
    spec.options
        .get_document("collation")
        .is_ok_and(|collation| collation.get_str("locale").is_ok_and(|locale| locale != "simple"))
}

/// Reads the documents of one collection, batch by batch.
pub(crate) struct CollectionReader {
    read: Read,
    range: Option<Range>,
    batch: u32,
    action: String,
    cursor: Option<RawBatchCursor>,
    /// The `_id` of the last document returned.
    last: Option<Bson>,
    /// Set while a new cursor may return documents that were returned before.
    behind: Option<Behind>,
    /// The start of the current series of failures, and their number.
    failing: Option<(Instant, u32)>,
    /// The cursor may read another collection, which took the name before it was opened.
    is_unconfirmed: bool,
    /// The collection was dropped or replaced: only the oplog determines its content.
    gone: bool,
}

/// The position at which a new cursor resumes, relative to the last document returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// It begins with that document, if this still exists.
    AtIt,
    /// It begins earlier: everything up to that document is skipped. If that document had been removed, so would everything
    /// before it.
    BeforeIt,
}

impl CollectionReader {
    /// Opens a cursor. A range limits it to that part, in the order of `_id`.
    ///
    /// The command is built here because `Collection::find` does not support `rawData`; a cluster time in the read concern is
    /// equivalent to a snapshot session of the driver.
    pub(crate) async fn open(read: Read, range: Option<&Range>) -> Result<Self, SourceError> {
        let action = format!("read {}", read.spec.namespace());
        let (database, collection) = (&read.spec.database, &read.place.collection);
        let batch = batch_documents(&read.connection, database, collection).await;
        let mut reader = Self {
            read,
            range: range.cloned(),
            batch,
            action,
            cursor: None,
            last: None,
            behind: None,
            failing: None,
            is_unconfirmed: false,
            gone: false,
        };
        while reader.cursor.is_none() {
            if let Err(error) = reader.begin().await? {
                reader.go_on_after(&error).await?;
            }
        }
        Ok(reader)
    }

    /// The next batch, which may be empty; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, SourceError> {
        loop {
            if self.gone {
                return Ok(None);
            }
            let Some(cursor) = &mut self.cursor else {
                match self.begin().await? {
                    Ok(()) => continue,
                    Err(error) => self.go_on_after(&error).await?,
                }
                continue;
            };
            let next = async { Ok(cursor.try_next().await) };
            match self.read.connection.answer(&self.action, next).await? {
                Ok(Some(reply)) => {
                    if !self.is_confirmed().await? {
                        continue;
                    }
                    self.failing = None;
                    if let Some(batch) = self.unseen(reply)? {
                        return Ok(Some(batch));
                    }
                }
                Ok(None) if !self.is_confirmed().await? => {}
                Ok(None) if self.behind == Some(Behind::BeforeIt) => {
                    // The last document returned is gone, and with it all earlier ones: everything that exists now is new.
                    (self.cursor, self.behind, self.last) = (None, None, None);
                }
                Ok(None) => return Ok(None),
                Err(error) => self.go_on_after(&error).await?,
            }
        }
    }

    /// Opens a cursor after the last document returned.
    async fn begin(&mut self) -> Result<Result<(), Error>, SourceError> {
        let read = &self.read;
        let mut command = find_command(
            &read.spec,
            &read.place,
            read.moment.read_concern(read.in_snapshot),
            self.batch,
        );
        let range = match (&self.range, read.order) {
            (Some(range), _) => Some(range.clone()),
            (None, Order::ById) => Some(Range::default()),
            (None, Order::Natural) => None,
        };
        self.behind = None;
        match (range, &self.last) {
            (Some(mut range), last) => {
                if let Some(last) = last {
                    range.from = Some(last.clone());
                    self.behind = Some(Behind::AtIt);
                }
                range.put_into(&mut command);
            }
            (None, Some(last)) if lies_by_id(&read.spec) => {
                // Not `$gt` in a plain filter: that compares within one type only.
                let greater = doc! { "$gt": ["$_id", { "$literal": last }] };
                command.insert("filter", doc! { "$expr": greater });
            }
            (None, Some(_)) => self.behind = Some(Behind::BeforeIt),
            (None, None) => {}
        }
        let connection = &read.connection;
        let command = (&command).try_into().map_err(|error: bson::error::Error| {
            connection.odd_answer(&self.action, error.to_string())
        })?;
        let database = connection.client().await?.database(&read.spec.database);
        let opened = connection
            .answer(&self.action, async {
                let mut find = database.run_raw_cursor_command(command).batch_size(self.batch);
                if let Some(from) = read.from.clone() {
                    find = find.selection_criteria(from);
                }
                Ok(find.batch().await)
            })
            .await?;
        self.is_unconfirmed = self.read.follows_renames();
        Ok(opened.map(|cursor| self.cursor = Some(cursor)))
    }

    /// Reports whether the open cursor reads the listed collection. Otherwise drops the cursor, so that the next one is opened
    /// under the collection's present name.
    async fn is_confirmed(&mut self) -> Result<bool, SourceError> {
        if !self.is_unconfirmed || self.look_for_it().await? {
            self.is_unconfirmed = false;
            return Ok(true);
        }
        self.cursor = None;
        Ok(false)
    }

    /// Looks for the listed collection, and remembers its present name. Returns false if the name has changed, or if the collection
    /// is gone.
    async fn look_for_it(&mut self) -> Result<bool, SourceError> {
        match self.read.identity().locate(&self.read.place.collection).await? {
            Whereabouts::Same => Ok(true),
            Whereabouts::Renamed(name) => {
                tracing::info!(collection = %self.read.spec.namespace(), %name, "renamed during its read; reading on");
                self.read.place.collection = name;
                Ok(false)
            }
            Whereabouts::Gone => {
                self.gone = self.read.moment.lose(self.read.spec.namespace());
                if self.gone { Ok(false) } else { Err(self.lost()) }
            }
        }
    }

    fn lost(&self) -> SourceError {
        SourceError::Unsupported(format!(
            "{} was dropped or recreated while it was read: run the capture again",
            self.read.spec.namespace()
        ))
    }

    /// Removes the documents that were returned before; `None` if nothing remains.
    fn unseen(&mut self, reply: RawBatch) -> Result<Option<Batch>, SourceError> {
        let odd = |why: String| self.read.connection.odd_answer(&self.action, why);
        let mut given = 0;
        if let (Some(behind), Some(last)) = (self.behind, &self.last) {
            let ids = documents(&reply).map_err(odd)?.map(|document| id_of(document?));
            let ids: Vec<Bson> = ids.collect::<Result<_, _>>().map_err(odd)?;
            match (behind, ids.iter().position(|id| is_same_id(id, last))) {
                (Behind::AtIt, at) => given = usize::from(at == Some(0)),
                (Behind::BeforeIt, Some(at)) => given = at + 1,
                (Behind::BeforeIt, None) => return Ok(None),
            }
            if !ids.is_empty() {
                self.behind = None;
            }
        }
        let array = reply.doc_slices().map_err(|error| odd(error.to_string()))?;
        let last = array.into_iter().last().transpose().map_err(|error| odd(error.to_string()))?;
        if let Some(RawBsonRef::Document(last)) = last {
            self.last = Some(id_of(last.as_bytes()).map_err(odd)?);
        }
        Ok(Some(Batch::new(reply, given)))
    }

    /// Drops a cursor that failed, so that the next one resumes after the last document returned.
    ///
    /// # Errors
    /// The failure, if the read cannot be resumed, or has failed for too long.
    async fn go_on_after(&mut self, error: &Error) -> Result<(), SourceError> {
        let read = &self.read;
        let failed = || read.connection.error(&self.action, error);
        let is_gone = is_snapshot_gone(error);
        if if is_gone { !read.moment.leave() } else { !is_passing(error) } {
            return Err(failed());
        }
        // The next cursor does not use the snapshot, so waiting would not help.
        let left = is_gone && read.in_snapshot;
        let begun = self.last.is_some();
        if begun && !self.is_resumable() {
            return Err(failed());
        }
        self.cursor = None;
        if !left {
            let now = Instant::now();
            let (since, tries) = self.failing.unwrap_or((now, 0));
            if now.duration_since(since) >= PATIENCE {
                return Err(failed());
            }
            self.failing = Some((since, tries + 1));
            tracing::warn!(error = %failed(), tries, "a read was interrupted; resuming it");
            tokio::time::sleep((FIRST_PAUSE * 2_u32.saturating_pow(tries)).min(LONGEST_PAUSE))
                .await;
        }
        // Another collection may have this name by now, and must not be taken for the rest of this one.
        if begun {
            self.look_for_it().await?;
        }
        Ok(())
    }

    /// Reports whether another cursor can resume after the last document returned.
    fn is_resumable(&self) -> bool {
        let spec = &self.read.spec;
        self.range.is_some()
            || self.read.order == Order::ById
            || spec.is_capped()
            || lies_by_id(spec)
    }
}

/// Reports whether documents are stored in the order of `_id`, so that natural order is that order: true for clustered
/// collections and the buckets of a time series.
fn lies_by_id(spec: &CollectionSpec) -> bool {
    spec.kind == CollectionKind::TimeSeries || spec.options.contains_key("clusteredIndex")
}

fn id_of(document: &[u8]) -> Result<Bson, String> {
    let document = RawDocument::from_bytes(document).map_err(|error| error.to_string())?;
    let id = document.get("_id").map_err(|error| error.to_string())?;
    let id = id.ok_or("a document has no _id")?;
    Bson::try_from(id).map_err(|error| error.to_string())
}

/// Reports whether an index treats two ids as equal, such as 1 and 1.0.
fn is_same_id(a: &Bson, b: &Bson) -> bool {
    let number = |id: &Bson| match id {
        Bson::Int32(number) => Some(f64::from(*number)),
        #[allow(clippy::cast_precision_loss)]
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    };
    a == b || number(a).zip(number(b)).is_some_and(|(a, b)| a.total_cmp(&b).is_eq())
}

/// Reports whether the server has discarded the history that a snapshot needs.
fn is_snapshot_gone(error: &Error) -> bool {
    matches!(code(error), Some(codes::SNAPSHOT_TOO_OLD | codes::SNAPSHOT_UNAVAILABLE))
}

fn find_command(
    spec: &CollectionSpec,
    place: &DataPlace,
    read_concern: Option<Document>,
    batch: u32,
) -> Document {
    let mut command = doc! { "find": &place.collection, "batchSize": i64::from(batch) };
    if spec.kind == CollectionKind::Collection {
        // The order on disk: no index is read, and capped collections are returned in insertion order.
        command.insert("hint", doc! { "$natural": 1 });
    }
    if place.raw_data {
        command.insert("rawData", true);
    }
    if let Some(read_concern) = read_concern {
        command.insert("readConcern", read_concern);
    }
    command
}

#[cfg(test)]
mod tests {
    use bson::Timestamp;

    use super::*;

    #[test]
    fn numbers_of_any_type_are_one_id_and_other_values_are_not() {
        assert!(is_same_id(&Bson::Int32(1), &Bson::Double(1.0)));
        assert!(is_same_id(&Bson::Int64(1), &Bson::Int32(1)));
        assert!(!is_same_id(&Bson::Int32(1), &Bson::String("1".into())));
        assert!(is_same_id(&Bson::String("1".into()), &Bson::String("1".into())));
        assert!(is_same_id(&Bson::Double(f64::NAN), &Bson::Double(f64::NAN)));
    }

    #[test]
    fn the_command_asks_for_the_snapshot_and_natural_order() {
        let spec = CollectionSpec {
            database: "d".into(),
            name: "c".into(),
            kind: CollectionKind::Collection,
            options: doc! {},
            indexes: vec![],
            uuid: None,
        };
        let at = Timestamp { time: 7, increment: 3 };
        let moment = Moment::new(Some(at), None);
        let place = DataPlace::of(&spec, true).unwrap();
        let command = find_command(&spec, &place, moment.read_concern(true), 9);
        assert_eq!(
            command.get_document("readConcern").unwrap(),
            &doc! { "level": "snapshot", "atClusterTime": at }
        );
        assert_eq!(command.get_document("hint").unwrap(), &doc! { "$natural": 1 });
        assert!(!command.contains_key("rawData"));

        let series = CollectionSpec { kind: CollectionKind::TimeSeries, ..spec.clone() };
        let old = DataPlace::of(&series, false).unwrap();
        assert_eq!(old, DataPlace { collection: "system.buckets.c".into(), raw_data: false });
        let new = find_command(&series, &DataPlace::of(&series, true).unwrap(), None, 9);
        assert_eq!((new.get_str("find").unwrap(), new.get_bool("rawData").unwrap()), ("c", true));
        assert!(!new.contains_key("hint") && !new.contains_key("readConcern"));
        assert_eq!(
            DataPlace::of(&CollectionSpec { kind: CollectionKind::View, ..spec }, true),
            None
        );
    }

    #[test]
    fn only_what_has_a_plain_index_of_ids_and_no_order_of_its_own_is_cut() {
        let spec = |options| CollectionSpec {
            database: "d".into(),
            name: "c".into(),
            kind: CollectionKind::Collection,
            options,
            indexes: vec![doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }],
            uuid: None,
        };
        assert!(has_plain_ids(&spec(doc! {})));
        assert!(!has_plain_ids(&spec(doc! { "capped": true })));
        assert!(!has_plain_ids(&spec(doc! { "collation": { "locale": "fr" } })));
        assert!(
            !has_plain_ids(&CollectionSpec { indexes: vec![], ..spec(doc! {}) }),
            "a clustered collection has no such index"
        );
        assert!(!has_plain_ids(&CollectionSpec {
            kind: CollectionKind::TimeSeries,
            ..spec(doc! {})
        }));
    }
}
