//! A mirror after a loss here or on the mirror itself: no loss here becomes a loss there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use kaleem_dr_core::{
    engine::{
        ledger::Ledger,
        repository::{
            Access, InitOptions, Location, Repository,
            store::{BasicStore as _, ObjectStore as _},
        },
    },
    ground::digest::ByteDigest,
    operate::config::secret::SecretString,
};

use crate::support::{
    mirror::{S3Mirror, noise, objects},
    program::run,
    restic::Restic,
    site::{PASSWORD, Site},
};

/// A site with two days in its repository, and a mirror on disk with the same content.
fn with_mirror_of_two_days() -> (Site, PathBuf) {
    let site = Site::new();
    let (tree, mirror) = (site.path("tree"), site.path("mirror"));
    fs::create_dir_all(&tree).expect("a directory can be made");
    let site = site.with_files("configs", &[&tree]).with_mirror("mirror", &mirror).initialised();
    for day in 0..2 {
        another_day(&site, day);
    }
    site.succeed(["replicate"]);
    (site, mirror)
}

fn another_day(site: &Site, day: u64) {
    fs::write(site.path("tree").join(format!("day-{day}")), noise(400_000, day))
        .expect("a file can be written");
    site.succeed(["backup"]);
}

/// The files in a directory of the repository.
fn files(repository: &Path, directory: &str) -> Vec<PathBuf> {
    let below = objects(repository);
    below
        .keys()
        .filter(|key| key.starts_with(&format!("{directory}/")))
        .map(|key| repository.join(key))
        .collect()
}

/// Asserts that a pass is refused for this reason, even with every flag that allows deletions, and
/// leaves the mirror unchanged.
fn refused(site: &Site, mirror: &Path, why: &str) {
    let before = objects(mirror);
    for flags in [&[][..], &["--max-delete", "100"], &["--max-delete", "100", "--delete-foreign"]] {
        let outcome = site.run(["replicate"].iter().chain(flags).copied());
        assert_eq!(outcome.code, Some(5), "{flags:?}: {}{}", outcome.stdout, outcome.stderr);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(said.contains(why), "{flags:?}: {said}");
        assert_eq!(objects(mirror), before, "{flags:?}");
    }
}

#[test]
fn index_files_that_were_lost_here_stay_on_the_mirror() {
    let (site, mirror) = with_mirror_of_two_days();
    let whole = objects(&site.repository());
    let indexes = files(&site.repository(), "index");
    assert!(indexes.len() > 1);
    for lost in [&indexes[..1], &indexes[..]] {
        for index in lost {
            fs::remove_file(index).expect("an index file can be lost");
        }
        refused(&site, &mirror, "repair index");
        site.succeed(["repair", "--from", "mirror", "--missing"]);
        assert_eq!(objects(&site.repository()), whole);
        site.succeed(["replicate"]);
        assert_eq!(objects(&mirror), whole);
    }
}

#[test]
fn an_index_file_that_is_out_of_use_here_and_damaged_there_goes() {
    let (site, mirror) = with_mirror_of_two_days();
    let old = files(&mirror, "index");
    // Two index files become one.
    site.succeed(["forget", "--keep-last", "1", "--yes"]);
    site.succeed(["prune", "--yes", "--instant", "--max-unused", "0"]);
    let kept = files(&site.repository(), "index");
    let damaged = old
        .iter()
        .find(|path| !kept.iter().any(|kept| kept.file_name() == path.file_name()))
        .expect("an old index file");
    fs::remove_file(damaged).expect("it can be replaced");
    fs::write(damaged, "no index").expect("it can be damaged");
    site.succeed(["replicate", "--max-delete", "100"]);
    assert_eq!(objects(&mirror), objects(&site.repository()));
}

#[test]
fn packs_that_were_lost_here_stay_on_the_mirror() {
    let (site, mirror) = with_mirror_of_two_days();
    let packs = files(&site.repository(), "data");
    assert!(packs.len() > 2);
    for lost in [&packs[..1], &packs[..]] {
        for pack in lost {
            fs::remove_file(pack).expect("a pack can be lost");
        }
        let before = objects(&mirror);
        refused(&site, &mirror, "repair --from MIRROR --missing");
        site.succeed(["repair", "--from", "mirror", "--missing"]);
        assert_eq!(objects(&site.repository()), before);
    }
}

