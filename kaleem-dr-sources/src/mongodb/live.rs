//! Tests of the inner parts against a live server, whose address is in `KALEEM_TEST_MONGO_URI`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bson::{
    Binary, Bson, DateTime, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc,
    oid::ObjectId, spec::BinarySubtype,
};
use bytes::{Bytes, BytesMut};
use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{
        SourceError,
        digest::{ByteDigest, MultisetDigest},
    },
    operate::config::secret::{SecretRef, SecretString},
};
use mongodb::event::{EventHandler, command::CommandEvent};

use super::{
    config::{ConsistencyMode, MongoConfig},
    dump::{
        CollectionReader, DataPlace, documents,
        range::{Range, between},
        ranges::{self, RangedRead, RangedReader},
        snapshot,
    },
    restore::{Destination, Loaded, Writes, compare, load, rebuild},
    server::{
        Connection,
        listing::{self, CollectionKind, CollectionSpec, Scope},
        probe,
    },
};

fn connect(events: Option<EventHandler<CommandEvent>>) -> Arc<Connection> {
    let uri = std::env::var("KALEEM_TEST_MONGO_URI")
        .expect("KALEEM_TEST_MONGO_URI is not set: run `make test`");
    let mut connection =
        Connection::new(SecretString::from(uri), &SecretRef::Env("KALEEM_TEST_MONGO_URI".into()))
            .unwrap();
    connection.events = events;
    Arc::new(connection)
}

/// A database of the test's own.
fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("kdr_inner_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn drop_databases(connection: &Connection, names: &[&str]) {
    for name in names {
        connection.run(name, doc! { "dropDatabase": 1 }, "drop").await.unwrap();
    }
}

fn scope(database: &str) -> Scope {
    Scope::new(&MongoConfig::new(SecretRef::Env("M".into())), Some(database)).unwrap()
}

/// One document with a value of every type a server stores as it is.
fn every_type() -> Document {
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    doc! {
        "_id": ObjectId::from_bytes([1; 12]), "double": 1.5, "nan": f64::NAN, "minus_zero": -0.0, "infinite": f64::NEG_INFINITY,
        "text": "نص 東京 😀 \u{0}", "nested": { "a": { "b": [1, [2, { "c": Bson::Null }]] } }, "empty": {}, "none": [],
        "generic": binary(BinarySubtype::Generic, b"\x00\xff"), "uuid": binary(BinarySubtype::Uuid, &[7; 16]),
        "old": binary(BinarySubtype::BinaryOld, b"old"), "md5": binary(BinarySubtype::Md5, &[9; 16]),
        "own": binary(BinarySubtype::UserDefined(0x80), b"own"), "yes": true, "date": DateTime::from_millis(-62_135_596_800_000),
        "regex": Bson::RegularExpression(Regex { pattern: "^a/b".try_into().unwrap(), options: "imx".try_into().unwrap() }),
        "code": Bson::JavaScriptCode("return 1".into()), "symbol": Bson::Symbol("sym".into()), "undefined": Bson::Undefined,
        "scoped": Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "x".into(), scope: doc! { "x": 1 } }),
        "int": i32::MIN, "long": i64::MAX, "stamp": Bson::Timestamp(Timestamp { time: 0, increment: 0 }),
        "decimal": Bson::Decimal128("1E+6144".parse().unwrap()), "min": Bson::MinKey, "max": Bson::MaxKey,
    }
}

async fn create(connection: &Connection, database: &str, command: Document) {
    connection.run(database, command, "create").await.unwrap();
}

async fn insert(
    connection: &Connection,
    database: &str,
    collection: &str,
    documents: Vec<Document>,
) {
    for chunk in documents.chunks(1000) {
        connection
            .run(
                database,
                doc! { "insert": collection, "documents": chunk, "bypassEmptyTsReplacement": true },
                "insert",
            )
            .await
            .unwrap();
    }
}

