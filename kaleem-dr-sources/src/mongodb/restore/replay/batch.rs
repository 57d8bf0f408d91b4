//! The writes of a replay: collects them, applies them to the documents in the target, and writes the results by `_id`.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};
use kaleem_dr_core::ground::SourceError;

use super::{super::live::Live, Replay};
use crate::mongodb::{
    dump::DataPlace,
    oplog::{Change, diff},
    restore::Destination,
    server::{Connection, codes, is_passing, reply},
};

/// Limit for the pending writes, as a number and in bytes.
const MOST_WRITES: usize = 2000;
const MOST_BYTES: usize = 8 << 20;
/// Documents fetched and written at once.
const DOCUMENTS: usize = 200;
/// Limit for one command, in bytes, except for a single document that is larger.
const COMMAND_BYTES: usize = 8 << 20;
/// Attempts for a write after a temporary failure. A write may be executed twice.
const TRIES: u32 = 6;

/// Pending writes, in the order of the oplog.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The writes of each collection, by its index among the live ones.
    writes: BTreeMap<usize, Vec<(Bson, Change)>>,
    count: usize,
    size_bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, collection: usize, id: Bson, change: Change) {
        self.count += 1;
        self.size_bytes += match &change {
            Change::Put(document) => document.as_bytes().len(),
            Change::Update(_) | Change::Delete => 128,
        };
        self.writes.entry(collection).or_default().push((id, change));
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= MOST_WRITES || self.size_bytes >= MOST_BYTES
    }

    /// Applies all pending writes. Returns the number of documents written.
    pub(super) async fn apply(
        self,
        replay: &Replay<'_>,
        live: &mut [Live],
    ) -> Result<u64, SourceError> {
        let mut written = 0;
        for (at, writes) in self.writes {
            let live = &mut live[at];
            let Some(place) = DataPlace::of(&live.spec, replay.facts.has_viewless_time_series())
            else {
                continue;
            };
            let target = Target {
                connection: replay.connection,
                destination: Destination::new(&live.spec, &place, replay.facts, replay.writes),
                is_capped: live.spec.is_capped(),
                namespace: live.spec.namespace(),
            };
            let mut documents = gather(writes);
            while !documents.is_empty() {
                let rest = documents.split_off(documents.len().min(DOCUMENTS));
                written += target.bring_up(documents, live).await?;
                documents = rest;
            }
        }
        Ok(written)
    }
}

/// A document and its changes, in order.
struct Changed {
    id: Bson,
    changes: Vec<Change>,
}

/// Groups the writes by document.
fn gather(writes: Vec<(Bson, Change)>) -> Vec<Changed> {
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut gathered: Vec<Changed> = Vec::new();
    for (id, change) in writes {
        let place = *places.entry(key(&id)).or_insert(gathered.len());
        match gathered.get_mut(place) {
            Some(known) => known.changes.push(change),
            None => gathered.push(Changed { id, changes: vec![change] }),
        }
    }
    gathered
}

/// A key for an `_id` that is equal for values that an index treats as equal, such as 1 and 1.0.
fn key(id: &Bson) -> Vec<u8> {
    let whole = match id {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        #[allow(clippy::cast_possible_truncation)]
        // An integer within range, because of the guard.
        Bson::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Some(*number as i64)
        }
        _ => None,
    };
    match whole {
        Some(number) => [b"number".as_slice(), &number.to_le_bytes()].concat(),
        None => bson::serialize_to_vec(&doc! { "": id }).unwrap_or_default(),
    }
}

/// Applies changes to a document, or to a missing one.
fn changed(
    mut document: Option<RawDocumentBuf>,
    changes: Vec<Change>,
) -> Result<Option<RawDocumentBuf>, String> {
    for change in changes {
        document = match (change, document) {
            (Change::Put(new), _) => Some(new),
            (Change::Delete, _) => None,
            // The document is missing because a later entry deletes it.
            (Change::Update(_), None) => None,
            (Change::Update(changes), Some(old)) => {
                let old = Document::try_from(old.as_ref()).map_err(|error| error.to_string())?;
                let new = diff::apply(&changes, old)?;
                Some(RawDocumentBuf::try_from(&new).map_err(|error| error.to_string())?)
            }
        };
    }
    Ok(document)
}

