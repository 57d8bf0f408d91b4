//! Copies into a second repository: complete or not at all, only once, and without storing data
//! twice.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use kaleem_dr_core::ground::host;
use serde_json::Value;

use crate::support::{
    mirror::noise,
    restic::Restic,
    seed, servers,
    site::{PASSWORD, Site},
    tree::Tree,
};

const FAR_PASSWORD: &str = "far-password";

/// Adds a second repository in a directory of the site.
fn with_far(site: Site) -> Site {
    let (location, password) = (site.path("far"), site.secret("far.pass", FAR_PASSWORD));
    site.with(&format!(
        "[repository.r2]\nlocation = {location:?}\npassword = {{ file = {password:?} }}\ntags = [\"r2\", \"server:{{host}}\"]"
    ))
}

fn far(site: &Site) -> Restic {
    Restic::on_directory(&site.path("far"), FAR_PASSWORD)
}

fn copy(site: &Site) -> (Option<i32>, Value) {
    let (outcome, lines) = site.json(["copy", "--to", "r2"]);
    (
        outcome.code,
        lines.last().unwrap_or_else(|| panic!("it printed nothing: {}", outcome.stderr)).clone(),
    )
}

fn count(report: &Value, what: &str) -> usize {
    report[what].as_array().unwrap_or_else(|| panic!("{what} in {report}")).len()
}

#[track_caller]
fn assert_holds(restic: &Restic, source: &Site, tree: &Path) {
    restic.check_read_data();
    let target = source.path("stock-copy");
    restic.restore_latest(&target, true);
    Tree::of(&target.join(tree.strip_prefix("/").expect("absolute"))).assert_equal(&Tree::of(tree));
}

#[test]
fn a_copy_is_whole_keeps_what_it_was_and_is_made_once() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = with_far(site.with_files("configs", &[&tree]).initialised());
    site.succeed(["--repo", "r2", "init"]);
    site.succeed(["backup"]);
    fs::write(tree.join("more"), "later").expect("a file");
    site.succeed(["backup", "--tag", "second"]);

    let dry = site.json(["copy", "--to", "r2", "--dry-run"]);
    assert_eq!(count(&dry.1[0], "copied"), 2);
    assert!(far(&site).snapshots().is_empty(), "a dry run writes nothing");

    let (code, report) = copy(&site);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((count(&report, "copied"), count(&report, "failed")), (2, 0));
    assert_holds(&far(&site), &site, &tree);
    let (near, there) = (site.restic().snapshots(), far(&site).snapshots());
    for (from, to) in near.iter().zip(&there) {
        for same in ["time", "hostname", "username", "tree", "paths"] {
            assert_eq!(from[same], to[same]);
        }
        assert_eq!(to["original"], from["id"]);
        assert_ne!(to["id"], from["id"]);
        let tags = to["tags"].as_array().expect("tags");
        for tag in from["tags"].as_array().expect("tags") {
            assert!(tags.contains(tag), "{tag} in {tags:?}");
        }
        assert!(
            tags.contains(&"r2".into())
                && tags.contains(&format!("server:{}", host::name()).into()),
            "{tags:?}"
        );
    }

    let objects = |site: &Site| Tree::of(&site.path("far")).paths().count();
    let before = objects(&site);
    let (code, again) = copy(&site);
    assert_eq!(code, Some(0));
    assert_eq!((count(&again, "copied"), count(&again, "skipped")), (0, 2));
    assert_eq!(again["added_bytes"], 0);
    assert_eq!(objects(&site), before, "a second copy moves nothing, and its locks are gone");

    assert_eq!(site.run(["copy", "--to", "local"]).code, Some(2), "not into itself");
}

#[test]
fn a_copy_goes_into_a_bucket_and_back() {
    let s3 = servers::s3();
    let prefix = format!("copy-{}", std::process::id());
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let (key, secret) = (site.secret("s3.key", &s3.key), site.secret("s3.secret", &s3.secret));
    let password = site.secret("far.pass", FAR_PASSWORD);
    let location = format!("s3:{}/{}/{prefix}", s3.endpoint, s3.bucket);
    let back = site.path("back");
    let site = site
        .with_files("configs", &[&tree])
        .with(&format!(
            "[repository.r2]\nlocation = {location:?}\npassword = {{ file = {password:?} }}\naccess_key_id = {{ file = {key:?} }}\nsecret_access_key = {{ file = {secret:?} }}\n[repository.back]\nlocation = {back:?}\npassword = {{ file = {password:?} }}"
        ))
        .initialised();
    site.succeed(["--repo", "r2", "init", "--copy-chunker-params", "local"]);
    site.succeed(["--repo", "back", "init"]);
    site.succeed(["backup"]);
    let (code, report) = copy(&site);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(count(&report, "copied"), 1);
    assert_holds(&Restic::on_s3(s3, &prefix, FAR_PASSWORD), &site, &tree);
    site.succeed(["--repo", "r2", "copy", "--to", "back"]);
    Restic::on_directory(&back, FAR_PASSWORD).check_read_data();
}

