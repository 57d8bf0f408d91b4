//! Recovery to a moment: bases and slices of the oplog, restored to the state just before any second, compared with a log of the
//! writes.
//!
//! The test server does not honour `atClusterTime`, so a proxy refuses snapshot reads: a capture then goes with its oplog.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mongodb::bson::{DateTime, Document, Timestamp};
use serde_json::Value;

use crate::support::{
    mongo_proxy::{Fate, MongoProxy},
    mongo_writer::{DATABASE, Log, Random, State, Writer, patient, state, write_until},
    restic::Restic,
    servers::MongoServer,
    site::{PASSWORD, Site},
};

/// Refuses snapshot reads.
fn proxy(server: &MongoServer) -> MongoProxy {
    MongoProxy::before(&server.uri(), |command: &Document| {
        let concern = command.get_document("readConcern");
        if concern.is_ok_and(|of| of.get_str("level").is_ok_and(|level| level == "snapshot")) {
            return Fate::fails(239, "SnapshotTooOld");
        }
        Fate::Passes
    })
}

fn site(uri: &str) -> Site {
    let config = format!(
        "[source.mongo]\ntype = \"mongodb\"\nuri = {{ env = \"MONGO_URI\" }}\ndatabases = [\"{DATABASE}\"]\n\n[oplog]\nsources = [\"mongo\"]\n\n[tripwire]\nenabled = false\n"
    );
    Site::new().with(&config.replace("{ env = \"MONGO_URI\" }", &uri_secret(uri))).initialised()
}

/// A secret in a file of its own.
fn uri_secret(uri: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), uri).expect("it can be written");
    let (_, path) = file.keep().expect("it can be kept");
    format!("{{ file = {:?} }}", path.display().to_string())
}

/// Seconds of writes, and moments to restore: a few, or as many as the environment says.
fn amount() -> (u64, usize) {
    let of = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let moments = of("KALEEM_TEST_PITR_MOMENTS").unwrap_or(3);
    (of("KALEEM_TEST_PITR_SECONDS").unwrap_or(9), usize::try_from(moments).expect("small"))
}

fn time(seconds: u32) -> String {
    DateTime::from_millis(i64::from(seconds) * 1000).try_to_rfc3339_string().expect("a time")
}

/// Restores to a moment and compares with the log.
async fn assert_restored(
    site: &Site,
    server: &MongoServer,
    log: &Log,
    at: Timestamp,
    number: usize,
) {
    let target = format!("back{number}");
    let written =
        if at.increment == 0 { time(at.time) } else { format!("{}.{}", at.time, at.increment) };
    site.succeed(["restore", "mongo", "--to-time", &written, "--to", &target]);
    assert_same(&state(&server.uri(), &target).await, &log.before(at), &written);
    // The server becomes slower with each collection.
    let client = mongodb::Client::with_uri_str(patient(&server.uri())).await.expect("valid");
    client.database(&target).drop().await.expect("a database can be dropped");
}

/// Compares document by document, so that a failure shows the ones that differ.
fn assert_same(found: &State, expected: &State, when: &str) {
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    for name in names {
        let of = |state: &State| state.get(name).cloned().unwrap_or_default();
        let (found, expected) = (of(found), of(expected));
        let ids: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for id in ids {
            assert_eq!(found.get(id), expected.get(id), "{name}, _id {id}, at {when}");
        }
    }
}

/// Saves a slice. On a busy machine the server may not answer in time; then the next attempt saves the same entries.
fn save_slice(site: &Site) {
    for _ in 0..5 {
        let saved = site.run(["oplog", "--once"]);
        match saved.code {
            Some(0) => return,
            Some(7) => {}
            code => panic!("{code:?}: {}{}", saved.stdout, saved.stderr),
        }
    }
    panic!("no slice could be saved");
}

/// The moments that can be restored, as `points --moments` says.
fn spans_of(site: &Site) -> Vec<Value> {
    let (_, documents) = site.json(["points", "--moments"]);
    documents[0].as_array().expect("a list").clone()
}

