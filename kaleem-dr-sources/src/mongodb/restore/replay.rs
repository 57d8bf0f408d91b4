//! Replays an oplog with `applyOps`, entry by entry like mongorestore, once all databases are
//! restored.
//!
//! Every entry is checked before anything is written: one that cannot be replayed refuses the
//! restore, instead of interrupting it half way. No test server has `applyOps`: the requests are
//! tested, their effect on a server is not.

use bson::{Bson, Document, doc};
use kaleem_dr_core::{
    ground::SourceError,
    recovery::{
        point::{ArtifactReader, PointReader},
        source::{Existing, RestoreReport, RestoreRequest, RestoreTarget},
    },
};

use super::writes::Writes;
use crate::mongodb::{
    dump::{DocumentSplitter, oplog},
    names::ROOT,
    server::Connection,
};

/// The action for one entry of an oplog.
#[derive(Debug, PartialEq)]
enum Step {
    /// The entry does not change data, or only the server's own.
    Nothing,
    /// `applyOps` with this entry.
    Apply(Document),
    /// This command on this database: `applyOps` does not build indexes.
    Run(String, Document),
    /// The steps of a transaction.
    Steps(Vec<Step>),
}

/// The path of a point's oplog, if it has one.
pub(crate) fn artifact(point: &PointReader) -> Option<String> {
    let path = format!("/{ROOT}/{}", oplog::FILE);
    point.manifest().artifact(&path).map(|record| record.path.clone())
}

/// Reports whether the oplog of a point may be replayed: it refers to collections, so all of them
/// must exist unchanged under their own names.
pub(crate) fn is_possible(request: &RestoreRequest) -> bool {
    request.to == RestoreTarget::InPlace
        && request.existing == Existing::Replace
        && request.only.is_empty()
        && request.rename.is_empty()
}

/// Checks every entry. Sends nothing.
///
/// # Errors
/// [`SourceError::Refused`] if an entry cannot be replayed.
pub(crate) async fn check(point: &PointReader, path: &str) -> Result<(), SourceError> {
    let mut entries = Entries::open(point, path).await?;
    while let Some(entry) = entries.next().await? {
        step(&entry).map_err(|why| {
            let at = entry.get_timestamp("ts").map(|at| format!("({}, {})", at.time, at.increment)).unwrap_or_default();
            SourceError::Refused(format!(
                "the oplog cannot be replayed: its entry {at} {why}; with replay_oplog = false all collections are restored as they were \
                 when they were read"
            ))
        })?;
    }
    Ok(())
}

/// Replays every entry in order.
pub(crate) async fn replay(
    connection: &Connection,
    writes: &Writes,
    point: &PointReader,
    path: &str,
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    let mut entries = Entries::open(point, path).await?;
    let mut replayed = 0_u64;
    while let Some(entry) = entries.next().await? {
        let step = step(&entry).map_err(|why| entries.odd(why))?;
        let action = format!(
            "replay an entry of the oplog, after {replayed} replayed entries: the data are in an intermediate state; restore again"
        );
        take(connection, writes, step, &action).await?;
        replayed += 1;
    }
    report.warnings.push(format!(
        "the comparison was made before {replayed} entries of the oplog were replayed; their changes were not compared"
    ));
    Ok(())
}

async fn take(
    connection: &Connection,
    writes: &Writes,
    step: Step,
    action: &str,
) -> Result<(), SourceError> {
    let mut steps = vec![step];
    while let Some(step) = steps.pop() {
        match step {
            Step::Nothing => {}
            Step::Steps(inner) => steps.extend(inner.into_iter().rev()),
            Step::Run(database, mut command) => {
                command.insert("writeConcern", &writes.concern);
                connection.write(&database, command, action).await?;
            }
            Step::Apply(entry) => {
                let command = doc! { "applyOps": [entry], "writeConcern": &writes.concern };
                let reply = connection.run("admin", command, action).await?;
                let done = reply
                    .get_array("results")
                    .is_ok_and(|results| results.iter().all(|done| done.as_bool() == Some(true)));
                if !done {
                    return Err(connection.odd_answer(action, "the server did not apply it"));
                }
            }
        }
    }
    Ok(())
}

/// The entries of an oplog, one by one.
struct Entries {
    reader: ArtifactReader,
    /// `None` after the end.
    splitter: Option<DocumentSplitter>,
    path: String,
}

impl Entries {
    async fn open(point: &PointReader, path: &str) -> Result<Self, SourceError> {
        Ok(Self {
            reader: point.artifact(path).await?,
            splitter: Some(DocumentSplitter::default()),
            path: path.to_owned(),
        })
    }