/// Inserts documents as they are.
async fn insert_raw(
    connection: &Arc<Connection>,
    database: &str,
    collection: &str,
    documents: Bytes,
) {
    let spec = CollectionSpec {
        database: database.into(),
        name: collection.into(),
        kind: CollectionKind::Collection,
        options: doc! {},
        indexes: vec![],
        uuid: None,
    };
    load::load(
        connection,
        &destination(connection, &spec).await,
        pieces(&documents, 1 << 20),
        |_| (),
    )
    .await
    .unwrap();
}

/// Fills a database with what is awkward: types, names, options, indexes.
async fn seed(connection: &Arc<Connection>, database: &str) {
    let people: Vec<Document> = (0..300)
        .map(|n| {
            let place = doc! { "type": "Point", "coordinates": [ f64::from(n) / 10.0, 1.0 ] };
            doc! { "_id": n, "name": format!("n{n}"), "email": format!("e{n}"), "age": n % 90, "at": DateTime::now(), "place": place }
        })
        .collect();
    insert(connection, database, "people", people).await;
    let indexes = doc! { "createIndexes": "people", "indexes": [
        { "key": { "email": 1 }, "name": "email_u", "unique": true },
        { "key": { "name": 1, "age": -1 }, "name": "compound" },
        { "key": { "age": -1, "name": 1 }, "name": "compound_reversed" },
        { "key": { "tags": 1 }, "name": "sparse", "sparse": true },
        { "key": { "age": 1 }, "name": "partial", "partialFilterExpression": { "age": { "$gte": 18 } } },
        { "key": { "at": 1 }, "name": "ttl", "expireAfterSeconds": 2_000_000_000 },
        { "key": { "place": "2dsphere" }, "name": "geo" },
        { "key": { "name": 1 }, "name": "german", "collation": { "locale": "de", "strength": 2 } },
    ] };
    create(connection, database, indexes).await;
    insert(
        connection,
        database,
        "types",
        vec![every_type(), doc! { "_id": Bson::MinKey }, doc! { "_id": { "a": 1 }, "": "" }],
    )
    .await;
    // Deprecated, so that no driver makes it, but stored data has it: a DBPointer. And two fields of one name.
    let mut odd = b"\0\0\0\0\x10_id\0\x07\0\0\0\x0cptr\0\x05\0\0\0d.ns\0".to_vec();
    odd.extend_from_slice(&[3; 12]);
    odd.extend_from_slice(b"\x0aa\0\x0aa\0\0");
    odd[0] = u8::try_from(odd.len()).unwrap();
    insert_raw(connection, database, "types", odd.into()).await;
    create(connection, database, doc! { "create": "empty" }).await;
    create(
        connection,
        database,
        doc! { "create": "log", "capped": true, "size": 1 << 20, "max": 500 },
    )
    .await;
    insert(
        connection,
        database,
        "log",
        (0..50).rev().map(|n| doc! { "_id": n, "line": "x".repeat(50) }).collect(),
    )
    .await;
    create(
        connection,
        database,
        doc! { "create": "collated", "collation": { "locale": "fr", "strength": 2 } },
    )
    .await;
    let indexes = doc! { "createIndexes": "collated", "indexes": [
        { "key": { "v": 1 }, "name": "inherits" },
        { "key": { "w": 1 }, "name": "simple", "collation": { "locale": "simple" } },
    ] };
    create(connection, database, indexes).await;
    insert(connection, database, "strict", vec![doc! { "_id": 1, "n": "not a number" }]).await;
    create(
        connection,
        database,
        doc! { "collMod": "strict", "validator": { "n": { "$type": "int" } } },
    )
    .await;
    create(
        connection,
        database,
        doc! { "create": "adults", "viewOn": "people", "pipeline": [ { "$match": { "age": { "$gte": 18 } } } ] },
    )
    .await;
    for name in [
        "weird näme",
        "a.b.c",
        "perc%25ent",
        "sl/ash",
        "uni_東京_😀",
        "plus+and&eq=",
        &"L".repeat(180),
    ] {
        insert(connection, database, name, vec![doc! { "_id": 1, "of": name }]).await;
    }
    let filler = "f".repeat(16_777_216 - 40);
    insert(
        connection,
        database,
        "large",
        vec![doc! { "_id": 1, "f": filler }, doc! { "_id": 2, "f": "small" }],
    )
    .await;
}

