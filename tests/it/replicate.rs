//! Mirrors: equal object by object, guarded, consistent at every moment; and repositories repaired
//! from them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::support::{
    mirror::{S3Mirror, flip_byte, noise, objects},
    restic::Restic,
    seed,
    site::{PASSWORD, Site},
    tree::Tree,
};

/// A site with a saved tree, and a mirror of its repository on disk.
fn with_disk_mirror() -> (Site, PathBuf, PathBuf) {
    let site = Site::new();
    let (tree, mirror) = (site.path("tree"), site.path("mirror"));
    seed::file_tree(&tree);
    let site = site.with_files("configs", &[&tree]).with_mirror("mirror", &mirror).initialised();
    site.succeed(["backup"]);
    (site, tree, mirror)
}

/// Adds a snapshot with new content.
fn another_day(site: &Site, tree: &Path, day: u64) {
    fs::write(tree.join(format!("day-{day}")), noise(400_000, day)).expect("a file can be written");
    site.succeed(["backup"]);
}

#[test]
fn what_a_pass_that_died_left_on_the_mirror_is_cleared_by_the_next() {
    let (site, tree, mirror) = with_disk_mirror();
    site.succeed(["replicate"]);
    let left = mirror.join("tmp").join(format!("{}.aB3dE6gH", "0123456789abcdef".repeat(4)));
    fs::create_dir_all(mirror.join("tmp")).expect("a directory can be made");
    fs::write(&left, noise(400_000, 9)).expect("a file can be written");
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(2);
    fs::File::options()
        .write(true)
        .open(&left)
        .and_then(|file| file.set_modified(long_ago))
        .expect("a time can be set");
    another_day(&site, &tree, 1);
    site.succeed(["replicate"]);
    assert!(!left.exists(), "a half-written object stays on the mirror for ever");
}

#[test]
fn a_bucket_becomes_equal_and_stock_restic_reads_it() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let far = S3Mirror::new("equal");
    let site = site.with_files("configs", &[&tree]);
    let site = far.of(site, "r2").initialised();
    site.succeed(["backup"]);
    another_day(&site, &tree, 1);

    let (outcome, lines) = site.json(["replicate", "--verify", "100"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["copied_snapshots"], 2);
    assert_eq!(
        lines[0]["verified"]["objects"], lines[0]["copied"]["objects"],
        "everything was read back"
    );
    let restic = Restic::on_s3(far.s3.clone(), &far.prefix, PASSWORD);
    restic.check_read_data();
    let stock = site.path("stock");
    restic.restore_latest(&stock, true);
    Tree::of(&stock.join(tree.strip_prefix("/").expect("absolute"))).assert_equal(&Tree::of(&tree));

    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["copied"]["bytes"], 0, "a second pass moves nothing");
    assert_eq!(lines[0]["deleted"]["objects"], 0);

    // What is forgotten here is deleted there, and nothing else.
    another_day(&site, &tree, 2);
    site.succeed(["forget", "--keep-last", "2", "--yes"]);
    site.succeed(["prune", "--instant", "--yes"]);
    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["deleted_snapshots"], 1);
    restic.check_read_data();
    let (_, history) = site.json(["history"]);
    let kinds: Vec<_> =
        history[0].as_array().expect("a list").iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(
        kinds,
        ["replicate", "prune", "forget", "backup", "replicate", "replicate", "backup", "backup"]
    );
}

