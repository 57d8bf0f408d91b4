use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Zoned, tz::TimeZone};

use super::*;
use crate::{
    engine::{
        ledger::Proof,
        repository::{
            Access, Location, LockKind, RecordKind, Repository, publish_for_tests,
            snapshot_for_tests,
        },
    },
    ground::{RunId, SnapshotId},
    operate::{
        config::{Config, FleetSettings, secret::Environment},
        evidence::KeptProofs,
    },
};

/// A moment some hours ago.
fn ago(now: Timestamp, hours: i64) -> Zoned {
    (now - SignedDuration::from_hours(hours)).to_zoned(TimeZone::UTC)
}

fn settings(fleet: &str) -> FleetSettings {
    let table = |name: &str| {
        format!(
            "[fleet.repository.{name}]\nlocation = \"/{name}\"\npassword = {{ file = \"/p\" }}\n"
        )
    };
    let text = format!("{}{}{fleet}", table("eu"), table("us"));
    let config = Config::parse(&text, "test".as_ref(), &[], &Environment::default());
    config.unwrap().settings.fleet
}

/// The content of a repository: whole snapshots and proofs, each with its host and source and its
/// age in hours.
fn seen(
    name: &str,
    snapshots: &[(&str, &str, i64)],
    proofs: &[(&str, &str, i64, Option<ProofLevel>)],
    now: Timestamp,
) -> Seen {
    let numbered = snapshots.iter().zip(1u8..);
    let snapshots = numbered
        .map(|(&(host, source, hours), number)| {
            snapshot_for_tests(host, source, &ago(now, hours), true, number)
        })
        .collect();
    let proof = |&(host, source, hours, proven): &(&str, &str, i64, Option<ProofLevel>)| {
        let at = ago(now, hours).timestamp();
        let of = (SnapshotId::of_test("1"), at);
        let source = source.parse().unwrap();
        let mut proof = Proof::new(RunId::new(), source, "/r", of, ProofLevel::Parsed);
        (proof.host, proof.at, proof.proven) = (host.to_owned(), at, proven);
        proof
    };
    let kept = KeptProofs {
        record: SnapshotId::of_test("2"),
        host: "h".into(),
        proofs: proofs.iter().map(proof).collect(),
    };
    let evidence = Evidence { proofs: vec![kept], reports: Vec::new() };
    Seen { name: name.to_owned(), snapshots, evidence }
}

fn rows(fleet: &str, seen: &[Seen], unread: &[&str], now: Timestamp) -> Vec<FleetHost> {
    let unread: Vec<String> = unread.iter().map(|name| (*name).to_owned()).collect();
    Judge { settings: &settings(fleet), seen, unread: &unread, now }.hosts()
}

#[test]
fn a_host_is_as_late_as_its_oldest_source_and_as_proven_as_its_weakest() {
    let now = Timestamp::now();
    let (parsed, restored) = (Some(ProofLevel::Parsed), Some(ProofLevel::Restored));
    let seen = [seen(
        "eu",
        &[("db1", "mongo", 2), ("db1", "mongo", 30), ("db1", "files", 27), ("web1", "files", 1)],
        &[
            ("db1", "mongo", 40, restored),
            ("db1", "files", 30, parsed),
            ("web1", "files", 5, parsed),
            ("web1", "files", 3, None),
        ],
        now,
    )];
    let rows = rows("[fleet.host.db1]\n[fleet.host.web1]\n[fleet.host.cache1]\n", &seen, &[], now);
    let names: Vec<&str> = rows.iter().map(|row| row.host.as_str()).collect();
    assert_eq!(names, ["cache1", "db1", "web1"]);
    let [cache1, db1, web1] = &rows[..] else { unreachable!() };
    assert!(cache1.is_missing && cache1.is_late && cache1.is_broken());
    assert_eq!(cache1.problems, ["no snapshot"]);

    assert_eq!(db1.point_age_seconds.map(|age| age / 3600), Some(27));
    assert!(db1.is_late && !db1.is_unproven, "{db1:?}");
    assert_eq!(db1.problems, ["source files was last saved 27 h ago; the limit is 26 h"]);
    assert_eq!((db1.proof, db1.proof_age_seconds.map(|age| age / 3600)), (parsed, Some(40)));

    assert!(!web1.is_late && web1.is_unproven, "{web1:?}");
    assert_eq!(web1.problems, ["the last verification of source files failed"]);
    assert_eq!(web1.repository.as_deref(), Some("eu"));
}

