//! Qdrant's real engine reads snapshot files without a server. The captured server is the stand-in
//! with recorded files.

use std::{
    io::{Cursor, Write as _},
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};

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
    altered_point().0
}

/// The same, with the altered point as the engine reads it from the recorded snapshot.
fn altered_point() -> (Vec<u8>, Value) {
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
    (altered, page["result"]["points"][7].clone())
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

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_names_the_points_that_changed() {
    let server = QdrantStandIn::recorded();
    let site = site(&server);
    site.initialised_and_backed_up();
    site.succeed(["backup"]);
    let same = site.succeed(["diff", "vectors~1", "vectors"]).stdout;
    assert!(same.contains("no differences"), "{same}");

    // The file has another bit in one vector, and the server answers with another payload of this point.
    let (file, mut point) = altered_point();
    point["payload"] = json!({ "changed": true });
    let upserted = reqwest::Client::new()
        .put(format!("{}/collections/docs/points?wait=true", server.url()))
        .header("api-key", API_KEY)
        .json(&json!({ "points": [point] }))
        .send()
        .await
        .expect("the stand-in answers");
    assert!(upserted.status().is_success(), "{upserted:?}");
    server.serve_file("docs", file);
    site.succeed(["backup"]);
    let (_, lines) = site.json(["diff", "vectors~1", "vectors"]);
    let items: Vec<&Value> = lines.iter().filter(|line| line["message_type"] == "item").collect();
    assert_eq!(items.len(), 1, "{lines:?}");
    let id = point["id"].to_string();
    assert_eq!(items[0]["item"].as_str(), Some(id.trim_matches('"')), "{lines:?}");
    assert_eq!(items[0]["part"], "collection docs");
    let parts = &lines.last().expect("a line")["parts"];
    assert_eq!(parts.as_array().map(Vec::len), Some(1), "{parts}");
    assert_eq!(parts[0]["items"], json!({ "added": 0, "removed": 0, "changed": 1 }));
}
