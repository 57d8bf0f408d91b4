//! After a loss or an encryption, nothing displaces the last good snapshots until an operator has
//! acknowledged the alarm.

use std::{fs, path::Path};

use ::mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::Value;

use crate::support::{mirror::noise, servers, site::Site};

/// Retention that keeps the newest `count`, after every run.
fn keep_last(count: u32) -> String {
    format!(
        "[backup]\nforget = true\nprune = true\n[retention]\nkeep_last = {count}\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0"
    )
}

/// A run on a normal night: it succeeds, and no alarm is active.
#[track_caller]
fn quiet_night(site: &Site) {
    let (outcome, lines) = site.json(["backup"]);
    let run = lines.last().expect("a report");
    assert_eq!(outcome.code, Some(0), "{run}\n{}", outcome.stderr);
    assert_eq!(run["alarms"], serde_json::json!([]));
}

/// A run that must raise an alarm: the snapshot is saved, and nothing is forgotten until the alarm
/// is acknowledged.
#[track_caller]
fn assert_active_until_acknowledged(site: &Site, source: &str, seen: &str) {
    let before = site.snapshots().len();
    let (outcome, lines) = site.json(["backup"]);
    let run = lines.last().expect("a report");
    assert_eq!(outcome.code, Some(3), "{run}\n{}", outcome.stderr);
    assert!(run["withheld"].as_str().is_some_and(|why| why.contains(seen)), "{run}");
    assert_eq!(run["forgotten"], Value::Null);
    assert_eq!(site.snapshots().len(), before + 1, "it is saved, and nothing is forgotten");

    for refused in [
        &["forget", "--yes"][..],
        &["prune", "--yes"],
        &["forget", "--keep-last", "1", "--yes", "--prune"],
    ] {
        let outcome = site.run(refused.iter().copied());
        assert_eq!(outcome.code, Some(5), "{refused:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(seen) && outcome.stderr.contains("kaleem-dr alarm acknowledge"),
            "{}",
            outcome.stderr
        );
    }
    site.succeed(["forget", "--dry-run"]);
    // Another night changes nothing, even if everything but the loss is normal again.
    assert_eq!(site.run(["backup"]).code, Some(3));
    assert_eq!(site.snapshots().len(), before + 2);
    let (_, listed) = site.json(["alarm", "list"]);
    assert_eq!(listed[0].as_array().map(Vec::len), Some(1), "{listed:?}");
    assert_eq!(listed[0][0]["source"], source);
    assert_eq!(listed[0][0]["run"], run["run"]);
    let status = site.run(["status"]);
    assert!(status.stdout.contains("ALARM") && status.stdout.contains(seen), "{}", status.stdout);

    let other = site.succeed(["alarm", "acknowledge", "another"]);
    assert!(other.stdout.contains("no such alarm"), "{}", other.stdout);
    assert_eq!(site.run(["prune", "--yes"]).code, Some(5));
    site.succeed(["alarm", "acknowledge", source]);
    site.succeed(["forget", "--yes"]);
    site.succeed(["prune", "--yes"]);
    quiet_night(site);
    site.restic().check_read_data();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_collection_stops_retention() {
    let client = Client::with_uri_str(servers::mongo_uri())
        .await
        .expect("the test server's address is valid");
    let database = client.database("tripwire_drop");
    database.drop().await.expect("our own database can be dropped");
    for collection in ["orders", "users"] {
        let documents = (0..20).map(|n| doc! { "_id": n });
        database
            .collection::<Document>(collection)
            .insert_many(documents)
            .await
            .expect("documents can be inserted");
    }
    let uri = format!("{}tripwire_drop", servers::mongo_uri());
    let site = Site::new().with_mongo("mongo", &uri).with(&keep_last(1)).initialised();
    quiet_night(&site);
    quiet_night(&site);
    database.collection::<Document>("orders").drop().await.expect("a collection can be dropped");
    assert_active_until_acknowledged(&site, "mongo", "/mongo/tripwire_drop/orders.bson");
    database.drop().await.expect("our own database can be dropped");
}

/// A site with one directory with some files, after four quiet nights.
fn site_of_files(files: u64, length: usize, keep: u32) -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    write(&tree, 0..files, 0, length);
    let site = site.with_files("data", &[&tree]).with(&keep_last(keep)).initialised();
    for night in 0..4 {
        // A little changes every night.
        fs::write(tree.join("log"), format!("night {night}")).expect("a file");
        quiet_night(&site);
    }
    site
}

fn write(tree: &Path, files: std::ops::Range<u64>, seed: u64, length: usize) {
    for n in files {
        fs::write(tree.join(format!("file-{n}")), noise(length, seed + n + 1))
            .expect("a file can be written");
    }
}

#[test]
fn files_deleted_in_masses_stop_retention() {
    let site = site_of_files(40, 100, 1);
    for n in 10..40 {
        fs::remove_file(site.path("tree").join(format!("file-{n}")))
            .expect("a file can be removed");
    }
    assert_active_until_acknowledged(&site, "data", "30 of 41 files are gone");
}

#[test]
fn files_that_were_rewritten_stop_retention() {
    let site = site_of_files(9, 2 << 20, 5);
    // An encryption: every file has other content of the same length.
    write(&site.path("tree"), 0..9, 1000, 2 << 20);
    assert_active_until_acknowledged(&site, "data", "percent of the data are new");
}

#[test]
fn alarms_that_cannot_be_read_count_as_standing() {
    let site = site_of_files(3, 100, 1);
    fs::write(site.path("state").join("alarms.json"), "{").expect("a file");
    let (outcome, lines) = site.json(["backup"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(
        lines.last().expect("a report")["withheld"]
            .as_str()
            .is_some_and(|why| why.contains("alarms.json"))
    );
    assert_eq!(site.run(["prune", "--yes"]).code, Some(5));
    assert_eq!(site.snapshots().len(), 2, "the snapshot is saved all the same");
}
