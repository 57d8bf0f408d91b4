//! Staged files: with the handbook's names, from the single read of the server, and restored.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use ::mongodb::{Client, bson::doc};
use bson::Document;
use kaleem_dr_sources::rabbitmq::definitions::Definitions;

use crate::support::{seed, servers, site::Site};

fn staged(site: &Site, source: &str) -> Vec<PathBuf> {
    let Ok(directory) = fs::read_dir(site.path("backups").join(source)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = directory.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn staging(site: Site, more: &str) -> Site {
    let directory = site.path("backups");
    site.with(&format!(
        "[staged]\ndirectory = {:?}\n{more}",
        directory.to_str().expect("a UTF-8 path")
    ))
}

#[test]
fn a_run_leaves_each_sources_file_whole_for_its_owner_and_keeps_as_many_as_it_should() {
    let site = staging(Site::new(), "keep = 2\nmin_free_percent = 0")
        .with_rabbitmq("rabbitmq")
        .initialised();
    let foreign = site.path("backups/rabbitmq/defs-2025-10-01.json");
    fs::create_dir_all(foreign.parent().expect("a directory")).expect("a directory can be made");
    fs::write(&foreign, "the old script's").expect("a file can be written");
    for run in 0..3 {
        let (outcome, lines) = site.json(["backup"]);
        assert_eq!(outcome.code, Some(0), "{run}: {}", outcome.stderr);
        let run = lines.last().expect("a report");
        let path = run["sources"][0]["staged"]["path"].as_str().expect("a staged file").to_owned();
        assert!(Path::new(&path).exists());
        // Names have a resolution of one second.
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(1100) {
            std::thread::yield_now();
        }
    }
    let files = staged(&site, "rabbitmq");
    assert_eq!(files.len(), 3, "two of ours and the foreign one: {files:?}");
    assert!(foreign.exists());
    for file in files.iter().filter(|file| **file != foreign) {
        assert_eq!(fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600);
        Definitions::parse(&fs::read(file).expect("a file can be read")).expect("definitions");
    }
}

#[test]
fn what_is_exported_is_what_was_captured_and_restores_without_a_repository() {
    let site = Site::new().with_rabbitmq("rabbitmq").initialised();
    site.succeed(["backup"]);
    let file = site.path("defs.json");
    let path = file.to_str().expect("a UTF-8 path");
    site.succeed(["export", "rabbitmq", "--output", path]);
    let piped = site.succeed(["export", "rabbitmq", "--output", "-"]);
    assert_eq!(piped.stdout.as_bytes(), fs::read(&file).expect("a file can be read"));
    let again = site.run(["export", "rabbitmq", "--output", path]);
    assert_eq!(again.code, Some(5), "a file that is there is not written over: {}", again.stderr);

    fs::remove_dir_all(site.repository()).expect("a directory can be removed");
    let verified = site.succeed(["verify", "rabbitmq", "--from", path]);
    assert!(verified.stdout.contains("parsed is proven"), "{}", verified.stdout);
    let planned =
        site.succeed(["restore", "rabbitmq", "--from", path, "--to", "staged-copy", "--dry-run"]);
    assert!(planned.stdout.contains("new virtual host"), "{}", planned.stdout);
}

#[tokio::test]
async fn an_archive_goes_through_a_pipe_and_comes_back_into_another_database() {
    let client = Client::with_uri_str(servers::mongo_uri())
        .await
        .expect("the test server's address is valid");
    let database = client.database("staged_out");
    database.drop().await.expect("our own database can be dropped");
    let documents = (0..2000).map(|n| doc! { "_id": n, "text": format!("line {n}"), "n": n * 3 });
    database.collection("lines").insert_many(documents).await.expect("documents can be inserted");
    let site = Site::new()
        .with_mongo("mongo", &format!("{}staged_out", servers::mongo_uri()))
        .initialised();
    site.succeed(["backup"]);

    // Like an operator: through a pipe, compressed, and read by another program.
    let file = site.path("mongo.archive.gz");
    let into = fs::File::create(&file).expect("a file can be made");
    let status = site
        .command()
        .args(["export", "mongo", "--archive", "--gzip"])
        .stdout(into)
        .status()
        .expect("it runs");
    assert!(status.success());
    assert!(Command::new("gzip").arg("-t").arg(&file).status().expect("gzip is there").success());

    let path = file.to_str().expect("a UTF-8 path");
    let verified = site.succeed(["verify", "mongo", "--from", path, "--level", "restored"]);
    assert!(verified.stdout.contains("restored is proven"), "{}", verified.stdout);
    client.database("staged_back").drop().await.expect("our own database can be dropped");
    fs::remove_dir_all(site.repository()).expect("a directory can be removed");
    let (restored, lines) = site.json(["restore", "mongo", "--from", path, "--to", "staged_back"]);
    assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
    assert_eq!(lines[0]["equal"], true);
    let found = client
        .database("staged_back")
        .collection::<Document>("lines")
        .count_documents(doc! {})
        .await
        .expect("a count");
    assert_eq!(found, 2000);

    let bytes = fs::read(&file).expect("a file can be read");
    fs::write(&file, &bytes[..bytes.len() / 2]).expect("a file can be written");
    let cut = site.run(["restore", "mongo", "--from", path, "--to", "staged_cut"]);
    assert_eq!(cut.code, Some(4), "{}", cut.stderr);
    assert!(cut.stderr.contains("is damaged"), "{}", cut.stderr);
    let names = client.list_database_names().await.expect("names");
    assert!(
        !names.iter().any(|name| name == "staged_cut" || name.starts_with("kdr_drill_")),
        "{names:?}"
    );
}

#[test]
fn definitions_of_one_virtual_host_are_taken_and_a_damaged_file_is_named() {
    let site = Site::new().with_rabbitmq("rabbitmq");
    let mut document = seed::definitions("one");
    let all = document.as_object_mut().expect("an object");
    for key in ["users", "permissions", "topic_permissions", "vhosts"] {
        all.remove(key);
    }
    for list in all.values_mut().filter_map(|list| list.as_array_mut()) {
        for item in list {
            item.as_object_mut().expect("an object").remove("vhost");
        }
    }
    all.insert("rabbitmq_definition_format".into(), "single_virtual_host".into());
    let file = site.path("one.json");
    let path = file.to_str().expect("a UTF-8 path").to_owned();
    let write = |document: &serde_json::Value| {
        fs::write(&file, document.to_string()).expect("a file can be written");
    };
    write(&document);
    let nameless = site.run(["verify", "rabbitmq", "--from", &path]);
    assert_eq!(nameless.code, Some(4));
    assert!(nameless.stderr.contains("original_vhost_name"), "{}", nameless.stderr);
    document["original_vhost_name"] = "one".into();
    write(&document);
    let verified = site.succeed(["verify", "rabbitmq", "--from", &path]);
    assert!(verified.stdout.contains("2 queues, 3 bindings"), "{}", verified.stdout);
    fs::write(&file, &document.to_string()[..500]).expect("a file can be written");
    let cut = site.run(["verify", "rabbitmq", "--from", &path]);
    assert!(
        cut.code == Some(4) && cut.stderr.contains("one.json is damaged"),
        "{:?} {}",
        cut.code,
        cut.stderr
    );
}
