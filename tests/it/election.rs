//! Several hosts prune one repository: one of them does it, and the others are done without work.

use std::{fs, process::Child};

use serde_json::Value;

use crate::support::{
    program::{Outcome, start},
    site::Site,
};

const KEEP: &str = "[retention]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0";

fn with_file(site: Site, more: &str) -> Site {
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("file"), "one").expect("a file");
    site.with_files("configs", &[&tree]).with(&format!("{KEEP}\n{more}"))
}

/// Two hosts with snapshots in one repository, and data that no snapshot needs.
fn hosts(more: &str) -> (Site, Site) {
    let a = with_file(Site::new().named("a"), more).initialised();
    let b = with_file(a.neighbour("b"), more);
    for site in [&a, &b] {
        for content in ["two", "three"] {
            site.succeed(["backup"]);
            fs::write(site.path("tree/file"), content).expect("a file");
        }
    }
    (a, b)
}

fn ended(child: Child) -> Outcome {
    child.wait_with_output().expect("our child").into()
}

fn prunes(site: &Site) -> Vec<Value> {
    let output = site.restic().succeed(["snapshots", "--json", "--tag", "kaleem-dr-record,prune"]);
    serde_json::from_slice::<Option<Vec<Value>>>(&output.stdout).expect("JSON").unwrap_or_default()
}

#[test]
fn of_two_hosts_that_prune_at_once_one_does_and_the_other_says_who_did() {
    let (a, b) = hosts("");
    a.succeed(["--host", "any", "forget", "--yes"]);
    let both = [&a, &b].map(|site| start(site.command().args(["prune", "--elected", "--yes"])));
    let outcomes = both.map(ended);
    for outcome in &outcomes {
        assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    }
    let done = |outcome: &Outcome| outcome.stdout.contains("has pruned this repository at");
    let idle = outcomes.iter().filter(|outcome| done(outcome)).count();
    assert_eq!(idle, 1, "{outcomes:?}");
    let records = prunes(&a);
    assert_eq!(records.len(), 1, "{records:?}");
    let winner = if done(&outcomes[0]) { "b" } else { "a" };
    assert_eq!(records[0]["hostname"], winner);
    let loser = outcomes.iter().find(|outcome| done(outcome)).expect("one of them");
    assert!(loser.stdout.contains(&format!("host {winner} ")), "{}", loser.stdout);
    a.restic().check_read_data();

    // An operator's own prune is done in any case, and replaces the record.
    let (outcome, lines) = b.json(["prune", "--yes"]);
    assert_eq!((outcome.code, &lines[0]["done_by"]), (Some(0), &Value::Null));
    let records = prunes(&a);
    assert_eq!((records.len(), &records[0]["hostname"]), (1, &"b".into()));
    a.restic().check_read_data();
}

#[test]
fn a_backup_prunes_a_shared_repository_only_if_no_host_has_done_so_recently() {
    let (a, b) = hosts("[backup]\nforget = true\nprune = true");
    let prune = |site: &Site| {
        let (outcome, lines) = site.json(["backup"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        lines.last().expect("a report")["prune"].clone()
    };
    // b's first backup made the repository a shared one, so b pruned it then.
    let done = prune(&a);
    assert_eq!(done["done_by"]["host"], "b", "{done}");
    let told = b.succeed(["backup"]).stdout;
    assert!(told.contains("host b has pruned this repository at"), "{told}");
    // A host that prunes after each run does.
    let eager = a.with("[fleet]\nrpo_hours = 1");
    let config = fs::read_to_string(eager.config_path()).expect("a config");
    let eager =
        eager.rewritten(config.replace("prune = true", "prune = true\nprune_every_hours = 0"));
    assert_eq!(prune(&eager)["done_by"], Value::Null);
    eager.restic().check_read_data();
}

#[test]
fn a_repository_of_one_host_is_pruned_each_time_and_gets_no_record() {
    let site =
        with_file(Site::new().named("a"), "[backup]\nforget = true\nprune = true").initialised();
    for content in ["two", "three"] {
        let (_, lines) = site.json(["backup"]);
        let prune = &lines.last().expect("a report")["prune"];
        assert!(prune.is_object() && prune["done_by"].is_null(), "{prune}");
        fs::write(site.path("tree/file"), content).expect("a file");
    }
    site.succeed(["prune", "--elected", "--yes"]);
    assert!(prunes(&site).is_empty());
}