    fn odd(&self, why: impl std::fmt::Display) -> SourceError {
        SourceError::Point(format!("{} is malformed: {why}", self.path).into())
    }

    async fn next(&mut self) -> Result<Option<Document>, SourceError> {
        loop {
            let Some(mut splitter) = self.splitter.take() else { return Ok(None) };
            match splitter.next().map_err(|why| self.odd(why))? {
                Some(entry) => {
                    self.splitter = Some(splitter);
                    return bson::deserialize_from_slice(&entry)
                        .map(Some)
                        .map_err(|error| self.odd(error));
                }
                None => match self.reader.next().await? {
                    Some(piece) => {
                        splitter.push(&piece);
                        self.splitter = Some(splitter);
                    }
                    None => splitter.finish().map_err(|why| self.odd(why))?,
                },
            }
        }
    }
}

/// Translates an entry.
///
/// # Errors
/// The reason why it cannot be replayed, as the end of a sentence about the entry.
fn step(entry: &Document) -> Result<Step, String> {
    let operation = entry.get_str("op").map_err(|_| "has no operation type")?;
    let namespace = entry.get_str("ns").unwrap_or_default();
    let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
    if operation == "n" || is_the_servers_own(database, collection) {
        return Ok(Step::Nothing);
    }
    match operation {
        "i" | "u" | "d" => Ok(Step::Apply(bare(entry))),
        "c" => {
            let command = entry.get_document("o").map_err(|_| "is a command without a body")?;
            self::command(entry, database, command)
        }
        other => Err(format!("has the unknown type `{other}`")),
    }
}

fn command(entry: &Document, database: &str, command: &Document) -> Result<Step, String> {
    let name = command.keys().next().map(String::as_str).unwrap_or_default();
    match name {
        "create" | "drop" | "dropDatabase" | "collMod" | "dropIndexes" | "deleteIndexes"
        | "deleteIndex" | "convertToCapped" | "emptycapped" => Ok(Step::Apply(bare(entry))),
        "createIndexes" => {
            let collection = command
                .get_str("createIndexes")
                .map_err(|_| "builds an index without a collection")?;
            let index: Document = command
                .iter()
                .skip(1)
                .filter(|(key, _)| *key != "v")
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            Ok(Step::Run(
                database.to_owned(),
                doc! { "createIndexes": collection, "indexes": [index] },
            ))
        }
        "commitIndexBuild" => {
            let collection = command
                .get_str("commitIndexBuild")
                .map_err(|_| "builds an index without a collection")?;
            let indexes = command
                .get_array("indexes")
                .map_err(|_| "builds an index without a specification")?;
            let indexes: Vec<Bson> = indexes.iter().map(without_version).collect();
            Ok(Step::Run(
                database.to_owned(),
                doc! { "createIndexes": collection, "indexes": indexes },
            ))
        }
        // The index is built when it is committed; a check changes nothing.
        "startIndexBuild" | "abortIndexBuild" | "dbCheck" => Ok(Step::Nothing),
        "applyOps" => transaction(entry, command),
        other => Err(format!("is the command `{other}`")),
    }
}

/// A transaction within a single entry. One that spans several entries, or is prepared, would have
/// to be held back until its end.
fn transaction(entry: &Document, command: &Document) -> Result<Step, String> {
    let flag = |name: &str| command.get_bool(name).unwrap_or(false);
    let continued = entry.get_document("prevOpTime").is_ok_and(|before| {
        before.get_timestamp("ts").is_ok_and(|at| at.time != 0 || at.increment != 0)
    });
    if flag("partialTxn") || flag("prepare") || continued {
        return Err("is part of a transaction that spans several entries".to_owned());
    }
    let inner = command.get_array("applyOps").map_err(|_| "is a transaction without operations")?;
    let steps =
        inner.iter().map(|inner| step(inner.as_document().ok_or("contains an invalid operation")?));
    steps.collect::<Result<_, _>>().map(Step::Steps)
}

