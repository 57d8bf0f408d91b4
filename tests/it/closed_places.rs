//! Every read-only command works on storage that cannot be written, and a full disk can be emptied.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    program::{Outcome, run},
    seed,
    site::Site,
    tree::Tree,
};

/// A mount that is removed at the end of the test.
struct Mount(PathBuf);

impl Mount {
    fn new(args: &[&str], at: &Path) -> Self {
        fs::create_dir_all(at).expect("a mount point can be made");
        let status = Command::new("mount").args(args).arg(at).status().expect("mount runs");
        assert!(status.success(), "mount {args:?} {}", at.display());
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A failure is ignored: the test has ended.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.with_files("configs", &[&tree])
}

/// Every command that only reads.
fn reads(site: &Site) {
    let target = site.path("restored");
    let target = target.to_str().expect("UTF-8");
    let export = site.path("export.tar");
    let ends = |args: &[&str], code: i32| -> Outcome {
        let outcome = site.run(args.iter().copied());
        assert_eq!(outcome.code, Some(code), "{args:?}: {}{}", outcome.stdout, outcome.stderr);
        outcome
    };
    for args in [
        &["snapshots"][..],
        &["points"],
        &["status"],
        &["stats"],
        &["verify"],
        &["drill"],
        &["check", "--read-data"],
    ] {
        ends(args, 0);
    }
    let restored = ends(&["restore", "files", "--target", target], 0);
    assert!(restored.stderr.contains("without"), "it warns: {}", restored.stderr);
    ends(&["export", "configs", "-o", export.to_str().expect("UTF-8")], 0);
    let tree = site.path("tree");
    Tree::of(&Path::new(target).join(tree.strip_prefix("/").expect("absolute")))
        .assert_equal(&Tree::of(&tree));
}

#[test]
fn from_a_read_only_mount_everything_that_reads_works() {
    let site = site();
    site.initialised_and_backed_up();
    let repository = site.repository();
    let repository = repository.to_str().expect("UTF-8");
    let _mount = Mount::new(&["--bind", repository], &site.repository());
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro,bind", repository])
        .status()
        .expect("mount runs");
    assert!(remounted.success());
    reads(&site);
    assert_ne!(site.run(["backup"]).code, Some(0), "what writes fails");
    let quiet = site.succeed(["--no-lock", "check"]);
    assert!(!quiet.stderr.contains("without one"), "nothing to warn of: {}", quiet.stderr);
    assert_eq!(site.run(["--no-lock", "backup"]).code, Some(2), "what writes must lock");
}

#[test]
fn a_full_repository_is_read_and_forgotten_and_pruned() {
    let site = site();
    let _mount =
        Mount::new(&["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs"], &site.repository());
    site.initialised_and_backed_up();
    // The data to forget, in packs of their own.
    let extra = site.path("tree/extra");
    fs::write(&extra, noise(6 << 20)).expect("a file can be written");
    site.succeed(["backup"]);
    fs::remove_file(&extra).expect("the file can be removed");
    site.succeed(["backup"]);
    let filler = site.repository().join("filler");
    fill(&filler);

    reads(&site);
    site.succeed(["forget", "--keep-last", "1", "--yes"]);
    fill(&filler);
    let pruned = site.succeed(["prune", "--yes"]);
    assert!(pruned.stdout.contains("delete"), "{}", pruned.stdout);
    fs::remove_file(filler).expect("the test's own file");
    site.restic().check_read_data();
    site.succeed(["backup"]);
    site.succeed(["check", "--read-data"]);
}

/// Incompressible bytes.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect()
}

/// Uses all remaining space, to the last byte.
fn fill(path: &Path) {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("the filler can be opened");
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn a_foreign_lock_is_refused_shown_and_removed_by_unlock() {
    let site = site();
    site.initialised_and_backed_up();
    // In its own PID namespace, like a container: its process id is meaningless here.
    let mut contained = Command::new("unshare");
    // Not as the first process of the namespace, because no signal from within ends that one.
    contained
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c", "\"$0\" backup; exit 7"])
        .arg(site.command().get_program());
    contained
        .env("KALEEM_DR_CONFIG", site.config_path())
        .env("KALEEM_DR_FAILPOINT", "capture=kill");
    assert_eq!(run(&mut contained).code, Some(7), "it was killed");
    let refused = site.run(["prune", "--yes"]);
    assert_eq!(refused.code, Some(11), "it may be alive: {}", refused.stderr);
    assert!(refused.stderr.contains("kaleem-dr unlock"), "{}", refused.stderr);
    site.succeed(["backup"]);
    let shown = site.succeed(["unlock"]);
    assert!(
        shown.stdout.contains("container") && shown.stdout.contains("stays"),
        "{}",
        shown.stdout
    );
    assert_eq!(site.run(["prune", "--yes"]).code, Some(11), "a young lock stays");
    assert_eq!(site.run(["unlock", "--remove-all"]).code, Some(5), "it asks");
    site.succeed(["unlock", "--remove-all", "--yes"]);
    site.succeed(["prune", "--yes"]);
    assert!(site.succeed(["unlock"]).stdout.contains("no locks"));
}

#[test]
fn an_empty_old_lock_holds_no_one_back_and_a_fresh_one_does() {
    let site = site();
    site.initialised_and_backed_up();
    let lock = site.repository().join("locks").join("cd".repeat(32));
    fs::write(&lock, "").expect("a lock can be written");
    assert_eq!(site.run(["backup"]).code, Some(11), "it may be one that is being written");
    let touched =
        Command::new("touch").args(["-d", "3 days ago"]).arg(&lock).status().expect("touch runs");
    assert!(touched.success());
    for command in [&["backup"][..], &["prune", "--yes"]] {
        let outcome = site.succeed(command.iter().copied());
        assert!(
            outcome.stderr.contains("kaleem-dr unlock"),
            "{command:?} says so: {}",
            outcome.stderr
        );
    }
    site.succeed(["unlock", "--yes"]);
    assert!(!lock.exists());
}

#[test]
fn a_lock_of_restic_is_not_judged_by_its_process_id() {
    let site = site();
    site.initialised_and_backed_up();
    let restic = site.restic();
    // The process has ended, and the lock does not record where it ran.
    let mut child = Command::new(crate::support::servers::restic_program())
        .args(["-r", restic.repository(), "backup", "--stdin"])
        .env("RESTIC_PASSWORD_FILE", restic.password_file())
        .env("RESTIC_CACHE_DIR", site.path("restic-cache"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("restic runs");
    let locks = site.repository().join("locks");
    // restic writes a lock under a temporary name first, and renames it.
    let complete = |lock: fs::DirEntry| {
        lock.file_name().to_str().is_some_and(|name| {
            name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let taken = || {
        let listed = fs::read_dir(&locks).expect("the locks can be listed");
        listed.map(|lock| lock.expect("a lock can be listed")).any(complete)
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !taken() {
        assert!(std::time::Instant::now() < deadline, "restic took no lock");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().expect("our child can be killed");
    child.wait().expect("our child ends");
    assert_eq!(site.run(["prune", "--yes"]).code, Some(11));
    site.succeed(["unlock", "--remove-all", "--yes"]);
    site.succeed(["prune", "--yes"]);
}
