//! The nightly run on real servers: three sources are backed up, and restored with equal content by
//! us and by stock restic.

use std::{collections::BTreeMap, fs, path::Path};

use ::mongodb::{Client, IndexModel, bson::doc, options::IndexOptions};
use bson::{Document, RawDocument};
use futures::TryStreamExt as _;
use kaleem_dr_core::ground::digest::ByteDigest;
use serde_json::Value;

use crate::support::{seed, servers, site::Site, tree::Tree};

/// A database with a few thousand documents, an index, a capped collection and a view.
async fn seeded_database(name: &str) -> Client {
    let client = Client::with_uri_str(servers::mongo_uri())
        .await
        .expect("the test server's address is valid");
    let database = client.database(name);
    database.drop().await.expect("our own database can be dropped");
    let users: Vec<Document> = (0..3000)
        .map(|n| doc! { "_id": n, "name": format!("user {n}"), "tags": ["a", n], "n": n * 7 })
        .collect();
    database.collection("users").insert_many(users).await.expect("documents can be inserted");
    let index = IndexModel::builder()
        .keys(doc! { "name": 1 })
        .options(IndexOptions::builder().unique(true).build())
        .build();
    database
        .collection::<Document>("users")
        .create_index(index)
        .await
        .expect("an index can be made");
    database
        .create_collection("log")
        .capped(true)
        .size(1 << 20)
        .await
        .expect("a capped collection can be made");
    database
        .collection("log")
        .insert_many((0..50).map(|n| doc! { "line": n }))
        .await
        .expect("documents can be inserted");
    database
        .create_collection("names")
        .view_on("users".to_owned())
        .pipeline([doc! { "$project": { "name": 1 } }])
        .await
        .expect("a view");
    client
}

/// Every document of a collection by its id, as bytes.
async fn documents(client: &Client, database: &str, collection: &str) -> BTreeMap<String, Vec<u8>> {
    let cursor = client
        .database(database)
        .collection::<bson::RawDocumentBuf>(collection)
        .find(doc! {})
        .await
        .expect("find works");
    let all: Vec<bson::RawDocumentBuf> = cursor.try_collect().await.expect("the cursor ends well");
    all.into_iter().map(|raw| (format!("{:?}", raw.get("_id")), raw.into_bytes())).collect()
}

fn uri_of(database: &str) -> String {
    format!("{}{database}", servers::mongo_uri())
}

fn manifest(restored: &Path) -> Value {
    serde_json::from_slice(
        &fs::read(restored.join(".kaleem-dr/manifest.json"))
            .expect("a manifest is in the snapshot"),
    )
    .expect("JSON")
}

