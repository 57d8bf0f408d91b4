//! Qdrant servers and connections that fail, and operators that cancel: nothing wrong is kept, and nothing is left behind.

use std::sync::Arc;

use kaleem_dr_core::{
    CancellationToken,
    engine::source::Source as _,
    ground::{Exit, SourceError, error_chain, host::HostScope, progress::ProgressSink},
    recovery::{
        points::{PointChoice, open_point},
        source::{Restorable, ScratchTarget},
    },
};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    qdrant_scene::{CancelAt, Captured, DOCS, Server, beside, in_place, restore},
    qdrant_stand_in::{API_KEY, Faults, Refusal},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_every_64_kib_is_taken_up_again_and_one_that_never_ends_fails() {
    let server = Server::recorded();
    server
        .stand_in()
        .set_faults(Faults { cut_downloads_after: Some(64 << 10), ..Faults::default() });
    let point = Captured::of(server.source()).await.point().await;
    let record = point
        .manifest()
        .artifact("/qdrant/collections/docs.snapshot")
        .expect("it is there")
        .clone();
    // What the server sent is what it announced; what is kept differs in the times of headers.
    assert_eq!(record.size_bytes, DOCS.len() as u64);
    assert_eq!(
        point.manifest().details["server_sha256"]["/qdrant/collections/docs.snapshot"],
        kaleem_dr_core::ground::digest::ByteDigest::of(DOCS)
    );
    let parts = server
        .stand_in()
        .calls()
        .iter()
        .filter(|call| call.starts_with("GET /collections/docs/snapshots/docs"))
        .count();
    assert_eq!(parts, 3, "154,112 bytes in parts of 64 KiB");
    server.stand_in().set_faults(Faults { no_checksums: true, ..Faults::default() });
    Captured::of(server.source()).await.point().await;

    for beyond in (0..DOCS.len()).step_by(64 << 10) {
        server
            .stand_in()
            .set_faults(Faults { no_download_beyond: Some(beyond), ..Faults::default() });
        let captured = Captured::of(server.source()).await;
        assert!(
            captured.error().contains("/qdrant/collections/docs.snapshot"),
            "{}",
            captured.error()
        );
        assert_eq!(captured.snapshots().await, 0);
        server.assert_no_files(&format!("cut at {beyond}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_capture_keeps_no_snapshot_and_leaves_no_file_on_the_server() {
    let refuse = |method, path, status| vec![Refusal::always(method, path, status, "injected")];
    for (faults, told) in [
        (Faults { corrupt_downloads: true, ..Faults::default() }, "is not what"),
        (
            Faults { same_second_snapshot: true, ..Faults::default() },
            "another snapshot taken in the same second",
        ),
        (
            Faults { refusals: refuse(Method::GET, "/snapshots/docs", 404), ..Faults::default() },
            "404",
        ),
        (
            Faults { refusals: refuse(Method::GET, "/snapshots/docs", 500), ..Faults::default() },
            "injected",
        ),
        (
            Faults { refusals: refuse(Method::POST, "/snapshots", 500), ..Faults::default() },
            "of any collection",
        ),
        (
            Faults { refusals: refuse(Method::POST, "/snapshots", 403), ..Faults::default() },
            "does not allow us to create a snapshot",
        ),
        (
            Faults { refusals: refuse(Method::GET, "/aliases", 500), ..Faults::default() },
            "list aliases",
        ),
        (
            Faults {
                refusals: vec![Refusal {
                    after: 2,
                    ..Refusal::always(Method::POST, "/docs/points/scroll", 401, "injected")
                }],
                ..Faults::default()
            },
            "read the points of docs",
        ),
    ] {
        let server = Server::recorded();
        server.stand_in().set_faults(faults.clone());
        let captured = Captured::of(server.source()).await;
        assert!(captured.error().contains(told), "{faults:?}: {}", captured.error());
        assert_eq!(captured.snapshots().await, 0, "{faults:?}");
        server.stand_in().set_faults(Faults::default());
        server.assert_no_files(told).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_capture_leaves_no_file_on_the_server() {
    let server = Server::recorded();
    let cancel = CancellationToken::new();
    // Cancelled while the first download hangs on a silent connection.
    server
        .stand_in()
        .set_faults(Faults { hang_downloads_after: Some(100_000), ..Faults::default() });
    let watched = async {
        while !server.stand_in().calls().iter().any(|call| call.contains("/snapshots/docs-")) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (captured, ()) = tokio::join!(Captured::of_cancelled(server.source(), &cancel), watched);
    assert_ne!(captured.report.exit, Exit::Done);
    assert_eq!(captured.snapshots().await, 0);
    server.assert_no_files("after a cancellation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_deleted_makes_the_run_incomplete() {
    let server = Server::recorded();
    let refusals = vec![Refusal::always(Method::DELETE, "/docs/snapshots/", 500, "injected")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let captured = Captured::of(server.source()).await;
    assert_eq!(captured.report.exit, Exit::Partial, "{:?}", captured.report);
    let left = &captured.report.sources[0].incomplete[0];
    assert!(
        left.what.contains("temporary snapshot docs-") && left.why.contains("injected"),
        "{left:?}"
    );
    assert_eq!(captured.snapshots().await, 1, "the data is safe all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_collection_is_left_out_and_reported_and_the_others_are_saved() {
    let server = Server::recorded();
    server.stand_in().break_collection("docs");
    let probe = server.source().probe().await.expect("a probe");
    assert!(
        probe.warnings.iter().any(|warning| warning.starts_with("collection docs is broken")),
        "{probe:?}"
    );
    let captured = Captured::of(server.source()).await;
    assert_eq!(captured.report.exit, Exit::Partial, "{:?}", captured.report);
    assert_eq!(captured.report.sources[0].incomplete[0].what, "collection docs");
    let point = captured.point_of(&CancellationToken::new()).await;
    assert!(point.manifest().artifact("/qdrant/collections/sessions.snapshot").is_some());
    server.assert_no_files("after a capture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_during_a_snapshot_leave_the_digest_out_and_raise_no_alarm() {
    let server = Server::recorded();
    server.stand_in().set_faults(Faults { write_during_snapshot: true, ..Faults::default() });
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let record =
        point.manifest().artifact("/qdrant/collections/docs.snapshot").expect("it is there");
    assert_eq!((record.items, &record.content_digest), (None, &None));
    assert!(
        point.manifest().details["collections"]["docs"]["why"]
            .as_str()
            .expect("a reason")
            .contains("modified while")
    );
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert!(
        report
            .uncompared
            .iter()
            .any(|left| left.what.contains("120 points of collection docs (about 120")),
        "{report:?}"
    );
    assert!(
        !report.compared.iter().any(|line| line.contains("points")),
        "nothing is said of points: {report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_vector_is_found_and_nothing_is_switched() {
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    server.stand_in().set_faults(Faults { alter_vector: true, ..Faults::default() });

    let report = restore(&source, &point, in_place()).await.expect("a restore");
    assert!(!report.is_equal());
    let whats: Vec<_> =
        report.differences.iter().map(|difference| difference.what.as_str()).collect();
    assert_eq!(whats, ["collection docs: content digest", "collection sessions: content digest"]);
    assert!(
        report.warnings.iter().any(|warning| warning.starts_with("no alias was switched")),
        "{report:?}"
    );
    assert_eq!(server.alias("search").await.as_deref(), Some("docs"));
    assert_eq!(server.alias("live-sessions").await.as_deref(), Some("sessions"));

    let directory = tempfile::tempdir().expect("a directory");
    let scratch = ScratchTarget::new("kdr_drill_02", directory.path());
    let before = server.collections().await;
    let rehearsal = source.rehearse(&point, &scratch).await.expect("a rehearsal");
    assert_eq!(rehearsal.differences.len(), 2, "{rehearsal:?}");
    assert_eq!(server.collections().await, before, "also an unequal rehearsal leaves nothing");
    server.assert_no_files("after an unequal restore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_restore_leaves_no_collection_and_no_file_and_full_snapshots_still_work() {
    let refuse = |method, path, status, error| vec![Refusal::always(method, path, status, error)];
    let disk_full = "Service internal error: No space left on device (os error 28)";
    for (faults, told) in [
        (Faults { break_uploads: true, ..Faults::default() }, "segment failed to load"),
        (
            Faults {
                refusals: refuse(Method::POST, "/upload", 500, disk_full),
                ..Faults::default()
            },
            "No space left on device",
        ),
        (
            Faults {
                refusals: refuse(Method::POST, "/upload", 400, "Checksum mismatch"),
                ..Faults::default()
            },
            "Checksum mismatch",
        ),
        (
            Faults {
                refusals: refuse(Method::POST, "/upload", 403, "Forbidden"),
                ..Faults::default()
            },
            "does not allow us to restore",
        ),
        (
            Faults {
                refusals: vec![Refusal {
                    done: true,
                    ..Refusal::always(Method::POST, "/upload", 500, "injected")
                }],
                ..Faults::default()
            },
            "injected",
        ),
        (
            Faults {
                refusals: refuse(Method::POST, "_sessions/points/scroll", 500, "injected"),
                ..Faults::default()
            },
            "read the points of copy_sessions",
        ),
    ] {
        let server = Server::recorded();
        let source = server.source();
        let point = Captured::of(source.clone()).await.point().await;
        server.stand_in().set_faults(faults.clone());
        let error = restore(&source, &point, beside("copy")).await.expect_err("it fails");
        assert!(error_chain(&error).contains(told), "{faults:?}: {}", error_chain(&error));
        server.stand_in().set_faults(Faults::default());
        assert_eq!(server.collections().await, ["docs", "sessions"], "{told}");
        server.assert_no_files(told).await;
        let (status, _) = server.api(Method::POST, "snapshots", None).await;
        assert_eq!(status, 200, "{told}: no broken collection is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cancelled_leaves_nothing() {
    let server = Server::recorded();
    let source = server.source();
    let captured = Captured::of(source.clone()).await;
    assert_eq!(captured.report.exit, Exit::Done);
    let cancel = CancellationToken::new();
    let name = "vectors".parse().expect("a source name");
    let at_the_first_comparison: Arc<dyn ProgressSink> =
        Arc::new(CancelAt { title: "compare copy_docs", cancel: cancel.clone() });
    let opened = open_point(
        &captured.repository,
        &name,
        &PointChoice::newest(HostScope::Any),
        &at_the_first_comparison,
        &cancel,
    )
    .await;
    let (point, _) = opened.expect("the run left a point");
    let restored = restore(&source, &point, beside("copy")).await;
    assert!(
        server
            .stand_in()
            .calls()
            .iter()
            .any(|call| call.contains("/collections/copy_docs/shards/0/snapshots/upload"))
    );
    assert!(matches!(restored, Err(SourceError::Cancelled)), "{restored:?}");
    assert_eq!(server.collections().await, ["docs", "sessions"]);
    server.assert_no_files("after a cancellation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_fails_is_switched_back() {
    for done in [true, false] {
        let server = Server::recorded();
        let source = server.source();
        let point = Captured::of(source.clone()).await.point().await;
        let refusal = Refusal {
            done,
            times: 1,
            ..Refusal::always(Method::POST, "/collections/aliases", 500, "injected")
        };
        server.stand_in().set_faults(Faults { refusals: vec![refusal], ..Faults::default() });
        let error = restore(&source, &point, in_place()).await.expect_err("it fails");
        let told = error_chain(&error);
        assert!(
            told.contains("injected") && told.contains("all of them are as they were"),
            "{told}"
        );
        assert_eq!(server.alias("search").await.as_deref(), Some("docs"));
        assert_eq!(server.alias("live-sessions").await.as_deref(), Some("sessions"));
        assert_eq!(server.collections().await, ["docs", "sessions"]);
        server.assert_no_files("after a switch that failed").await;
    }
    // If switching back is blocked too, the error gives the request.
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let refusal = Refusal {
        done: true,
        times: 1,
        ..Refusal::always(Method::POST, "/collections/aliases", 500, "injected")
    };
    let barred = Refusal::always(Method::POST, "/collections/aliases", 500, "barred");
    server.stand_in().set_faults(Faults { refusals: vec![refusal, barred], ..Faults::default() });
    let error = restore(&source, &point, in_place()).await.expect_err("it fails");
    let told = error_chain(&error);
    assert!(
        told.contains("to restore the previous state send POST /collections/aliases"),
        "{told}"
    );
    let leads_to = server.alias("search").await.expect("the alias is there");
    assert_eq!(
        server.points(&leads_to).await.len(),
        120,
        "what an alias may lead to is not removed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_fails_leaves_the_verified_copy_in_use() {
    let server = Server::recorded();
    let delete = json!({ "actions": [{ "delete_alias": { "alias_name": "search" } }] });
    server.done(Method::POST, "collections/aliases", delete).await;
    let source = Arc::new(server.source_of(API_KEY, &json!({ "collections": ["docs"] })));
    let point = Captured::of(source.clone()).await.point().await;
    let before = server.points("docs").await;
    let refusals = vec![Refusal::always(
        Method::POST,
        "/collections/docs/shards/0/snapshots/upload",
        500,
        "injected",
    )];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let copy = plan.request.rename[0].to.clone();
    let error = source.restore(&point, plan).await.expect_err("it fails");
    let told = error_chain(&error);
    assert!(told.contains(&format!("the alias docs now refers to {copy}")), "{told}");
    assert_eq!(server.alias("docs").await, Some(copy));
    assert_eq!(server.points("docs").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_name_a_proxy_swallowed_is_found_used_and_removed() {
    for status in [502, 504] {
        let server = Server::recorded();
        let refusal = Refusal {
            done: true,
            times: 1,
            ..Refusal::always(Method::POST, "/docs/snapshots", status, "upstream timed out")
        };
        server.stand_in().set_faults(Faults { refusals: vec![refusal], ..Faults::default() });
        let point = Captured::of(server.source()).await.point().await;
        assert!(point.manifest().artifact("/qdrant/collections/docs.snapshot").is_some());
        server.assert_no_files(&format!("after a {status}")).await;
    }
    // A proxy that passes nothing on: the collection is missing, and the operator is to look.
    let server = Server::recorded();
    let refusals = vec![Refusal::always(Method::POST, "/docs/snapshots", 502, "no upstream")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let source = Arc::new(server.source_of(API_KEY, &json!({ "timeout_seconds": 2 })));
    let captured = Captured::of(source).await;
    assert_eq!(captured.report.exit, Exit::Partial, "{:?}", captured.report);
    let incomplete = &captured.report.sources[0].incomplete;
    assert_eq!(incomplete[0].what, "collection docs");
    assert!(
        incomplete[1].what.starts_with("removal of a temporary snapshot of docs"),
        "{incomplete:?}"
    );
}
