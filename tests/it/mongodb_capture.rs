//! Options of a MongoDB capture beyond the collections of one database: all
//! databases, the oplog, users; and large collections in ranges.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kaleem_dr_core::{
    operate::config::secret::{Environment, SecretRef},
    recovery::{
        point::PointReader,
        source::{Restorable as _, RestoreRequest, RestoreTarget},
    },
};
use kaleem_dr_sources::mongodb::{MongoConfig, MongoSource};
use mongodb::{
    Client,
    bson::{Bson, Document, deserialize_from_slice, doc},
};

use crate::support::{
    points::Points,
    servers::{self, MongoServer},
};

fn source(uri: &str, configure: impl FnOnce(&mut MongoConfig)) -> Arc<MongoSource> {
    let environment: Environment = [("MONGO_URI", uri)].into_iter().collect();
    let mut config = MongoConfig::new(SecretRef::Env("MONGO_URI".into()));
    configure(&mut config);
    Arc::new(
        MongoSource::new("mongo".parse().expect("a name"), config, &environment)
            .expect("a valid config"),
    )
}

async fn client(uri: &str) -> Client {
    Client::with_uri_str(uri).await.expect("a valid address")
}

/// The documents of an artifact.
async fn documents(point: &PointReader, path: &str) -> Vec<Document> {
    let bytes = point
        .artifact(path)
        .await
        .expect("it is there")
        .read_all(64 << 20)
        .await
        .expect("it can be read");
    let mut rest = bytes.as_slice();
    let mut documents = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        documents.push(deserialize_from_slice(&rest[..length]).expect("a document"));
        rest = &rest[length..];
    }
    documents
}

fn paths(point: &PointReader) -> Vec<&str> {
    point.manifest().artifacts.iter().map(|artifact| artifact.path.as_str()).collect()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one history, from the capture to the restore")]
async fn all_databases_are_captured_with_an_oplog_that_goes_on_where_they_end() {
    let server = MongoServer::start();
    let client = client(&server.uri()).await;
    // Names on both sides of `oplog.bson`, which is sorted among the databases.
    for database in ["app", "shop", "kdr_drill_left"] {
        client
            .database(database)
            .collection("a")
            .insert_one(doc! { "_id": 1 })
            .await
            .expect("a document can be inserted");
    }
    // Enough collections for the capture to take a while, during which the oplog grows.
    for n in 0..20 {
        let name = format!("more{n}");
        client
            .database("app")
            .collection(&name)
            .insert_one(doc! { "_id": n })
            .await
            .expect("a document can be inserted");
    }
    let events = client.database("shop").collection::<Document>("events");
    events.insert_one(doc! { "_id": 0 }).await.expect("a document can be inserted");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (events, stop) = (events.clone(), stop.clone());
        async move {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                last += 1;
                events.insert_one(doc! { "_id": last }).await.expect("a document can be inserted");
            }
            last
        }
    });

    let source = source(&server.uri(), |config| {
        config.databases = vec!["*".into()];
        config.oplog = true;
        config.users_and_roles = true;
    });
    let points = Points::new().await;
    points.capture(&source).await;
    stop.store(true, Ordering::Relaxed);
    let last = writer.await.expect("the writer ends");

    let point = points.latest().await;
    let captured = paths(&point);
    assert!(
        captured.contains(&"/mongo/app/a.bson") && captured.contains(&"/mongo/shop/events.bson"),
        "{captured:#?}"
    );
    assert!(captured.contains(&"/mongo/app/%24admin.system.users.bson"), "{captured:#?}");
    assert!(
        !captured.iter().any(|path| path.contains("kdr_drill_left") || path.contains("/local/")),
        "{captured:#?}"
    );

    let after = &point.manifest().details["oplog"]["after"];
    let after = (after["t"].as_u64().expect("seconds"), after["i"].as_u64().expect("a counter"));
    let oplog = documents(&point, "/mongo/oplog.bson").await;
    assert!(!oplog.is_empty(), "the writer wrote all the while");
    for entry in &oplog {
        let at = entry.get_timestamp("ts").expect("a time");
        assert!((u64::from(at.time), u64::from(at.increment)) > after, "{entry}");
    }
    let inserted =
        oplog.iter().filter(|entry| entry.get_str("ns").is_ok_and(|of| of == "shop.events"));
    let inserted = inserted.map(|entry| {
        entry.get_document("o").expect("an operation").get_i32("_id").expect("a number")
    });
    let held = documents(&point, "/mongo/shop/events.bson").await;
    let held = held.iter().map(|event| event.get_i32("_id").expect("a number"));
    let all: BTreeSet<i32> = held.chain(inserted).collect();
    let reached = *all.last().expect("there are events");
    assert_eq!(
        all.len(),
        usize::try_from(reached).expect("not negative") + 1,
        "no event between the collection and the oplog is lost"
    );
    assert!(reached <= last);

    // A warning says that the oplog is not replayed, and the rest is restored.
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some("back".into())));
    let plan = source.plan_restore(&point, request).await.expect("a plan");
    assert!(
        plan.warnings.iter().any(|warning| warning.contains("oplog, which is not replayed")),
        "{:?}",
        plan.warnings
    );
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:#?}");
    let back = client
        .database("back_app")
        .collection::<Document>("a")
        .find_one(doc! {})
        .await
        .expect("it can be read");
    assert_eq!(back, Some(doc! { "_id": 1 }));

    // Replayed on request, up to the end of the oplog.
    let replaying = self::source(&server.uri(), |config| {
        config.databases = vec!["*".into()];
        config.replay_oplog = true;
    });
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some("later".into())));
    let plan = replaying.plan_restore(&point, request).await.expect("a plan");
    let replayed = |warning: &String| warning.contains("entries of the oplog are replayed");
    assert!(plan.warnings.iter().any(replayed), "{:?}", plan.warnings);
    let report = replaying.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:#?}");
    let events = client.database("later_shop").collection::<Document>("events");
    let count = events.count_documents(doc! {}).await.expect("they can be counted");
    assert_eq!(count, u64::try_from(all.len()).expect("it is small"));
}

