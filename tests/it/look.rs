//! Looking inside points: what `ls`, `find` and `dump` print is what the snapshots contain,
//! whichever program made them, and damage never looks like success.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use kaleem_dr_core::jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    damaged::{overwrite, packs_of},
    support::{process::await_stopped, program::start, seed, site::Site, tree::Tree},
};

pub fn site(host: &str) -> Site {
    with_tree(Site::new().named(host)).initialised()
}

fn with_tree(site: Site) -> Site {
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.with_files("configs", &[&tree])
}

pub fn text(path: PathBuf) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Runs the program with arguments of any bytes, without log lines.
fn raw(site: &Site, args: &[&OsStr]) -> Output {
    site.command().arg("--quiet").args(args).output().expect("the program runs")
}

/// The lines of a program's output, without headings.
fn lines(output: &[u8]) -> BTreeSet<Vec<u8>> {
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"snapshot "))
        .map(<[u8]>::to_vec)
        .collect()
}

fn node(line: &Value) -> (String, Vec<String>) {
    let time: Timestamp = line["mtime"].as_str().expect("a time").parse().expect("a time");
    let size = if line["type"] == "file" { line["size"].to_string() } else { String::new() };
    // restic prints 0 for what was not recorded.
    let owner = |key: &str| line[key].as_u64().unwrap_or_default().to_string();
    let facts = [&line["type"], &line["mode"], &line["name"]];
    let mut facts: Vec<String> = facts.iter().map(ToString::to_string).collect();
    facts.extend([owner("uid"), owner("gid")]);
    facts.extend([size, time.to_string()]);
    (line["path"].as_str().expect("a path").to_owned(), facts)
}

#[test]
fn ls_lists_a_snapshot_as_stock_restic_does_whoever_made_it() {
    let site = site("db1");
    site.succeed(["backup"]);
    let restic = site.restic();
    restic.succeed([
        OsStr::new("backup"),
        OsStr::new("--host"),
        OsStr::new("db1"),
        site.path("tree").as_os_str(),
    ]);
    let snapshots = site.snapshots();
    assert_eq!(snapshots.len(), 2);
    for snapshot in &snapshots {
        let id = snapshot["id"].as_str().expect("an id");
        let theirs = restic.succeed(["ls", id]).stdout;
        let ours = raw(&site, &["ls".as_ref(), id.as_ref()]);
        assert!(ours.status.success());
        assert_eq!(lines(&ours.stdout), lines(&theirs), "{snapshot}");
        assert!(
            ours.stdout.windows(5).any(|bytes| bytes == b"caf\xe9\n"),
            "names keep their bytes"
        );

        let theirs = String::from_utf8_lossy(&restic.succeed(["ls", "--json", id]).stdout)
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("restic prints JSON"))
            .filter(|line| line["struct_type"] == "node")
            .map(|line| node(&line))
            .collect::<BTreeMap<_, _>>();
        let (outcome, ours) = site.json(["ls", id]);
        assert_eq!((outcome.code, &ours[0]["id"]), (Some(0), &snapshot["id"]));
        let ours: BTreeMap<_, _> = ours[1..].iter().map(node).collect();
        assert_eq!(ours, theirs);
    }
    let (_, all) = site.json(["ls", "configs"]);
    let odd = all.iter().find(|line| !line["path_escaped"].is_null()).expect("one is not UTF-8");
    assert!(odd["path_escaped"].as_str().expect("text").ends_with("latin-1 caf\\xe9"), "{odd}");
    let linked = |name: &str| all.iter().find(|line| line["name"] == name).expect("it is listed");
    assert_eq!(linked("large")["links"], 2);
    assert_eq!(linked("large")["inode"], linked("large hard link")["inode"]);
}