/// A collection that a replay writes to.
struct Target<'a> {
    connection: &'a Connection,
    destination: Destination,
    is_capped: bool,
    namespace: String,
}

impl Target<'_> {
    /// Updates documents, and the digest of their collection with them.
    async fn bring_up(&self, documents: Vec<Changed>, live: &mut Live) -> Result<u64, SourceError> {
        let ids: Vec<&Bson> = documents.iter().map(|changed| &changed.id).collect();
        let mut found = self.fetch(&ids).await?;
        let (mut puts, mut deletions) = (Vec::new(), Vec::new());
        for Changed { id, changes } in documents {
            let old = found.remove(&key(&id));
            let new = changed(old.clone(), changes).map_err(|why| {
                SourceError::Refused(format!(
                    "the oplog cannot be replayed: an update of {} {why}",
                    self.namespace
                ))
            })?;
            if old == new {
                continue;
            }
            if let Some(old) = &old {
                live.content.remove(old.as_bytes());
            }
            match new {
                Some(new) => {
                    live.content.add(new.as_bytes());
                    puts.push((id, new, old.is_some()));
                }
                None => deletions.push(id),
            }
        }
        let written = (puts.len() + deletions.len()) as u64;
        self.put(puts).await?;
        self.delete(deletions).await?;
        Ok(written)
    }

    /// Fetches the documents with these ids from the target.
    async fn fetch(&self, ids: &[&Bson]) -> Result<HashMap<Vec<u8>, RawDocumentBuf>, SourceError> {
        let action = format!("read documents of {} that the oplog changes", self.namespace);
        let mut find = doc! {
            "find": &self.destination.collection,
            "filter": { "_id": { "$in": ids.iter().map(|id| (*id).clone()).collect::<Vec<Bson>>() } },
            "collation": { "locale": "simple" },
        };
        if self.destination.has_raw_data() {
            find.insert("rawData", true);
        }
        let mut found = HashMap::new();
        for document in self.connection.list_raw(&self.destination.database, find, &action).await? {
            let id = document.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok());
            let id = id.ok_or_else(|| self.connection.odd_answer(&action, "one has no _id"))?;
            found.insert(key(&id), document);
        }
        Ok(found)
    }

    /// Writes whole documents, which replace existing ones.
    async fn put(&self, puts: Vec<(Bson, RawDocumentBuf, bool)>) -> Result<(), SourceError> {
        // Capped collections accept documents only as inserts, in the order of the oplog.
        let (inserts, updates): (Vec<_>, Vec<_>) =
            puts.into_iter().partition(|(_, _, is_there)| self.is_capped && !is_there);
        let documents = inserts.into_iter().map(|(_, document, _)| document).collect();
        self.send("insert", "documents", documents).await?;
        let mut statements = Vec::new();
        for (id, document, _) in updates {
            let query = self.query(&id)?;
            statements.push(rawdoc! {
                "q": query, "u": document, "upsert": true, "collation": { "locale": "simple" },
            });
        }
        self.send("update", "updates", statements).await
    }

    async fn delete(&self, ids: Vec<Bson>) -> Result<(), SourceError> {
        let mut statements = Vec::new();
        for id in ids {
            let query = self.query(&id)?;
            statements
                .push(rawdoc! { "q": query, "limit": 1, "collation": { "locale": "simple" } });
        }
        self.send("delete", "deletes", statements).await
    }

    fn query(&self, id: &Bson) -> Result<RawDocumentBuf, SourceError> {
        RawDocumentBuf::try_from(&doc! { "_id": { "$eq": id } }).map_err(|error| {
            self.connection.odd_answer(&format!("write to {}", self.namespace), error.to_string())
        })
    }

    /// Sends statements in as many commands as needed.
    async fn send(
        &self,
        command: &str,
        field: &str,
        statements: Vec<RawDocumentBuf>,
    ) -> Result<(), SourceError> {
        let (mut now, mut size_bytes) = (Vec::new(), 0);
        for statement in statements {
            let length = statement.as_bytes().len();
            if !now.is_empty() && size_bytes + length > COMMAND_BYTES {
                self.send_one(command, field, std::mem::take(&mut now)).await?;
                size_bytes = 0;
            }
            size_bytes += length;
            now.push(statement);
        }
        if now.is_empty() { Ok(()) } else { self.send_one(command, field, now).await }
    }

    async fn send_one(
        &self,
        name: &str,
        field: &str,
        statements: Vec<RawDocumentBuf>,
    ) -> Result<(), SourceError> {
        let action = format!("replay the oplog into {}", self.namespace);
        let odd = |why: String| self.connection.odd_answer(&action, why);
        let mut array = bson::RawArrayBuf::new();
        for statement in statements {
            array.push(statement);
        }
        let mut command = RawDocumentBuf::new();
        let key =
            |key: &str| bson::raw::CString::try_from(key).map_err(|error| odd(error.to_string()));
        command.append(key(name)?, self.destination.collection.as_str());
        command.append(key(field)?, array);
        command.append(bson::cstr!("ordered"), name == "insert");
        for flag in self.destination.flags(name == "delete") {
            command.append(flag, true);
        }
        command.append(bson::cstr!("writeConcern"), &*self.destination.writes.raw_concern);
        let mut tries = 0;
        loop {
            let database = self.connection.client().await?.database(&self.destination.database);
            let sent = async { Ok(database.run_raw_command(command.clone()).await) };
            match self.connection.answer(&action, sent).await? {
                Ok(reply) => return self.judge(&reply).map_err(odd),
                Err(error) if is_passing(&error) && tries < TRIES => {
                    tries += 1;
                    tracing::warn!(
                        error = %self.connection.error(&action, &error),
                        "a write of the replay failed; it is tried again"
                    );
                    tokio::time::sleep(Duration::from_millis(200 << tries)).await;
                }
                Err(error) => return Err(self.connection.error(&action, &error)),
            }
        }
    }

    /// A command with write errors is still answered with `ok: 1`.
    fn judge(&self, answer: &Document) -> Result<(), String> {
        if let Ok(errors) = answer.get_array("writeErrors") {
            // An insert into a capped collection that succeeded before it was retried.
            let is_repeated = |error: &Bson| {
                self.is_capped
                    && error.as_document().is_some_and(|error| {
                        error.get_i32("code").is_ok_and(|code| code == codes::DUPLICATE_KEY)
                    })
            };
            if let Some(error) = errors.iter().find(|error| !is_repeated(error)) {
                let why = error.as_document().and_then(|error| error.get_str("errmsg").ok());
                return Err(why.unwrap_or("a write was refused without a reason").to_owned());
            }
        }
        reply::unacknowledged(answer).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(document: impl std::borrow::Borrow<Document>) -> RawDocumentBuf {
        RawDocumentBuf::try_from(document.borrow()).unwrap()
    }

    #[test]
    fn the_writes_of_a_document_are_applied_in_order() {
        let set = |n: i32| Change::Update(doc! { "$v": 2, "diff": { "u": { "n": n } } });
        let put = |n: i32| Change::Put(raw(doc! { "_id": 1, "n": n }));
        let document = |n: i32| Some(raw(doc! { "_id": 1, "n": n }));
        assert_eq!(changed(document(0), vec![set(1), set(2)]).unwrap(), document(2));
        assert_eq!(changed(None, vec![set(1), put(5), set(6)]).unwrap(), document(6));
        assert_eq!(changed(document(0), vec![put(1), Change::Delete]).unwrap(), None);
        assert_eq!(changed(None, vec![set(1)]).unwrap(), None);
    }

    #[test]
    fn ids_that_an_index_holds_as_one_are_one_document() {
        let writes = vec![
            (Bson::Int32(1), Change::Delete),
            (Bson::Double(1.0), Change::Delete),
            (Bson::String("1".into()), Change::Delete),
            (Bson::Double(1.5), Change::Delete),
        ];
        let gathered = gather(writes);
        let counts: Vec<usize> = gathered.iter().map(|changed| changed.changes.len()).collect();
        assert_eq!(counts, [2, 1, 1]);
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut batch = Batch::default();
        let mut pushed = 0;
        while !batch.is_full() {
            batch.push(
                0,
                Bson::Int32(pushed),
                Change::Put(raw(doc! { "_id": pushed, "f": "x".repeat(9000) })),
            );
            pushed += 1;
        }
        assert!((900..1000).contains(&pushed), "{pushed}");
    }
}
