//! An entry of an oplog, as far as it concerns data.
//!
//! Sources: the server's `src/mongo/db/repl/oplog_entry.idl` and `oplog.cpp`; mongo-tools, `mongorestore/oplog.go`.

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp};

/// The effect of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// No effect on data that a capture includes.
    Nothing,
    Write(Write),
    /// A change of a collection or a database.
    Command(Command),
    /// Several operations at one time: a transaction in one entry, or inserts in one batch.
    Group(Vec<Operation>),
    /// A part of a transaction that spans several entries.
    Transaction(Part),
}

/// A write of one document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub(crate) database: String,
    pub(crate) collection: String,
    /// UUID of the collection, 32 hex digits.
    pub(crate) uuid: Option<String>,
    pub(crate) id: Bson,
    pub(crate) change: Change,
}

/// The effect on a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// The whole new document.
    Put(RawDocumentBuf),
    /// Changes for [`super::diff::apply`].
    Update(Document),
    Delete,
}

/// A command on a database.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) database: String,
    /// UUID of the affected collection, 32 hex digits.
    pub(crate) uuid: Option<String>,
    pub(crate) kind: CommandKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CommandKind {
    /// Name, and options in the form for `create`.
    Create(String, Document),
    Drop(String),
    DropDatabase,
    Rename {
        from: String,
        /// The new database and name.
        to: (String, String),
        /// An existing collection with the new name was dropped.
        replaces: bool,
    },
    /// Indexes of a collection, as returned by `listIndexes`.
    CreateIndexes(String, Vec<Document>),
    /// Names of the dropped indexes; `*` means all except the one on `_id`.
    DropIndexes(String, Vec<String>),
    /// The command without its name.
    Modify(String, Document),
    /// Size in bytes.
    ConvertToCapped(String, Bson),
    /// Removes all documents.
    Empty(String),
}

/// A part of a transaction that spans several entries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// Identifies the transaction.
    pub(crate) key: Vec<u8>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) end: End,
    /// The transaction has earlier entries.
    pub(crate) is_continued: bool,
}

/// The state of a transaction after a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More parts follow; the operations take effect only at the commit.
    Open,
    Committed,
    Aborted,
}

/// The time of an entry.
///
/// # Errors
/// If the entry has no time.
pub(crate) fn time(entry: &RawDocument) -> Result<Timestamp, String> {
    entry.get_timestamp("ts").map_err(|_| "an entry of the oplog has no time".to_owned())
}

/// UUID of the collection that an entry refers to, as 32 hex digits.
pub(crate) fn uuid(entry: &RawDocument) -> Option<String> {
    let Ok(Some(bson::RawBsonRef::Binary(uuid))) = entry.get("ui") else { return None };
    let bytes: [u8; 16] = uuid.bytes.try_into().ok()?;
    Some(bson::Uuid::from_bytes(bytes).to_string().replace('-', ""))
}

/// Parses an entry.
///
/// # Errors
/// The reason why it cannot be replayed, as the end of a sentence about the entry.
pub(crate) fn parse(entry: &RawDocument) -> Result<Operation, String> {
    let kind = entry.get_str("op").map_err(|_| "names no operation")?;
    let namespace = entry.get_str("ns").unwrap_or_default();
    let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
    match kind {
        "n" => Ok(Operation::Nothing),
        _ if is_of_the_server(database, collection) => Ok(Operation::Nothing),
        "i" | "u" | "d" => write(entry, kind, database, collection).map(Operation::Write),
        "c" => {
            let body = entry.get_document("o").map_err(|_| "is a command without a body")?;
            match body.iter().next() {
                Some(Ok((name, _))) if name == "applyOps" => group(entry, body),
                Some(Ok((name, _))) if name == "commitTransaction" => {
                    part(entry, Vec::new(), End::Committed)
                }
                Some(Ok((name, _))) if name == "abortTransaction" => {
                    part(entry, Vec::new(), End::Aborted)
                }
                _ => command(database, uuid(entry), &decoded(body)?),
            }
        }
        other => Err(format!("is of the unknown kind `{other}`")),
    }
}