#[test]
fn ls_lists_the_newest_point_of_each_source_and_single_directories() {
    let site = site("db1");
    let other = site.path("other");
    fs::create_dir(&other).expect("a directory");
    fs::write(other.join("b"), "b").expect("a file");
    let site = site.with_files("more", &[&other]);
    site.succeed(["backup"]);
    fs::write(site.path("tree/added"), "added").expect("a file");
    site.succeed(["backup", "configs"]);

    let all = site.succeed(["--quiet", "ls"]).stdout;
    let (new, b) = (text(site.path("tree/added")), text(other.join("b")));
    assert!(all.lines().any(|line| line == new) && all.lines().any(|line| line == b), "{all}");
    let before = site.succeed(["--quiet", "ls", "configs~1"]).stdout;
    assert!(before.lines().all(|line| line != new) && before.contains("nginx.conf"), "{before}");

    let etc = text(site.path("tree/etc"));
    let flat = site.succeed(["--quiet", "ls", "configs", &etc]).stdout;
    let names = ["", "/large hard link", "/nginx"].map(|name| format!("{etc}{name}"));
    assert_eq!(flat.lines().collect::<Vec<_>>(), names);
    let deep = site.succeed(["--quiet", "ls", &etc, "--recursive"]).stdout;
    assert!(deep.lines().any(|line| line == format!("{etc}/nginx/conf.d/default.conf")), "{deep}");
    assert_eq!(deep.lines().count(), 7);
    let conf = format!("{etc}/nginx/nginx.conf");
    let long = site.succeed(["--quiet", "ls", "configs", &conf, "--long"]).stdout;
    assert!(long.starts_with("-rw-r----- ") && long.contains(" 23 2001-09-09 "), "{long}");

    let none = site.run(["ls", "configs", "/no/such"]);
    assert_eq!(none.code, Some(1), "{}", none.stdout);
    assert!(none.stderr.contains("does not contain /no/such"), "{}", none.stderr);
    assert_eq!(site.run(["ls", "configs~9"]).code, Some(1));
    assert_eq!(site.run(["ls", "4f3a~1"]).code, Some(2));
}