/// Everything a collection holds, in the order it is read, and its record as a capture makes it.
async fn read(
    connection: &Arc<Connection>,
    spec: &CollectionSpec,
    at: Option<Timestamp>,
) -> (ArtifactRecord, Bytes) {
    let place = DataPlace::of(spec, false).unwrap();
    let mut reader =
        CollectionReader::open(connection, spec, &place, at, None, None).await.unwrap();
    let (mut bytes, mut digest) = (BytesMut::new(), MultisetDigest::default());
    while let Some(batch) = reader.next().await.unwrap() {
        for document in documents(&batch).unwrap() {
            digest.add(document.as_ref().unwrap());
            bytes.extend_from_slice(document.unwrap());
        }
    }
    let record = ArtifactRecord {
        path: String::new(),
        size_bytes: bytes.len() as u64,
        sha256: ByteDigest::of(&bytes),
        items: Some(digest.items()),
        content_digest: Some(digest.to_hex()),
    };
    (record, bytes.freeze())
}

async fn destination(connection: &Connection, spec: &CollectionSpec) -> Destination {
    let facts = connection.facts().await.unwrap();
    Destination::new(spec, &DataPlace::of(spec, false).unwrap(), &facts, &writes())
}

fn writes() -> Writes {
    Writes::of(&MongoConfig::new(SecretRef::Env("M".into())))
}

/// Bytes as a stream of pieces that cut documents anywhere.
fn pieces(
    bytes: &Bytes,
    length: usize,
) -> impl futures::Stream<Item = Result<Bytes, SourceError>> + Unpin + use<> {
    let pieces: Vec<_> =
        bytes.chunks(length).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures::stream::iter(pieces)
}

#[tokio::test]
async fn everything_awkward_comes_back_as_it_was() {
    let connection = connect(None);
    let (database, copy) = (database(), database());
    seed(&connection, &database).await;

    let mut specs = scope(&database).list(&connection).await.unwrap();
    for spec in &mut specs {
        spec.indexes = listing::list_indexes(&connection, spec).await.unwrap();
    }
    assert_eq!(specs.len(), 15, "{specs:#?}");
    let mut differences = Vec::new();
    for spec in &specs {
        let target = CollectionSpec { database: copy.clone(), ..spec.clone() };
        connection
            .run(&copy, rebuild::create_command(&target, &writes().concern), "create")
            .await
            .unwrap();
        if spec.kind != CollectionKind::View {
            let (record, bytes) = read(&connection, spec, None).await;
            let advanced = AtomicU64::new(0);
            let advance = |bytes| {
                advanced.fetch_add(bytes, Ordering::Relaxed);
            };
            let loaded = load::load(
                &connection,
                &destination(&connection, &target).await,
                pieces(&bytes, 70_001),
                advance,
            )
            .await
            .unwrap();
            assert_eq!(
                loaded,
                Loaded {
                    items: record.items.unwrap(),
                    size_bytes: record.size_bytes,
                    ..Loaded::default()
                }
            );
            assert_eq!(advanced.load(Ordering::Relaxed), record.size_bytes);
            let place = DataPlace::of(&target, false).unwrap();
            let found = compare::read_back(&connection, &target, &place, |_| ()).await.unwrap();
            differences.extend(compare::documents(&spec.name, &record, &found));
        }
        if let Some(command) = rebuild::indexes_command(&target, &writes().concern) {
            connection.run(&copy, command, "index").await.unwrap();
        }
    }
    let made: BTreeMap<String, CollectionSpec> = scope(&copy)
        .list(&connection)
        .await
        .unwrap()
        .into_iter()
        .map(|spec| (spec.name.clone(), spec))
        .collect();
    assert_eq!(made.len(), specs.len());
    for spec in &specs {
        let made = &made[&spec.name];
        let indexes = listing::list_indexes(&connection, made).await.unwrap();
        differences.extend(compare::options(&spec.name, spec, made));
        differences.extend(compare::indexes(&spec.name, &spec.indexes, &indexes));
    }
    assert_eq!(differences, []);
    drop_databases(&connection, &[&database, &copy]).await;
}

