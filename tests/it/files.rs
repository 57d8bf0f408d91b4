//! File trees: everything that the file system stores is restored, and unreadable entries are
//! reported.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
};

use crate::support::{program::run, seed, site::Site, tree::Tree};

#[test]
fn an_awkward_tree_comes_back_equal() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let before = Tree::of(&tree);
    let site = site.with_files("configs", &[&tree]).initialised();
    site.succeed(["backup"]);
    let target = site.path("back");
    let (outcome, lines) =
        site.json(["restore", "configs", "--to", target.to_str().expect("UTF-8")]);
    assert_eq!(outcome.code, Some(0), "{} {lines:?}", outcome.stderr);
    Tree::of(&target.join(tree.strip_prefix("/").expect("absolute"))).assert_equal(&before);
    let hole = fs::metadata(target.join(tree.strip_prefix("/").expect("absolute")).join("sparse"))
        .expect("the sparse file");
    assert!(
        std::os::unix::fs::MetadataExt::blocks(&hole) * 512 < hole.len() / 2,
        "holes stay holes"
    );
}

#[test]
fn an_in_place_restore_writes_over_what_changed_and_leaves_the_rest() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let before = Tree::of(&tree);
    let site = site.with_files("configs", &[&tree]).initialised();
    site.succeed(["backup"]);
    fs::write(tree.join("etc/nginx/nginx.conf"), "broken").expect("a file can be written");
    fs::remove_file(tree.join("dangling")).expect("a link can be removed");
    fs::remove_dir_all(tree.join("etc/nginx/conf.d")).expect("a directory can be removed");
    let unasked = site.run(["restore", "configs", "--in-place"]);
    assert_eq!(unasked.code, Some(5), "{}", unasked.stderr);
    site.succeed(["restore", "configs", "--in-place", "--yes"]);
    Tree::of(&tree).assert_equal(&before);
    fs::write(tree.join("new since"), "stays").expect("a file can be written");
    site.succeed(["restore", "configs", "--in-place", "--yes"]);
    assert!(tree.join("new since").exists());
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_the_rest_is_kept() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    fs::write(tree.join("closed"), "unreadable").expect("a file can be written");
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o000))
        .expect("its mode can be set");
    let site = site.with_files("configs", &[&tree]);
    // Root can read everything, so another user runs the program.
    let nobody = 65534;
    for path in [site.path("."), site.path("repository.pass"), site.config_path()] {
        std::os::unix::fs::chown(&path, Some(nobody), Some(nobody))
            .expect("root may give files away");
    }
    // That user may have no access to the target directory; a copy of the program works.
    let program = site.path("kaleem-dr");
    fs::copy(site.command().get_program(), &program).expect("the program can be copied");
    for command in ["init", "backup"] {
        let mut as_nobody = Command::new(&program);
        as_nobody.env("KALEEM_DR_CONFIG", site.config_path()).args(["--json", command]);
        if nix::unistd::geteuid().is_root() {
            as_nobody.uid(nobody).gid(nobody);
        }
        let outcome = run(&mut as_nobody);
        if command == "init" {
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            continue;
        }
        assert_eq!(outcome.code, Some(3), "{}{}", outcome.stdout, outcome.stderr);
        let summary = outcome.stdout.lines().next().expect("a summary");
        assert!(summary.contains("closed") && summary.contains("Permission denied"), "{summary}");
    }
    let snapshots = site.snapshots();
    assert_eq!(snapshots.len(), 1);
    assert!(snapshots[0]["tags"].to_string().contains("incomplete"), "{snapshots:?}");
    let target = site.path("back");
    let restored = site.run(["restore", "configs", "--to", target.to_str().expect("UTF-8")]);
    assert_eq!(
        restored.code,
        Some(0),
        "what was captured comes back: {}{}",
        restored.stdout,
        restored.stderr
    );
    let back = target.join(tree.strip_prefix("/").expect("absolute"));
    assert!(!back.join("closed").exists());
    assert!(back.join("etc/nginx/conf.d/default.conf").exists());
}

#[test]
fn excludes_and_selections_take_globs() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    fs::create_dir_all(tree.join("cache")).expect("a directory");
    fs::write(tree.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n")
        .expect("a file");
    fs::write(tree.join("cache/junk"), "junk").expect("a file");
    let site = site
        .with(&format!("[source.configs]\ntype = \"files\"\npaths = [{tree:?}]\nexclude = [\"large*\", \"{}/empty*\"]\nexclude_caches = true", tree.display()))
        .initialised();
    site.succeed(["backup"]);
    let target = site.path("back");
    site.succeed([
        "restore",
        "files",
        "--target",
        target.to_str().expect("UTF-8"),
        "--include",
        "*.conf",
        "--include",
        tree.join("sparse").to_str().expect("UTF-8"),
    ]);
    let back = Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")));
    let found: Vec<String> = back.paths().map(|path| path.display().to_string()).collect();
    for wanted in ["etc/nginx/nginx.conf", "etc/nginx/conf.d/default.conf", "sparse"] {
        assert!(found.iter().any(|path| path == wanted), "{wanted} in {found:?}");
    }
    for unwanted in ["large", "cache/junk", "--help", "etc/nginx/link"] {
        assert!(!found.iter().any(|path| path == unwanted), "{unwanted} in {found:?}");
    }
    let nothing = site.run([
        "restore",
        "files",
        "--target",
        site.path("none").to_str().expect("UTF-8"),
        "--include",
        "/no/such",
    ]);
    assert_eq!(
        nothing.code,
        Some(1),
        "an empty restore is not a success: {}{}",
        nothing.stdout,
        nothing.stderr
    );
}