#[tokio::test]
async fn three_sources_go_out_and_come_back_equal_through_stock_restic() {
    let client = seeded_database("spine_out").await;
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = site
        .with_mongo("mongo", &uri_of("spine_out"))
        .with_rabbitmq("rabbitmq")
        .with_files("configs", &[&tree])
        .initialised();
    let before = Tree::of(&tree);

    let (outcome, lines) = site.json(["backup"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let run = lines.last().expect("a report of the run");
    assert_eq!(run["message_type"], "run");

    let restic = site.restic();
    restic.check_read_data();
    for source in run["sources"].as_array().expect("reports of the sources") {
        let id = source["snapshot"].as_str().expect("a snapshot");
        let target = site.path("restored").join(source["source"].as_str().expect("a name"));
        let target_text = target.to_str().expect("a UTF-8 path");
        restic.succeed(["restore", id, "--target", target_text, "--verify"]);
        let manifest = manifest(&target);
        assert_eq!(manifest["run"], run["run"]);
        assert!(target.join("RESTORE.md").exists());
        for artifact in manifest["artifacts"].as_array().expect("artifacts") {
            let path = artifact["path"].as_str().expect("a path");
            let bytes =
                fs::read(target.join(&path[1..])).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(artifact["size_bytes"], bytes.len(), "{path}");
            assert_eq!(artifact["sha256"], ByteDigest::of(&bytes), "{path}");
        }
    }

    let restored = |source: &str| site.path("restored").join(source);
    Tree::of(&restored("configs").join(tree.strip_prefix("/").expect("an absolute path")))
        .assert_equal(&before);
    let definitions: Value = serde_json::from_slice(
        &fs::read(restored("rabbitmq").join("rabbitmq/definitions.json")).expect("definitions"),
    )
    .expect("JSON");
    assert!(definitions["users"].as_array().is_some_and(|users| !users.is_empty()));
    assert_mongodump_layout(
        &restored("mongo").join("mongo/spine_out"),
        &documents(&client, "spine_out", "users").await,
    );
    client.database("spine_out").drop().await.expect("our own database can be dropped");
}

/// Parses every document and metadata file like mongorestore.
fn assert_mongodump_layout(directory: &Path, users: &BTreeMap<String, Vec<u8>>) {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("mongodump's directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "log.bson",
            "log.metadata.json",
            "names.metadata.json",
            "users.bson",
            "users.metadata.json"
        ]
    );
    for name in names.iter().filter(|name| name.ends_with(".metadata.json")) {
        let metadata: Value =
            serde_json::from_slice(&fs::read(directory.join(name)).expect("a file"))
                .expect("metadata is JSON");
        let indexes = metadata["indexes"].as_array().expect("indexes are never null");
        match name.as_str() {
            "users.metadata.json" => {
                assert_eq!(metadata["type"], "collection");
                assert_eq!(metadata["collectionName"], "users");
                assert_eq!(metadata["uuid"].as_str().map(str::len), Some(32));
                let unique = indexes
                    .iter()
                    .find(|index| index["name"] == "name_1")
                    .expect("the index is listed");
                assert_eq!(unique["unique"], true);
                assert_eq!(unique["key"]["name"]["$numberInt"], "1", "canonical extended JSON");
            }
            "log.metadata.json" => assert_eq!(metadata["options"]["capped"], true),
            _ => {
                assert_eq!(metadata["type"], "view");
                assert_eq!(metadata["options"]["viewOn"], "users");
            }
        }
    }
    let bytes = fs::read(directory.join("users.bson")).expect("documents");
    let mut rest = bytes.as_slice();
    let mut found = BTreeMap::new();
    while !rest.is_empty() {
        let length = usize::try_from(u32::from_le_bytes(rest[..4].try_into().expect("four bytes")))
            .expect("a length");
        let raw = RawDocument::from_bytes(&rest[..length]).expect("a document");
        Document::try_from(raw).expect("every element of it");
        found.insert(format!("{:?}", raw.get("_id")), rest[..length].to_vec());
        rest = &rest[length..];
    }
    assert_eq!(&found, users);
}

#[tokio::test]
async fn a_restore_goes_next_to_the_live_data_and_is_compared_by_content() {
    let client = seeded_database("spine_back").await;
    let copy = client.database("spine_back_copy");
    copy.drop().await.expect("our own database can be dropped");
    let site = Site::new().with_mongo("mongo", &uri_of("spine_back")).initialised();
    site.succeed(["backup"]);
    let before = documents(&client, "spine_back", "users").await;
    // Changes after the backup are not in it.
    client
        .database("spine_back")
        .collection::<Document>("users")
        .delete_many(doc! { "n": { "$gt": 700 } })
        .await
        .expect("delete");

    let (outcome, lines) = site.json(["restore", "mongo", "--to", "spine_back_copy"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["equal"], true);
    assert_eq!(documents(&client, "spine_back_copy", "users").await, before);

    let again = site.run(["restore", "mongo", "--to", "spine_back_copy"]);
    assert_eq!(
        again.code,
        Some(5),
        "a database that has collections is not written over: {}",
        again.stderr
    );
    let unasked = site.run(["restore", "mongo", "--in-place"]);
    assert_eq!(unasked.code, Some(5), "{}", unasked.stderr);
    assert_ne!(
        documents(&client, "spine_back", "users").await,
        before,
        "nothing was written without a yes"
    );
    site.succeed(["restore", "mongo", "--in-place", "--yes"]);
    assert_eq!(documents(&client, "spine_back", "users").await, before);

    copy.drop().await.expect("our own database can be dropped");
    client.database("spine_back").drop().await.expect("our own database can be dropped");
}

#[tokio::test]
async fn an_unchanged_second_night_adds_next_to_nothing() {
    let name = "spine_dedup";
    let client = Client::with_uri_str(servers::mongo_uri())
        .await
        .expect("the test server's address is valid");
    let database = client.database(name);
    database.drop().await.expect("our own database can be dropped");
    // 12 MB that do not compress to nothing: the ratio is that of real data.
    let mut state = 88_172_645_463_325_252_u64;
    for part in 0..12 {
        let documents = (0..1000).map(|n| {
            let noise: Vec<u8> = (0..1000)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()[3]
                })
                .collect();
            doc! { "_id": part * 1000 + n, "noise": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: noise } }
        });
        database
            .collection("noise")
            .insert_many(documents)
            .await
            .expect("documents can be inserted");
    }
    let site = Site::new().with_mongo("mongo", &uri_of(name)).initialised();
    let added = |site: &Site| {
        let (outcome, lines) = site.json(["backup"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        lines[0]["data_added_packed"].as_u64().expect("bytes added")
    };
    let (first, second) = (added(&site), added(&site));
    assert!(first > 12_000_000, "the first night stores the data: {first}");
    assert!(second * 100 < first, "the second night added {second} of {first} bytes");
    database.drop().await.expect("our own database can be dropped");
}
