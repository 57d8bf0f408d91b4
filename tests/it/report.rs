//! Proof reports, and RPO and RTO in `status`: based on evidence, and never more optimistic.

use std::fs;

use kaleem_dr_core::engine::ledger::Ledger;
use rusqlite::Connection;
use serde_json::Value;

use crate::support::{seed, site::Site};

fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = site
        .with_files("configs", &[&tree])
        .with("[objectives]\nrpo_hours = 24\nrto_hours = 1")
        .initialised();
    site.succeed(["backup"]);
    site
}

fn status(site: &Site, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let (outcome, mut lines) = site.json(["status"].into_iter().chain(args.iter().copied()));
    (outcome.code, lines.remove(0).as_array().expect("a list").clone())
}

#[test]
fn a_report_is_one_page_that_asks_for_nothing_in_both_languages() {
    let site = site();
    let (page, markdown) = (site.path("proof.html"), site.path("proof.md"));
    let text = |path: &std::path::Path| path.to_str().expect("a UTF-8 path").to_owned();
    site.succeed(["drill", "--html", &text(&page)]);
    let html = fs::read_to_string(&page).expect("a page");
    let site_hash =
        Ledger::open(&site.path("state")).expect("a ledger").reports().expect("reports")[0]
            .hash
            .clone();
    for expected in [
        "<html lang=\"en\" dir=\"ltr\">",
        "Proven",
        "default-src 'none'",
        "<svg",
        "red, as it must be",
        &site_hash,
    ] {
        assert!(html.contains(expected), "{expected}: {html}");
    }
    for forbidden in ["http://", "https://", "<script", "<link", "<img", "url(", "@import", "src="]
    {
        assert!(!html.contains(forbidden), "a page that leads elsewhere: {forbidden}");
    }
    site.succeed([
        "report",
        "--html",
        &text(&page),
        "--markdown",
        &text(&markdown),
        "--lang",
        "ar",
    ]);
    let (html, markdown) = (
        fs::read_to_string(&page).expect("a page"),
        fs::read_to_string(&markdown).expect("a file"),
    );
    assert!(
        html.contains("<html lang=\"ar\" dir=\"rtl\">") && html.contains("إثبات الاستعادة"),
        "{html}"
    );
    assert!(
        markdown.starts_with("# إثبات الاستعادة: مُثبَت") && markdown.contains(&site_hash),
        "{markdown}"
    );
}

#[test]
fn a_report_that_was_changed_afterwards_is_detected_and_no_longer_green() {
    let site = site();
    for _ in 0..2 {
        site.succeed(["drill"]);
    }
    site.succeed(["report"]);
    let database = Connection::open(site.path("state/ledger.sqlite")).expect("the ledger opens");
    let changed = "update report set body = replace(body, '\"host\":', '\"Host\":') where id = 1";
    assert_eq!(database.execute(changed, []).expect("a row can be changed"), 1);
    drop(database);
    let (outcome, lines) = site.json(["report"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stdout);
    assert!(
        lines[0]["broken_links"][0]
            .as_str()
            .is_some_and(|link| link.contains("was changed afterwards")),
        "{}",
        lines[0]
    );
    let page = site.path("proof.html");
    assert_eq!(site.run(["report", "--html", page.to_str().expect("a UTF-8 path")]).code, Some(4));
    let html = fs::read_to_string(page).expect("a page");
    assert!(
        html.contains("class=\"verdict bad\"") && html.contains("THE CHAIN IS BROKEN"),
        "{html}"
    );
}

#[test]
fn rpo_is_broken_until_something_is_proven_and_a_mirror_follows_its_passes() {
    let site = site();
    let mirror = site.path("mirror");
    let site = site.with_mirror("r2", &mirror);
    let (code, found) = status(&site, &[]);
    assert_eq!(code, Some(6), "nothing is proven yet");
    assert_eq!(
        (&found[0]["stale"], &found[0]["rpo_broken"], &found[0]["proven_level"]),
        (&false.into(), &true.into(), &Value::Null)
    );
    assert_eq!(
        (&found[1]["repository"], &found[1]["stale"]),
        (&"r2".into(), &true.into()),
        "nothing was brought there"
    );

    site.succeed(["verify", "--level", "parsed"]);
    let (code, found) = status(&site, &["--repo", "local"]);
    assert_eq!(
        (&found[0]["rpo_broken"], &found[0]["proven_level"]),
        (&false.into(), &"parsed".into())
    );
    assert_eq!(code, Some(6), "no restore was ever timed");
    site.succeed(["drill"]);
    let (code, found) = status(&site, &["--repo", "local"]);
    assert_eq!(code, Some(0), "{found:?}");
    assert!(
        found[0]["rto_forecast_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0),
        "{found:?}"
    );
    assert_eq!(status(&site, &[]).0, Some(6), "the mirror has nothing");
    site.succeed(["replicate"]);
    let (code, found) = status(&site, &[]);
    assert_eq!(code, Some(0), "{found:?}");
    assert_eq!(
        (&found[1]["repository"], &found[1]["proven_level"]),
        (&"r2".into(), &"restored".into())
    );

    // A newer snapshot without a proof does not change the RPO.
    site.succeed(["backup"]);
    let (_, after) = status(&site, &["--repo", "local"]);
    assert_eq!(after[0]["proven_snapshot"], found[0]["proven_snapshot"]);
    assert_ne!(after[0]["snapshot"], found[0]["snapshot"]);
}

#[test]
fn a_lost_ledger_is_rebuilt_from_the_repositories() {
    let site = site();
    site.succeed(["backup"]);
    let history = |site: &Site| {
        let (outcome, lines) = site.json(["history"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        lines[0]
            .as_array()
            .expect("a list")
            .iter()
            .map(|event| event["run"].clone())
            .collect::<Vec<_>>()
    };
    let before = history(&site);
    assert_eq!(before.len(), 2);
    for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(site.path("state").join(file));
    }
    assert!(history(&site).is_empty());
    let told = site.succeed(["history", "--rebuild"]);
    assert!(told.stdout.contains("2 runs"), "{}", told.stdout);
    assert_eq!(history(&site), before);
    let again = site.succeed(["history", "--rebuild"]);
    assert!(again.stdout.contains("0 runs"), "what is there is not added twice: {}", again.stdout);
    let parts =
        Ledger::open(&site.path("state")).expect("a ledger").newest_parts(true).expect("its parts");
    assert_eq!((parts.len(), parts[0].part.source.as_str()), (1, "configs"));
    assert!(parts[0].part.size_bytes > 0);
}