fn position(value: &Value) -> Timestamp {
    let (seconds, increment) = value.as_str().expect("a text").split_once('.').expect("a dot");
    Timestamp {
        time: seconds.parse().expect("a number"),
        increment: increment.parse().expect("a number"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_second_between_two_backups_is_restored_as_it_was() {
    let server = MongoServer::start();
    let proxy = proxy(&server);
    let site = site(&patient(&proxy.uri()));
    let (seconds, moments) = amount();
    let writer = Writer::start(&proxy.for_writers().uri(), 5).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(writer, stop.clone()));
    site.succeed(["backup"]);
    let slices = seconds.div_ceil(3).min(40);
    for slice in 0..slices {
        tokio::time::sleep(Duration::from_millis(seconds * 1000 / slices)).await;
        save_slice(&site);
        if slice == slices / 2 {
            site.succeed(["backup"]);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let log = writing.await.expect("the writer ends").log;
    save_slice(&site);

    let spans = spans_of(&site);
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0]["bases"], 2, "{spans:?}");
    let (from, to) = (position(&spans[0]["from"]), position(&spans[0]["to"]));
    let last = log.0.last().expect("something was written").0;
    assert!(to >= last, "{to:?} {last:?}");
    let mut random = Random(0x5eed_5eed);
    for number in 0..moments {
        let second = from.time
            + 1
            + u32::try_from(random.below(u64::from(to.time - from.time))).expect("small");
        let at = Timestamp { time: second, increment: 0 };
        assert_restored(&site, &server, &log, at, number).await;
    }
    // "Just before this operation", for a few of them.
    for number in 0..moments.min(2) {
        let written: Vec<Timestamp> =
            log.0.iter().map(|(at, _)| *at).filter(|at| *at > from && *at <= to).collect();
        let at = written[usize::try_from(random.below(written.len() as u64)).expect("small")];
        assert_restored(&site, &server, &log, at, moments + number).await;
    }
    site.succeed(["restore", "mongo", "--to-time", "latest", "--to", "newest"]);
    assert_same(&state(&server.uri(), "newest").await, &log.at(to), "the newest moment");

    // The newest proven moment counts, not the newest point.
    site.succeed(["verify"]);
    let (_, status) = site.json(["status"]);
    let proven = status[0][0]["proven_consistent_at"].as_str().expect("it is proven");
    assert_eq!(proven, time(to.time), "{status:?}");
    let drill = site.run(["drill", "mongo", "--to-time", "latest"]);
    assert_eq!(drill.code, Some(0), "{}{}", drill.stdout, drill.stderr);

    // Too early, too late, and a slice that was removed.
    for (at, why) in [
        (time(from.time - 5), "before the oldest point"),
        (time(to.time + 60), "a slice is missing, or not saved yet"),
    ] {
        let refused = site.run(["restore", "mongo", "--to-time", &at]);
        assert_eq!(refused.code, Some(5), "{}", refused.stderr);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    let all: Vec<Value> = site.restic().snapshots();
    let of_slices: Vec<&Value> = all
        .iter()
        .filter(|snapshot| {
            snapshot["tags"].as_array().is_some_and(|tags| tags.contains(&"kaleem-dr-slice".into()))
        })
        .collect();
    assert!(of_slices.len() > 2, "{all:?}");
    site.restic().succeed(["forget", of_slices[1]["id"].as_str().expect("an id")]);
    let around = spans_of(&site);
    assert_eq!(around.len(), 2, "{around:?}");
    let (end, next) = (position(&around[0]["to"]), position(&around[1]["from"]));
    let lost: Vec<Timestamp> =
        log.0.iter().map(|(at, _)| *at).filter(|at| *at > end && *at < next).collect();
    let at = lost[lost.len() / 2];
    let written = format!("{}.{}", at.time, at.increment);
    let refused = site.run(["restore", "mongo", "--to-time", &written]);
    assert_eq!(refused.code, Some(5), "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("a slice is missing"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_repository_reaches_the_same_moments() {
    let server = MongoServer::start();
    let proxy = proxy(&server);
    let site = site(&patient(&proxy.uri()));
    let (second, password) = (site.path("second"), site.secret("second.pass", PASSWORD));
    let site = site.with(&format!(
        "[repository.r2]\nlocation = {:?}\npassword = {{ file = {:?} }}\n[backup]\nalso = [\"r2\"]",
        second.display().to_string(),
        password.display().to_string()
    ));
    site.succeed(["--repo", "r2", "init"]);
    let mut writer = Writer::start(&proxy.for_writers().uri(), 3).await;
    // Slices that no point there needs stay here.
    save_slice(&site);
    assert_eq!(Restic::on_directory(&second, PASSWORD).snapshots(), Vec::<Value>::new());
    site.succeed(["backup"]);
    writer.write_times(60).await;
    let saved = site.succeed(["oplog", "--once"]).stdout;
    assert!(
        saved.contains("1 slice copied to r2") || saved.contains("slices copied to r2"),
        "{saved}"
    );

    // While it cannot be reached, the slice is saved here, and the round does not pass for a success.
    let away = site.path("away");
    fs::rename(&second, &away).expect("a directory can be renamed");
    writer.write_times(60).await;
    let (partial, round) = site.json(["oplog", "--once"]);
    assert_eq!(partial.code, Some(3), "{}", partial.stderr);
    let slice = &round[0]["slices"][0];
    assert!(slice["report"]["snapshot"].is_string(), "{slice}");
    assert!(slice["copies"][0]["error"].is_string(), "{slice}");
    fs::rename(&away, &second).expect("a directory can be renamed");

    // The next round copies what is missing, and the one after it finds nothing to copy.
    writer.write_times(30).await;
    let (_, round) = site.json(["oplog", "--once"]);
    assert_eq!(round[0]["slices"][0]["copies"][0]["slices"], 2, "{}", round[0]);
    let (_, round) = site.json(["oplog", "--once"]);
    assert_eq!(round[0]["slices"][0]["copies"][0]["slices"], 0, "{}", round[0]);
    let here = spans_of(&site);
    let (_, documents) = site.json(["--repo", "r2", "points", "--moments"]);
    let there = documents[0].as_array().expect("a list").clone();
    assert_eq!((here.len(), there.len()), (1, 1), "{here:?} {there:?}");
    assert_eq!((&here[0]["from"], &here[0]["to"]), (&there[0]["from"], &there[0]["to"]));
    let to = position(&there[0]["to"]);
    site.succeed(["--repo", "r2", "restore", "mongo", "--to-time", "latest", "--to", "second"]);
    assert_same(&state(&server.uri(), "second").await, &writer.log.at(to), "the newest moment");
    site.succeed(["--repo", "r2", "check", "--read-data"]);
}

/// Runs `bootstrap` from a mirror in a directory.
fn bootstrap(site: &Site, mirror: &Path, uri: &Path) {
    let password = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(password.path(), PASSWORD).expect("it can be written");
    site.succeed([
        "bootstrap",
        "--from",
        mirror.to_str().expect("UTF-8"),
        "--password-file",
        password.path().to_str().expect("UTF-8"),
        &format!("--secret=source.mongo.uri={}", uri.display()),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_machine_is_recovered_to_a_moment_between_its_backups() {
    let server = MongoServer::start();
    let proxy = proxy(&server);
    let (elsewhere, uri) = (tempfile::tempdir().expect("a directory"), patient(&proxy.uri()));
    let kept = elsewhere.path().join("mongo.uri");
    fs::write(&kept, &uri).expect("a file can be written");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    let mirror = elsewhere.path().join("mirror");
    let site = site(&uri);
    let tree = site.path("tree");
    let site = site.with_files("configs", &[&tree]).with_mirror("r2", &mirror);
    let page = |text: &str| {
        fs::create_dir_all(&tree).expect("a directory can be made");
        fs::write(tree.join("page"), text).expect("a file can be written");
    };

    // Two points of each source, and slices around the second one.
    let mut writer = Writer::start(&proxy.for_writers().uri(), 9).await;
    page("first");
    site.succeed(["backup"]);
    page("second");
    writer.write_times(120).await;
    save_slice(&site);
    writer.write_times(120).await;
    // The second backup is of a later second than the writes.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    site.succeed(["backup"]);
    page("third");
    writer.write_times(60).await;
    save_slice(&site);
    site.succeed(["replicate"]);
    let log = writer.log;
    let spans = spans_of(&site);
    assert_eq!((spans.len(), &spans[0]["bases"]), (1, &2.into()), "{spans:?}");
    let (_, points) = site.json(["points"]);
    let second = DateTime::parse_rfc3339_str(points[0][0]["time"].as_str().expect("a time"))
        .expect("a time")
        .timestamp_millis()
        / 1000;
    let (from, to) = (position(&spans[0]["from"]), position(&spans[0]["to"]));

    // The machine is lost: its config, its repository, its state, its files, and the content of its server.
    for entry in fs::read_dir(site.directory()).expect("the site's directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .expect("it can be removed");
    }
    let client = mongodb::Client::with_uri_str(server.uri()).await.expect("a valid address");
    client.database(DATABASE).drop().await.expect("a database can be dropped");
    bootstrap(&site, &mirror, &kept);

    // A moment before everything, and one after the last slice: refused by name, before anything is written.
    for (at, why) in [
        (time(from.time - 5), "before the oldest point of mongo"),
        (time(to.time + 60), "a slice is missing, or not saved yet"),
    ] {
        let refused = site.run(["recover", "--yes", "--to-time", &at]);
        assert_eq!(refused.code, Some(5), "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("source mongo: "), "{}", refused.stderr);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        assert!(!site.repository().exists() && !tree.exists(), "nothing is written");
        assert_eq!(state(&server.uri(), DATABASE).await, State::new());
    }

    // Just before a write that only the slices have, after which the second backup ran.
    let before_second: Vec<Timestamp> = log
        .0
        .iter()
        .map(|(at, _)| *at)
        .filter(|at| *at > from && i64::from(at.time) < second)
        .collect();
    let at = before_second[before_second.len() * 2 / 3];
    let written = format!("{}.{}", at.time, at.increment);
    let recovered = site.run(["recover", "--yes", "--to-time", &written]);
    assert_eq!(recovered.code, Some(0), "{}{}", recovered.stdout, recovered.stderr);
    assert!(
        recovered.stderr.contains("have no change log") && recovered.stderr.contains("configs"),
        "{}",
        recovered.stderr
    );
    assert_eq!(state(&server.uri(), DATABASE).await, log.before(at), "just before {written}");
    assert_ne!(log.before(at), log.at(to), "it is not the newest state");
    assert_eq!(fs::read_to_string(tree.join("page")).expect("a file"), "first");

    // The same recovery does not continue to another moment.
    let mixed = site.run(["recover", "--yes", "--again", "--only", "configs"]);
    assert_eq!(mixed.code, Some(0), "{}{}", mixed.stdout, mixed.stderr);
    let mixed = site.run(["recover", "--yes", "--to-time", "latest"]);
    assert_eq!(mixed.code, Some(5), "{}{}", mixed.stdout, mixed.stderr);
    assert!(
        mixed.stderr.contains(&written) && mixed.stderr.contains("--again"),
        "{}",
        mixed.stderr
    );
    client.database(DATABASE).drop().await.expect("a database can be dropped");
    let newest = site.run(["recover", "--yes", "--again", "--to-time", "latest"]);
    assert_eq!(newest.code, Some(0), "{}{}", newest.stdout, newest.stderr);
    assert_eq!(state(&server.uri(), DATABASE).await, log.at(to));
    assert_eq!(fs::read_to_string(tree.join("page")).expect("a file"), "second");
}
