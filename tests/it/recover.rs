//! `recover`: everything comes back after the loss of a machine, whatever interrupts it.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use kaleem_dr_core::ground::digest::ByteDigest;
use serde_json::Value;

use crate::support::{
    lost::{Content, Lost},
    mirror::flip_byte,
    mongo_writer::Random,
    program::{Outcome, run, start},
    qdrant_stand_in::Faults,
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
    let lost =
        Lost::after("recover", |site| site.with(objectives), &["verify", "--level", "restored"])
            .await;
    let site = &lost.all.site;
    let seen = lost.bootstrapped();
    assert!(seen.stdout.contains("next: kaleem-dr"), "{}", seen.stdout);
    // A repository of another id would be in the way of the recovery.
    assert!(!seen.stdout.contains("init"), "{}", seen.stdout);
    let planned = json(&site.run(["--json", "recover", "--dry-run"]));
    assert_eq!(planned["repositories"][0]["name"], "local", "{planned}");
    // From the drill of the lost machine.
    let seconds = |of: &Value| of["forecast"]["seconds"].as_f64().unwrap_or_default();
    let slowest = planned["sources"].as_array().expect("sources").iter().map(seconds);
    let slowest =
        slowest.inspect(|seconds| assert!(*seconds > 0.0, "{planned}")).fold(0.0, f64::max);
    assert!(seconds(&planned) >= slowest, "{planned}");
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

/// Kills of one recovery before it may end.
const KILLS_IN_ONE: u32 = 3;

/// `KALEEM_TEST_RECOVER_KILLS` kills, from the seed `KALEEM_TEST_RECOVER_SEED`.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_recovery_continues_and_does_nothing_twice() {
    let number = |name: &str, usual: u32| {
        env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let kills = number("KALEEM_TEST_RECOVER_KILLS", 6);
    let seed = number("KALEEM_TEST_RECOVER_SEED", 1);
    let lost = Lost::everything("kills", |site| site).await;
    let site = &lost.all.site;
    // One that is not killed gives the time in which the others are.
    lost.bootstrapped();
    let began = Instant::now();
    assert_done(&site.run(["recover", "--yes"]));
    let whole = began.elapsed();
    let mut random = Random(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut done = 0;
    while done < kills {
        lost.lose().await;
        lost.bootstrapped();
        let mut seen = Seen::default();
        let mut told = Vec::new();
        for _ in 0..KILLS_IN_ONE.min(kills - done) {
            // The first one leaves some sources recovered and others not.
            let kill = if done == 0 { Kill::Step(10) } else { Kill::any(&mut random, whole) };
            let outcome = kill.apply(site.command().args(["recover", "--yes"]));
            told.push(format!("{kill:?}: {:?}", outcome.code));
            let why = format!("seed {seed}, {told:?}: {}{}", outcome.stdout, outcome.stderr);
            assert!(matches!(outcome.code, None | Some(0 | 5)), "{why}");
            seen.add(&lost, &why);
            done += 1;
        }
        let why = format!("seed {seed}, {told:?}");
        let last = site.run(["--json", "recover", "--yes"]);
        if seen.is_finished {
            assert_eq!(last.code, Some(5), "{why}: {}{}", last.stdout, last.stderr);
        } else {
            assert_eq!(last.code, Some(0), "{why}: {}{}", last.stdout, last.stderr);
            let report = json(&last);
            let names: Vec<&str> = seen.lines.keys().map(String::as_str).collect();
            let mut earlier: Vec<&str> = report["earlier"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            earlier.sort_unstable();
            assert_eq!(earlier, names, "{why}");
        }
        // What was proven is as it was: the journal has the same result with the same duration, and no file
        // was written again.
        seen.add(&lost, &why);
        lost.assert_equal_after_kills(&why).await;
        for command in ["status", "check"] {
            let outcome = site.run([command]);
            assert_eq!(
                outcome.code,
                Some(0),
                "{why}, {command}: {}{}",
                outcome.stdout,
                outcome.stderr
            );
        }
        eprintln!("equal after {why}");
    }
}

/// A way to kill a recovery.
#[derive(Debug)]
enum Kill {
    /// At a step of the recovery itself.
    Step(u64),
    /// At any step of the program: reads and writes of the repositories and the ledger, in the middle of a restore.
    AnyStep(u64),
    /// After this time, wherever it is.
    After(Duration),
}

impl Kill {
    fn any(random: &mut Random, whole: Duration) -> Self {
        match random.below(3) {
            0 => Self::Step(1 + random.below(17)),
            1 => Self::AnyStep(1 + random.below(160)),
            _ => {
                let most = u64::try_from(whole.as_millis()).expect("small");
                Self::After(Duration::from_millis(random.below(most)))
            }
        }
    }

    /// Runs a command and kills it with SIGKILL, unless it ends before.
    fn apply(&self, command: &mut Command) -> Outcome {
        match self {
            Self::Step(nth) => {
                run(command.env("KALEEM_DR_FAILPOINT", format!("recover=kill:{nth}")))
            }
            Self::AnyStep(nth) => {
                run(command.env("KALEEM_DR_FAILPOINT", format!("any=kill:{nth}")))
            }
            Self::After(time) => {
                let mut child = start(command);
                std::thread::sleep(*time);
                // It may have ended already.
                let _ = child.kill();
                child.wait_with_output().expect("our child can be waited for").into()
            }
        }
    }
}

/// What the journal had as recovered at some time, which must stay as it was.
#[derive(Default)]
struct Seen {
    /// The result of each source.
    lines: BTreeMap<String, Value>,
    /// Times at which each restored file was last written, if the file trees were recovered.
    files: Option<BTreeMap<PathBuf, (i64, i64)>>,
    is_finished: bool,
}

impl Seen {
    /// Compares the journal with what was seen before, and remembers it.
    #[track_caller]
    fn add(&mut self, lost: &Lost, why: &str) {
        let site = &lost.all.site;
        let text = fs::read_to_string(site.path("state/recovery.json")).unwrap_or_default();
        let journal: Value = serde_json::from_str(&text).unwrap_or_default();
        let recovered: BTreeMap<String, Value> = journal["sources"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, entry)| entry["state"] == "recovered")
            .map(|(name, entry)| (name.clone(), entry["line"].clone()))
            .collect();
        for (name, line) in &self.lines {
            assert_eq!(recovered.get(name), Some(line), "{name} was restored twice; {why}");
        }
        if let Some(files) = &self.files {
            assert_eq!(*files, changed(&site.path("tree")), "files were written twice; {why}");
        }
        self.files = recovered.contains_key("configs").then(|| changed(&site.path("tree")));
        self.lines = recovered;
        self.is_finished = !journal["finished"].is_null();
    }
}

/// The time of the last change of each regular file's content or attributes, as the kernel keeps it.
fn changed(tree: &Path) -> BTreeMap<PathBuf, (i64, i64)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![tree.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("a directory can be read") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("it exists");
            if metadata.is_dir() {
                pending.push(path);
            } else {
                found.insert(path, (metadata.ctime(), metadata.ctime_nsec()));
            }
        }
    }
    found
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
fn damage_point(lost: &Lost) -> PathBuf {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_filled_in_part_is_filled_and_not_taken_for_whole() {
    let lost = Lost::everything("filling", |site| site).await;
    let site = &lost.all.site;
    lost.bootstrapped();
    // After its keys, its config and some packs.
    let killed = run(site
        .command()
        .args(["recover", "--yes"])
        .env("KALEEM_DR_FAILPOINT", "replicate=kill:4"));
    assert_eq!(killed.code, None, "{}", killed.stderr);
    assert!(site.repository().join("config").exists(), "it looks like a repository");
    assert_eq!(site.snapshots().len(), 0, "and has no points");
    let planned = json(&site.run(["--json", "recover", "--dry-run"]));
    assert_eq!(planned["repositories"][0]["name"], "local", "{planned}");
    let outcome = site.run(["recover", "--yes"]);
    assert_done(&outcome);
    assert!(outcome.stdout.contains("repository local: filled"), "{}", outcome.stdout);
    assert_eq!(site.snapshots().len(), 5);
    assert_recovered(&lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_not_recovered_and_is_restored_again() {
    let lost = Lost::everything("differs", |site| site).await;
    let site = &lost.all.site;
    lost.bootstrapped();
    lost.all.qdrant.set_faults(Faults { alter_vector: true, ..Faults::default() });
    let outcome = site.run(["recover", "--yes"]);
    assert_eq!(outcome.code, Some(4), "{}{}", outcome.stdout, outcome.stderr);
    let said = &outcome.stdout;
    assert!(said.contains("DIFFERS from what was captured"), "{said}");
    assert!(
        said.contains("LEFT TO DO: source qdrant") && said.ends_with("NOT COMPLETE\n"),
        "{said}"
    );
    let report = site.succeed(["report"]).stdout;
    assert!(report.contains("Recovery: Not proven"), "{report}");
    lost.all.qdrant.set_faults(Faults::default());
    let again = site.run(["--json", "recover", "--yes"]);
    assert_done(&again);
    let earlier = json(&again)["earlier"].clone();
    assert_eq!(earlier, serde_json::json!(["configs", "mongo", "rabbitmq", "n8n"]));
    assert_recovered(&lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_comes_with_the_files_is_used_for_the_servers_after_them() {
    // The connection string of MongoDB is in the tree that `configs` saves, and the operator has no copy.
    let lost = Lost::everything("order", |site| {
        let uri = fs::read_to_string(site.path("mongo.uri")).expect("a secret");
        let kept = site.path("tree/mongo.uri");
        fs::write(&kept, uri).expect("a secret can be written");
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        let config = fs::read_to_string(site.config_path()).expect("a config");
        let moved = config
            .replace(&site.path("mongo.uri").display().to_string(), &kept.display().to_string());
        assert_ne!(moved, config);
        site.rewritten(moved)
    })
    .await;
    let site = &lost.all.site;
    let secrets: Vec<String> =
        lost.secrets().into_iter().filter(|secret| !secret.contains("mongo")).collect();
    let outcome = lost.bootstrap(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(outcome.code, Some(3), "{}{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.contains("MISSING  source.mongo.uri"), "{}", outcome.stdout);
    let planned = site.run(["recover", "--dry-run"]);
    assert_done(&planned);
    assert!(planned.stdout.contains("it is tried when its turn comes"), "{}", planned.stdout);
    assert_done(&site.run(["recover", "--yes"]));
    assert_recovered(&lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_begun_is_in_the_journal_before_anything_is_written() {
    let lost = Lost::everything("begun", |site| site).await;
    let site = &lost.all.site;
    lost.bootstrapped();
    // Killed when the first source is about to be restored, and in the middle of its restore.
    let killed =
        run(site.command().args(["recover", "--yes"]).env("KALEEM_DR_FAILPOINT", "recover=kill:3"));
    assert_eq!(killed.code, None, "{}", killed.stderr);
    let journal: Value = serde_json::from_str(
        &fs::read_to_string(site.path("state/recovery.json")).expect("a journal"),
    )
    .expect("JSON");
    assert_eq!(journal["sources"]["configs"]["state"], "begun", "{journal}");
    assert!(!site.path("tree").exists(), "nothing is restored yet");
    // A config that changes meanwhile is noticed, because a source was begun.
    let config = fs::read_to_string(site.config_path()).expect("a config");
    fs::write(site.config_path(), format!("# changed\n{config}")).expect("it can be written");
    let refused = site.run(["recover", "--yes"]);
    assert_eq!(refused.code, Some(5), "{}{}", refused.stdout, refused.stderr);
    assert!(
        refused.stderr.contains("changed since the interrupted recovery"),
        "{}",
        refused.stderr
    );
    fs::write(site.config_path(), config).expect("it can be written");
    assert_done(&site.run(["recover", "--yes"]));
    assert_recovered(&lost).await;
}
