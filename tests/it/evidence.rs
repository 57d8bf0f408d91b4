//! Proofs and drill reports are kept in the repository: they survive their host, stock restic reads
//! them, and they never grow without bound or stand in the way of data.

use std::{fs, path::Path};

use kaleem_dr_core::{engine::ledger::Ledger, ground::digest::ByteDigest};
use serde_json::Value;

use crate::support::{restic::Restic, seed, site::Site};

fn site() -> Site {
    let site = Site::new().named("db1");
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.with_files("configs", &[&tree])
        .with("[objectives]\nrpo_hours = 24\n[retention]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0")
        .initialised()
}

/// The records of this kind, as stock restic lists them, oldest first.
fn records(restic: &Restic, kind: &str) -> Vec<Value> {
    let tag = format!("kaleem-dr-record,{kind}");
    let output = restic.succeed(["snapshots", "--json", "--tag", &tag]);
    serde_json::from_slice::<Option<Vec<Value>>>(&output.stdout).expect("JSON").unwrap_or_default()
}

fn file_of(restic: &Restic, record: &Value, name: &str) -> Vec<u8> {
    let id = record["id"].as_str().expect("an id");
    restic.succeed(["dump", id, &format!("/.kaleem-dr/{name}")]).stdout
}

fn proven_level(site: &Site) -> Value {
    let (_, lines) = site.json(["status"]);
    lines[0][0]["proven_level"].clone()
}

#[test]
fn stock_restic_reads_proofs_and_reports_and_still_finds_the_data_first() {
    let site = site();
    site.succeed(["backup"]);
    site.succeed(["verify"]);
    site.succeed(["drill"]);
    let restic = site.restic();

    let proofs = records(&restic, "proof");
    assert_eq!(proofs.len(), 2, "of the verification and of the drill: {proofs:?}");
    let body: Value =
        serde_json::from_slice(&file_of(&restic, &proofs[0], "proof.json")).expect("JSON");
    let proof = &body["proofs"][0];
    assert_eq!(
        (&proof["host"], &proof["source"], &proof["proven"]),
        (&"db1".into(), &"configs".into(), &"parsed".into())
    );
    assert_eq!(proof["snapshot"], site.snapshots()[0]["id"]);

    let reports = records(&restic, "report");
    assert_eq!(reports.len(), 1);
    let report = file_of(&restic, &reports[0], "report.json");
    let chained = Ledger::open(&site.path("state")).expect("a ledger").reports().expect("reports");
    assert_eq!(String::from_utf8_lossy(&report), chained[0].body);
    assert_eq!(ByteDigest::of(&report), chained[0].hash, "as the next report will contain it");

    // The commands of RESTORE.md and of the README find data, not evidence.
    let latest =
        restic.succeed(["snapshots", "--json", "--latest", "1", "--tag", "source:configs"]);
    let latest: Vec<Value> = serde_json::from_slice(&latest.stdout).expect("JSON");
    assert_eq!(latest[0]["id"], site.snapshots()[0]["id"]);
    assert_eq!(site.snapshots().len(), 1, "evidence is not a snapshot of data");
    let points = site.succeed(["points"]).stdout;
    assert_eq!(points.matches("db1").count(), 1, "{points}");
    site.succeed(["check", "--read-data"]);
    restic.check_read_data();
}

