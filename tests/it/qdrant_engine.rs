//! Qdrant's real engine reads snapshot files without a server. The captured server is the stand-in
//! with recorded files.

use std::{
    io::{Cursor, Write as _},
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;

use crate::support::{
    qdrant_stand_in::{API_KEY, DOCS, QdrantStandIn},
    servers::qdrant_engine,
    site::Site,
};

fn site(server: &QdrantStandIn) -> Site {
    let site = Site::new();
    let key = site.secret("qdrant.key", API_KEY).display().to_string();
    let (url, engine) = (server.url(), qdrant_engine().display().to_string());
    site.with(&format!("[source.vectors]\ntype = \"qdrant\"\nurl = {url:?}\napi_key = {{ file = {key:?} }}\nengine = {engine:?}"))
}

/// The recorded snapshot of `docs` with the lowest bit of one vector's first component flipped,
/// located by what the engine reads.
fn altered() -> Vec<u8> {
    let mut engine = Command::new(qdrant_engine())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the engine can be run");
    let mut input = engine.stdin.take().expect("a pipe");
    let feeding = thread::spawn(move || input.write_all(DOCS).expect("the engine reads it all"));
    let output = engine.wait_with_output().expect("it ends");
    feeding.join().expect("it was fed");
    assert!(output.status.success());
    let mut pages =
        serde_json::Deserializer::from_reader(Cursor::new(output.stdout)).into_iter::<Value>();
    let page = pages.next().expect("a page").expect("JSON");
    let vectors = page["result"]["points"][7]["vector"].as_object().expect("named vectors");
    let dense = vectors
        .values()
        .find_map(Value::as_array)
        .filter(|vector| vector[0].is_number())
        .expect("a dense vector");
    #[expect(clippy::cast_possible_truncation, reason = "it was a 32-bit component")]
    let stored: Vec<u8> = dense
        .iter()
        .flat_map(|component| (component.as_f64().expect("a number") as f32).to_le_bytes())
        .collect();
    let at = DOCS
        .windows(stored.len())
        .position(|window| window == stored)
        .expect("the file holds the vector");
    let mut altered = DOCS.to_vec();
    altered[at] ^= 1;
    altered
}

#[test]
fn verify_compares_each_point_of_a_snapshot_with_the_capture_and_sees_one_altered_bit() {
    let server = QdrantStandIn::recorded();
    let site = site(&server);
    site.initialised_and_backed_up();
    let verified = site.run(["verify", "vectors"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    for (collection, points) in [("docs", 120), ("sessions", 30)] {
        let line = format!(
            "collection {collection}: {points} points read by Qdrant's engine, each equal to what was captured"
        );
        assert!(verified.stdout.contains(&line), "{}", verified.stdout);
    }
    assert!(!verified.stdout.contains("no checksums"), "{}", verified.stdout);

    server.serve_file("docs", altered());
    site.succeed(["backup"]);
    let verified = site.run(["verify", "vectors"]);
    assert_eq!(verified.code, Some(4), "{}{}", verified.stdout, verified.stderr);
    let line = "snapshot of collection docs: Qdrant's engine reads 120 points in it, and not all of them equal what was captured";
    assert!(verified.stdout.contains(line), "{}", verified.stdout);
    assert!(verified.stdout.contains("collection sessions: 30 points read"), "{}", verified.stdout);
}

#[test]
fn a_point_is_restored_onto_another_release_by_the_points_that_the_engine_reads() {
    let server = QdrantStandIn::recorded();
    let site = site(&server);
    site.initialised_and_backed_up();
    server.set_version("1.19.0");
    let restored = site.run(["restore", "vectors", "--target", "copy"]);
    assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
    for line in [
        "120 points of collection docs, every id, vector and payload",
        "30 points of collection sessions, every id, vector and payload",
    ] {
        assert!(restored.stdout.contains(line), "{}", restored.stdout);
    }
}
