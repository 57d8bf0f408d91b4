//! Maintaining a repository: adopting one, retention, prune, check, stats, and the exit code of
//! each refusal.

use std::{fs, path::PathBuf};

use crate::support::{
    program::run,
    restic::Restic,
    seed, servers,
    site::{PASSWORD, Site},
    tree::Tree,
};

/// A site whose repository was created by stock restic, with one snapshot of the tree.
fn taken_over(version: u8) -> (Site, PathBuf) {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let restic = site.restic();
    restic.init(version);
    restic.backup([&tree]);
    (site.with_files("configs", &[&tree]), tree)
}

#[test]
fn a_repository_of_stock_restic_is_taken_over_as_it_is() {
    for version in [1, 2] {
        let (site, tree) = taken_over(version);
        let (outcome, lines) = site.json(["backup"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        // restic's last snapshot of the same paths is the parent: nothing is read again.
        assert_eq!(
            lines[0]["files_new"].as_u64().expect("a count")
                + lines[0]["files_changed"].as_u64().expect("a count"),
            0,
            "{lines:?}"
        );
        let snapshots = site.snapshots();
        assert_eq!(snapshots.len(), 2);
        site.restic().check_read_data();

        for snapshot in &snapshots {
            let target =
                site.path(&format!("back-{}", snapshot["short_id"].as_str().expect("an id")));
            let (id, to) =
                (snapshot["id"].as_str().expect("an id"), target.to_str().expect("UTF-8"));
            site.succeed(["restore", "files", "--snapshot", id, "--target", to]);
            Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")))
                .assert_equal(&Tree::of(&tree));
        }
        let target = site.path("stock");
        site.restic().restore_latest(&target, true);
        Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")))
            .assert_equal(&Tree::of(&tree));
    }
}

#[test]
fn forget_leaves_what_is_not_ours_unless_it_takes_over() {
    let (site, _) = taken_over(2);
    for _ in 0..3 {
        site.succeed(["backup"]);
    }
    let asked = site.run(["forget", "--keep-last", "1"]);
    assert_eq!(asked.code, Some(5), "the operator has not agreed: {}", asked.stderr);
    assert_eq!(site.snapshots().len(), 4);
    site.succeed(["forget", "--keep-last", "1", "--dry-run"]);
    assert_eq!(site.snapshots().len(), 4);
    let nothing = site.run(["forget", "--keep-last", "0", "--yes"]);
    assert_eq!(nothing.code, Some(5), "a policy that keeps nothing is refused: {}", nothing.stderr);

    site.succeed(["forget", "--keep-last", "1", "--yes"]);
    let left = site.snapshots();
    assert_eq!(left.len(), 2, "the newest of ours, and restic's: {left:?}");
    assert!(left.iter().any(|snapshot| snapshot["source"].is_null()));

    site.succeed(["prune", "--yes"]);
    site.restic().check_read_data();
}

#[test]
fn prune_marks_first_and_deletes_a_day_later_or_at_once_on_request() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    let site = site.with_files("configs", &[&tree]).initialised();
    let noise = |seed: u32| -> Vec<u8> {
        (0..3_000_000_u32)
            .map(|n| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(n % 31).to_be_bytes()[1])
            .collect()
    };
    fs::write(tree.join("big"), noise(1)).expect("a file");
    site.succeed(["backup"]);
    fs::write(tree.join("big"), noise(99)).expect("a file");
    site.succeed(["backup"]);
    site.succeed(["forget", "--keep-last", "1", "--yes"]);
    let stored = || -> u64 {
        Tree::of(&site.repository().join("data"))
            .paths()
            .map(|path| {
                fs::metadata(site.repository().join("data").join(path))
                    .map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 })
            })
            .sum()
    };
    let before = stored();
    let (outcome, lines) = site.json(["prune", "--yes"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(lines[0]["bytes_marked"].as_u64().expect("bytes") > 1_000_000, "{lines:?}");
    assert!(stored() >= before, "nothing that a writer could still want is deleted at once");
    site.succeed(["prune", "--instant", "--yes"]);
    assert!(stored() < before - 1_000_000, "{} of {before} bytes are left", stored());
    site.restic().check_read_data();
}

#[test]
fn a_flipped_byte_is_found_by_check_and_by_restore() {
    let (site, _) = taken_over(2);
    site.succeed(["backup"]);
    site.succeed(["check", "--read-data"]);
    let packs: Vec<PathBuf> = Tree::of(&site.repository().join("data"))
        .paths()
        .map(|path| site.repository().join("data").join(path))
        .filter(|path| path.is_file())
        .collect();
    let largest = packs
        .iter()
        .max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len()))
        .expect("a pack");
    let mut bytes = fs::read(largest).expect("a pack can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = fs::metadata(largest).expect("a pack").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(largest, permissions).expect("its mode can be set");
    fs::write(largest, bytes).expect("a pack can be written");

    let (outcome, lines) = site.json(["check", "--read-data"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let name = largest.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    assert!(lines[0]["findings"].to_string().contains(&name[..8]), "the pack is named: {lines:?}");

    let target = site.path("back");
    let (outcome, lines) =
        site.json(["restore", "files", "--target", target.to_str().expect("UTF-8")]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    let problems = lines[0]["problems"].as_array().expect("problems");
    assert!(!problems.is_empty());
    for problem in problems {
        let path = problem["path"].as_str().expect("a path");
        assert!(!PathBuf::from(path).exists(), "{path}: half a file must not look restored");
    }
}

#[test]
fn every_refusal_has_its_exit_code() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = site.with_files("configs", &[&tree]);
    let none = site.run(["snapshots"]);
    assert_eq!(none.code, Some(10), "{}", none.stderr);
    assert!(!site.repository().exists(), "looking makes nothing");
    site.succeed(["init"]);
    let again = site.run(["init"]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    let status = site.run(["status"]);
    assert_eq!(status.code, Some(6), "never backed up is stale: {}", status.stdout);
    site.succeed(["backup"]);
    site.succeed(["status"]);
    assert_eq!(site.run(["restore", "configs", "--point", "ffff"]).code, Some(1));
    assert_eq!(site.run(["restore", "nothing"]).code, Some(2));
    assert_eq!(site.run(["frobnicate"]).code, Some(2));
    let full = site.run(["restore", "configs", "--to", tree.to_str().expect("UTF-8")]);
    assert_eq!(full.code, Some(5), "a directory that is not empty: {}", full.stderr);
    site.secret("repository.pass", "wrong");
    assert_eq!(site.run(["snapshots"]).code, Some(12));
    fs::set_permissions(
        site.path("repository.pass"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .expect("its mode can be set");
    let exposed = site.run(["snapshots"]);
    assert_eq!(exposed.code, Some(2));
    assert!(exposed.stderr.contains("chmod 600"), "{}", exposed.stderr);
}

#[test]
fn the_variables_of_restic_are_read_as_they_are() {
    let (site, _) = taken_over(2);
    let mut command = site.command();
    command
        .env_remove("KALEEM_DR_CONFIG")
        .env("XDG_CONFIG_HOME", site.path("no-config"))
        .env("RESTIC_REPOSITORY", site.repository())
        .env("RESTIC_PASSWORD", PASSWORD)
        .args(["--json", "snapshots"]);
    let outcome = run(&mut command);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("short_id"), "{}", outcome.stdout);
}

#[test]
fn a_bucket_is_a_repository_like_a_directory() {
    let s3 = servers::s3();
    let prefix = format!("kaleem-{}", std::process::id());
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let (key, secret) = (site.secret("s3.key", &s3.key), site.secret("s3.secret", &s3.secret));
    let password = site.path("repository.pass");
    let site = site
        .with(&format!(
            "[repository.bucket]\nlocation = \"s3:{}/{}/{prefix}\"\npassword = {{ file = {password:?} }}\naccess_key_id = {{ file = {key:?} }}\nsecret_access_key = {{ file = {secret:?} }}",
            s3.endpoint,
            s3.bucket,
        ))
        .with_files("configs", &[&tree]);
    for args in [
        &["init"][..],
        &["backup"],
        &["backup"],
        &["check", "--read-data"],
        &["forget", "--keep-last", "1", "--yes"],
        &["prune", "--instant", "--yes"],
    ] {
        site.succeed(["--repo", "bucket"].into_iter().chain(args.iter().copied()));
    }
    let target = site.path("back");
    site.succeed([
        "--repo",
        "bucket",
        "restore",
        "configs",
        "--to",
        target.to_str().expect("UTF-8"),
    ]);
    Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")))
        .assert_equal(&Tree::of(&tree));
    let restic = Restic::on_s3(s3, &prefix, PASSWORD);
    restic.check_read_data();
    let stock = site.path("stock");
    restic.restore_latest(&stock, true);
    Tree::of(&stock.join(tree.strip_prefix("/").expect("absolute"))).assert_equal(&Tree::of(&tree));
}