/// Two sources; the file data of `broken` are in a pack of their own, whose path is returned.
fn one_of_two_damaged() -> (Site, PathBuf) {
    let site = Site::new();
    let (good, broken) = (site.path("good"), site.path("broken"));
    seed::file_tree(&good);
    fs::create_dir_all(&broken).expect("a directory");
    fs::write(broken.join("big"), noise(3_000_000, 7)).expect("a file");
    let site =
        with_far(site.with_files("broken", &[&broken]).with_files("good", &[&good]).initialised());
    site.succeed(["--repo", "r2", "init"]);
    site.succeed(["backup"]);
    let data = site.repository().join("data");
    let packs: Vec<PathBuf> =
        Tree::of(&data).paths().map(|path| data.join(path)).filter(|path| path.is_file()).collect();
    let largest = packs
        .iter()
        .max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len()))
        .expect("a pack")
        .clone();
    (site, largest)
}

#[track_caller]
fn assert_only_the_good_one_is_copied(site: &Site) {
    let (code, report) = copy(site);
    assert_eq!(code, Some(4), "{report}");
    assert_eq!((count(&report, "copied"), count(&report, "failed")), (1, 1), "{report}");
    assert_eq!(report["failed"][0]["source"], "broken", "{report}");
    let there = far(site).snapshots();
    assert_eq!(there.len(), 1);
    assert!(there[0]["tags"].as_array().expect("tags").contains(&"source:good".into()));
    far(site).check_read_data();
}

#[test]
fn a_snapshot_whose_blob_no_index_knows_never_becomes_a_copy() {
    let (site, pack) = one_of_two_damaged();
    fs::remove_file(pack).expect("a pack can be removed");
    site.restic().succeed(["rebuild-index"]);
    assert_only_the_good_one_is_copied(&site);
}

#[test]
fn a_snapshot_in_a_damaged_pack_never_becomes_a_copy() {
    let (site, pack) = one_of_two_damaged();
    let mut bytes = fs::read(&pack).expect("a pack can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("its mode can be set");
    fs::write(&pack, bytes).expect("a pack can be written");
    assert_only_the_good_one_is_copied(&site);
}

#[test]
fn a_repository_made_with_the_same_chunker_stores_nothing_twice() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("big"), noise(12_000_000, 3)).expect("a file");
    let site = with_far(site.with_files("configs", &[&tree]).initialised());
    site.succeed(["--repo", "r2", "init", "--copy-chunker-params", "local"]);
    assert_ne!(
        site.json(["--repo", "r2", "key", "list"]).1[0][0]["id"],
        site.json(["key", "list"]).1[0][0]["id"],
        "its key is its own"
    );
    site.succeed(["backup"]);
    let (code, report) = copy(&site);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["chunkers_differ"], false);
    // The same bytes under another name, so that they are read and chunked again.
    fs::rename(tree.join("big"), tree.join("renamed")).expect("a file can be renamed");
    let (outcome, lines) = site.json(["--repo", "r2", "backup"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let added = lines[0]["data_added_packed"].as_u64().expect("bytes");
    assert!(added < 120_000, "{added} bytes were added for what was there");
    far(&site).check_read_data();

    let other = site.path("other");
    let password = site.path("far.pass");
    let site = site.with(&format!(
        "[repository.other]\nlocation = {other:?}\npassword = {{ file = {password:?} }}"
    ));
    site.succeed(["--repo", "other", "init"]);
    let told = site.succeed(["copy", "--to", "other"]);
    assert_eq!(told.stdout.matches("different chunker parameters").count(), 1, "{}", told.stdout);
    Restic::on_directory(&other, FAR_PASSWORD).check_read_data();
    assert!(Restic::on_directory(&site.repository(), PASSWORD).run(["check"]).status.success());
}