/// A pack that was lost here before any pass copied it, while a blob of an older snapshot is also
/// in it: the index file that refers to it must not reach the mirror, where the old snapshot can
/// still be restored.
#[test]
fn an_index_file_that_refers_to_a_lost_pack_is_not_copied() {
    let (site, mirror) = with_mirror_of_two_days();
    let restic = Restic::on_directory(&mirror, PASSWORD);
    let before = objects(&mirror);
    let old = files(&site.repository(), "index");
    // Without an index, another program writes each blob of the tree a second time.
    let aside = site.path("aside");
    fs::create_dir(&aside).expect("a directory can be made");
    for index in &old {
        fs::rename(index, aside.join(index.file_name().expect("a name"))).expect("it can be moved");
    }
    let packs = files(&site.repository(), "data");
    let tree = site.path("tree");
    let tree = tree.to_str().expect("a path in UTF-8");
    site.restic().succeed(["backup", "--force", tree]);
    for index in &old {
        fs::rename(aside.join(index.file_name().expect("a name")), index).expect("it can be back");
    }
    for pack in files(&site.repository(), "data").iter().filter(|pack| !packs.contains(pack)) {
        fs::remove_file(pack).expect("a pack can be lost");
    }
    for flags in [&["--dry-run"][..], &[], &["--max-delete", "100", "--delete-foreign"]] {
        let outcome = site.run(["replicate"].iter().chain(flags).copied());
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.code, Some(4), "{flags:?}: {said}");
        assert!(said.contains("repair index") && said.contains("were never copied"), "{said}");
        assert_eq!(objects(&mirror), before, "{flags:?}");
    }
    for snapshot in restic.snapshots() {
        let id = snapshot["id"].as_str().expect("an id");
        let to = site.path(&format!("restored-{id}"));
        restic.succeed(["restore", id, "--target", to.to_str().expect("a path in UTF-8")]);
    }
    // What is whole is copied once the index is right.
    site.succeed(["repair", "index", "--yes"]);
    another_day(&site, 7);
    let outcome = site.run(["replicate", "--max-delete", "100"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(objects(&mirror), objects(&site.repository()));
}

#[test]
fn what_was_pruned_here_is_deleted_there_whoever_pruned() {
    let (site, mirror) = with_mirror_of_two_days();
    for day in 2..5 {
        another_day(&site, day);
    }
    site.succeed(["replicate"]);
    fs::remove_file(site.path("tree/day-1")).expect("a file can be removed");
    another_day(&site, 5);
    site.succeed(["forget", "--keep-last", "4", "--yes"]);
    site.succeed(["prune", "--instant", "--max-unused", "0", "--yes"]);
    site.succeed(["replicate"]);
    assert_eq!(objects(&mirror), objects(&site.repository()));
    site.restic().succeed(["forget", "--keep-last", "3", "--prune"]);
    site.succeed(["replicate"]);
    assert_eq!(objects(&mirror), objects(&site.repository()));
    // Marked by one prune, deleted by the next.
    another_day(&site, 6);
    site.succeed(["forget", "--keep-last", "3", "--yes"]);
    site.succeed(["prune", "--max-unused", "0", "--yes"]);
    site.succeed(["replicate"]);
    assert_eq!(objects(&mirror), objects(&site.repository()));
    Restic::on_directory(&mirror, PASSWORD).check_read_data();
}

#[test]
fn without_the_password_nothing_that_is_indexed_is_deleted_unasked() {
    let (site, mirror) = with_mirror_of_two_days();
    for day in 2..4 {
        another_day(&site, day);
    }
    site.succeed(["replicate"]);
    site.succeed(["forget", "--keep-last", "3", "--yes"]);
    site.succeed(["prune", "--instant", "--max-unused", "0", "--yes"]);
    site.secret("repository.pass", "forgotten");
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("without its password"), "{}", outcome.stdout);
    site.succeed(["replicate", "--delete-foreign"]);
    assert_eq!(objects(&mirror), objects(&site.repository()));
}