/// The fields that `applyOps` uses. The collection's UUID is omitted, because the restored
/// collection has another one.
fn bare(entry: &Document) -> Document {
    let taken = |key: &str| ["ts", "t", "h", "v", "op", "ns", "o", "o2"].contains(&key);
    entry
        .iter()
        .filter(|(key, _)| taken(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn without_version(index: &Bson) -> Bson {
    match index {
        Bson::Document(index) => Bson::Document(
            index
                .iter()
                .filter(|(key, _)| *key != "v")
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Reports whether a namespace is internal to the server. The data behind views and time series are
/// not.
fn is_the_servers_own(database: &str, collection: &str) -> bool {
    match database {
        "local" | "config" => true,
        "admin" => collection.starts_with("system."),
        _ => matches!(collection, "system.profile" | "system.indexBuilds"),
    }
}

#[cfg(test)]
mod tests {
    use kaleem_dr_core::operate::config::secret::SecretRef;

    use super::*;
    use crate::mongodb::{config::MongoConfig, server::Recorder};

    fn entry(op: &str, ns: &str, o: Document) -> Document {
        let at = bson::Timestamp { time: 7, increment: 1 };
        doc! { "lsid": { "id": 1 }, "op": op, "ns": ns, "ui": "uuid", "o": o, "ts": at, "v": 2_i64, "wall": 1 }
    }

    #[test]
    fn entries_without_data_are_skipped_and_unknown_ones_are_refused() {
        for own in [
            entry("n", "", doc! { "msg": "periodic noop" }),
            entry("i", "config.transactions", doc! { "_id": 1 }),
            entry("u", "admin.system.keys", doc! { "_id": 1 }),
            entry("c", "d.$cmd", doc! { "startIndexBuild": "a" }),
        ] {
            assert_eq!(step(&own), Ok(Step::Nothing), "{own}");
        }
        assert!(
            matches!(step(&entry("i", "d.system.buckets.s", doc! {})), Ok(Step::Apply(_))),
            "measurements are data"
        );
        assert!(
            matches!(step(&entry("i", "d.system.views", doc! {})), Ok(Step::Apply(_))),
            "so are definitions of views"
        );
        assert!(
            step(&entry("c", "d.$cmd", doc! { "renameCollection": "d.a" }))
                .unwrap_err()
                .contains("renameCollection")
        );
        assert!(step(&entry("x", "d.a", doc! {})).unwrap_err().contains("unknown type"));
        let part = entry("c", "admin.$cmd", doc! { "applyOps": [], "partialTxn": true });
        assert!(step(&part).unwrap_err().contains("several entries"));
        let mut last = entry("c", "admin.$cmd", doc! { "applyOps": [] });
        last.insert("prevOpTime", doc! { "ts": bson::Timestamp { time: 6, increment: 1 }, "t": 1 });
        assert!(step(&last).is_err(), "the last entry of a long transaction");
    }

    #[tokio::test]
    async fn each_entry_is_sent_as_mongorestore_sends_it() {
        let server =
            Recorder::start(|command| match command.keys().next().map(String::as_str)? {
                "applyOps" => Some(doc! { "applied": 1, "results": [true] }),
                "createIndexes" => Some(doc! {}),
                _ => None,
            })
            .await;
        let writes = Writes::of(&MongoConfig::new(SecretRef::Env("M".into())));
        let transaction = doc! { "applyOps": [
            { "op": "i", "ns": "d.a", "ui": "uuid", "o": { "_id": 1 } }, { "op": "d", "ns": "d.a", "ui": "uuid", "o": { "_id": 2 } },
        ] };
        let index = doc! { "createIndexes": "a", "v": 2, "key": { "x": 1 }, "name": "x_1" };
        for entry in [
            entry("i", "d.a", doc! { "_id": 0 }),
            entry("c", "admin.$cmd", transaction),
            entry("c", "d.$cmd", index),
        ] {
            take(&server.connection, &writes, step(&entry).unwrap(), "replay").await.unwrap();
        }
        let at = bson::Timestamp { time: 7, increment: 1 };
        let command = |entry: Document| doc! { "applyOps": [entry], "writeConcern": { "w": "majority" }, "$db": "admin" };
        assert_eq!(
            server.sent("applyOps"),
            [
                command(doc! { "op": "i", "ns": "d.a", "o": { "_id": 0 }, "ts": at, "v": 2_i64 }),
                command(doc! { "op": "i", "ns": "d.a", "o": { "_id": 1 } }),
                command(doc! { "op": "d", "ns": "d.a", "o": { "_id": 2 } }),
            ],
            "in order, and without the collection's UUID"
        );
        assert_eq!(
            server.sent("createIndexes"),
            [doc! {
                "createIndexes": "a", "indexes": [ { "key": { "x": 1 }, "name": "x_1" } ], "writeConcern": { "w": "majority" }, "$db": "d",
            }]
        );
    }

    #[tokio::test]
    async fn an_entry_that_is_not_applied_is_an_error() {
        let server = Recorder::start(|_| Some(doc! { "applied": 1, "results": [false] })).await;
        let writes = Writes::of(&MongoConfig::new(SecretRef::Env("M".into())));
        let step = step(&entry("i", "d.a", doc! { "_id": 0 })).unwrap();
        let error = take(&server.connection, &writes, step, "replay").await.unwrap_err();
        assert!(matches!(error, SourceError::Server { .. }), "{error:?}");
    }
}