#[test]
fn find_matches_names_and_paths_of_this_hosts_newest_points() {
    let site = site("db1");
    let neighbour = with_tree(site.neighbour("web1"));
    site.succeed(["backup"]);
    neighbour.succeed(["backup"]);
    let found = |args: &[&str]| -> Vec<String> {
        let output = site.succeed(["--quiet", "find"].iter().chain(args).copied()).stdout;
        output.lines().map(str::to_owned).collect()
    };
    let at = |path: &str| text(site.path("tree").join(path));
    let confs = [at("etc/nginx/conf.d/default.conf"), at("etc/nginx/nginx.conf")];
    assert_eq!(found(&["*.conf"]), confs);
    assert_eq!(found(&["*.CONF", "--ignore-case", "--source", "configs"]), confs);
    assert_eq!(found(&["nginx/*.conf"]), [at("etc/nginx/nginx.conf")]);
    assert_eq!(found(&[&format!("{}/**/default.conf", at("etc"))]), [confs[0].clone()]);
    assert!(found(&["/nginx.conf"]).is_empty());
    let odd = raw(&site, &["find".as_ref(), "latin-1 caf?".as_ref()]).stdout;
    assert!(odd.ends_with(b"/latin-1 caf\xe9\n"), "{odd:?}");
    let theirs = site.succeed(["--host", "web1", "--quiet", "find", "nginx.conf"]).stdout;
    assert_eq!(theirs.trim_end(), text(neighbour.path("tree/etc/nginx/nginx.conf")));
    let wrong = site.run(["find", "["]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    let unknown = site.run(["find", "x", "--source", "nothing"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.stdout);
}

#[test]
fn the_history_of_a_file_is_one_line_for_each_version() {
    let site = site("db1");
    let neighbour = with_tree(site.neighbour("web1"));
    let file = site.path("tree/etc/nginx/nginx.conf");
    let gone = site.path("tree/etc/nginx/gone.conf");
    let again = site.path("tree/again.conf");
    fs::write(&gone, "gone").expect("a file");
    site.succeed(["backup"]);
    neighbour.succeed(["backup"]);
    fs::remove_file(&gone).expect("our file");
    fs::write(site.path("tree/unrelated"), "1").expect("a file");
    site.succeed(["backup"]);
    fs::write(&file, "second version\n").expect("a file");
    fs::write(&again, "again").expect("a file");
    site.succeed(["backup"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("our file");
    site.succeed(["backup"]);
    let ids: Vec<String> = site
        .snapshots()
        .iter()
        .filter(|snapshot| snapshot["hostname"] == "db1")
        .map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned())
        .collect();
    let (outcome, lines) = site.json(["find", "*.conf", "--history", "--source", "configs"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let versions: Vec<_> = lines
        .iter()
        .map(|line| {
            let at = |key: &str| {
                let id = line[key].as_str().expect("an id");
                ids.iter().position(|known| known == id).expect("a snapshot of this host")
            };
            let path = Path::new(line["path"].as_str().expect("a path"));
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (
                name,
                at("first_snapshot"),
                at("last_snapshot"),
                line["size"].as_u64().expect("a size"),
            )
        })
        .collect();
    let expected = [
        ("again.conf", 2, 3, 5),
        ("default.conf", 0, 3, 22),
        ("gone.conf", 0, 0, 4),
        ("nginx.conf", 0, 1, 23),
        ("nginx.conf", 2, 3, 15),
    ];
    assert_eq!(
        versions,
        expected.map(|(name, first, last, size)| (name.to_owned(), first, last, size))
    );
    let people = site.succeed(["find", "gone.conf", "--history"]).stdout;
    assert!(people.contains(&ids[0][..8]) && people.trim_end().ends_with("/gone.conf"), "{people}");
}

#[test]
fn dump_writes_the_bytes_of_every_file_and_a_directory_as_a_tar() {
    let site = site("db1");
    site.succeed(["backup"]);
    let tree = site.path("tree");
    site.restic().backup([&tree]);
    let foreign = site.snapshots().into_iter().find(|snapshot| snapshot["source"].is_null());
    let foreign = foreign.expect("restic's")["id"].as_str().expect("an id").to_owned();
    for of in ["configs", foreign.as_str()] {
        let mut files = 0;
        for path in Tree::of(&tree).paths() {
            let path = tree.join(path);
            if !fs::symlink_metadata(&path).expect("it exists").is_file() {
                continue;
            }
            let dumped = raw(&site, &["dump".as_ref(), of.as_ref(), path.as_os_str()]);
            assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
            assert!(dumped.stdout == fs::read(&path).expect("a file"), "{}", path.display());
            files += 1;
        }
        assert_eq!(files, 10);
        let tar = raw(&site, &["dump".as_ref(), of.as_ref(), tree.as_os_str()]);
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        let target = site.path(&format!("untarred-{of}"));
        fs::create_dir(&target).expect("a directory");
        untar(
            &tar.stdout,
            &["-x", "--xattrs", "--xattrs-include=*", "-p", "-C", &text(target.clone())],
        )
        .expect("GNU tar reads it");
        // The directory itself is not a member.
        let same = |root: &Path| Tree::of(&root.join("etc"));
        same(&target).assert_equal(&same(&tree));
        assert_eq!(
            Tree::of(&target).paths().collect::<Vec<_>>(),
            Tree::of(&tree).paths().collect::<Vec<_>>()
        );
    }

    let target = text(site.path("out"));
    let conf = text(tree.join("etc/nginx/nginx.conf"));
    site.succeed(["dump", "configs", &conf, "--target", &target]);
    assert_eq!(fs::read_to_string(&target).expect("the file"), "worker_processes auto;\n");
    let taken = site.run(["dump", "configs", &text(tree.join("large")), "--target", &target]);
    assert_eq!(taken.code, Some(5), "{}", taken.stderr);
    assert_eq!(fs::read_to_string(&target).expect("the file"), "worker_processes auto;\n");
    let link = site.run(["dump", "configs", &text(tree.join("etc/nginx/link"))]);
    assert!(
        link.code == Some(1) && link.stderr.contains("symbolic link to nginx.conf"),
        "{link:?}"
    );
    let none = site.run(["dump", "configs", "/etc/../no"]);
    assert!(none.code == Some(1) && none.stderr.contains("kaleem-dr find"), "{none:?}");
}

/// Gives a tar to GNU tar; the error is what it reports.
fn untar(tar: &[u8], args: &[&str]) -> Result<(), String> {
    let mut child = Command::new("tar")
        .args(["-f", "-"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tar runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end before it has read everything.
    let _ = stdin.write_all(tar);
    drop(stdin);
    let ended = child.wait_with_output().expect("tar ends");
    if ended.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_dump_and_a_listing_quietly() {
    let site = site("db1");
    for n in 0..3000 {
        fs::write(site.path("tree").join(format!("a file with a long name to fill pipes {n}")), "")
            .expect("a file");
    }
    site.succeed(["backup"]);
    let tree = site.path("tree");
    for args in [
        vec!["dump".to_owned(), "configs".to_owned(), text(tree.join("large"))],
        vec!["dump".to_owned(), "configs".to_owned(), text(tree)],
        vec!["ls".to_owned()],
    ] {
        let mut child = start(site.command().arg("--quiet").args(&args));
        let mut begin = [0; 10];
        child.stdout.take().expect("a pipe").read_exact(&mut begin).expect("ten bytes");
        let ended = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), stderr.as_ref()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_dump_of_damaged_content_fails_and_no_tar_of_it_is_whole() {
    let site = site("db1");
    site.succeed(["backup"]);
    for pack in packs_of(&site, "data") {
        overwrite(&pack, b"");
    }
    let large = text(site.path("tree/large"));
    let dumped = site.run(["dump", "configs", &large]);
    assert_eq!((dumped.code, dumped.stdout.as_str()), (Some(4), ""), "{}", dumped.stderr);
    assert!(
        dumped.stderr.contains("damaged") && dumped.stderr.contains("check --read-data"),
        "{}",
        dumped.stderr
    );
    let target = site.path("out");
    let refused = site.run(["dump", "configs", &large, "--target", &text(target.clone())]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(!target.exists(), "no file of that name is left");
    let tar = raw(&site, &["dump".as_ref(), "configs".as_ref(), site.path("tree").as_os_str()]);
    assert_eq!(tar.status.code(), Some(4));
    let told = untar(&tar.stdout, &["-t"]).expect_err("the tar must not look whole");
    assert!(told.contains("Unexpected EOF"), "{told}");

    for pack in packs_of(&site, "tree") {
        overwrite(&pack, b"");
    }
    for command in [&["ls", "configs"][..], &["find", "*"], &["dump", "configs", "/"]] {
        let outcome = site.run(command.iter().copied());
        assert_eq!(outcome.code, Some(4), "{command:?}: {}", outcome.stderr);
    }
}

#[test]
fn a_listing_waits_for_an_exclusive_lock_and_leaves_none() {
    let site = site("db1");
    let locks = || fs::read_dir(site.repository().join("locks")).expect("the locks").count();
    site.succeed(["backup"]);
    site.succeed(["backup"]);
    let first = site.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    // A forget that is frozen while it holds its exclusive lock.
    let mut command = site.command();
    command.args(["forget", &first, "--yes"]).env("KALEEM_DR_FAILPOINT", "forget=stop");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut forget = command.spawn().expect("the program runs");
    let pid = Pid::from_raw(i32::try_from(forget.id()).expect("a pid"));
    await_stopped(pid);
    let locked = site.run(["ls"]);
    assert_eq!(locked.code, Some(11), "{}", locked.stderr);
    assert!(site.succeed(["--no-lock", "ls"]).stdout.contains("nginx.conf"));
    kill(pid, Signal::SIGCONT).expect("our child");
    forget.wait().expect("it ends");
    assert!(site.succeed(["ls"]).stdout.contains("nginx.conf"));
    assert_eq!(locks(), 0, "the shared lock is released");
}
