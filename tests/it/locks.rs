//! We take part in restic's locking: locks are honoured in both directions, and never block for
//! longer than restic's rule allows.

use std::{fs, io::Write as _, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{process::await_stopped, program::run, seed, site::Site};

fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.with_files("configs", &[&tree]).initialised()
}

fn locks(site: &Site) -> usize {
    fs::read_dir(site.repository().join("locks")).expect("the locks can be listed").count()
}

#[test]
fn stock_prune_is_refused_while_our_backup_is_frozen() {
    let site = site();
    site.succeed(["backup"]);
    let mut command = site.command();
    command
        .arg("backup")
        .env("KALEEM_DR_FAILPOINT", "beforerelease=stop")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    fs::write(site.path("tree/new"), "only in the frozen run").expect("a file can be written");
    let mut child = command.spawn().expect("the program runs");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    await_stopped(pid);

    let refused = site.restic().run(["prune"]);
    assert!(!refused.status.success(), "restic's prune must not run now");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("locked"), "{said}");
    let ours = site.run(["prune", "--yes"]);
    assert_eq!(ours.code, Some(11), "ours is refused too: {}", ours.stderr);

    kill(pid, Signal::SIGCONT).expect("our child can be woken");
    assert!(child.wait().expect("our child ends").success());
    let restic = site.restic();
    restic.succeed(["prune"]);
    restic.check_read_data();
    assert_eq!(site.snapshots().len(), 2);
}

#[test]
fn our_prune_is_refused_under_restics_lock() {
    let site = site();
    site.succeed(["backup"]);
    // restic holds its lock until its output is read.
    let restic = site.restic();
    let mut child = std::process::Command::new(crate::support::servers::restic_program())
        .args(["-r", restic.repository(), "backup", "--stdin"])
        .env("RESTIC_PASSWORD_FILE", restic.password_file())
        .env("RESTIC_CACHE_DIR", site.path("restic-cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("restic runs");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while locks(&site) == 0 {
        assert!(std::time::Instant::now() < deadline, "restic took no lock");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    let prune = site.run(["prune", "--yes"]);
    assert_eq!(prune.code, Some(11), "{}", prune.stderr);
    assert!(
        prune.stderr.contains(&format!("process {}", child.id())),
        "the holder is named: {}",
        prune.stderr
    );
    let forget = site.run(["forget", "--keep-last", "1", "--yes"]);
    assert_eq!(forget.code, Some(11), "{}", forget.stderr);
    site.succeed(["backup"]);
    let (waited, _) = site.json(["--retry-lock", "1s", "prune", "--yes"]);
    assert_eq!(waited.code, Some(11), "it waits, then gives up: {}", waited.stderr);

    let mut stdin = child.stdin.take().expect("its input is ours");
    stdin.write_all(b"something").expect("restic reads");
    drop(stdin);
    assert!(child.wait().expect("restic ends").success());
    site.succeed(["prune", "--yes"]);
    assert_eq!(locks(&site), 0);
}

#[test]
fn the_lock_of_a_dead_process_blocks_no_command() {
    let site = site();
    let killed = run(site.command().arg("backup").env("KALEEM_DR_FAILPOINT", "capture=kill"));
    assert_eq!(killed.code, None, "it was killed");
    assert_eq!(locks(&site), 1, "its lock stayed");
    site.succeed(["prune", "--yes"]);
    assert_eq!(locks(&site), 0);
}

#[test]
fn a_lock_removed_under_us_keeps_the_snapshot_from_being_released() {
    let site = site();
    let mut command = site.command();
    command
        .arg("backup")
        .env("KALEEM_DR_FAILPOINT", "beforerelease=stop")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("the program runs");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    await_stopped(pid);
    site.restic().succeed(["unlock", "--remove-all"]);
    kill(pid, Signal::SIGCONT).expect("our child can be woken");
    let output = child.wait_with_output().expect("our child ends");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("lock"), "it says why");
    assert!(site.snapshots().is_empty());
}

#[test]
fn an_interrupt_ends_cleanly() {
    let site = site();
    let mut command = site.command();
    command
        .arg("backup")
        .env("KALEEM_DR_FAILPOINT", "capture=stop:2")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("the program runs");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    await_stopped(pid);
    kill(pid, Signal::SIGINT).expect("our child can be interrupted");
    kill(pid, Signal::SIGCONT).expect("our child can be woken");
    assert_eq!(child.wait().expect("our child ends").code(), Some(130));
    assert_eq!(locks(&site), 0, "its lock is gone");
    assert!(site.snapshots().is_empty());
    site.restic().check_read_data();
}
