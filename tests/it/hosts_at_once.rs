//! Several hosts on one bucket at once: they back up, verify, forget and prune, one is killed again
//! and again, and a fleet is watched. Stock restic finds nothing wrong afterwards, nothing is lost,
//! and what `fleet status` says is true at each moment.
//!
//! Each host has its own name, config, state and processes. It lasts `KALEEM_TEST_FLEET_SECONDS`
//! [default: 8].

use std::{
    env, fs,
    process::Child,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kaleem_dr_core::jiff::Timestamp;
use serde_json::Value;

use crate::support::{
    mirror::S3Mirror,
    program::{run, start},
    restic::Restic,
    servers::S3,
    site::{PASSWORD, Site},
};

const HOSTS: [&str; 3] = ["one", "two", "three"];

/// The tables of a repository in the bucket.
fn repository(site: &Site, section: &str, place: &S3Mirror) -> String {
    let of = |name: &str, value: &str| site.secret(name, value).display().to_string();
    let S3Mirror { s3: S3 { endpoint, bucket, key, secret, .. }, prefix } = place;
    format!(
        "[{section}]\nlocation = \"s3:{endpoint}/{bucket}/{prefix}\"\npassword = {{ file = '{}' }}\n\
         access_key_id = {{ file = '{}' }}\nsecret_access_key = {{ file = '{}' }}\n",
        site.path("repository.pass").display(),
        of("s3.key", key),
        of("s3.secret", secret),
    )
}

fn directories(site: &Site) -> String {
    format!(
        "state_directory = '{}'\ncache_directory = '{}'\n",
        site.path("state").display(),
        site.path("cache").display()
    )
}

fn host(name: &str, place: &S3Mirror) -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("whose"), name).expect("a file");
    let config = format!(
        "host = {name:?}\n{}{}[source.configs]\ntype = \"files\"\npaths = ['{}']\n[retention]\nkeep_last = 3\nkeep_daily = 0\n\
         keep_weekly = 0\nkeep_monthly = 0\n[backup]\nforget = true\nprune = true\nprune_every_hours = 0\n[tripwire]\nenabled = false\n",
        directories(&site),
        repository(&site, "repository.bucket", place),
        tree.display(),
    );
    site.rewritten(config)
}

/// What a host has certainly done: its last finished backup, with the time at which it began.
#[derive(Clone, Default)]
struct Done {
    snapshot: String,
    began: Option<Timestamp>,
    backups: usize,
}

/// A host's work until the end: backups with retention and prune, and now and then a proof or an
/// elected prune.
fn work(site: &Site, done: &Mutex<Done>, until: Instant) {
    let patient = ["--json", "--retry-lock", "2m"];
    for round in 0.. {
        if Instant::now() >= until && round > 0 {
            return;
        }
        fs::write(site.path("tree/changing"), format!("round {round}").repeat(9000))
            .expect("a file");
        let began = Timestamp::now();
        let outcome = run(site.command().args(patient).arg("backup"));
        assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
        let report: Vec<Value> =
            outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let snapshot = report[0]["snapshot_id"].as_str().expect("an id").to_owned();
        let mut done = done.lock().expect("no panic");
        *done = Done { snapshot, began: Some(began), backups: done.backups + 1 };
        drop(done);
        let more: &[&str] = match round % 3 {
            0 => &["verify"],
            1 => &["prune", "--elected", "--yes"],
            _ => continue,
        };
        let outcome = run(site.command().args(patient).args(more));
        assert_eq!(outcome.code, Some(0), "{more:?}: {}{}", outcome.stdout, outcome.stderr);
    }
}

/// A host that is killed in the middle of each backup, at another moment each time.
fn be_killed(site: &Site, until: Instant) -> usize {
    let mut kills = 0;
    for moment in (0..).map(|n: u64| 50 + n * 170 % 1300) {
        if Instant::now() >= until && kills > 0 {
            break;
        }
        fs::write(site.path("tree/changing"), format!("kill {kills}").repeat(9000))
            .expect("a file");
        let mut child: Child = start(site.command().args(["--retry-lock", "2m", "backup"]));
        let end = Instant::now() + Duration::from_millis(moment);
        while Instant::now() < end && child.try_wait().expect("our child").is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        if child.try_wait().expect("our child").is_none() {
            child.kill().expect("our child");
            kills += 1;
        }
        child.wait().expect("our child");
    }
    kills
}

