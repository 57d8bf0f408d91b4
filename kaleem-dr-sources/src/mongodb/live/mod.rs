//! Tests of internals against a live server, whose address is in `KALEEM_TEST_MONGO_URI`.

mod seed;
mod server;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bson::{Binary, Bson, DateTime, Document, Timestamp, doc, oid::ObjectId, spec::BinarySubtype};
use bytes::Bytes;
use kaleem_dr_core::ground::{SourceError, digest::MultisetDigest};
use mongodb::event::{EventHandler, command::CommandEvent};

use self::{
    seed::{insert, seed},
    server::{connect, database, destination, drop_databases, pieces, read, scope, writes},
};
use super::{
    config::ConsistencyMode,
    dump::{
        DataPlace, Read,
        batch::Batch,
        range::{Range, between},
        ranges::{self, RangedReader},
        snapshot,
    },
    restore::{Loaded, compare, load, rebuild},
    server::{
        listing::{self, CollectionKind, CollectionSpec},
        probe,
    },
};

#[tokio::test]
async fn everything_awkward_comes_back_as_it_was() {
    let connection = connect(None);
    let (database, copy) = (database(), database());
    seed(&connection, &database).await;

    let mut specs = scope(&database).list(&connection).await.unwrap();
    for spec in &mut specs {
        spec.indexes = listing::list_indexes(&connection, spec).await.unwrap().unwrap();
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
        let indexes = listing::list_indexes(&connection, made).await.unwrap().unwrap();
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
    let listed = snapshot::list(
        &connection,
        &facts,
        &scope(&database),
        ConsistencyMode::PointInTime,
        &Err("it is not asked".to_owned()),
    )
    .await
    .unwrap();
    let at = listed.reading.at.expect("a replica set gives a cluster time");
    commands.lock().unwrap().clear();
    for spec in &listed.collections {
        read(&connection, spec, listed.reading.at).await;
    }
    let concerns: Vec<Document> = commands
        .lock()
        .unwrap()
        .iter()
        .filter(|command| command.contains_key("find"))
        .map(|command| command.get_document("readConcern").unwrap().clone())
        .collect();
    // The test checks our request; honouring it is up to the server.
    assert_eq!(concerns, vec![doc! { "level": "snapshot", "atClusterTime": at }; 2]);
    snapshot::verify(&connection, &scope(&database), &listed).await.unwrap();

    connection.run(&database, doc! { "drop": "b" }, "drop").await.unwrap();
    insert(&connection, &database, "b", vec![doc! { "_id": 2 }]).await;
    let error = snapshot::verify(&connection, &scope(&database), &listed).await.unwrap_err();
    assert!(
        error.to_string().contains(&format!("{database}.b")),
        "a recreated collection is another one: {error}"
    );
    drop_databases(&connection, &[&database]).await;
}

#[tokio::test]
async fn a_probe_shows_version_and_size_and_warns_of_an_empty_database() {
    let connection = connect(None);
    let database = database();
    let empty = probe(&connection, &scope(&database), ConsistencyMode::Auto, false).await.unwrap();
    assert!(
        empty.warnings.iter().any(|warning| warning.contains("no visible collection to capture")),
        "{empty:?}"
    );
    insert(&connection, &database, "a", vec![doc! { "_id": 1, "x": "y".repeat(1000) }]).await;
    let found =
        probe(&connection, &scope(&database), ConsistencyMode::PerCollection, false).await.unwrap();
    assert_eq!(found.warnings, Vec::<String>::new());
    assert!(found.size_bytes.unwrap() >= 1000, "{found:?}");
    drop_databases(&connection, &[&database]).await;
}

/// `_id`s of every type that a server accepts, in no particular order, some types more than once.
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
    spec.indexes = listing::list_indexes(&connection, &spec).await.unwrap().unwrap();
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
        let read = Read::now(&connection, &spec, &place);
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

fn documents_of(batch: &Batch) -> Vec<Vec<u8>> {
    batch.documents().unwrap().map(|document| document.unwrap().to_vec()).collect()
}
