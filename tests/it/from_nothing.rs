//! `drill --from-nothing`: a replica, its keys and its password are enough to restore everything,
//! and nothing is left behind.

use std::fs;

use serde_json::Value;

use crate::support::{everything::Everything, program::run};

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_from_nothing_needs_only_the_replica_and_leaves_nothing() {
    let all = Everything::set_up(|site| {
        let mirror = site.path("mirror");
        site.with_mirror("r2", &mirror).with("[objectives]\nrto_hours = 1")
    })
    .await;
    let site = &all.site;
    site.initialised_and_backed_up();
    site.succeed(["replicate"]);
    // The repository itself is not needed.
    let hidden = site.path("hidden");
    fs::rename(site.repository(), &hidden).expect("the repository can be moved");

    // A drill that is killed leaves a root and scratch targets, which the next one removes.
    let killed = run(site
        .command()
        .args(["drill", "--from-nothing"])
        .env("KALEEM_DR_FAILPOINT", "scratch=kill:2"));
    assert_eq!(killed.code, None, "{}", killed.stderr);
    assert!(!roots(&all).is_empty());

    let (outcome, lines) = site.json(["drill", "--from-nothing"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    let report = &lines[0]["report"];
    assert_eq!(report["kind"], "from-nothing");
    assert!(report["setup_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    let sources = report["sources"].as_array().expect("sources");
    assert_eq!(sources.len(), 5);
    for source in sources {
        assert_eq!(source["verification"]["proven"], "restored", "{source}");
        assert_eq!(source["control_caught"], true, "{source}");
    }
    let notes = report["notes"].to_string();
    assert!(notes.contains("source.mongo.uri"), "secrets of this machine are named: {notes}");
    let mirror = site.path("mirror").display().to_string();
    assert_eq!(report["repository"], mirror.as_str());
    assert_eq!(roots(&all), Vec::<String>::new());
    assert_eq!(all.scratch().await, Vec::<String>::new());

    // Its duration is the one that `status` shows for the replica.
    fs::rename(&hidden, site.repository()).expect("the repository can be moved");
    let (_, status) = site.json(["status"]);
    let text = Value::from(status).to_string();
    assert!(text.contains("rto_seconds") && text.contains("r2"), "{text}");
}

/// The scratch roots that exist.
fn roots(all: &Everything) -> Vec<String> {
    let entries = fs::read_dir(all.site.path("state/scratch")).expect("the scratch directory");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("from-nothing-"))
        .collect()
}