#[test]
fn limits_and_sources_of_a_host_replace_those_of_the_fleet() {
    let now = Timestamp::now();
    let found = || {
        let snapshots = [("db1", "mongo", 3), ("db1", "old", 900)];
        [seen("eu", &snapshots, &[("db1", "mongo", 20, Some(ProofLevel::Stored))], now)]
    };
    let one = |fleet: &str| rows(fleet, &found(), &[], now).pop().unwrap();
    let all = one("[fleet.host.db1]\n");
    assert!(
        all.is_late && all.is_unproven,
        "a retired source counts until it is excluded: {all:?}"
    );
    let own = one("[fleet]\nproof = \"stored\"\n[fleet.host.db1]\nsources = [\"mongo\"]\n");
    assert!(!own.is_late && !own.is_unproven, "{own:?}");
    let strict = one("[fleet.host.db1]\nsources = [\"mongo\"]\nrpo_hours = 2\nproof_hours = 0\n");
    assert!(strict.is_late && !strict.is_unproven, "{strict:?}");
    let more = one("[fleet.host.db1]\nsources = [\"mongo\", \"qdrant\"]\nproof_hours = 0\n");
    assert_eq!(more.problems, ["source qdrant has no whole snapshot"]);
    assert_eq!((more.is_late, more.point), (true, None), "a point without a source does not count");
}

#[test]
fn a_host_without_repositories_may_be_in_any_and_one_with_them_must_be_in_each() {
    let now = Timestamp::now();
    let found = || {
        [
            seen("eu", &[("db1", "files", 900), ("guest", "files", 1)], &[], now),
            seen("us", &[("db1", "files", 1)], &[], now),
        ]
    };
    let any = rows("[fleet]\nproof_hours = 0\n[fleet.host.db1]\n", &found(), &[], now);
    let row =
        |row: &FleetHost| (row.host.clone(), row.repository.clone(), row.is_late, row.is_expected);
    let of = |host: &str, repository: &str, late, expected| {
        (host.to_owned(), Some(repository.to_owned()), late, expected)
    };
    assert_eq!(
        any.iter().map(row).collect::<Vec<_>>(),
        [of("db1", "us", false, true), of("guest", "eu", false, false)]
    );
    let each = "[fleet]\nproof_hours = 0\n[fleet.host.db1]\nrepositories = [\"eu\", \"us\"]\n";
    let each = rows(each, &found(), &[], now);
    assert_eq!(
        each.iter().map(row).collect::<Vec<_>>(),
        [
            of("db1", "eu", true, true),
            of("db1", "us", false, true),
            of("guest", "eu", false, false)
        ]
    );
}

#[test]
fn nothing_is_claimed_about_a_repository_that_was_not_read() {
    let now = Timestamp::now();
    let us = || [seen("us", &[("web1", "files", 1)], &[], now)];
    let fleet =
        "[fleet]\nproof_hours = 0\n[fleet.host.db1]\nrepositories = [\"eu\"]\n[fleet.host.web1]\n";
    let rows = rows(fleet, &us(), &["eu"], now);
    assert!(rows[0].is_unknown && !rows[0].is_broken() && !rows[0].is_late, "{rows:?}");
    let why = ["nothing is known, because a repository cannot be read"];
    assert_eq!(rows[0].problems, why);
    assert!(!rows[1].is_unknown && !rows[1].is_broken(), "{rows:?}");
    let (us, _) = FleetRepository::read("us", "/us".into(), Vec::new(), now);
    let eu = FleetRepository::unread("eu", "/eu".into(), Exit::WrongPassword, "no".into());
    let status = FleetStatus { time: now, repositories: vec![eu.clone(), us], hosts: rows };
    assert_eq!(status.exit(), Exit::Partial, "what could not be read is not a success");
    let metrics = status.metrics_text();
    for line in [
        "kaleem_dr_fleet_repository_readable{repository=\"eu\"} 0",
        "kaleem_dr_fleet_host_late{host=\"web1\",repository=\"us\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("host_late{host=\"db1\""), "{metrics}");
    let none = FleetStatus { repositories: vec![eu], ..status };
    assert_eq!(none.exit(), Exit::WrongPassword);
}

