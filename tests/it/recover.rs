//! `recover`: everything comes back after the loss of a machine, whatever interrupts it.

use std::{env, fs};

use kaleem_dr_core::ground::digest::ByteDigest;
use serde_json::Value;

use crate::support::{
    lost::{Content, Lost},
    mirror::flip_byte,
    program::{Outcome, run},
};

#[track_caller]
fn assert_done(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", outcome.stdout, outcome.stderr))
}

/// The places of the mirror's content in the end: the status is good, and the next backup runs.
async fn assert_recovered(lost: &Lost) {
    Content::of(&lost.all).await.assert_equal(&lost.before);
    let site = &lost.all.site;
    assert_done(&site.run(["status"]));
    assert_done(&site.run(["backup"]));
    assert_done(&site.run(["replicate"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_and_a_password_bring_everything_back() {
    let objectives = "[objectives]\nrpo_hours = 26\nproof = \"restored\"";
    let lost = Lost::everything("recover", |site| site.with(objectives)).await;
    let site = &lost.all.site;
    let seen = lost.bootstrapped();
    assert!(seen.stdout.contains("next: kaleem-dr"), "{}", seen.stdout);
    let planned = json(&site.run(["--json", "recover", "--dry-run"]));
    assert_eq!(planned["repositories"][0]["name"], "local", "{planned}");
    assert_eq!(planned["repositories"][0]["from"], "mirror");
    let order: Vec<&str> = planned["sources"]
        .as_array()
        .expect("sources")
        .iter()
        .filter_map(|one| one["source"].as_str())
        .collect();
    assert_eq!(order, ["configs", "mongo", "qdrant", "rabbitmq", "n8n"]);
    assert!(!site.repository().exists(), "a plan writes nothing");

    let outcome = site.run(["recover", "--yes"]);
    assert_done(&outcome);
    assert!(outcome.stdout.contains("RECOVERED"), "{}", outcome.stdout);
    assert_recovered(&lost).await;
    let report = site.succeed(["report"]).stdout;
    assert!(report.contains("Recovery") && report.contains("restored"), "{report}");

    // What is recovered is not restored again by accident.
    fs::write(site.path("tree/since"), "new").expect("a file can be written");
    let again = site.run(["recover", "--yes"]);
    assert_eq!(again.code, Some(5), "{}{}", again.stdout, again.stderr);
    assert!(again.stderr.contains("--again"), "{}", again.stderr);
    assert!(site.path("tree/since").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_data_are_overwritten_only_with_consent() {
    let lost = Lost::everything("consent", |site| site).await;
    lost.bootstrapped();
    let site = &lost.all.site;
    assert_done(&site.run(["recover", "--yes"]));
    let refused = site.run(["recover", "--again"]);
    assert_eq!(refused.code, Some(5), "{}{}", refused.stdout, refused.stderr);
    // Without the files, whose default directory does not belong to the site.
    let only = ["--only", "mongo", "--only", "qdrant", "--only", "rabbitmq", "--only", "n8n"];
    let beside = site.run(["--json", "recover", "--beside"].into_iter().chain(only));
    assert_done(&beside);
    let results = json(&beside);
    assert_eq!(results["results"]["sources"].as_array().map(Vec::len), Some(4), "{results}");
    lost.assert_unchanged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_recovery_continues_and_does_nothing_twice() {
    let kills: u32 =
        env::var("KALEEM_TEST_RECOVER_KILLS").map_or(3, |kills| kills.parse().expect("a number"));
    let lost = Lost::everything("kills", |site| site).await;
    let site = &lost.all.site;
    for round in 0..kills {
        if round > 0 {
            lost.lose().await;
        }
        lost.bootstrapped();
        // Two kills in each round, at steps that a seed selects.
        let mut recovered = Vec::new();
        for nth in [1 + round * 7 % 11, 1 + round * 5 % 6] {
            let outcome = run(site
                .command()
                .args(["recover", "--yes"])
                .env("KALEEM_DR_FAILPOINT", format!("recover=kill:{nth}")));
            assert!(matches!(outcome.code, None | Some(0)), "{}{}", outcome.stdout, outcome.stderr);
            recovered = journal(&lost);
        }
        let last = site.run(["--json", "recover", "--yes"]);
        assert_done(&last);
        let earlier: Vec<String> = json(&last)["earlier"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        assert_eq!(earlier, recovered, "round {round}");
        lost.assert_equal_after_kills().await;
        assert_done(&site.run(["status"]));
    }
}

/// The sources that the journal has as recovered, in the order of the recovery.
fn journal(lost: &Lost) -> Vec<String> {
    let text = fs::read_to_string(lost.all.site.path("state/recovery.json")).unwrap_or_default();
    let journal: Value = serde_json::from_str(&text).unwrap_or_default();
    ["configs", "mongo", "qdrant", "rabbitmq", "n8n"]
        .into_iter()
        .filter(|name| journal["sources"][name]["state"] == "recovered")
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_left_with_its_command_and_the_rest_is_recovered() {
    let lost = Lost::everything("partly", |site| site).await;
    let site = &lost.all.site;
    lost.bootstrapped();
    // The broker is elsewhere, n8n's point is damaged, and Qdrant's key is wrong.
    assert_done(&site.run(["replicate", "--from", "r2", "--to", "local"]));
    let damaged = damage_point(&lost);
    let right = fs::read_to_string(site.path("qdrant.key")).expect("a secret");
    site.secret("qdrant.key", "wrong-key-canary");
    let config = fs::read_to_string(site.config_path()).expect("a config");
    let gone =
        config.replace(lost.all.rabbitmq.server.url.trim_end_matches('/'), "http://127.0.0.1:1");
    assert_ne!(gone, config);
    fs::write(site.config_path(), gone).expect("a config can be written");

    let outcome = site.run(["--repo", "local", "recover", "--yes"]);
    assert_eq!(outcome.code, Some(3), "{}{}", outcome.stdout, outcome.stderr);
    let said = &outcome.stdout;
    for (source, command) in [
        ("source rabbitmq", "kaleem-dr probe"),
        ("source qdrant", "kaleem-dr"),
        ("source n8n", "kaleem-dr check --read-data"),
    ] {
        assert!(said.contains(&format!("LEFT TO DO: {source}")), "{said}");
        assert!(said.contains(command), "{said}");
    }
    assert!(said.contains("mongo (snapshot") && said.contains("configs (snapshot"), "{said}");
    assert!(!(said.clone() + &outcome.stderr).contains("canary"), "{said}");

    // Mended: the mirror repairs the repository.
    site.secret("qdrant.key", right.trim());
    fs::write(site.config_path(), config).expect("a config can be written");
    assert!(damaged.exists());
    let repaired = site.run(["repair", "--from", "r2", "--missing"]);
    assert_done(&repaired);
    let again = site.run(["--repo", "local", "recover", "--yes"]);
    assert_done(&again);
    assert_recovered(&lost).await;
}

/// Damages a pack with n8n's data and nothing else: the largest one that only its snapshot needs is
/// not known, so the pack is found by the content that it holds.
fn damage_point(lost: &Lost) -> std::path::PathBuf {
    let site = &lost.all.site;
    let restic = site.restic();
    let snapshots = restic.snapshots();
    let n8n = snapshots
        .iter()
        .find(|one| {
            one["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "source:n8n"))
        })
        .expect("a snapshot of n8n");
    let id = n8n["id"].as_str().expect("an id");
    let listed = restic.succeed(["ls", "--json", id]).stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    assert!(listed.contains("/n8n/database.sqlite"), "{listed}");
    let tree = restic.succeed(["dump", id, "/n8n/database.sqlite"]).stdout;
    let blob = ByteDigest::of(&tree);
    let found = restic.succeed(["find", "--blob", &blob]).stdout;
    let found = String::from_utf8_lossy(&found).into_owned();
    let packs = restic.succeed(["find", "--blob", "--show-pack-id", &blob]).stdout;
    let packs = String::from_utf8_lossy(&packs).into_owned();
    let pack = packs
        .split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| {
            word.len() == 64
                && **word != *blob
                && site.repository().join("data").join(&word[..2]).join(word).exists()
        })
        .unwrap_or_else(|| panic!("no pack of {blob}: {found}{packs}"))
        .to_owned();
    let path = site.repository().join("data").join(&pack[..2]).join(&pack);
    flip_byte(&path);
    path
}