#[test]
fn a_key_goes_from_the_mirror_only_when_it_was_removed_here_on_purpose() {
    let (site, mirror) = with_mirror_of_two_days();
    let keys = |repository: &Path| files(repository, "keys").len();
    // Added on the mirror only.
    let restic = Restic::on_directory(&mirror, PASSWORD);
    let second = site.secret("second.pass", "second");
    restic.succeed(["key", "add", "--new-password-file", second.to_str().expect("UTF-8")]);
    let outcome = site.succeed(["replicate"]);
    assert!(outcome.stdout.contains("which only the mirror has"), "{}", outcome.stdout);
    Restic::on_directory(&mirror, "second").check_read_data();
    // Added here, and lost here.
    let third = site.secret("third.pass", "third");
    site.succeed(["key", "add", "--new-password-file", third.to_str().expect("UTF-8")]);
    site.succeed(["replicate"]);
    assert_eq!((keys(&site.repository()), keys(&mirror)), (2, 3));
    let (_, lines) = site.json(["key", "list"]);
    let third = lines[0]
        .as_array()
        .expect("keys")
        .iter()
        .find(|key| key["current"] == false)
        .expect("the third key")
        .clone();
    let short = third["id"].as_str().expect("an id");
    let named = |key: &PathBuf| {
        key.file_name().is_some_and(|name| name.to_string_lossy().starts_with(short))
    };
    let file = files(&site.repository(), "keys").into_iter().find(named).expect("the third key");
    let id = file.file_name().and_then(|name| name.to_str()).expect("an id");
    let content = fs::read(&file).expect("it can be read");
    fs::remove_file(&file).expect("a key can be lost");
    site.succeed(["replicate"]);
    assert_eq!(keys(&mirror), 3);
    // Removed here on purpose.
    fs::write(&file, content).expect("it can be put back");
    site.succeed(["key", "remove", id]);
    site.succeed(["replicate"]);
    assert_eq!(keys(&mirror), 2);
    assert!(!mirror.join("keys").join(id).exists());
    Restic::on_directory(&mirror, "second").check_read_data();
    // A changed password opens the mirror too, and the old one no longer does.
    let new = site.secret("new.pass", "new");
    site.succeed(["key", "passwd", "--new-password-file", new.to_str().expect("UTF-8")]);
    site.secret("repository.pass", "new");
    site.succeed(["replicate"]);
    Restic::on_directory(&mirror, "new").check_read_data();
    assert!(!Restic::on_directory(&mirror, PASSWORD).run(["snapshots"]).status.success());
}

