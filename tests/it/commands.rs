//! Commands of the operator: sources that are whatever a command prints, and hooks around backups.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{fs, path::Path, process::Command, time::Duration};

use nix::sys::signal::{Signal, kill};

use crate::support::{
    program::{run, start},
    seed,
    site::Site,
};

/// A "database": a file that `dump` prints and `restore` replaces.
fn with_database(site: Site, more: &str) -> Site {
    let database = site.path("database");
    fs::write(&database, "a row\nanother row\n").expect("a file");
    let config = format!(
        "[source.db]\ntype = \"command\"\ndump = [\"cat\", {database:?}]\nfile = \"db.dump\"\n\
         restore = [\"sh\", \"-c\", \"cat > {0}.new && mv {0}.new {0}\"]\n{more}",
        database.display()
    );
    site.with(&config)
}

/// A file of the newest snapshot, as stock restic prints it. Evidence of drills is no data.
fn dumped(site: &Site, path: &str) -> String {
    let restic = site.restic();
    let newest = restic.data_snapshots().pop().expect("a snapshot")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    String::from_utf8(restic.succeed(["dump", &newest, path]).stdout).expect("UTF-8")
}

/// Commands that rehearse in a scratch directory.
const SCRATCH: &str = "[source.db.scratch]\nrestore = [\"sh\", \"-c\", \"cat > {scratch}/db; touch 'ELSEWHERE/{name}'\"]\n\
    dump = [\"cat\", \"{scratch}/db\"]\nremove = [\"sh\", \"-c\", \"rm 'ELSEWHERE/{name}'; touch 'ELSEWHERE/removed'\"]\n";

#[test]
fn what_a_command_prints_is_saved_proven_and_loaded_again() {
    let site = Site::new();
    let elsewhere = site.path("elsewhere made");
    fs::create_dir(&elsewhere).expect("a directory");
    let scratch = SCRATCH.replace("ELSEWHERE", elsewhere.to_str().expect("UTF-8"));
    let site = with_database(site, &format!("check = [\"grep\", \"-q\", \"row\"]\n{scratch}"));
    let site = site.initialised();
    site.succeed(["backup"]);
    let verified = site.succeed(["verify"]).stdout;
    assert!(verified.contains("db.dump: 18 bytes, valid by grep"), "{verified}");
    let (drill, lines) = site.json(["drill"]);
    assert_eq!(drill.code, Some(0), "{}{}", drill.stdout, drill.stderr);
    let control =
        &lines.last().expect("a report")["report"]["sources"][0]["verification"]["control"];
    assert!(control["found"].as_array().is_some_and(|found| !found.is_empty()), "{lines:?}");

    let left: Vec<_> = fs::read_dir(&elsewhere).expect("a directory").flatten().collect();
    assert_eq!(left.len(), 1, "only that it was removed is left: {left:?}");
    let database = site.path("database");
    fs::write(&database, "nothing\n").expect("a file");
    site.succeed(["restore", "db", "--in-place", "--yes"]);
    assert_eq!(fs::read_to_string(&database).expect("a file"), "a row\nanother row\n");
    let directory = site.path("elsewhere");
    site.succeed(["restore", "db", "--to", directory.to_str().expect("UTF-8")]);
    assert_eq!(
        fs::read_to_string(directory.join("db.dump")).expect("a file"),
        "a row\nanother row\n"
    );
    assert_eq!(dumped(&site, "/command/db/db.dump"), "a row\nanother row\n");
}

#[test]
fn a_command_that_fails_or_prints_nothing_leaves_no_snapshot() {
    let site = Site::new().initialised();
    let password = site.secret("db.pass", "canary-3");
    for (script, code, why) in [
        // Everything was printed before it failed.
        ("echo data; echo cannot finish >&2; exit 3", 1, "cannot finish"),
        ("exit 0", 1, "printed nothing"),
        ("echo data; kill -9 $$", 1, "signal: 9"),
        ("echo data; echo password is $SECRET >&2; exit 1", 1, "failed"),
    ] {
        let text = format!(
            "[source.db]\ntype = \"command\"\ndump = [\"sh\", \"-c\", {script:?}]\nenvironment = {{ SECRET = {{ file = {password:?} }} }}"
        );
        let base = fs::read_to_string(site.config_path()).expect("a config");
        let base = base.split("[source.db]").next().expect("the rest").to_owned();
        fs::write(site.config_path(), base + &text).expect("a config");
        let outcome = site.run(["backup"]);
        assert_eq!(outcome.code, Some(code), "{script}: {}", outcome.stderr);
        assert!(outcome.stdout.contains(why), "{script}: {}{}", outcome.stdout, outcome.stderr);
        let said = outcome.stdout + &outcome.stderr;
        assert!(!said.contains("canary"), "{said}");
        assert!(site.snapshots().is_empty(), "{script}");
    }
}