#[test]
fn forgetting_and_pruning_keep_the_newest_evidence_and_remove_what_it_supersedes() {
    let site = site();
    site.succeed(["backup"]);
    for _ in 0..3 {
        site.succeed(["verify"]);
    }
    site.succeed(["verify", "--level", "stored"]);
    site.succeed(["drill"]);
    let restic = site.restic();
    assert_eq!(records(&restic, "proof").len(), 5);
    let newest = records(&restic, "report")[0]["id"].clone();

    let printed = site.succeed(["forget", "--dry-run"]).stdout;
    assert!(!printed.contains("other programs"), "evidence is not another program's: {printed}");
    assert_eq!(records(&restic, "proof").len(), 5, "a dry run removes nothing");
    site.succeed(["forget", "--yes", "--prune"]);
    let left = records(&restic, "proof");
    let levels: Vec<Value> = left
        .iter()
        .map(|record| {
            let body: Value =
                serde_json::from_slice(&file_of(&restic, record, "proof.json")).expect("JSON");
            body["proofs"][0]["proven"].clone()
        })
        .collect();
    assert_eq!(levels, ["parsed", "stored", "restored"]);
    assert_eq!(records(&restic, "report")[0]["id"], newest);

    // Even rules for the snapshots of all programs leave it alone.
    site.succeed(["forget", "--keep-last", "1", "--take-over", "--yes", "--prune"]);
    assert_eq!(records(&restic, "proof").len(), 3);
    site.succeed(["prune", "--instant", "--yes"]);
    restic.check_read_data();
    assert_eq!(file_of(&restic, &left[0], "proof.json").first(), Some(&b'{'));
}

#[test]
fn a_lost_ledger_gets_its_proofs_and_its_chain_of_reports_back() {
    let site = site();
    site.succeed(["backup"]);
    site.succeed(["drill"]);
    site.succeed(["verify"]);
    site.succeed(["drill"]);
    let before = Ledger::open(&site.path("state")).expect("a ledger").reports().expect("reports");
    assert_eq!(before.len(), 2);
    assert_eq!(proven_level(&site), "restored");

    fs::remove_dir_all(site.path("state")).expect("our state");
    assert_eq!(proven_level(&site), Value::Null, "without a ledger nothing is known");
    let (outcome, lines) = site.json(["history", "--rebuild"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let added = lines.last().expect("a line");
    assert_eq!(
        (&added["message_type"], &added["proofs"], &added["reports"]),
        (&"rebuilt_evidence".into(), &3.into(), &2.into())
    );
    assert_eq!(proven_level(&site), "restored");
    let after = Ledger::open(&site.path("state")).expect("a ledger").reports().expect("reports");
    assert_eq!(after, before);
    site.succeed(["report"]);
    let history = site.succeed(["history"]).stdout;
    assert_eq!(history.matches("drill").count(), 2, "{history}");

    // Once more changes nothing, and the next drill continues the chain.
    let (_, again) = site.json(["history", "--rebuild"]);
    let added = again.last().expect("a line");
    assert_eq!((&added["proofs"], &added["reports"]), (&0.into(), &0.into()));
    site.succeed(["drill"]);
    let after = Ledger::open(&site.path("state")).expect("a ledger").reports().expect("reports");
    assert_eq!(after[2].previous.as_ref(), Some(&after[1].hash));
}

#[test]
fn evidence_about_a_mirror_is_in_the_repository_that_it_mirrors_and_a_failure_is_a_warning() {
    let site = site();
    let far = site.path("far");
    let site = site.with_mirror("r2", &far);
    site.succeed(["backup"]);
    site.succeed(["replicate"]);
    site.succeed(["--repo", "r2", "verify"]);
    let mirror = Restic::on_directory(&far, crate::support::site::PASSWORD);
    assert_eq!((records(&site.restic(), "proof").len(), records(&mirror, "proof").len()), (1, 0));
    let body: Value = serde_json::from_slice(&file_of(
        &site.restic(),
        &records(&site.restic(), "proof")[0],
        "proof.json",
    ))
    .expect("JSON");
    assert_eq!(body["proofs"][0]["repository"], far.display().to_string());
    site.succeed(["replicate"]);
    assert_eq!(records(&mirror, "proof").len(), 1, "the mirror has it after the next pass");
    mirror.check_read_data();

    let away = site.path("away");
    fs::rename(site.repository(), &away).expect("our repository");
    let proven = site.succeed(["--repo", "r2", "verify"]);
    assert!(proven.stderr.contains("could not be kept in the repository"), "{}", proven.stderr);
    fs::rename(&away, site.repository()).expect("our repository");
    // Nothing is written where nothing may be.
    site.succeed(["--no-lock", "verify"]);
    assert_eq!(records(&site.restic(), "proof").len(), 1);
    assert!(Path::new(&far).is_dir());
}