#[test]
fn an_empty_place_that_was_a_mirror_is_filled_only_when_that_is_said() {
    let (site, mirror) = with_mirror_of_two_days();
    let whole = objects(&mirror);
    fs::remove_dir_all(&mirror).expect("the mirror can be lost");
    for make in [true, false] {
        if make {
            fs::create_dir(&mirror).expect("an empty mount point");
        } else {
            fs::remove_dir(&mirror).expect("nothing was put into it");
        }
        let outcome = site.run(["replicate"]);
        assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
        assert!(
            outcome.stderr.contains("--refill") && outcome.stderr.contains("mounted"),
            "{}",
            outcome.stderr
        );
    }
    assert!(!mirror.exists(), "not even directories are made");
    let (_, history) = site.json(["history", "--last", "1"]);
    assert_eq!(history[0][0]["exit"], 5, "{history:?}");
    site.succeed(["replicate", "--refill"]);
    assert_eq!(objects(&mirror), whole);
    site.succeed(["replicate"]);

    // Only its config survived.
    for directory in ["snapshots", "index", "data"] {
        fs::remove_dir_all(mirror.join(directory)).expect("it can be lost");
    }
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    site.succeed(["replicate", "--refill"]);
    assert_eq!(objects(&mirror), whole);
    // A snapshot that was lost on the mirror is copied again, and the report says so.
    fs::remove_file(&files(&mirror, "snapshots")[0]).expect("a snapshot can be lost");
    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!((outcome.code, &lines[0]["lost"]), (Some(0), &1.into()), "{}", outcome.stderr);
    assert_eq!(objects(&mirror), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_bucket_is_filled_only_when_that_is_said() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory can be made");
    let far = S3Mirror::new("wiped");
    let site = far.of(site.with_files("configs", &[&tree]), "r2").initialised();
    another_day(&site, 0);
    site.succeed(["replicate"]);
    let bucket = far.store();
    for directory in ["keys", "data", "index", "snapshots"] {
        let keys = bucket
            .list(directory)
            .await
            .expect("it can be listed")
            .into_iter()
            .map(|object| object.key)
            .collect();
        bucket.delete_many(keys).await.expect("they can be deleted");
    }
    bucket.delete("config").await.expect("it can be deleted");
    let outcome = site.run(["replicate"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--refill"), "{}", outcome.stderr);
    assert!(bucket.list("keys").await.expect("it can be listed").is_empty());
    site.succeed(["replicate", "--refill"]);
    Restic::on_s3(far.s3.clone(), &far.prefix, PASSWORD).check_read_data();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_pass_that_is_cut_goes_on_where_it_was() {
    let site = Site::new();
    let (tree, mirror) = (site.path("tree"), site.path("mirror"));
    fs::create_dir_all(&tree).expect("a directory can be made");
    for number in 0..400 {
        fs::write(tree.join(number.to_string()), noise(1500, number))
            .expect("a file can be written");
    }
    let site = site.with_files("configs", &[&tree]).with_mirror("mirror", &mirror);
    let local = Location::Directory(site.repository());
    let access = Access::new(local.clone(), SecretString::from(PASSWORD));
    // One pack per file.
    let mut options = InitOptions::default();
    options.pack_bytes = 1000;
    Repository::init_in(local.store_to_fill().expect("a directory"), &access, options)
        .await
        .expect("a repository");
    site.succeed(["backup"]);
    let all = objects(&site.repository()).len();
    let killed =
        run(site.command().env("KALEEM_DR_FAILPOINT", "replicate=kill:250").arg("replicate"));
    assert_eq!(killed.code, None, "{}", killed.stderr);
    let there = objects(&mirror).len();
    assert!((250..all).contains(&there), "{there} of {all}");
    let ledger = Ledger::open(&site.path("state")).expect("a ledger");
    let begun = ledger.begun(&mirror.display().to_string()).expect("it can be read").len();
    assert!((1..=150).contains(&begun), "only what was on its way is unproven: {begun}");
    assert!(ledger.held(&mirror.display().to_string()).expect("it can be read").is_empty());
    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let copied = lines[0]["copied"]["objects"].as_u64().expect("a number");
    // Existing objects are verified and kept, whether or not the ledger still lists them.
    assert!(copied <= (all - 240) as u64, "{copied} of {all}, {there} were there");
    assert_eq!(objects(&mirror), objects(&site.repository()));
    assert!(ledger.begun(&mirror.display().to_string()).expect("it can be read").is_empty());
}

#[test]
fn deletions_that_wait_pass_after_pass_are_a_failure() {
    let (site, mirror) = with_mirror_of_two_days();
    another_day(&site, 2);
    site.succeed(["replicate"]);
    site.succeed(["forget", "--keep-last", "2", "--yes"]);
    let lock = mirror.join("locks").join("00".repeat(32));
    fs::write(&lock, "a lock of another program").expect("a lock can be written");
    for pass in 1..=3 {
        let (outcome, lines) = site.json(["replicate"]);
        assert_eq!(
            outcome.code,
            Some(if pass < 3 { 0 } else { 3 }),
            "pass {pass}: {}",
            outcome.stderr
        );
        assert_eq!(lines[0]["postponed_passes"], pass);
        assert!(lines[0]["postponed_since"].is_string(), "{lines:?}");
    }
    let outcome = site.run(["replicate"]);
    assert!(
        outcome.stdout.contains("4 passes") && outcome.stdout.contains("00000000"),
        "{}",
        outcome.stdout
    );
    fs::remove_file(lock).expect("the lock can go");
    let (outcome, lines) = site.json(["replicate"]);
    assert_eq!(
        (outcome.code, &lines[0]["deleted_snapshots"]),
        (Some(0), &1.into()),
        "{}",
        outcome.stderr
    );
    assert_eq!(lines[0]["postponed_passes"], 0);
}

/// Two hosts replicate one repository to one mirror, each with its own ledger.
#[test]
fn another_hosts_first_pass_is_safe_and_not_refused_for_ever() {
    let (site, mirror) = with_mirror_of_two_days();
    another_day(&site, 2);
    another_day(&site, 3);
    site.succeed(["replicate"]);
    let config = fs::read_to_string(site.config_path()).expect("it can be read");
    let other = site.path("other.toml");
    fs::write(&other, config.replace("/state\"", "/state-of-b\"")).expect("it can be written");
    let on_b = |args: &[&str]| run(site.command().env("KALEEM_DR_CONFIG", &other).args(args));
    let first = on_b(&["replicate"]);
    assert_eq!(first.code, Some(0), "{}{}", first.stdout, first.stderr);
    // Snapshots forgotten here after B has seen them are deleted by B.
    site.succeed(["forget", "--keep-last", "3", "--yes"]);
    site.succeed(["prune", "--instant", "--max-unused", "0", "--yes"]);
    let second = on_b(&["replicate"]);
    assert_eq!(second.code, Some(0), "{}{}", second.stdout, second.stderr);
    assert_eq!(objects(&mirror), objects(&site.repository()));
    // Snapshots that B has never seen are kept until the host that brought them deletes them.
    another_day(&site, 4);
    site.succeed(["replicate"]);
    site.succeed(["forget", "--keep-last", "2", "--yes"]);
    site.succeed(["prune", "--instant", "--max-unused", "0", "--yes"]);
    fs::remove_dir_all(site.path("state-of-b")).expect("B is a new machine");
    let before = objects(&mirror);
    let new = on_b(&["replicate"]);
    assert_eq!(new.code, Some(5), "{}{}", new.stdout, new.stderr);
    assert!(before.keys().all(|key| mirror.join(key).exists()), "nothing is deleted");
    site.succeed(["replicate"]);
    let then = on_b(&["replicate"]);
    assert_eq!(then.code, Some(0), "{}{}", then.stdout, then.stderr);
    assert_eq!(objects(&mirror), objects(&site.repository()));
}

/// A prune here, and then a loss on the mirror, of the same pack: the mirror's old index names what nobody has.
#[test]
fn a_repair_brings_back_no_index_or_snapshot_whose_data_the_mirror_has_lost() {
    let (site, mirror) = with_mirror_of_two_days();
    another_day(&site, 2);
    site.succeed(["forget", "--keep-last", "1", "--yes"]);
    site.succeed(["prune", "--instant", "--max-unused", "0", "--yes"]);
    let here = objects(&site.repository());
    let lost = objects(&mirror)
        .into_keys()
        .find(|key| key.starts_with("data/") && !here.contains_key(key))
        .expect("the prune removed a pack that the mirror has");
    fs::remove_file(mirror.join(&lost)).expect("the mirror loses it");

    let repair = ["repair", "--from", "mirror", "--missing"];
    let dry = site.run(repair.into_iter().chain(["--dry-run"]));
    assert_eq!(dry.code, Some(4), "{}{}", dry.stdout, dry.stderr);
    let (outcome, lines) = site.json(repair);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let why = lines[0]["unrepaired"].to_string();
    assert!(why.contains("repair index") || why.contains("was not restored"), "{why}");
    site.restic().succeed(["check"]);
    // The restored packs are indexed; then it is known which snapshots are whole.
    site.succeed(["repair", "index", "--yes"]);
    let (outcome, lines) = site.json(repair);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let why = lines[0]["unrepaired"].to_string();
    assert!(why.contains("has lost data of it"), "{why}");
    site.restic().succeed(["check", "--read-data"]);
    assert_eq!(site.run(["check"]).code, Some(0));
}

#[test]
fn a_hostile_key_is_not_carried_home() {
    let (site, mirror) = with_mirror_of_two_days();
    let file = fs::read_to_string(&files(&mirror, "keys")[0]).expect("it can be read");
    let mut hostile: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    hostile["N"] = (1_u64 << 31).into();
    let hostile = hostile.to_string();
    let name = ByteDigest::of(hostile.as_bytes());
    fs::write(mirror.join("keys").join(&name), hostile).expect("it can be written");
    for args in [
        &["repair", "--from", "mirror", "--missing"][..],
        &["replicate", "--from", "mirror", "--to", "local", "--no-delete"],
    ] {
        let outcome = site.run(args.iter().copied());
        assert_eq!(outcome.code, Some(4), "{args:?}: {}{}", outcome.stdout, outcome.stderr);
        assert!(
            outcome.stdout.contains("scrypt") && outcome.stdout.contains(&name),
            "{args:?}: {}",
            outcome.stdout
        );
        assert!(!site.repository().join("keys").join(&name).exists());
    }
}

#[test]
fn files_of_other_programs_are_passed_over_on_both_sides() {
    let (site, mirror) = with_mirror_of_two_days();
    let whole: BTreeMap<String, String> = objects(&mirror);
    for repository in [site.repository(), mirror.clone()] {
        for place in ["", "data", "index", "keys", "snapshots", "locks"] {
            let place = repository.join(place);
            fs::create_dir_all(place.join("@eaDir")).expect("a directory can be made");
            for name in [".DS_Store", "@eaDir/note", "-tmp-1234"] {
                fs::write(place.join(name), "of another program").expect("a file can be written");
            }
        }
    }
    another_day(&site, 2);
    let (outcome, lines) = site.json(["replicate", "--verify", "100"]);
    assert_eq!(
        (outcome.code, &lines[0]["deleted"]["objects"]),
        (Some(0), &0.into()),
        "{}",
        outcome.stderr
    );
    assert_eq!(lines[0]["postponed"], serde_json::Value::Null);
    assert!(whole.keys().all(|key| mirror.join(key).exists()));
    let (outcome, lines) = site.json(["repair", "--from", "mirror", "--missing"]);
    assert_eq!(
        (outcome.code, &lines[0]["repaired"]),
        (Some(0), &serde_json::json!([])),
        "{}",
        outcome.stderr
    );
}