#[tokio::test]
async fn a_refused_document_is_an_error_that_names_the_collection() {
    let connection = connect(None);
    let database = database();
    let spec = CollectionSpec {
        database: database.clone(),
        name: "people".into(),
        kind: CollectionKind::Collection,
        options: doc! {},
        indexes: vec![],
        uuid: None,
    };
    let document = bson::serialize_to_vec(&doc! { "_id": 1 }).unwrap();
    let twice = Bytes::from([document.clone(), document].concat());
    let error =
        load::load(&connection, &destination(&connection, &spec).await, pieces(&twice, 5), |_| ())
            .await
            .unwrap_err();
    let SourceError::Server { action, cause, .. } = &error else { panic!("{error:?}") };
    assert!(action.contains(&format!("{database}.people")), "{action}");
    assert!(cause.to_string().contains("E11000"), "{cause}");
    drop_databases(&connection, &[&database]).await;
}

#[tokio::test]
async fn all_collections_are_read_at_one_cluster_time() {
    let commands = Arc::new(Mutex::new(Vec::new()));
    let seen = commands.clone();
    let connection = connect(Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event {
            seen.lock().unwrap().push(started.command);
        }
    })));
    let database = database();
    for name in ["a", "b"] {
        insert(&connection, &database, name, vec![doc! { "_id": 1 }]).await;
    }
    let facts = connection.facts().await.unwrap();
    let listed =
        snapshot::list(&connection, &facts, &scope(&database), ConsistencyMode::PointInTime)
            .await
            .unwrap();
    let at = listed.reading.at.expect("a replica set gives a cluster time");
    commands.lock().unwrap().clear();
    for spec in &listed.collections {
        read(&connection, spec, listed.reading.at(spec)).await;
    }
    let concerns: Vec<Document> = commands
        .lock()
        .unwrap()
        .iter()
        .filter(|command| command.contains_key("find"))
        .map(|command| command.get_document("readConcern").unwrap().clone())
        .collect();
    // What counts is what we ask for; whether a server honours it is the server's affair.
    assert_eq!(concerns, vec![doc! { "level": "snapshot", "atClusterTime": at }; 2]);
    snapshot::verify(&connection, &scope(&database), &listed).await.unwrap();

    connection.run(&database, doc! { "drop": "b" }, "drop").await.unwrap();
    insert(&connection, &database, "b", vec![doc! { "_id": 2 }]).await;
    let error = snapshot::verify(&connection, &scope(&database), &listed).await.unwrap_err();
    assert!(
        error.to_string().contains(&format!("{database}.b")),
        "a collection made anew is another one: {error}"
    );
    drop_databases(&connection, &[&database]).await;
}

#[tokio::test]
async fn a_probe_tells_version_and_size_and_warns_of_an_empty_database() {
    let connection = connect(None);
    let database = database();
    let empty = probe(&connection, &scope(&database), ConsistencyMode::Auto, false).await.unwrap();
    assert!(
        empty.warnings.iter().any(|warning| warning.contains("no collection to capture")),
        "{empty:?}"
    );
    insert(&connection, &database, "a", vec![doc! { "_id": 1, "x": "y".repeat(1000) }]).await;
    let found =
        probe(&connection, &scope(&database), ConsistencyMode::PerCollection, false).await.unwrap();
    assert_eq!(found.warnings, Vec::<String>::new());
    assert!(found.size_bytes.unwrap() >= 1000, "{found:?}");
    drop_databases(&connection, &[&database]).await;
}

