//! Qdrant: captured into a real repository, restored and compared.
//!
//! Tests of a healthy server run against the one at `KALEEM_TEST_QDRANT_URL` (with
//! `KALEEM_TEST_QDRANT_API_KEY`) if it is set, and against a stand-in otherwise; a server that
//! fails on demand is always the stand-in.

use std::fs;

use kaleem_dr_core::{
    ground::{SourceError, error_chain},
    recovery::source::{Change, Rename, Restorable, ScratchTarget},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    qdrant_scene::{Captured, Held, Server, alike, beside, in_place, restore},
    qdrant_stand_in::{Faults, exchanges},
    restic::Restic,
    site::{PASSWORD, Site},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_is_whole_for_stock_restic_and_is_restored_under_new_names_point_by_point() {
    let server = Server::any("beside");
    server.seed().await;
    let (docs, sessions) = (server.name("docs"), server.name("sessions"));
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    server.assert_no_files("after a capture").await;

    let manifest = point.manifest();
    let paths: Vec<_> = manifest.artifacts.iter().map(|artifact| artifact.path.clone()).collect();
    let of = |name: &str, extension: &str| format!("/qdrant/collections/{name}.{extension}");
    let expected = [
        "/qdrant/aliases.json".to_owned(),
        of(&docs, "json"),
        of(&docs, "snapshot"),
        of(&sessions, "json"),
        of(&sessions, "snapshot"),
    ];
    assert_eq!(paths, expected);
    let snapshot = manifest.artifact(&of(&docs, "snapshot")).expect("it is there");
    assert_eq!(snapshot.items, Some(150));
    assert_eq!(snapshot.content_digest.as_ref().map(String::len), Some(64));
    assert_eq!(manifest.server.as_ref().expect("a server").product, "Qdrant");
    assert_eq!(manifest.details["collections"][&docs]["known"], "content");

    let restic = Restic::on_directory(&point.directory.path().join("repository"), PASSWORD);
    restic.check_read_data();
    let target = point.directory.path().join("back");
    restic.restore_latest(&target, true);
    let aliases: Value = serde_json::from_slice(
        &fs::read(target.join("qdrant/aliases.json")).expect("it came back"),
    )
    .expect("it is JSON");
    assert_eq!(
        aliases,
        json!({ "aliases": [{ "alias_name": server.name("search"), "collection_name": docs }] })
    );
    let description =
        fs::read(target.join(format!("qdrant/collections/{docs}.json"))).expect("it came back");
    let description: Value = serde_json::from_slice(&description).expect("it is JSON");
    assert_eq!(description["points"]["count"], 150);
    assert_eq!(description["config"]["params"]["vectors"]["title"]["size"], 4);

    let before = server.points(&docs).await;
    server.spoil(&docs).await;
    let request = beside("unused")
        .with_only(vec![docs.clone()])
        .with_rename(vec![Rename::new(docs.clone(), server.name("copy"))]);
    let plan = source.plan_restore(&point, request).await.expect("a plan");
    assert!(!plan.overwrites(), "{plan:?}");
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!((report.items, report.size_bytes), (150, snapshot.size_bytes));
    assert!(
        report.compared.iter().any(|line| line
            == &format!("150 points of collection {docs}, every id, vector and payload"))
    );
    assert_eq!(server.points(&server.name("copy")).await, before);
    assert_eq!(
        server.alias(&server.name("search")).await,
        Some(docs.clone()),
        "aliases are not touched"
    );
    server.assert_no_files("after a restore").await;
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_captures_of_unchanged_points_have_one_digest_and_one_more_point_has_another() {
    let server = Server::any("digest");
    server.seed().await;
    let source = server.source();
    let path = format!("/qdrant/collections/{}.snapshot", server.name("sessions"));
    let mut digests = Vec::new();
    for _ in 0..2 {
        let point = Captured::of(source.clone()).await.point().await;
        digests.push(
            point
                .manifest()
                .artifact(&path)
                .expect("it is there")
                .content_digest
                .clone()
                .expect("a digest"),
        );
    }
    assert_eq!(digests[0], digests[1]);
    server.spoil(&server.name("sessions")).await;
    let point = Captured::of(source).await.point().await;
    assert_ne!(
        point.manifest().artifact(&path).expect("it is there").content_digest.as_ref(),
        Some(&digests[0])
    );
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_an_alias_is_switched_and_can_be_switched_back_while_a_plain_collection_is_replaced()
 {
    let server = Server::any("in_place");
    server.seed().await;
    let (docs, sessions, search) =
        (server.name("docs"), server.name("sessions"), server.name("search"));
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let (docs_before, sessions_before) =
        (server.points(&docs).await, server.points(&sessions).await);
    server.spoil(&docs).await;
    server.spoil(&sessions).await;

    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let new = plan
        .request
        .rename
        .iter()
        .find(|rename| rename.from == docs)
        .expect("docs gets a new name")
        .to
        .clone();
    let lines: Vec<_> =
        plan.actions.iter().map(|action| format!("{:?} {}", action.change, action.what)).collect();
    for line in [
        format!("Create collection {new}"),
        format!("Leave collection {docs}"),
        format!("Overwrite collection {sessions}"),
        format!("Overwrite alias {search}"),
    ] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.alias(&search).await, Some(new.clone()));
    assert_eq!(server.points(&search).await, docs_before);
    assert_eq!(server.points(&sessions).await, sessions_before);
    assert_ne!(server.points(&docs).await, docs_before, "the old collection is unchanged");
    assert_eq!(
        server.collections().await,
        [docs.clone(), new.clone(), sessions],
        "no copy is left"
    );
    server.assert_no_files("after a restore in place").await;

    // The request in the report that undoes the switch.
    let by_hand = report
        .warnings
        .iter()
        .find_map(|warning| warning.split_once("send POST /collections/aliases "))
        .expect("a way back");
    server
        .done(
            Method::POST,
            "collections/aliases",
            serde_json::from_str(by_hand.1).expect("it is JSON"),
        )
        .await;
    assert_eq!(server.alias(&search).await, Some(docs));
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_everything_that_was_lost_comes_back_under_its_own_name_with_its_aliases() {
    let server = Server::any("lost");
    server.seed().await;
    let (docs, sessions, search) =
        (server.name("docs"), server.name("sessions"), server.name("search"));
    let source = server.source();
    let captured = Captured::of(source.clone()).await;
    let before = (server.points(&docs).await, server.points(&sessions).await);
    server.clean_up().await;
    assert!(server.collections().await.is_empty());

    let point = captured.point().await;
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    assert!(plan.actions.iter().all(|action| action.change == Change::Create), "{plan:?}");
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.collections().await, [docs.clone(), sessions.clone()]);
    assert_eq!((server.points(&docs).await, server.points(&sessions).await), before);
    assert_eq!(server.alias(&search).await, Some(docs));
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_compares_everything_and_leaves_nothing() {
    let server = Server::any("rehearsal");
    server.seed().await;
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let before = server.collections().await;
    let directory = tempfile::tempdir().expect("a directory");
    let scratch = ScratchTarget::new(server.name("kdr_drill_01"), directory.path());
    let report = source.rehearse(&point, &scratch).await.expect("a rehearsal");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.items, 170);
    assert_eq!(server.collections().await, before);
    server.assert_no_files("after a rehearsal").await;
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_backs_up_and_restores_with_the_program_and_no_output_holds_the_key() {
    let server = Server::any("program");
    server.seed().await;
    let site = Site::new()
        .with_qdrant("vectors", &server.url, &server.key, &[format!("{}*", server.prefix)])
        .initialised();
    let mut said = String::new();
    let name = server.name("copy");
    for command in [
        &["probe"][..],
        &["backup"],
        &["restore", "vectors", "--dry-run", "--target", &name],
        &["restore", "vectors", "--target", &name],
        &["config", "check"],
    ] {
        let outcome = site.succeed(command.iter().copied());
        said.push_str(&outcome.stdout);
        said.push_str(&outcome.stderr);
    }
    // Again: an existing target is refused.
    let refused = site.run(["restore", "vectors", "--target", &name]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    said.push_str(&refused.stderr);
    let wrong = site.secret("vectors.key", "kanarienvogel80");
    if server.stand_in.is_some() {
        let denied = site.run(["backup"]);
        assert!(
            denied.stdout.contains("rejects the API key")
                || denied.stderr.contains("rejects the API key"),
            "{denied:?}"
        );
        said.push_str(&denied.stdout);
        said.push_str(&denied.stderr);
    }
    assert!(wrong.exists());
    assert!(!said.contains(&server.key) && !said.contains("kanarienvogel"), "{said}");
    assert_eq!(server.points(&format!("{name}_{}", server.name("docs"))).await.len(), 150);
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_path_takes_are_captured_and_restored() {
    let server = Server::any("names");
    let names = ["وثائق 100%", "a.b", "a", "a-1"].map(|name| server.name(name));
    for name in &names {
        let path = format!("collections/{}", escaped(name));
        let settings = json!({ "vectors": { "size": 2, "distance": "Dot" }, "wal_config": { "wal_capacity_mb": 1 } });
        server.done(Method::PUT, &path, settings).await;
        let points =
            json!({ "points": [{ "id": 7, "payload": { "name": name }, "vector": [0.1, 0.2] }] });
        server.done(Method::PUT, &format!("{path}/points?wait=true"), points).await;
    }
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let report = restore(&source, &point, beside(&server.name("back"))).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.items, 4);
    let back = escaped(&server.name(&format!("back_{}", names[0])));
    assert_eq!(server.points(&back).await[0]["payload"]["name"], *names[0]);
    server.clean_up().await;
}

fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_answers_as_was_recorded() {
    let server = Server::recorded();
    for exchange in
        exchanges().iter().take(18).filter(|exchange| exchange["request"]["api_key"] == "valid")
    {
        let (request, recorded) = (&exchange["request"], &exchange["response"]);
        let path = request["path"].as_str().expect("a path").trim_start_matches('/');
        if request["method"] == "PUT" || path == "collections/aliases" {
            continue;
        }
        let body = request.get("json").cloned();
        let (status, answer) = server
            .api(
                request["method"].as_str().expect("a method").parse().expect("a method"),
                path,
                body,
            )
            .await;
        assert_eq!(json!(status), recorded["status"], "{path}");
        assert!(alike(&answer, &recorded["json"]), "{path}:\n{answer}\n{}", recorded["json"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_collection_gives_the_same_bytes_though_its_snapshots_differ() {
    let server = Server::recorded();
    server.stand_in().set_faults(Faults { new_times: true, ..Faults::default() });
    let source = server.source();
    let path = "/qdrant/collections/docs.snapshot";
    let (first, second) = (
        Captured::of(source.clone()).await.point().await,
        Captured::of(source.clone()).await.point().await,
    );
    let sent = |point: &Held| point.manifest().details["server_sha256"][path].clone();
    assert_ne!(sent(&first), sent(&second), "the server made two different files");
    let kept = |point: &Held| point.manifest().artifact(path).expect("it is there").sha256.clone();
    assert_eq!(kept(&first), kept(&second));
    // What is kept is still a snapshot, and what is uploaded has the digest that is announced.
    assert!(source.inspect(&second).await.expect("an inspection").is_well());
    assert!(restore(&source, &second, beside("copy")).await.expect("a restore").is_equal());
    assert_eq!(server.points("copy_docs").await, server.points("docs").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_that_means_nothing_and_choices_without_meaning_are_refused() {
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    for (request, told) in [
        (
            beside("copy").with_only(vec!["dosc".into()]),
            "no collection of the point matches `dosc`",
        ),
        (
            in_place().with_existing(kaleem_dr_core::recovery::source::Existing::Merge),
            "nothing can be merged",
        ),
        (
            in_place().with_extras(kaleem_dr_core::recovery::source::Extras::Remove),
            "a restore never removes",
        ),
        (
            beside("copy").with_rename(vec![Rename::new("docs", "search")]),
            "would overwrite the collection behind it",
        ),
    ] {
        let error = source.plan_restore(&point, request).await.expect_err("it is refused");
        assert!(error_chain(&error).contains(told), "{told}: {}", error_chain(&error));
    }
    // The plan is outdated: an alias has appeared in the meantime.
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let alias = json!({ "actions": [{ "create_alias": { "collection_name": "docs", "alias_name": "newcomer" } }] });
    server.done(Method::POST, "collections/aliases", alias).await;
    let error = source.restore(&point, plan).await.expect_err("it is refused");
    assert!(
        matches!(&error, SourceError::Refused(why) if why.contains("plan it again")),
        "{error}"
    );
}
