//! A repository that has lost objects: the next backup heals what its source still has, `check`
//! reports the damage, `repair` repairs the rest; and a single damaged object does not stop
//! anything that does not need it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{seed, site::Site, tree::Tree};

fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.with_files("configs", &[&tree]).initialised()
}

fn objects(site: &Site, directory: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut pending = vec![site.repository().join(directory)];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("the repository can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let _ = found.insert(path);
            }
        }
    }
    found
}

/// The packs with blobs of a type, `tree` or `data`, according to restic's reading of the index.
pub fn packs_of(site: &Site, kind: &str) -> Vec<PathBuf> {
    let restic = site.restic();
    let mut packs = Vec::new();
    for index in objects(site, "index") {
        let id = index.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let index: Value = serde_json::from_slice(&restic.succeed(["cat", "index", id]).stdout)
            .expect("restic prints JSON");
        for pack in index["packs"].as_array().expect("packs") {
            if pack["blobs"][0]["type"] == kind {
                let id = pack["id"].as_str().expect("an id");
                packs.push(site.repository().join("data").join(&id[..2]).join(id));
            }
        }
    }
    packs
}

pub fn overwrite(path: &Path, content: &[u8]) {
    fs::remove_file(path).expect("an object can be removed");
    fs::write(path, content).expect("an object can be written");
}

/// Stock restic restores the tree from the newest snapshot.
fn assert_newest_is_whole(site: &Site) {
    let target = site.path("restored");
    site.restic().restore_latest(&target, true);
    let tree = site.path("tree");
    Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")))
        .assert_equal(&Tree::of(&tree));
    fs::remove_dir_all(target).expect("the test's own directory");
}

#[test]
fn a_lost_index_file_is_healed_by_the_next_backup_which_says_so() {
    let site = site();
    site.succeed(["backup"]);
    let early = objects(&site, "index");
    site.succeed(["backup"]);
    for index in early {
        fs::remove_file(index).expect("an index file can be lost");
    }
    let (healed, lines) = site.json(["backup"]);
    assert_eq!(healed.code, Some(0), "{}", healed.stderr);
    assert!(lines[0]["healed"].to_string().contains("stored again"), "{lines:?}");
    assert_newest_is_whole(&site);
    let (again, lines) = site.json(["backup"]);
    assert_eq!((again.code, &lines[0]["healed"]), (Some(0), &Value::Null), "once is enough");
    // The first day's packs exist, but no index refers to them.
    assert_eq!(site.run(["check"]).code, Some(4));
    site.succeed(["repair", "index", "--yes"]);
    site.succeed(["check", "--read-data"]);
    site.restic().check_read_data();
}

#[test]
fn a_lost_pack_is_healed_by_the_next_backup_and_what_its_source_lost_too_is_not_claimed() {
    for kind in ["tree", "data"] {
        let site = site();
        fs::write(site.path("tree/gone"), "what only the first day has")
            .expect("a file can be written");
        site.succeed(["backup"]);
        let early = packs_of(&site, kind);
        fs::remove_file(site.path("tree/gone")).expect("the file can be removed");
        site.succeed(["backup"]);
        for pack in &early {
            fs::remove_file(pack).expect("a pack can be lost");
        }
        let outcome = site.run(["check"]);
        assert_eq!(outcome.code, Some(4), "{kind}: {}", outcome.stdout);
        assert!(
            outcome.stdout.contains("kaleem-dr repair") && !outcome.stdout.contains("rustic"),
            "{}",
            outcome.stdout
        );
        assert!(outcome.stdout.lines().count() < 20, "{}", outcome.stdout);

        let (healed, lines) = site.json(["backup"]);
        assert_eq!(healed.code, Some(0), "{kind}: {}", healed.stderr);
        assert!(lines[0]["healed"].is_string(), "{kind}: {lines:?}");
        assert_newest_is_whole(&site);

        // The first day cannot become whole again: its own file is lost.
        assert_eq!(site.run(["check"]).code, Some(4), "{kind}");
        let plan = site.succeed(["repair", "snapshots", "--forget", "--dry-run"]);
        assert!(
            plan.stdout.contains("gone") || plan.stdout.contains("nothing is left"),
            "{kind}: {}",
            plan.stdout
        );
        assert_eq!(site.snapshots().len(), 3, "a dry run changes nothing");
        site.succeed(["repair", "snapshots", "--forget", "--yes"]);
        site.succeed(["check", "--read-data"]);
        site.restic().check_read_data();
        assert_newest_is_whole(&site);
    }
}

#[test]
fn a_rewritten_snapshot_is_marked_and_restores_what_is_left() {
    let site = site();
    fs::write(site.path("tree/gone"), vec![7; 700_000]).expect("a file can be written");
    site.succeed(["backup"]);
    let before = packs_of(&site, "data");
    fs::write(site.path("tree/stays"), "the second day's").expect("a file can be written");
    site.succeed(["backup"]);
    let new: Vec<PathBuf> =
        packs_of(&site, "data").into_iter().filter(|pack| !before.contains(pack)).collect();
    assert!(!new.is_empty());
    for pack in new {
        fs::remove_file(pack).expect("a pack can be lost");
    }
    site.succeed(["repair", "index", "--yes"]);
    site.succeed(["repair", "snapshots", "--yes"]);
    let snapshots = site.snapshots();
    let marked: Vec<&Value> = snapshots
        .iter()
        .filter(|snapshot| snapshot["tags"].to_string().contains("incomplete"))
        .collect();
    assert_eq!((snapshots.len(), marked.len()), (3, 1), "the damaged one stays: {snapshots:?}");
    let id = marked[0]["id"].as_str().expect("an id");
    let target = site.path("left");
    site.succeed([
        "restore",
        "files",
        "--snapshot",
        id,
        "--target",
        target.to_str().expect("UTF-8"),
    ]);
    let tree = target.join(site.path("tree").strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read(tree.join("gone")).expect("what is left").len(), 700_000);
    assert!(!tree.join("stays").exists(), "it is left out, and not cut short");
    site.succeed(["repair", "snapshots", "--forget", "--yes"]);
    site.restic().check_read_data();
}