#[test]
fn a_mirror_on_disk_is_the_same_files_and_comes_back_as_a_repository() {
    let (site, tree, mirror) = with_disk_mirror();
    another_day(&site, &tree, 1);
    site.succeed(["replicate"]);
    assert_eq!(objects(&site.repository()), objects(&mirror));
    let dry = site.json(["replicate", "--dry-run"]).1;
    assert_eq!(
        (&dry[0]["copied"]["objects"], &dry[0]["deleted"]["objects"]),
        (&0.into(), &0.into())
    );

    // The repository is lost and restored from its mirror, without a password.
    fs::remove_dir_all(site.repository()).expect("the repository can be lost");
    site.secret("repository.pass", "lost as well");
    site.succeed(["replicate", "--from", "mirror", "--to", "local"]);
    assert_eq!(objects(&site.repository()), objects(&mirror));
    site.secret("repository.pass", PASSWORD);
    site.succeed(["verify", "configs", "--level", "readable"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let (site, tree, mirror) = with_disk_mirror();
    site.succeed(["replicate"]);
    let before = objects(&mirror);
    another_day(&site, &tree, 1);
    let (outcome, lines) = site.json(["replicate", "--dry-run"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0]["copied_snapshots"], 1, "{lines:?}");
    assert_eq!(objects(&mirror), before);
}

#[test]
fn a_dry_run_of_a_new_mirror_is_not_recorded_as_a_pass_that_filled_it() {
    let (site, _, mirror) = with_disk_mirror();
    site.succeed(["replicate", "--dry-run"]);
    site.succeed(["replicate"]);
    assert_eq!(objects(&site.repository()), objects(&mirror));
    let history = site.json(["history"]).1;
    let passes =
        history[0].as_array().expect("a list").iter().filter(|event| event["kind"] == "replicate");
    assert_eq!(passes.count(), 1, "{history:?}");
}

#[test]
fn another_repository_is_never_overwritten() {
    let (site, _, mirror) = with_disk_mirror();
    Restic::on_directory(&mirror, "another password").init(2);
    let before = objects(&mirror);
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("another repository") && outcome.stderr.contains("kaleem-dr copy"),
        "{}",
        outcome.stderr
    );
    assert_eq!(objects(&mirror), before);
}

#[test]
fn a_place_that_holds_other_things_is_not_filled() {
    let (site, _, mirror) = with_disk_mirror();
    fs::create_dir_all(&mirror).expect("a directory can be made");
    fs::write(mirror.join("thesis.odt"), "years of work").expect("a file can be written");
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("thesis.odt"), "{}", outcome.stderr);
    assert_eq!(fs::read_dir(&mirror).expect("it is there").count(), 1);
}

#[test]
fn snapshots_of_others_on_the_mirror_stay_until_they_are_given_up() {
    let (site, tree, mirror) = with_disk_mirror();
    site.succeed(["replicate"]);
    // Like the handbook's second script: straight into the mirror.
    let stock = Restic::on_directory(&mirror, PASSWORD);
    stock.backup([tree.join("etc")].iter().filter(|path| path.exists()).chain([&tree]));
    another_day(&site, &tree, 1);
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("--delete-foreign") && outcome.stdout.contains("--no-delete"),
        "{}",
        outcome.stdout
    );
    assert_eq!(stock.snapshots().len(), 3, "the new one came over, the foreign one is still there");
    stock.check_read_data();

    // Once brought home, it is no longer foreign.
    site.succeed(["replicate", "--from", "mirror", "--to", "local", "--no-delete"]);
    assert_eq!(site.snapshots().len(), 3);
    site.succeed(["replicate"]);
    assert_eq!(objects(&site.repository()), objects(&mirror));
}

#[test]
fn a_lost_record_makes_the_guard_stricter_not_blind() {
    let (site, tree, mirror) = with_disk_mirror();
    another_day(&site, &tree, 1);
    another_day(&site, &tree, 2);
    site.succeed(["replicate"]);
    site.succeed(["forget", "--keep-last", "2", "--yes"]);
    fs::remove_file(site.path("state/ledger.sqlite")).expect("the ledger can be lost");
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert_eq!(Restic::on_directory(&mirror, PASSWORD).snapshots().len(), 3);
    site.succeed(["replicate", "--delete-foreign"]);
    assert_eq!(Restic::on_directory(&mirror, PASSWORD).snapshots().len(), 2);
}

#[test]
fn deleting_more_than_half_needs_to_be_said() {
    let (site, tree, mirror) = with_disk_mirror();
    for day in 1..5 {
        another_day(&site, &tree, day);
    }
    site.succeed(["replicate"]);
    site.succeed(["forget", "--keep-last", "2", "--yes"]);
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "three of five would go: {}", outcome.stderr);
    assert!(
        outcome.stdout.contains("3 of 5 snapshots") && outcome.stdout.contains("--max-delete 100"),
        "{}",
        outcome.stdout
    );
    assert_eq!(Restic::on_directory(&mirror, PASSWORD).snapshots().len(), 5);
    site.succeed(["replicate", "--max-delete", "60"]);
    assert_eq!(objects(&site.repository()), objects(&mirror));
}