#[tokio::test]
async fn a_large_collection_is_read_in_ranges_and_restored_equal() {
    let name = "mc_ranges";
    let database = client(&servers::mongo_uri()).await.database(name);
    database.drop().await.expect("our own database can be dropped");
    let ids = (0..900).map(|n| match n % 3 {
        0 => Bson::Int32(n),
        1 => Bson::String(format!("id {n}")),
        _ => Bson::ObjectId(mongodb::bson::oid::ObjectId::new()),
    });
    let large: Vec<Document> =
        ids.map(|id| doc! { "_id": id, "filler": "f".repeat(500) }).collect();
    database.collection("large").insert_many(large).await.expect("documents can be inserted");
    let source = source(&servers::mongo_uri(), |config| {
        config.databases = vec![name.into()];
        config.range_bytes = 20_000;
    });
    let points = Points::new().await;
    points.capture(&source).await;
    let point = points.latest().await;
    let record = point.manifest().artifact("/mongo/mc_ranges/large.bson").expect("it is there");
    assert_eq!(record.items, Some(900));
    let sorted = |document: &Document| std::mem::discriminant(document.get("_id").expect("an _id"));
    let mut kinds: Vec<_> =
        documents(&point, "/mongo/mc_ranges/large.bson").await.iter().map(sorted).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), 3, "in the order of _id, type by type");

    database
        .collection::<Document>("large")
        .delete_many(doc! {})
        .await
        .expect("documents can be deleted");
    let plan = source
        .plan_restore(&point, RestoreRequest::whole(RestoreTarget::InPlace))
        .await
        .expect("a plan");
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:#?}");
    database.drop().await.expect("our own database can be dropped");
}
