//! SIGINT and SIGTERM: every command ends within two seconds, with 130, and leaves nothing that
//! blocks others.
//!
//! Each command is held at a named step, as by a store that does not reply, so that the signal
//! arrives in the middle of its work on any machine; and once without holding it, in the middle of
//! data.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{
    mirror::noise,
    program::{Outcome, run, start},
    seed,
    site::{PASSWORD, Site},
};

/// Limit for the time from the signal to the end of the process.
const LIMIT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(1);

/// A running command.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn begin(command: &mut Command) -> Self {
        let mut child = start(command);
        let stderr = BufReader::new(child.stderr.take().expect("it is a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// Waits until the program has printed this.
    fn until(&self, said: &str) {
        let mut before = String::new();
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("it never said {said:?}, but:\n{before}"));
            if line.contains(said) {
                return;
            }
            before += &line;
            before.push('\n');
        }
    }

    /// Sends the signal; returns the outcome and the time that it took.
    fn end(mut self, signal: Signal) -> (Outcome, Duration) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("pids are small"));
        let began = Instant::now();
        kill(pid, signal).expect("it runs");
        let mut stdout = String::new();
        // The end of the process closes the pipe.
        self.child.stdout.take().expect("it is a pipe").read_to_string(&mut stdout).expect("UTF-8");
        let status = self.child.wait().expect("our child can be waited for");
        let took = began.elapsed();
        let stderr = self.lines.iter().collect::<Vec<_>>().join("\n");
        (Outcome { code: status.code(), stdout, stderr }, took)
    }
}

/// Asserts that the command ended in time with 130, reported no damage, and left no lock.
#[track_caller]
fn assert_ended_well(site: &Site, what: &str, (outcome, took): &(Outcome, Duration)) {
    let said = format!(
        "{what} ended with {:?} after {took:?}:\n{}\n{}",
        outcome.code, outcome.stdout, outcome.stderr
    );
    assert_eq!(outcome.code, Some(130), "{said}");
    assert!(*took < LIMIT, "{said}");
    for word in ["damage", "errors were found", "panicked"] {
        assert!(!outcome.stdout.contains(word) && !outcome.stderr.contains(word), "{said}");
    }
    assert_no_lock(&site.repository(), &said);
}

#[track_caller]
fn assert_no_lock(repository: &Path, said: &str) {
    let locks: Vec<_> = fs::read_dir(repository.join("locks")).expect("a repository").collect();
    assert!(locks.is_empty(), "{} locks are left in {}; {said}", locks.len(), repository.display());
}

/// A site with data, a mirror that lacks one snapshot, and another repository.
fn site() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    fs::write(tree.join("noise"), noise(40 << 20, 1)).expect("a file can be written");
    let (mirror, copy) = (site.path("mirror"), site.path("copy"));
    let password = site.secret("copy.pass", PASSWORD);
    let other = format!(
        "[repository.copy]\nlocation = '{}'\npassword = {{ file = '{}' }}",
        copy.display(),
        password.display()
    );
    let site =
        site.with_files("tree", &[&tree]).with_mirror("mirror", &mirror).with(&other).initialised();
    site.succeed(["init", "--repo", "copy"]);
    site.succeed(["backup"]);
    site.succeed(["replicate"]);
    fs::write(tree.join("noise"), noise(20 << 20, 2)).expect("a file can be written");
    site.succeed(["backup"]);
    site
}

#[test]
fn a_signal_ends_every_command_within_two_seconds_whatever_it_waits_for() {
    let site = site();
    let (exported, restored) = (site.path("exported.tar"), site.path("restored"));
    let (exported, restored) =
        (exported.to_str().expect("UTF-8"), restored.to_str().expect("UTF-8"));
    // Each command with the steps at which it is held: early and late in its work.
    let commands: [(&[&str], &[&str]); 18] = [
        (&["backup"], &["capture", "pack", "write:2", "read"]),
        (&["check"], &["read", "read:4"]),
        (&["check", "--read-data"], &["read", "read:7"]),
        (&["forget", "--keep-last", "1", "--yes"], &["read", "delete"]),
        (&["prune", "--instant", "--max-unused", "0", "--yes"], &["read:6", "write:2"]),
        (&["replicate"], &["read", "write:1"]),
        (&["verify"], &["read:2", "read:9"]),
        (&["drill"], &["read:7", "read:9"]),
        (&["export", "tree", "--output", exported], &["read:3", "read:8"]),
        (&["restore", "tree", "--to", restored], &["read:3", "read:9"]),
        (&["restore", "files", "--target", restored], &["read:9"]),
        (&["copy", "--to", "copy"], &["read:3", "pack"]),
        (&["repair", "--from", "mirror"], &["read:2"]),
        (&["snapshots"], &["read:2"]),
        (&["ls", "--recursive"], &["read:3", "read:6"]),
        (&["find", "*", "--history"], &["read:3", "read:6"]),
        (&["dump", "tree", "/"], &["read:3", "read:9"]),
        (&["diff", "latest", "latest", "--verbose"], &["read:3"]),
    ];
    for (number, (command, steps)) in commands.into_iter().enumerate() {
        for (n, step) in steps.iter().enumerate() {
            fs::write(site.path("tree/changing"), noise(3 << 20, (number * 10 + n) as u64))
                .expect("a file can be written");
            let (name, nth) = step.split_once(':').unwrap_or((step, "1"));
            let held = Running::begin(
                site.command()
                    .args(command)
                    .env("KALEEM_DR_FAILPOINT", format!("{name}=hang:{nth}")),
            );
            held.until("failpoint reached");
            let signal = if (number + n) % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
            let what = format!("{command:?}, held up at {step},");
            assert_ended_well(&site, &what, &held.end(signal));
            for other in ["mirror", "copy"] {
                assert_no_lock(&site.path(other), &what);
            }
        }
    }
    assert!(!Path::new(exported).exists(), "half of a file was exported");
    site.restic().check_read_data();
    // Nothing blocks the next run.
    site.succeed(["backup"]);
    // Snapshots forgotten before the signal are deleted from the mirror.
    site.succeed(["replicate", "--max-delete", "100"]);
    site.succeed(["drill"]);
    site.succeed(["status"]);
}