/// `_id`s of every type that a server takes for one, many of some, in no order.
fn mixed_ids() -> Vec<Bson> {
    let mut ids = vec![
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Null,
        Bson::Boolean(true),
        Bson::Boolean(false),
        Bson::Double(f64::NAN),
        Bson::Double(-0.5),
        Bson::Double(f64::INFINITY),
        Bson::Int64(i64::MAX),
        Bson::Decimal128("7.25".parse().unwrap()),
        Bson::String(String::new()),
        Bson::Document(doc! {}),
        Bson::Document(doc! { "a": 1 }),
        Bson::Document(doc! { "a": "x", "b": [1] }),
        Bson::Timestamp(Timestamp { time: 3, increment: 1 }),
        Bson::DateTime(DateTime::from_millis(-5)),
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] }),
        Bson::JavaScriptCode("x".into()),
    ];
    for n in 0..60_u8 {
        ids.push(Bson::Int32(i32::from(n) * 7));
        ids.push(Bson::Double(f64::from(n) * 7.0 + 0.5));
        ids.push(Bson::String(format!("id {n}")));
        ids.push(Bson::ObjectId(ObjectId::from_bytes([n; 12])));
        ids.push(Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![n; 16] }));
        ids.push(Bson::DateTime(DateTime::from_millis(i64::from(n) * 1000)));
    }
    ids
}

#[tokio::test]
async fn ranges_give_every_document_once_whatever_the_types_and_the_cuts() {
    let connection = connect(None);
    let database = database();
    let documents: Vec<Document> =
        mixed_ids().into_iter().map(|id| doc! { "_id": id, "filler": "f".repeat(200) }).collect();
    insert(&connection, &database, "mixed", documents).await;
    let mut spec = scope(&database).list(&connection).await.unwrap().remove(0);
    spec.indexes = listing::list_indexes(&connection, &spec).await.unwrap();
    let (whole, _) = read(&connection, &spec, None).await;
    let sorted = doc! { "find": "mixed", "sort": { "_id": 1 }, "projection": { "_id": 1 } };
    let sorted: Vec<Bson> = connection
        .list(&database, sorted, "sort")
        .await
        .unwrap()
        .into_iter()
        .map(|mut found| found.remove("_id").unwrap())
        .collect();

    let ranged = async |ranges: Vec<Range>| {
        let place = DataPlace::of(&spec, false).unwrap();
        let read = RangedRead {
            connection: connection.clone(),
            spec: spec.clone(),
            place,
            at: None,
            from: None,
        };
        let mut reader = RangedReader::new(read, ranges);
        let (mut digest, mut ids) = (MultisetDigest::default(), Vec::new());
        while let Some(batch) = reader.next().await.unwrap() {
            for document in documents_of(&batch) {
                digest.add(&document);
                let document: Document = bson::deserialize_from_slice(&document).unwrap();
                ids.push(document.get("_id").unwrap().clone());
            }
        }
        (digest.items(), digest.to_hex(), ids)
    };
    for seed in 0..12_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let share = 1 + seed % 5;
        let mut cuts = sorted.clone();
        cuts.retain(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % (share * share * 4) == 0
        });
        let (items, digest, ids) = ranged(between(cuts)).await;
        assert_eq!(
            (Some(items), Some(digest)),
            (whole.items, whole.content_digest.clone()),
            "seed {seed}"
        );
        assert_eq!(
            format!("{ids:?}"),
            format!("{sorted:?}"),
            "in the order of the index, seed {seed}"
        );
    }

    assert_eq!(
        ranges::split(&connection, &spec, 1 << 40).await.unwrap(),
        None,
        "it is smaller than that"
    );
    let cut =
        ranges::split(&connection, &spec, 10_000).await.unwrap().expect("it is larger than that");
    assert!(cut.len() > 3, "{cut:?}");
    let (items, digest, _) = ranged(cut).await;
    assert_eq!((Some(items), Some(digest)), (whole.items, whole.content_digest));
    drop_databases(&connection, &[&database]).await;
}

fn documents_of(batch: &mongodb::raw_batch_cursor::RawBatch) -> Vec<Vec<u8>> {
    documents(batch).unwrap().map(|document| document.unwrap().to_vec()).collect()
}
