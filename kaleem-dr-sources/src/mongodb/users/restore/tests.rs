use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::{ArtifactRecord, Manifest},
    ground::{digest::ByteDigest, progress::Silent},
    operate::config::secret::SecretRef,
    recovery::point::{FilePart, FilePoint},
};
use tempfile::TempDir;

use super::*;
use crate::mongodb::{config::MongoConfig, server::Recorder};

const HASH: &str = "c4n4ry-hash";

fn user(name: &str) -> Document {
    doc! {
        "_id": format!("kaleem.{name}"), "user": name, "db": "kaleem", "roles": [ { "role": "readWrite", "db": "kaleem" } ],
        "credentials": { "SCRAM-SHA-256": { "iterationCount": 15000, "storedKey": HASH } },
    }
}

/// A point with these users, without roles, and with this schema.
fn point(users: &[Document]) -> (PointReader, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (mut parts, mut artifacts) = (BTreeMap::new(), Vec::new());
    let schema = [doc! { "_id": "authSchema", "currentVersion": 5 }];
    for (part, documents) in
        [(Part::Roles, &[][..]), (Part::Users, users), (Part::Version, &schema[..])]
    {
        let bytes: Vec<u8> = documents
            .iter()
            .flat_map(|document| bson::serialize_to_vec(document).unwrap())
            .collect();
        let path = format!("/mongo/kaleem/{}", part.file("kaleem"));
        let file = directory.path().join(part.file("kaleem"));
        std::fs::write(&file, &bytes).unwrap();
        let size_bytes = bytes.len() as u64;
        artifacts.push(
            ArtifactRecord::new(path.clone(), size_bytes, ByteDigest::of(&bytes))
                .with_items(documents.len() as u64),
        );
        parts.insert(path, FilePart::new(file, size_bytes));
    }
    let mut manifest = Manifest::of_file("", "mongodb", jiff::Timestamp::UNIX_EPOCH);
    manifest.artifacts = artifacts;
    let file = FilePoint::new(directory.path().to_path_buf(), parts, None);
    (PointReader::of_file(manifest, file, Arc::new(Silent), CancellationToken::new()), directory)
}

fn cursor(documents: &[Document]) -> Document {
    doc! { "cursor": { "id": 0_i64, "ns": "admin.x", "firstBatch": documents.to_vec() } }
}

/// A server that merges users as a real one does, or does not know the command.
async fn server(schema: i32, takes_over: bool, left: &'static [&'static str]) -> Recorder {
    let (temporary, taken) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    Recorder::start(move |command| match command.keys().next().map(String::as_str)? {
        "getParameter" => Some(doc! { "authSchemaVersion": schema }),
        "connectionStatus" => Some(doc! { "authInfo": { "authenticatedUsers": [] } }),
        "listCollections" => {
            let listed: Vec<_> = left
                .iter()
                .map(|name| doc! { "name": *name, "type": "collection", "options": {} })
                .collect();
            Some(cursor(&listed))
        }
        "insert" => {
            let documents = command.get_array("documents").unwrap();
            temporary
                .lock()
                .unwrap()
                .extend(documents.iter().map(|document| document.as_document().unwrap().clone()));
            Some(doc! { "n": i32::try_from(documents.len()).unwrap() })
        }
        "_mergeAuthzCollections" if takes_over => {
            taken.store(true, Ordering::SeqCst);
            Some(doc! {})
        }
        "drop" => Some(doc! {}),
        "find"
            if command.get_str("find").is_ok_and(|of| of == "system.users")
                && taken.load(Ordering::SeqCst) =>
        {
            Some(cursor(&temporary.lock().unwrap()))
        }
        "find" => Some(cursor(&[])),
        _ => None,
    })
    .await
}

async fn restored(server: &Recorder, users: &[Document], extras: Extras) -> RestoreReport {
    let (point, _directory) = point(users);
    let writes = Writes::of(&MongoConfig::new(SecretRef::Env("M".into())));
    let mut report = RestoreReport::default();
    restore(&server.connection, &writes, &point, "kaleem", extras, &mut report).await.unwrap();
    report
}

#[tokio::test]
async fn users_are_taken_over_from_collections_that_do_not_stay() {
    let server = server(5, true, &[]).await;
    let report = restored(&server, &[user("app"), user("reports")], Extras::Keep).await;
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!(report.compared, ["users and roles of kaleem: 2 users and 0 roles"]);
    let merged = server.sent("_mergeAuthzCollections");
    assert_eq!(
        merged,
        [doc! {
            "_mergeAuthzCollections": 1, "tempUsersCollection": "admin.tempusers", "tempRolesCollection": "admin.temproles",
            "drop": false, "db": "kaleem", "writeConcern": { "w": "majority" }, "$db": "admin",
        }]
    );
    let inserted = server.sent("insert");
    assert_eq!(
        (inserted.len(), inserted[0].get_str("insert").unwrap()),
        (1, "tempusers"),
        "there are no roles"
    );
    let dropped: Vec<_> =
        server.sent("drop").iter().map(|drop| drop.get_str("drop").unwrap().to_owned()).collect();
    assert_eq!(dropped, ["tempusers", "temproles"]);
    let none = self::server(5, true, &[]).await;
    assert!(restored(&none, &[], Extras::Keep).await.differences.is_empty());
    assert!(none.sent("_mergeAuthzCollections").is_empty(), "there is nothing to take over");
    let other = self::server(5, true, &[]).await;
    restored(&other, &[user("app")], Extras::Remove).await;
    assert!(other.sent("_mergeAuthzCollections")[0].get_bool("drop").unwrap());
}

#[tokio::test]
async fn a_server_that_cannot_is_a_difference_without_a_password_in_it() {
    let incapable = server(5, false, &[]).await;
    let report = restored(&incapable, &[user("app")], Extras::Keep).await;
    assert!(
        !report.is_equal() && report.differences[0].found.contains("no such command"),
        "{report:#?}"
    );
    assert_eq!(incapable.sent("drop").len(), 2, "what was loaded does not stay");
    assert!(!format!("{report:?}").contains(HASH), "{report:?}");

    let old = server(3, true, &[]).await;
    let report = restored(&old, &[user("app")], Extras::Keep).await;
    assert!(report.differences[0].found.contains("has schema 3"), "{report:#?}");
    assert!(old.sent("insert").is_empty());

    let busy = server(5, true, &["tempusers"]).await;
    let report = restored(&busy, &[user("app")], Extras::Keep).await;
    assert!(report.differences[0].found.contains("admin.tempusers exists"), "{report:#?}");
    assert!(busy.sent("drop").is_empty(), "what another restore is working on is left alone");
}

#[tokio::test]
async fn a_user_that_is_not_there_afterwards_is_a_difference() {
    // It reports success without having merged them.
    let liar = Recorder::start(|command| match command.keys().next().map(String::as_str)? {
        "getParameter" => Some(doc! { "authSchemaVersion": 5 }),
        "connectionStatus" => Some(doc! {}),
        "insert" => Some(doc! { "n": 1 }),
        "_mergeAuthzCollections" | "drop" => Some(doc! {}),
        "listCollections" | "find" => Some(cursor(&[])),
        _ => None,
    })
    .await;
    let report = restored(&liar, &[user("app")], Extras::Keep).await;
    assert_eq!(report.differences.len(), 1);
    assert!(report.differences[0].expected.contains("kaleem.app"), "{report:#?}");
}