/// Watches the fleet until the end, and compares each answer with what the hosts had done before it
/// was asked for. Returns the number of answers.
fn watch(watcher: &Site, done: &[Mutex<Done>], is_over: &AtomicBool, answers: &AtomicU64) {
    while !is_over.load(Ordering::SeqCst) {
        let before: Vec<Done> =
            done.iter().map(|done| done.lock().expect("no panic").clone()).collect();
        let (outcome, lines) = watcher.json(["fleet", "status"]);
        assert!(matches!(outcome.code, Some(0 | 6)), "{:?}: {}", outcome.code, outcome.stderr);
        let rows = lines[0]["hosts"].as_array().expect("rows");
        for (name, before) in HOSTS.iter().zip(before) {
            let Some(began) = before.began else { continue };
            let row = rows.iter().find(|row| row["host"] == *name);
            let row = row.unwrap_or_else(|| panic!("{name} has backed up: {rows:?}"));
            let point: Timestamp = row["point"].as_str().expect("a point").parse().expect("a time");
            assert!(point >= began, "{name}: {point} is older than the backup of {began}");
            assert_eq!((&row["is_late"], &row["is_missing"]), (&false.into(), &false.into()));
        }
        answers.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn hosts_that_work_on_one_bucket_at_once_lose_nothing_and_the_fleet_is_told_the_truth() {
    let seconds = env::var("KALEEM_TEST_FLEET_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = seconds.unwrap_or(8);
    let place = S3Mirror::new("at-once");
    let hosts = HOSTS.map(|name| host(name, &place));
    let doomed = host("doomed", &place);
    hosts[0].succeed(["init"]);
    let watcher = Site::new();
    let expected = HOSTS.map(|name| format!("[fleet.host.{name}]\nproof_hours = 0\n")).concat();
    let fleet = repository(&watcher, "fleet.repository.bucket", &place);
    let config = format!("{}{fleet}{expected}", directories(&watcher));
    let watcher = watcher.rewritten(config);

    let done: [Mutex<Done>; 3] = Default::default();
    let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let kills = thread::scope(|threads| {
        let working: Vec<_> = hosts
            .iter()
            .zip(&done)
            .map(|(site, done)| threads.spawn(move || work(site, done, until)))
            .collect();
        let killing = threads.spawn(|| be_killed(&doomed, until));
        let watching = threads.spawn(|| watch(&watcher, &done, &is_over, &answers));
        let ended: Vec<_> = working.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let kills = killing.join();
        is_over.store(true, Ordering::SeqCst);
        let watched = watching.join();
        for ended in ended {
            ended.expect("the work of a host");
        }
        watched.expect("the answers are true");
        kills.expect("the kills")
    });
    assert!(kills > 0 && answers.load(Ordering::SeqCst) > 0);

    // The locks of the killed processes are recognised as such by the next job of this machine.
    hosts[0].succeed(["--retry-lock", "2m", "backup"]);
    let restic = Restic::on_s3(place.s3.clone(), &place.prefix, PASSWORD);
    restic.check_read_data();
    let snapshots = restic.snapshots();
    for (name, done) in HOSTS.iter().zip(&done).skip(1) {
        let done = done.lock().expect("no panic");
        assert!(
            snapshots.iter().any(|snapshot| snapshot["id"] == done.snapshot.as_str()),
            "{name} lost {} of {} backups",
            done.snapshot,
            done.backups
        );
        let own = snapshots.iter().filter(|snapshot| {
            let tags = snapshot["tags"].to_string();
            snapshot["hostname"] == *name && tags.contains("\"kaleem-dr\"")
        });
        assert_eq!(
            own.count(),
            done.backups.min(3),
            "{name}: no more and no less than the rules keep"
        );
    }
    let outcome = watcher.run(["fleet", "status"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    let out = hosts[1].path("restored");
    hosts[1].succeed(["restore", "files", "--target", out.to_str().expect("UTF-8")]);
    let whose = out.join(hosts[1].path("tree/whose").strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read_to_string(whose).expect("it is there"), "two");
}