#[test]
fn a_snapshot_of_the_future_makes_no_host_fresh() {
    let now = Timestamp::now();
    let found = [seen("eu", &[("db1", "files", -90)], &[], now)];
    let row = rows("[fleet]\nproof_hours = 0\n[fleet.host.db1]\n", &found, &[], now).pop().unwrap();
    assert!(row.is_broken() && row.is_late && row.point.is_none(), "{row:?}");
    assert!(row.problems[0].contains("dated in the future"), "{row:?}");
}

/// A repository with two snapshots and a proof of each of many hosts, whose files are written as a
/// run writes them, without the data.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_hosts_in_one_repository_have_a_row_each() {
    const HOSTS: usize = 1000;
    let home = tempfile::tempdir().unwrap();
    let access = Access::new(Location::Directory(home.path().join("r")), "password".into());
    let repository = Repository::init(&access, 2).await.unwrap();
    let lock = repository.lock(LockKind::Shared, std::time::Duration::ZERO).await.unwrap();
    let now = Timestamp::now();
    let hosts: Vec<usize> = (0..HOSTS).collect();
    let write = |number: usize| {
        let (repository, lock) = (&repository, &lock);
        async move {
            let host = format!("host{number:04}");
            // Every hundredth host has stopped two days ago.
            let newest = if number % 100 == 7 { 48 } else { 2 };
            for (source, hours) in [("files", newest), ("mongo", newest)] {
                let snapshot = snapshot_for_tests(&host, source, &ago(now, hours), true, 0);
                publish_for_tests(repository, &snapshot, lock).await;
            }
            if number % 100 == 9 {
                return;
            }
            let proofs: Vec<Proof> = ["files", "mongo"]
                .into_iter()
                .map(|source| {
                    let of = (SnapshotId::of_test("1"), now);
                    let source = source.parse().unwrap();
                    let mut proof = Proof::new(RunId::new(), source, "/r", of, ProofLevel::Parsed);
                    proof.host.clone_from(&host);
                    proof
                })
                .collect();
            let text = serde_json::json!({ "format": 1, "run": RunId::new(), "proofs": proofs });
            let name = host.parse().unwrap();
            repository
                .add_host_record(RecordKind::Proof, &name, text.to_string(), lock)
                .await
                .unwrap();
        }
    };
    stream::iter(hosts).map(write).buffer_unordered(16).collect::<Vec<()>>().await;
    lock.release().await.unwrap();

    let password = home.path().join("password");
    std::fs::write(&password, "password").unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let config = format!(
        "state_directory = '{0}/no/state'\ncache_directory = '{0}/no/cache'\n[fleet.repository.all]\nlocation = '{0}/r'\n\
         password = {{ file = '{0}/password' }}\n[fleet.host.host0001]\n[fleet.host.absent]\n",
        home.path().display()
    );
    let site = crate::Site::parse(&config, "test".as_ref(), &[], Environment::default()).unwrap();
    let status = site.fleet_status().await.unwrap();
    assert_eq!(status.hosts.len(), HOSTS + 1);
    assert_eq!(status.repositories[0].snapshots, 2 * HOSTS);
    let count = |of: fn(&FleetHost) -> bool| status.hosts.iter().filter(|host| of(host)).count();
    assert_eq!(count(|host| host.is_late), HOSTS / 100 + 1);
    assert_eq!(count(|host| host.is_unproven), HOSTS / 100);
    assert_eq!(count(|host| host.is_expected), 2);
    assert_eq!((count(FleetHost::is_broken), status.exit()), (1, Exit::Stale), "only `absent`");
    assert!(!home.path().join("no").exists(), "neither state nor a cache is needed");
}
