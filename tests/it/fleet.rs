//! A fleet: all hosts of several repositories, read without locks, state or rights to write.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::support::site::Site;

/// A host with one file, on the repository of another one or on its own.
fn with_file(site: Site) -> Site {
    let tree = site.path("tree");
    fs::create_dir_all(&tree).expect("a directory");
    for n in 0..40 {
        fs::write(tree.join(format!("file-{n}")), "content").expect("a file");
    }
    site.with_files("configs", &[&tree])
}

/// Two hosts on one repository and a third on another; db1 is proven.
struct Fleet {
    db1: Site,
    web1: Site,
    far: Site,
}

impl Fleet {
    fn new() -> Self {
        let db1 = with_file(Site::new().named("db1")).initialised();
        let web1 = with_file(db1.neighbour("web1"));
        let far = with_file(Site::new().named("far1")).initialised();
        for site in [&db1, &web1, &far] {
            site.succeed(["backup"]);
        }
        db1.succeed(["verify"]);
        Self { db1, web1, far }
    }

    /// A machine that only watches.
    fn watcher(&self, more: &str) -> Site {
        let watcher = Site::new();
        let password = watcher.path("repository.pass");
        let table = |name: &str, site: &Site| {
            format!(
                "[fleet.repository.{name}]\nlocation = '{}'\npassword = {{ file = '{}' }}\n",
                site.repository().display(),
                password.display()
            )
        };
        let (eu, us) = (table("eu", &self.db1), table("us", &self.far));
        let state = format!(
            "state_directory = '{}'\ncache_directory = '{}'\n",
            watcher.path("none/state").display(),
            watcher.path("none/cache").display()
        );
        watcher.rewritten(format!("{state}{eu}{us}{more}"))
    }
}

/// Every file of a repository, with its time of change.
fn files(root: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = fs::metadata(&path).expect("its metadata");
            if path.is_dir() {
                pending.push(path.clone());
            }
            found.insert(path, meta.modified().expect("a time"));
        }
    }
    found
}

fn row<'a>(status: &'a Value, host: &str) -> &'a Value {
    let rows = status["hosts"].as_array().expect("rows");
    rows.iter().find(|row| row["host"] == host).unwrap_or_else(|| panic!("no {host}: {rows:?}"))
}