#[test]
fn a_signal_in_the_middle_of_a_large_file_ends_its_backup_within_two_seconds() {
    // In `make soak`, as large as on a real machine.
    let mebibytes = std::env::var("KALEEM_TEST_SIGNAL_MIB")
        .map_or(300, |text| text.parse().expect("a number of MiB"));
    let site = Site::new();
    let tree = site.path("tree");
    large_file(&tree, mebibytes);
    let site = site.with_files("tree", &[&tree]).initialised();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let packs = packs(&site);
        let running = Running::begin(site.command().arg("backup"));
        let deadline = Instant::now() + PATIENCE;
        while self::packs(&site) < packs + 2 {
            assert!(Instant::now() < deadline, "no packs are written");
            thread::sleep(Duration::from_millis(2));
        }
        assert_ended_well(
            &site,
            &format!("backup of {mebibytes} MiB at {signal}"),
            &running.end(signal),
        );
        assert!(site.snapshots().is_empty());
    }
    site.restic().check_read_data();
}

/// Bytes that neither compress nor repeat.
fn large_file(tree: &Path, mebibytes: u64) {
    use std::io::Write as _;
    fs::create_dir_all(tree).expect("a directory can be made");
    let mut file = fs::File::create(tree.join("large")).expect("a file can be made");
    for at in 0..mebibytes {
        file.write_all(&noise(1 << 20, at + 1)).expect("the disk has room");
    }
}

fn packs(site: &Site) -> usize {
    let Ok(directories) = fs::read_dir(site.repository().join("data")) else { return 0 };
    directories
        .flatten()
        .filter_map(|directory| fs::read_dir(directory.path()).ok())
        .map(Iterator::count)
        .sum()
}

#[test]
fn a_signal_at_the_question_ends_the_command_and_releases_the_lock() {
    let site = site();
    // `script` provides a terminal to ask on.
    let question = format!(
        "{} forget --keep-last 1",
        crate::support::program::kaleem_dr().get_program().display()
    );
    let mut command = Command::new("setsid");
    command
        .args(["--wait", "script", "--quiet", "--command", &question, "/dev/null"])
        .env("KALEEM_DR_CONFIG", site.config_path());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("script can be run");
    let mut stdout = child.stdout.take().expect("it is a pipe");
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"[y/N] ") {
        assert!(
            stdout.read(&mut byte).expect("a pipe can be read") > 0,
            "{}",
            String::from_utf8_lossy(&said)
        );
        said.push(byte[0]);
    }
    assert_eq!(
        fs::read_dir(site.repository().join("locks")).expect("a repository").count(),
        1,
        "it asks under its lock"
    );
    let began = Instant::now();
    // The terminal turns it into SIGINT.
    std::io::Write::write_all(child.stdin.as_mut().expect("it is a pipe"), b"\x03")
        .expect("it listens");
    stdout.read_to_end(&mut said).expect("a pipe can be read");
    let took = began.elapsed();
    child.wait().expect("our child can be waited for");
    assert!(took < LIMIT, "{took:?}: {}", String::from_utf8_lossy(&said));
    assert_no_lock(&site.repository(), &String::from_utf8_lossy(&said));
    assert_eq!(site.snapshots().len(), 2);
    run(site.command().args(["check"]));
}

#[test]
fn a_signal_ends_a_command_that_waits_for_the_one_that_prints_its_password() {
    let site = Site::new();
    let repository = format!("location = {:?}", site.repository());
    let hanging = site.path("hanging");
    let password = format!(
        "password = {{ command = [\"sh\", \"-c\", \"echo $$ > {}; exec sleep 60\"] }}",
        hanging.display()
    );
    let config = format!(
        "state_directory = {:?}\n[repository.local]\n{repository}\n{password}\n",
        site.path("state")
    );
    let site = site.rewritten(config);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let running = Running::begin(site.command().arg("snapshots"));
        let deadline = Instant::now() + PATIENCE;
        while fs::read(&hanging).is_ok_and(|pid| pid.is_empty()) || !hanging.exists() {
            assert!(Instant::now() < deadline, "the command is never run");
            thread::sleep(Duration::from_millis(2));
        }
        let (outcome, took) = running.end(signal);
        assert!(took < LIMIT, "{signal} took {took:?}: {}", outcome.stderr);
        assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
        let pid = fs::read_to_string(&hanging).expect("it wrote its process id");
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "the command is left behind");
        fs::remove_file(&hanging).expect("a file can be removed");
    }
}