#[test]
fn an_emptied_repository_empties_no_mirror() {
    let (site, tree, mirror) = with_disk_mirror();
    another_day(&site, &tree, 1);
    site.succeed(["replicate"]);
    let whole = objects(&mirror);
    for entry in fs::read_dir(site.repository().join("snapshots")).expect("it is there") {
        fs::remove_file(entry.expect("an entry").path()).expect("a snapshot can be lost");
    }
    let outcome = site.run(["replicate", "--max-delete", "100", "--delete-foreign"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("holds no snapshot"), "{}", outcome.stdout);
    assert_eq!(objects(&mirror), whole);

    fs::remove_dir_all(site.repository()).expect("the repository can be lost");
    fs::create_dir(site.repository()).expect("an empty mount point");
    let outcome = site.run(["replicate", "--max-delete", "100", "--delete-foreign"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("is the disk mounted?"), "{}", outcome.stderr);
    assert_eq!(objects(&mirror), whole);
}

#[test]
fn an_alarm_keeps_the_mirror_as_it_is_until_it_is_acknowledged() {
    let site = Site::new();
    let (tree, mirror) = (site.path("tree"), site.path("mirror"));
    fs::create_dir_all(&tree).expect("a directory can be made");
    for number in 0..40 {
        fs::write(tree.join(number.to_string()), noise(900, number))
            .expect("a file can be written");
    }
    let site = site.with_files("configs", &[&tree]).with_mirror("mirror", &mirror).initialised();
    site.succeed(["backup"]);
    site.succeed(["backup"]);
    site.succeed(["replicate"]);
    for number in 0..35 {
        fs::remove_file(tree.join(number.to_string())).expect("a file can be lost");
    }
    assert_eq!(site.run(["backup"]).code, Some(3), "most files are gone: that is an alarm");
    // An attacker bypasses our own forget, which would refuse as well.
    let oldest = site.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    site.restic().succeed(["forget", &oldest]);
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("alarm acknowledge"), "{}", outcome.stdout);
    // The alarm's record is a snapshot of its own.
    assert_eq!(
        Restic::on_directory(&mirror, PASSWORD).snapshots().len(),
        4,
        "the new one came, the old one stays"
    );
    site.succeed(["alarm", "acknowledge"]);
    site.succeed(["replicate"]);
    assert_eq!(objects(&site.repository()), objects(&mirror));
}

#[test]
fn deletions_wait_while_another_program_reads_the_mirror() {
    let (site, tree, mirror) = with_disk_mirror();
    another_day(&site, &tree, 1);
    another_day(&site, &tree, 2);
    site.succeed(["replicate"]);
    site.succeed(["forget", "--keep-last", "2", "--yes"]);
    fs::write(mirror.join("locks").join("00".repeat(32)), "a foreign lock")
        .expect("a lock can be written");
    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(lines[0]["postponed"].as_str().expect("a reason").contains("lock"), "{lines:?}");
    fs::remove_file(mirror.join("locks").join("00".repeat(32))).expect("the lock can go");
    let (_, lines) = site.json(["replicate"]);
    assert_eq!(lines[0]["deleted_snapshots"], 1, "{lines:?}");
}

#[test]
fn a_damaged_object_is_not_brought_over() {
    let (site, _, mirror) = with_disk_mirror();
    let packs: BTreeMap<String, String> = objects(&site.repository())
        .into_iter()
        .filter(|(key, _)| key.starts_with("data/"))
        .collect();
    let damaged = packs.keys().next().expect("a pack").clone();
    flip_byte(&site.repository().join(&damaged));
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&damaged), "the object is named: {}", outcome.stderr);
    assert!(!mirror.join(&damaged).exists());
    assert!(
        fs::read_dir(mirror.join("snapshots")).expect("it is there").next().is_none(),
        "no snapshot without its packs"
    );
}