#[test]
fn each_host_has_a_row_with_its_point_its_proof_and_what_is_wrong() {
    let fleet = Fleet::new();
    let watcher = fleet.watcher(
        "[fleet.host.db1]\n[fleet.host.cache1]\n[fleet.host.far1]\nrepositories = ['us']\nproof_hours = 0\n",
    );
    let before = files(&fleet.db1.repository());
    let (outcome, lines) = watcher.json(["fleet", "status"]);
    assert_eq!(outcome.code, Some(6), "{}", outcome.stderr);
    assert_eq!(files(&fleet.db1.repository()), before, "nothing is written, not even a lock");
    assert!(!watcher.path("none").exists(), "and nothing here");
    let status = &lines[0];
    let db1 = row(status, "db1");
    assert_eq!(
        (&db1["is_late"], &db1["is_unproven"], &db1["proof"], &db1["repository"]),
        (&false.into(), &false.into(), &"parsed".into(), &"eu".into())
    );
    let far1 = row(status, "far1");
    assert_eq!((&far1["is_unproven"], &far1["is_late"]), (&false.into(), &false.into()));
    assert_eq!(row(status, "cache1")["is_missing"], true);
    let web1 = row(status, "web1");
    assert_eq!((&web1["is_expected"], &web1["is_unproven"]), (&false.into(), &true.into()));

    let text = watcher.run(["fleet", "status"]).stdout;
    for words in
        ["cache1: no snapshot", "MISSING", "parsed", "not expected", "2 of 2 repositories read"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let rows = text.lines().take_while(|line| !line.contains(": ")).map(str::trim_end);
    let longest = rows.map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|longest| longest <= 80), "{longest:?}: {text}");

    // Once everything is in order, it says so.
    fleet.web1.succeed(["verify"]);
    let good = fleet.watcher("[fleet.host.db1]\n[fleet.host.web1]\n");
    let outcome = good.run(["fleet", "status"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    let late = fleet.watcher("[fleet]\nrpo_hours = 0\n[fleet.host.db1]\n");
    let outcome = late.run(["fleet", "status"]);
    assert_eq!(outcome.code, Some(6), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("LATE"), "{}", outcome.stdout);
}

#[test]
fn an_alarm_of_a_host_is_seen_by_the_fleet() {
    let fleet = Fleet::new();
    for n in 0..40 {
        fs::remove_file(fleet.db1.path("tree").join(format!("file-{n}"))).expect("our file");
    }
    fs::write(fleet.db1.path("tree/left"), "left").expect("a file");
    assert_eq!(fleet.db1.run(["backup"]).code, Some(3), "saved, and an alarm");
    fleet.db1.run(["verify"]);
    let watcher = fleet.watcher("[fleet.host.db1]\n");
    let (outcome, lines) = watcher.json(["fleet", "status"]);
    assert_eq!((outcome.code, &row(&lines[0], "db1")["alarms"]), (Some(6), &1.into()));
    let text = watcher.run(["fleet", "status"]).stdout;
    assert!(text.contains("ALARM") && text.contains("files are gone"), "{text}");
}

#[test]
fn a_repository_that_cannot_be_read_is_named_and_is_not_a_success() {
    let fleet = Fleet::new();
    let watcher = fleet.watcher("[fleet.host.db1]\n[fleet.host.far1]\nproof_hours = 0\n");
    fs::rename(fleet.far.repository(), fleet.far.path("away")).expect("our repository");
    let (outcome, lines) = watcher.json(["fleet", "status"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(lines[0]["repositories"][1]["error"].is_string(), "{lines:?}");
    assert_eq!(row(&lines[0], "far1")["is_unknown"], true);
    let text = watcher.run(["fleet", "status"]).stdout;
    assert!(text.contains("error: repository us cannot be read"), "{text}");
    fs::rename(fleet.db1.repository(), fleet.db1.path("away")).expect("our repository");
    assert_eq!(watcher.run(["fleet", "status"]).code, Some(10), "none can be read");
    assert_eq!(Site::new().rewritten(String::new()).run(["fleet", "status"]).code, Some(2));
    let unknown = fleet.watcher("[fleet.host.db1]\nrepositories = ['asia']\n");
    let refused = unknown.run(["fleet", "status"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("fleet.host.db1.repositories"), "{}", refused.stderr);
}

#[test]
fn metrics_are_written_to_a_file_and_served_until_a_signal() {
    let fleet = Fleet::new();
    let watcher = fleet.watcher("[fleet.host.db1]\n[fleet.host.cache1]\n");
    let file = watcher.path("fleet.prom");
    let path = file.to_str().expect("UTF-8");
    assert_eq!(watcher.run(["fleet", "status", "--metrics", path]).code, Some(6));
    let metrics = fs::read_to_string(&file).expect("metrics");
    for line in [
        "kaleem_dr_fleet_host_late{host=\"cache1\",repository=\"\"} 1",
        "kaleem_dr_fleet_host_late{host=\"db1\",repository=\"eu\"} 0",
        "kaleem_dr_fleet_host_unproven{host=\"db1\",repository=\"eu\"} 0",
        "kaleem_dr_fleet_host_expected{host=\"web1\",repository=\"eu\"} 0",
        "kaleem_dr_fleet_repository_readable{repository=\"us\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("dev/install installs promtool");
    promtool.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("it reads");
    assert!(promtool.wait().expect("it ends").success());

    let mut server = watcher
        .command()
        .args(["-v", "fleet", "serve", "--listen", "127.0.0.1:0", "--every", "1s"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = BufReader::new(server.stderr.take().expect("a pipe")).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| {
            let at = line.find("127.0.0.1:")?;
            let address: String = line[at..]
                .chars()
                .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                .collect();
            Some(address)
        })
        .expect("it says where it listens");
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    let body = loop {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        if answer.starts_with("HTTP/1.1 200 ") || std::time::Instant::now() > deadline {
            break answer;
        }
    };
    assert!(body.contains("kaleem_dr_fleet_host_late{host=\"db1\",repository=\"eu\"} 0"), "{body}");
    let pid = Pid::from_raw(server.id().try_into().expect("pids are small"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    assert_eq!(server.wait().expect("it ends").code(), Some(130));
}