/// Reports whether a collection is internal to the server. The data behind views and time series are not.
fn is_of_the_server(database: &str, collection: &str) -> bool {
    match database {
        "local" | "config" => true,
        "admin" => collection.starts_with("system."),
        _ => matches!(collection, "system.profile" | "system.indexBuilds"),
    }
}

fn decoded(document: &RawDocument) -> Result<Document, String> {
    Document::try_from(document).map_err(|error| format!("is malformed: {error}"))
}

fn write(
    entry: &RawDocument,
    kind: &str,
    database: &str,
    collection: &str,
) -> Result<Write, String> {
    let body = entry.get_document("o").map_err(|_| "is a write without a document")?;
    let id_of = |document: &RawDocument| -> Result<Bson, String> {
        let id = document.get("_id").ok().flatten().ok_or("writes a document without an _id")?;
        Bson::try_from(id).map_err(|error| format!("has a malformed _id: {error}"))
    };
    let (id, change) = match kind {
        "i" => (id_of(body)?, Change::Put(body.to_owned())),
        "d" => (id_of(body)?, Change::Delete),
        _ => {
            let which = entry.get_document("o2").map_err(|_| "updates an unnamed document")?;
            let is_operator = matches!(
                body.iter().next(),
                Some(Ok((name, _))) if ["$v", "$set", "$unset"].contains(&name.as_str())
            );
            let change = if is_operator {
                Change::Update(decoded(body)?)
            } else {
                Change::Put(body.to_owned())
            };
            (id_of(which)?, change)
        }
    };
    let (database, collection) = (database.to_owned(), collection.to_owned());
    Ok(Write { database, collection, uuid: uuid(entry), id, change })
}

