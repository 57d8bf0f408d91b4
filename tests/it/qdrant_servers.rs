//! Qdrant servers that differ: other releases, strict mode, points that cannot be read, keys that may only read.

use std::{fs, path::Path, sync::Arc};

use kaleem_dr_core::{
    engine::source::Source as _,
    ground::{SourceError, error_chain},
    recovery::source::Restorable,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    qdrant_scene::{Captured, Server, beside, in_place, restore},
    qdrant_stand_in::{API_KEY, Faults, QdrantStandIn, READ_ONLY_KEY, Refusal},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_digests_counts_are_compared() {
    let server = Server::recorded();
    let source =
        Arc::new(server.source_of(
            API_KEY,
            &json!({ "content_digest": false, "exclude_collections": ["sess*"] }),
        ));
    let point = Captured::of(source.clone()).await.point().await;
    assert!(!server.stand_in().calls().iter().any(|call| call.contains("scroll")));
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert!(
        report.compared.contains(&"120 points of collection docs, only counted".to_owned()),
        "{report:?}"
    );
    assert_eq!(server.collections().await, ["copy_docs", "docs", "sessions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_of_another_minor_version_is_refused_before_anything_is_written() {
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    for version in ["1.17.9", "1.18.1", "1.19.0"] {
        server.stand_in().set_version(version);
        let error = source.plan_restore(&point, beside("copy")).await.expect_err("it is refused");
        assert!(
            matches!(&error, SourceError::Refused(why) if why.contains("start a Qdrant 1.18.2")),
            "{version}: {error}"
        );
    }
    server.stand_in().set_version("1.18.7");
    assert!(restore(&source, &point, beside("copy")).await.expect("a restore").is_equal());
}

/// A program that reads nothing and prints these points like Qdrant's engine, and then runs `end`.
fn engine_of(directory: &Path, points: &[Value], end: &str) -> String {
    let page = json!({ "shard": 0, "result": { "points": points, "next_page_offset": null } });
    fs::write(directory.join("page"), format!("{page}\n")).expect("a file");
    let script = format!("#!/bin/sh\ncat >/dev/null\ncat {}/page\n{end}\n", directory.display());
    let program = directory.join("engine");
    fs::write(&program, script).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).expect("it is ours");
    program.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn onto_another_minor_version_the_engine_reads_the_points_and_the_api_writes_them() {
    let server = Server::recorded();
    let point = Captured::of(server.source()).await.point().await;
    let before = server.points("docs").await;
    server.stand_in().set_version("1.19.0");
    let only_docs = |name: &str| beside(name).with_only(vec!["docs".into()]);
    let refused = server.source().plan_restore(&point, only_docs("no")).await;
    let told = error_chain(&refused.expect_err("it is refused"));
    assert!(told.contains("start a Qdrant 1.18.2") && told.contains("or set `engine`"), "{told}");

    let directory = tempfile::tempdir().expect("a directory");
    let source = |points: &[Value], end: &str| {
        let engine = engine_of(directory.path(), points, end);
        server.source_of(API_KEY, &json!({ "engine": engine }))
    };
    let with_engine = source(&before, "");
    let plan = with_engine.plan_restore(&point, only_docs("copy")).await.expect("a plan");
    let warning = "the server is Qdrant 1.19.0, which does not accept the files";
    assert!(plan.warnings.iter().any(|told| told.starts_with(warning)), "{plan:?}");
    let report = with_engine.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, every id, vector and payload";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
    assert_eq!(server.points("copy_docs").await, before);
    let calls = server.stand_in().calls();
    assert!(calls.iter().all(|call| !call.contains("upload")), "no file is uploaded");

    // A point less is a difference, and nothing is switched to it.
    let in_place = in_place().with_only(vec!["docs".into()]);
    let report = restore(&source(&before[1..], ""), &point, in_place).await.expect("a restore");
    assert_eq!(report.differences[0].what, "collection docs: points", "{report:?}");
    assert_eq!(server.alias("search").await.as_deref(), Some("docs"));

    // An engine that fails half way leaves nothing.
    let there = server.collections().await;
    let end = "echo 'error: shard 0: a broken segment' >&2; exit 1";
    let failed = restore(&source(&before, end), &point, only_docs("broken")).await;
    let told = error_chain(&failed.expect_err("it fails"));
    assert!(told.contains("a broken segment"), "{told}");
    assert_eq!(server.collections().await, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_digests_the_engine_reads_what_a_restore_must_equal() {
    let server = Server::recorded();
    let before = server.points("docs").await;
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine_of(directory.path(), &before, "");
    let more = json!({ "content_digest": false, "engine": engine, "collections": ["docs"] });
    let source = Arc::new(server.source_of(API_KEY, &more));
    let asked = server.stand_in().calls().len();
    let point = Captured::of(source.clone()).await.point().await;
    let calls = server.stand_in().calls().split_off(asked);
    assert!(!calls.iter().any(|call| call.contains("scroll")), "the live points are not read");
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, every id, vector and payload";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
    server.stand_in().set_faults(Faults { alter_vector: true, ..Faults::default() });
    let report = restore(&source, &point, beside("other")).await.expect("a restore");
    assert_eq!(report.differences[0].what, "collection docs: content digest", "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_mode_costs_smaller_pages_and_waiting_but_no_digest() {
    let server = Server::recorded();
    let faults = Faults { most_points: Some(7), over_rate: 1, ..Faults::default() };
    server.stand_in().set_faults(faults);
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    assert_eq!(point.manifest().details["collections"]["docs"]["known"], "content");
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, every id, vector and payload";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_the_server_does_not_read_are_captured_all_the_same() {
    let server = Server::recorded();
    let refuse = |path| Refusal::always(Method::POST, path, 500, "injected");
    let refusals = vec![refuse("/points/scroll"), refuse("/sessions/points/count")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let known = |name: &str| point.manifest().details["collections"][name]["known"].clone();
    assert_eq!((known("docs"), known("sessions")), (json!("count"), json!("nothing")));
    server.stand_in().set_faults(Faults::default());
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, only counted";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
    assert_eq!(report.uncompared.len(), 1, "{report:?}");
    assert_eq!(server.points("copy_sessions").await, server.points("sessions").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_by_key_are_made_first_and_a_success_without_shards_is_none() {
    let server = Server::failing(QdrantStandIn::start());
    let settings = json!({ "vectors": { "size": 2, "distance": "Dot" }, "sharding_method": "custom", "wal_config": { "wal_capacity_mb": 1 } });
    server.done(Method::PUT, "collections/tenants", settings).await;
    for (at, key) in [json!("riyadh"), json!(7)].iter().enumerate() {
        server.done(Method::PUT, "collections/tenants/shards", json!({ "shard_key": key })).await;
        let points = json!([{ "id": at, "payload": { "at": at }, "vector": [0.5, 1.5] }]);
        server
            .done(
                Method::PUT,
                "collections/tenants/points?wait=true",
                json!({ "points": points, "shard_key": key }),
            )
            .await;
    }
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.points("copy_tenants").await, server.points("tenants").await);
    let calls = server.stand_in().calls();
    let made: Vec<_> =
        calls.iter().filter(|call| call.starts_with("PUT /collections/copy_tenants")).collect();
    assert_eq!(
        made,
        [
            "PUT /collections/copy_tenants",
            "PUT /collections/copy_tenants/shards",
            "PUT /collections/copy_tenants/shards"
        ]
    );

    // The shards are created by a call that reports success and does nothing: Qdrant then answers
    // 200 and drops every point.
    let refusals = vec![Refusal::always(Method::PUT, "/collections/lost_tenants/shards", 200, "")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let error = restore(&source, &point, beside("lost")).await.expect_err("it fails");
    assert!(
        error_chain(&error).contains("the new collection has no shards, not 1 (\"riyadh\"), 2 (7)"),
        "{}",
        error_chain(&error)
    );
    assert_eq!(server.collections().await, ["copy_tenants", "tenants"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_key_is_detected_by_a_probe_that_writes_nothing() {
    let server = Server::recorded();
    let source = server.source_of(READ_ONLY_KEY, &json!({}));
    let probe = source.probe().await.expect("a probe");
    assert!(
        probe.warnings.iter().any(|warning| warning.contains("may not create snapshots")),
        "{probe:?}"
    );
    assert_eq!(server.source().probe().await.expect("a probe").warnings, [] as [&str; 0]);
    server.assert_no_files("after a probe").await;
    let captured = Captured::of(Arc::new(source)).await;
    assert!(captured.error().contains("as a read-only key does"), "{}", captured.error());

    let error =
        server.source_of("kanarienvogel81", &json!({})).probe().await.expect_err("it is denied");
    let told = format!("{} {error:?}", error_chain(&error));
    assert!(told.contains("rejects the API key") && !told.contains("kanarienvogel"), "{told}");
}