#[test]
fn a_flipped_byte_anywhere_is_found_and_put_back_from_the_mirror() {
    let (site, tree, mirror) = with_disk_mirror();
    another_day(&site, &tree, 1);
    site.succeed(["replicate"]);
    let whole = objects(&site.repository());
    for directory in ["data/", "index/", "snapshots/"] {
        let damaged = whole.keys().find(|key| key.starts_with(directory)).expect("an object");
        flip_byte(&site.repository().join(damaged));
        let (outcome, lines) = site.json(["check", "--read-data"]);
        assert_eq!(outcome.code, Some(4), "{directory}: {}", outcome.stderr);
        let name = damaged.rsplit('/').next().expect("a name");
        assert!(lines[0]["findings"].to_string().contains(&name[..8]), "{directory}: {lines:?}");

        let dry = site.run(["repair", "--from", "mirror", "--dry-run"]);
        assert_eq!(dry.code, Some(4), "the damage is still there: {}", dry.stdout);
        let (outcome, lines) = site.json(["repair", "--from", "mirror"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_eq!(lines[0]["repaired"], serde_json::json!([damaged]));
        assert_eq!(objects(&site.repository()), whole);
        site.succeed(["check", "--read-data"]);
        site.restic().check_read_data();
    }
    // Damage on both sides is reported.
    let damaged = whole.keys().find(|key| key.starts_with("data/")).expect("a pack");
    flip_byte(&site.repository().join(damaged));
    flip_byte(&mirror.join(damaged));
    let (outcome, lines) = site.json(["repair", "--from", "mirror"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(lines[0]["unrepaired"].to_string().contains(damaged), "{lines:?}");
    let verified = site.run(["replicate", "--verify", "100"]);
    assert_eq!(verified.code, Some(4), "the mirror's damage is found: {}", verified.stdout);
}

/// Kills a pass a hundred times with SIGKILL, while stock restic reads the mirror with its locks
/// all the time.
#[test]
fn a_kill_at_any_moment_leaves_a_mirror_that_can_be_read() {
    const KILLS: u32 = 100;
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    fs::write(tree.join("always"), noise(300_000, 0)).expect("a file can be written");
    let far = S3Mirror::new("killed");
    let site = site.with_files("configs", &[&tree]);
    let site = far.of(site, "r2").initialised();
    site.succeed(["backup"]);
    site.succeed(["replicate"]);

    let (ended, reads) = (AtomicBool::new(false), AtomicU32::new(0));
    let killed = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let restic = Restic::on_s3(far.s3.clone(), &far.prefix, PASSWORD);
            while !ended.load(Ordering::SeqCst) {
                let target = tempfile::tempdir().expect("a directory");
                restic.restore_latest(target.path(), false);
                let restored =
                    target.path().join(tree.strip_prefix("/").expect("absolute")).join("always");
                assert_eq!(fs::read(restored).expect("it came back"), noise(300_000, 0));
                reads.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut killed = 0;
        // Some passes end before they are killed.
        for round in 0..u64::from(4 * KILLS) {
            if killed == KILLS {
                break;
            }
            if round % 3 == 0 {
                fs::write(tree.join("new"), noise(200_000, round + 1))
                    .expect("a file can be written");
                site.succeed(["backup"]);
                if round % 12 == 0 {
                    site.succeed(["forget", "--keep-last", "2", "--yes"]);
                    site.succeed(["prune", "--instant", "--yes"]);
                }
            }
            let mut pass = site.command();
            if round % 2 == 1 {
                // Right after the first or second object that it copies, if there is one left.
                pass.env("KALEEM_DR_FAILPOINT", format!("replicate=kill:{}", 1 + round / 2 % 2));
            }
            let mut pass = pass
                .args(["replicate", "--max-delete", "100"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the program can be run");
            let moment = u64::from(noise(1, round)[0]) % 80;
            thread::sleep(Duration::from_millis(if round % 2 == 1 { 400 } else { moment }));
            // A pass that has already ended cannot be killed.
            let _ = pass.kill();
            let ended = pass.wait().expect("our child can be waited for");
            killed += u32::from(ended.code().is_none());
            assert!(!reader.is_finished(), "a reader failed");
        }
        ended.store(true, Ordering::SeqCst);
        reader.join().expect("every reader found the mirror whole");
        killed
    });
    assert_eq!(killed, KILLS, "most passes ended before they were killed");
    assert!(reads.load(Ordering::SeqCst) >= 10, "the readers hardly read");
    site.succeed(["replicate", "--max-delete", "100", "--verify", "100"]);
    let restic = Restic::on_s3(far.s3.clone(), &far.prefix, PASSWORD);
    restic.check_read_data();
    assert_eq!(restic.snapshots().len(), site.snapshots().len());
}