#[test]
fn the_index_is_made_anew_from_the_packs() {
    let site = site();
    site.succeed(["backup"]);
    site.succeed(["backup"]);
    for (at, index) in objects(&site, "index").into_iter().enumerate() {
        if at == 0 {
            overwrite(&index, b"");
        } else {
            fs::remove_file(index).expect("an index file can be lost");
        }
    }
    assert_eq!(site.run(["check"]).code, Some(4));
    let before = objects(&site, "index");
    let plan = site.succeed(["repair", "index", "--dry-run"]);
    assert!(plan.stdout.contains("add to the index"), "{}", plan.stdout);
    assert_eq!(objects(&site, "index"), before, "a dry run changes nothing");
    assert_eq!(site.run(["repair", "index"]).code, Some(5), "it asks first");
    site.succeed(["repair", "index", "--yes"]);
    site.succeed(["check", "--read-data"]);
    site.restic().check_read_data();
    assert_newest_is_whole(&site);
    assert!(
        site.succeed(["repair", "index", "--yes"]).stdout.contains("the index matches the packs")
    );
}

#[test]
fn a_repository_without_any_of_its_packs_is_not_written_to() {
    let site = site();
    site.succeed(["backup"]);
    fs::rename(site.repository().join("data"), site.path("unmounted"))
        .expect("a directory can be moved");
    fs::create_dir(site.repository().join("data")).expect("a mount point");
    for command in
        [&["backup"][..], &["repair", "index", "--yes"], &["repair", "snapshots", "--yes"]]
    {
        let outcome = site.run(command.iter().copied());
        assert_eq!(outcome.code, Some(5), "{command:?}: {}{}", outcome.stdout, outcome.stderr);
        assert!(objects(&site, "data").is_empty(), "{command:?}");
    }
}

#[test]
fn one_rotten_snapshot_stops_nothing_but_prune() {
    let site = site();
    site.succeed(["backup"]);
    let rotten = objects(&site, "snapshots").pop_first().expect("a snapshot");
    site.succeed(["backup"]);
    site.succeed(["backup"]);
    overwrite(&rotten, b"");
    let name = rotten.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    for command in [
        &["snapshots"][..],
        &["points"],
        &["status"],
        &["backup"],
        &["verify"],
        &["forget", "--keep-last", "9", "--yes"],
    ] {
        let outcome = site.run(command.iter().copied());
        assert_eq!(outcome.code, Some(0), "{command:?}: {}{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stderr.contains(name), "{command:?} names it: {}", outcome.stderr);
    }
    assert_eq!(site.snapshots().len(), 3);
    let refused = site.run(["prune", "--yes"]);
    assert_eq!(refused.code, Some(5), "what it needed would be garbage: {}", refused.stderr);
    assert!(
        refused.stderr.contains(name) && refused.stderr.contains("repair snapshots"),
        "{}",
        refused.stderr
    );
    let check = site.run(["check"]);
    assert!(check.code == Some(4) && check.stdout.contains(name), "{}", check.stdout);
    site.succeed(["repair", "snapshots", "--forget", "--yes"]);
    site.succeed(["prune", "--yes"]);
    site.restic().check_read_data();
}

#[test]
fn what_other_programs_left_is_passed_over() {
    let site = site();
    site.succeed(["backup"]);
    let some_id = "ab".repeat(32);
    for directory in ["snapshots", "index", "keys", "data", "locks"] {
        let directory = site.repository().join(directory);
        fs::create_dir(directory.join("@eaDir")).expect("a directory can be made");
        for name in [
            "@eaDir/x@SynoEAStream",
            ".DS_Store",
            &format!("{some_id}-tmp-1"),
            &format!("@eaDir/{some_id}"),
        ] {
            fs::write(directory.join(name), "junk").expect("a file can be written");
        }
        std::os::unix::fs::symlink("/nowhere", directory.join("broken link"))
            .expect("a link can be made");
    }
    for command in [
        &["backup"][..],
        &["check", "--read-data"],
        &["verify"],
        &["key", "list"],
        &["prune", "--yes"],
        &["stats"],
    ] {
        site.succeed(command.iter().copied());
    }
    // Old releases of stock restic list a directory only up to the first unexpected entry.
    for directory in ["snapshots", "index", "keys", "data", "locks"] {
        let directory = site.repository().join(directory);
        fs::remove_dir_all(directory.join("@eaDir")).expect("the junk can be removed");
        for name in [".DS_Store", &format!("{some_id}-tmp-1"), "broken link"] {
            fs::remove_file(directory.join(name)).expect("the junk can be removed");
        }
    }
    site.restic().check_read_data();
}

#[test]
fn no_share_of_unused_space_divides_by_zero() {
    let site = site();
    site.succeed(["backup"]);
    site.succeed(["prune", "--max-unused", "100", "--yes"]);
    site.succeed(["prune", "--max-unused", "0", "--yes"]);
    assert_eq!(site.run(["prune", "--max-unused", "101", "--yes"]).code, Some(2));
    site.restic().check_read_data();
}