#[test]
fn a_restore_command_that_fails_or_loads_something_else_is_not_a_restore() {
    let site = with_database(Site::new(), "").initialised();
    site.succeed(["backup"]);
    let config = fs::read_to_string(site.config_path()).expect("a config");
    let database = site.path("database");
    for (restore, code, why) in [
        (
            r#"["sh", "-c", "cat > /dev/null; echo out of space >&2; exit 28"]"#.to_owned(),
            1,
            "out of space",
        ),
        (format!("[\"sh\", \"-c\", \"head -c 5 > {}\"]", database.display()), 4, "db.dump"),
    ] {
        let at = config.find("restore = ").expect("a restore command");
        let end = config[at..].find('\n').map_or(config.len(), |end| at + end);
        let text = format!("{}restore = {restore}{}", &config[..at], &config[end..]);
        fs::write(site.config_path(), text).expect("a config");
        let outcome = site.run(["restore", "db", "--in-place", "--yes"]);
        assert_eq!(outcome.code, Some(code), "{restore}: {}{}", outcome.stdout, outcome.stderr);
        let said = outcome.stdout + &outcome.stderr;
        assert!(said.contains(why), "{restore}: {said}");
    }
}

#[test]
fn hooks_surround_a_capture_and_a_failed_one_is_no_success() {
    let site = Site::new();
    let (tree, log) = (site.path("tree"), site.path("log"));
    seed::file_tree(&tree);
    let say = |word: &str| format!("[\"sh\", \"-c\", \"echo {word} >> {}\"]", log.display());
    let config = |before: &str, after: &str| {
        format!(
            "[backup]\nhooks = {{ before = [{}], after = [{}] }}\n\
             [source.tree]\ntype = \"files\"\npaths = [{tree:?}]\nhooks = {{ before = [{before}], after = [{after}] }}",
            say("open"),
            say("close")
        )
    };
    let base = fs::read_to_string(site.config_path()).expect("a config");
    let with = |before: &str, after: &str| {
        fs::write(site.config_path(), format!("{base}{}", config(before, after)))
            .expect("a config");
    };
    let words = || {
        let words = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        words.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    with(&say("stop"), &say("start"));
    site.succeed(["init"]);
    site.succeed(["backup", "--dry-run"]);
    assert!(words().is_empty(), "a dry run changes nothing");
    site.succeed(["backup"]);
    assert_eq!(words(), ["open", "stop", "start", "close"]);
    with(&format!("{}, [\"false\"]", say("stop")), &say("start"));
    let outcome = site.run(["backup"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("`hooks.before`: false ended with 1"), "{}", outcome.stdout);
    assert_eq!(words(), ["open", "stop", "start", "close"]);
    assert_eq!(site.snapshots().len(), 1, "nothing was captured");
    with(&say("stop"), "[\"sh\", \"-c\", \"echo not started; exit 5\"]");
    let outcome = site.run(["backup"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("not started"), "{}", outcome.stdout);
    assert_eq!(site.snapshots().len(), 2, "its snapshot is kept");
    // A signal in the middle of the capture: the service is started again.
    words();
    with(&say("stop"), &say("start"));
    let child = start(site.command().arg("backup").env("KALEEM_DR_FAILPOINT", "pack=hang"));
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("stop")) {
        assert!(std::time::Instant::now() < deadline, "it never begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    std::thread::sleep(Duration::from_millis(500));
    let mut words = words();
    words.sort();
    assert_eq!(words, ["close", "open", "start", "stop"]);
}

/// Needs root and btrfs in the kernel, like a machine with btrfs.
#[test]
fn files_are_read_from_a_snapshot_of_their_volume() {
    if !crate::support::servers::can_run("btrfs") {
        return;
    }
    let site = Site::new();
    let (image, volume) = (site.path("image"), site.path("volume"));
    fs::create_dir(&volume).expect("a directory");
    let shell = |script: &str| {
        let outcome = run(Command::new("sh").args(["-ec", script]));
        assert_eq!(outcome.code, Some(0), "{script}: {}", outcome.stderr);
    };
    shell(&format!(
        "truncate -s 200M {0} && mkfs.btrfs -q {0} && mount -o loop {0} {1} && btrfs -q subvolume create {1}/data",
        image.display(),
        volume.display()
    ));
    let unmount = Unmount(&volume);
    let (data, snapshot) = (volume.join("data"), volume.join("snapshot"));
    fs::write(data.join("a"), "before").expect("a file");
    // The application continues to write after the snapshot.
    let config = format!(
        "[source.data]\ntype = \"files\"\npaths = [{data:?}]\nsnapshot_at = {{ {data:?} = {snapshot:?} }}\n\
         [source.data.hooks]\nbefore = [[\"btrfs\", \"subvolume\", \"snapshot\", \"-r\", {data:?}, {snapshot:?}],\n\
         \x20         [\"sh\", \"-c\", \"echo after > {0}/a; echo new > {0}/b\"]]\n\
         after = [[\"btrfs\", \"subvolume\", \"delete\", {snapshot:?}]]",
        data.display()
    );
    let site = site.with(&config).initialised();
    let (outcome, lines) = site.json(["backup"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(lines.last().expect("a report")["sources"][0]["consistency"], "point-in-time");
    assert!(!snapshot.exists(), "the snapshot is removed");
    let path = |name: &str| data.join(name).display().to_string();
    assert_eq!(dumped(&site, &path("a")), "before");
    let listed = site.succeed(["ls", "--recursive"]).stdout;
    assert!(!listed.contains(&path("b")), "{listed}");
    // Unchanged files are recognised although they are read from another place each time.
    fs::write(data.join("a"), "before").expect("a file");
    let again = site.json(["backup"]).1;
    drop(unmount);
    assert_eq!(again.last().expect("a report")["sources"][0]["files"], 2);
}

/// Unmounts a volume when it is dropped.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        // A leak would only cost memory.
        let _ = Command::new("umount").arg(self.0).status();
    }
}