/// Operations of one entry: all of them happened, or they are a part of a transaction.
fn group(entry: &RawDocument, body: &RawDocument) -> Result<Operation, String> {
    let inner = body.get_array("applyOps").map_err(|_| "is a transaction without operations")?;
    let operations = inner
        .into_iter()
        .map(|inner| match inner {
            Ok(bson::RawBsonRef::Document(inner)) => parse(inner),
            _ => Err("holds an operation that is malformed".to_owned()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // From 8.0: inserts that share an entry but are not a transaction.
    if matches!(entry.get("multiOpType"), Ok(Some(bson::RawBsonRef::Int32(1)))) {
        return Ok(Operation::Group(operations));
    }
    let flag = |name: &str| body.get_bool(name).unwrap_or(false);
    if flag("partialTxn") || flag("prepare") {
        return part(entry, operations, End::Open);
    }
    if is_continued(entry) {
        return part(entry, operations, End::Committed);
    }
    Ok(Operation::Group(operations))
}

fn part(entry: &RawDocument, operations: Vec<Operation>, end: End) -> Result<Operation, String> {
    let session =
        entry.get_document("lsid").map_err(|_| "is of a transaction without a session")?;
    let number = entry.get_i64("txnNumber").map_err(|_| "is of a transaction without a number")?;
    let key = [session.as_bytes(), &number.to_le_bytes()].concat();
    Ok(Operation::Transaction(Part { key, operations, end, is_continued: is_continued(entry) }))
}

/// Reports whether an entry refers to an earlier one of the same transaction.
fn is_continued(entry: &RawDocument) -> bool {
    entry.get_document("prevOpTime").is_ok_and(|before| {
        before.get_timestamp("ts").is_ok_and(|at| at.time != 0 || at.increment != 0)
    })
}

fn command(database: &str, uuid: Option<String>, body: &Document) -> Result<Operation, String> {
    let (name, subject) = body.iter().next().ok_or("is an empty command")?;
    let collection = || {
        let named = subject.as_str().map(str::to_owned);
        named.ok_or_else(|| format!("is the command `{name}` without a collection"))
    };
    let rest = || -> Document {
        body.iter().skip(1).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let kind = match name.as_str() {
        "create" => CommandKind::Create(collection()?, rest()),
        "drop" => CommandKind::Drop(collection()?),
        "dropDatabase" => CommandKind::DropDatabase,
        "renameCollection" => {
            let split = |name: &str| {
                let (database, name) = name.split_once('.')?;
                Some((database.to_owned(), name.to_owned()))
            };
            let malformed = "renames a collection to or from no name";
            let (_, from) = split(&collection()?).ok_or(malformed)?;
            let to = body.get_str("to").ok().and_then(split).ok_or(malformed)?;
            // `false`, or the UUID of the replaced collection.
            let replaces = !matches!(body.get("dropTarget"), None | Some(Bson::Boolean(false)));
            CommandKind::Rename { from, to, replaces }
        }
        "createIndexes" | "commitIndexBuild" => {
            let indexes = match body.get("indexes") {
                Some(Bson::Array(indexes)) => {
                    indexes.iter().filter_map(Bson::as_document).cloned().collect()
                }
                _ => vec![rest()],
            };
            CommandKind::CreateIndexes(collection()?, indexes)
        }
        "dropIndexes" | "deleteIndexes" | "deleteIndex" => {
            let names = match body.get("index") {
                Some(Bson::String(name)) => vec![name.clone()],
                Some(Bson::Array(names)) => {
                    names.iter().filter_map(Bson::as_str).map(str::to_owned).collect()
                }
                _ => return Err("drops an index without a name".to_owned()),
            };
            CommandKind::DropIndexes(collection()?, names)
        }
        "collMod" => CommandKind::Modify(collection()?, rest()),
        "convertToCapped" => {
            let size = body.get("size").ok_or("makes a collection capped without a size")?;
            CommandKind::ConvertToCapped(collection()?, size.clone())
        }
        "emptycapped" => CommandKind::Empty(collection()?),
        // An index exists once its build is committed; a check changes nothing.
        "startIndexBuild" | "abortIndexBuild" | "dbCheck" => return Ok(Operation::Nothing),
        other => return Err(format!("is the command `{other}`")),
    };
    Ok(Operation::Command(Command { database: database.to_owned(), uuid, kind }))
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    fn entry(op: &str, ns: &str, o: Document) -> RawDocumentBuf {
        let at = Timestamp { time: 7, increment: 1 };
        let entry = doc! { "op": op, "ns": ns, "o": o, "o2": { "_id": 1 }, "ts": at, "v": 2_i64 };
        (&entry).try_into().unwrap()
    }

    fn parsed(op: &str, ns: &str, o: Document) -> Result<Operation, String> {
        parse(&entry(op, ns, o))
    }

    #[test]
    fn writes_name_their_document_and_what_becomes_of_it() {
        let write = |change| {
            let (database, collection) = ("d".to_owned(), "a.b".to_owned());
            Ok(Operation::Write(Write {
                database,
                collection,
                uuid: None,
                id: Bson::Int32(1),
                change,
            }))
        };
        let document = rawdoc! { "_id": 1, "x": 2 };
        let body = doc! { "_id": 1, "x": 2 };
        assert_eq!(parsed("i", "d.a.b", body.clone()), write(Change::Put(document.clone())));
        assert_eq!(parsed("u", "d.a.b", body), write(Change::Put(document)));
        assert_eq!(parsed("d", "d.a.b", doc! { "_id": 1 }), write(Change::Delete));
        for changes in [doc! { "$v": 2, "diff": {} }, doc! { "$set": { "x": 1 } }] {
            assert_eq!(parsed("u", "d.a.b", changes.clone()), write(Change::Update(changes)));
        }
        assert!(parsed("i", "d.a", doc! { "x": 1 }).unwrap_err().contains("without an _id"));
    }

    #[test]
    fn what_is_not_data_is_passed_over_and_what_is_unknown_is_refused() {
        for (op, ns, o) in [
            ("n", "", doc! { "msg": "periodic noop" }),
            ("i", "config.transactions", doc! { "_id": 1 }),
            ("u", "admin.system.keys", doc! { "_id": 1 }),
            ("c", "d.$cmd", doc! { "startIndexBuild": "a" }),
        ] {
            assert_eq!(parsed(op, ns, o), Ok(Operation::Nothing), "{ns}");
        }
        assert!(matches!(
            parsed("i", "d.system.buckets.s", doc! { "_id": 1 }),
            Ok(Operation::Write(_))
        ));
        assert!(parsed("x", "d.a", doc! {}).unwrap_err().contains("unknown kind"));
        assert!(parsed("c", "d.$cmd", doc! { "importCollection": "a" }).is_err());
    }

    #[test]
    fn commands_are_told_apart() {
        let kind = |o: Document| match parsed("c", "d.$cmd", o).unwrap() {
            Operation::Command(command) => command.kind,
            other => panic!("{other:?}"),
        };
        let rename =
            |target: Bson| doc! { "renameCollection": "d.a", "to": "e.b.c", "dropTarget": target };
        for (target, replaces) in
            [(Bson::Boolean(false), false), (Bson::String("uuid".into()), true)]
        {
            let to = ("e".to_owned(), "b.c".to_owned());
            assert_eq!(
                kind(rename(target)),
                CommandKind::Rename { from: "a".into(), to, replaces }
            );
        }
        let index = doc! { "v": 2, "key": { "x": 1 }, "name": "x_1" };
        let mut old = doc! { "createIndexes": "a" };
        old.extend(index.clone());
        let indexes = CommandKind::CreateIndexes("a".into(), vec![index.clone()]);
        assert_eq!(kind(old), indexes);
        assert_eq!(kind(doc! { "commitIndexBuild": "a", "indexes": [index] }), indexes);
        assert_eq!(
            kind(doc! { "dropIndexes": "a", "index": "x_1" }),
            CommandKind::DropIndexes("a".into(), vec!["x_1".into()])
        );
    }

    #[test]
    fn a_transaction_in_one_entry_is_a_group_and_one_in_several_is_held_back() {
        let inner = doc! { "op": "i", "ns": "d.a", "o": { "_id": 1 } };
        let of = |o: Document, before: u32| {
            let at = Timestamp { time: before, increment: 0 };
            let entry = doc! {
                "op": "c", "ns": "admin.$cmd", "o": o, "lsid": { "id": 1 }, "txnNumber": 5_i64,
                "prevOpTime": { "ts": at, "t": -1_i64 }, "ts": Timestamp { time: 9, increment: 1 },
            };
            parse(&RawDocumentBuf::try_from(&entry).unwrap()).unwrap()
        };
        let end = |operation: Operation| match operation {
            Operation::Transaction(part) => (part.operations.len(), part.end, part.is_continued),
            other => panic!("{other:?}"),
        };
        assert!(
            matches!(of(doc! { "applyOps": [&inner] }, 0), Operation::Group(all) if all.len() == 1)
        );
        assert_eq!(
            end(of(doc! { "applyOps": [&inner], "partialTxn": true }, 0)),
            (1, End::Open, false)
        );
        assert_eq!(
            end(of(doc! { "applyOps": [&inner], "prepare": true }, 8)),
            (1, End::Open, true)
        );
        assert_eq!(end(of(doc! { "applyOps": [&inner] }, 8)), (1, End::Committed, true));
        assert_eq!(end(of(doc! { "commitTransaction": 1 }, 8)), (0, End::Committed, true));
        assert_eq!(end(of(doc! { "abortTransaction": 1 }, 8)), (0, End::Aborted, true));
        let vectored = doc! {
            "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [&inner] }, "multiOpType": 1,
            "prevOpTime": { "ts": Timestamp { time: 8, increment: 0 } }, "ts": Timestamp { time: 9, increment: 1 },
        };
        let vectored = parse(&RawDocumentBuf::try_from(&vectored).unwrap()).unwrap();
        assert!(
            matches!(vectored, Operation::Group(_)),
            "inserts of one batch are not a transaction"
        );
    }
}
