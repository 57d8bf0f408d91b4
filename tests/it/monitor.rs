//! Monitoring is notified of the end of every job: accurately, without secrets, and never at the
//! job's expense.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use kaleem_dr_core::{
    engine::ledger::EventKind,
    ground::{Exit, RunId},
    operate::{
        config::{Config, secret::Environment},
        monitor::{Ended, Job, LogTail, Monitor},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{
    healthchecks_stand_in::{Answers, HealthchecksStandIn},
    mirror::{flip_byte, noise},
    program::{Outcome, run},
    seed,
    servers::{Rabbitmq, free_port},
    site::Site,
};

/// A site with one tree, and with a check for each of these names.
fn site(server: &HealthchecksStandIn, checks: &[&str]) -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    with_checks(site.with_files("configs", &[&tree]).initialised(), server, checks, "")
}

fn with_checks(site: Site, server: &HealthchecksStandIn, checks: &[&str], more: &str) -> Site {
    let check = |name: &&str| {
        let secret = site.secret(
            &format!("{}.hc", name.replace('/', "-")),
            &server.url(&format!("ping/{name}")),
        );
        format!("{name:?} = {{ file = {secret:?} }}")
    };
    let checks: Vec<String> = checks.iter().map(check).collect();
    site.with(&format!("[monitoring.healthchecks]\nchecks = {{ {} }}\n{more}", checks.join(", ")))
}

/// A broker at a port.
fn broker_at(port: u16) -> Rabbitmq {
    Rabbitmq {
        url: format!("http://127.0.0.1:{port}"),
        username: "kaleem".into(),
        password: "rabbit-pass".into(),
    }
}

#[track_caller]
fn assert_heard(server: &HealthchecksStandIn, wanted: &[(&str, &[&str])]) {
    let wanted: BTreeMap<String, Vec<String>> = wanted
        .iter()
        .map(|(check, signals)| {
            ((*check).to_owned(), signals.iter().map(|signal| (*signal).to_owned()).collect())
        })
        .collect();
    assert_eq!(server.heard(), wanted);
}

#[test]
fn a_good_run_is_heard_from_its_start_to_its_end_under_its_id() {
    let server = HealthchecksStandIn::start();
    let site = site(&server, &["backup", "backup/configs", "drill"]);
    let (outcome, lines) = site.json(["backup"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_heard(&server, &[("backup", &["start", "0"]), ("backup/configs", &["start", "0"])]);
    let run: RunId =
        lines.last().expect("a report")["run"].as_str().expect("an id").parse().expect("a ULID");
    for seen in server.seen() {
        assert_eq!(seen.query["rid"], run.as_uuid(), "{}", seen.path);
        assert_eq!(seen.method, "POST");
    }
    let end = &server.seen_at("ping/backup/0")[0].body;
    assert!(
        end.contains("INFO") && end.contains("saved") && end.contains("backup ended well"),
        "{end}"
    );
    assert!(end.ends_with(" s\n") && end.contains("configs: well"), "{end}");
}

#[test]
fn a_dry_run_is_not_reported() {
    let server = HealthchecksStandIn::start();
    let site = site(&server, &["backup", "forget", "prune"]);
    for args in [
        &["backup", "--dry-run"][..],
        &["forget", "--dry-run"],
        &["prune", "--dry-run"],
        &["snapshots"],
    ] {
        site.succeed(args.iter().copied());
    }
    assert_heard(&server, &[]);
    let (_, history) = site.json(["history"]);
    assert_eq!(history[0], serde_json::json!([]));
}

#[test]
fn a_source_that_cannot_be_reached_fails_its_check_and_the_jobs_and_no_other() {
    let server = HealthchecksStandIn::start();
    let checks = ["backup", "backup/configs", "backup/rabbitmq"];
    let site = site(&server, &checks).with_rabbitmq_at("rabbitmq", &broker_at(free_port()));
    assert_eq!(site.run(["backup"]).code, Some(3));
    assert_heard(
        &server,
        &[
            ("backup", &["start", "3"]),
            ("backup/configs", &["start", "0"]),
            ("backup/rabbitmq", &["start", "7"]),
        ],
    );
    let why = &server.seen_at("ping/backup/rabbitmq/7")[0].body;
    assert!(why.contains("rabbitmq: unreachable: source rabbitmq"), "{why}");

    // Only that check: the job's own check represents all sources.
    assert_eq!(site.run(["backup", "rabbitmq"]).code, Some(7));
    site.succeed(["backup", "configs"]);
    assert_heard(
        &server,
        &[
            ("backup", &["start", "3", "7", "log"]),
            ("backup/configs", &["start", "0", "start", "0"]),
            ("backup/rabbitmq", &["start", "7", "start", "7"]),
        ],
    );
}

#[test]
fn a_wrong_password_and_a_missing_repository_are_heard_too() {
    let server = HealthchecksStandIn::start();
    let site = site(&server, &["backup", "backup/configs", "check"]);
    site.secret("repository.pass", "another");
    assert_eq!(site.run(["backup"]).code, Some(12));
    assert_heard(&server, &[("backup", &["start", "12"]), ("backup/configs", &["start", "12"])]);
    fs::remove_dir_all(site.repository()).expect("the repository can be lost");
    assert_eq!(site.run(["check"]).code, Some(10));
    assert_eq!(server.heard()["check"], ["start", "10"]);
    // The ledger and the metrics have it too.
    let (_, history) = site.json(["history"]);
    let ends: Vec<_> = history[0]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| (&event["kind"], &event["exit"]))
        .collect();
    assert_eq!(serde_json::json!(ends), serde_json::json!([["check", 10], ["backup", 12]]));
    let metrics = site.succeed(["metrics"]).stdout;
    for line in [
        "kaleem_dr_last_run_status{kind=\"backup\",repository=\"local\",source=\"\"} 12",
        "kaleem_dr_last_run_status{kind=\"backup\",repository=\"local\",source=\"configs\"} 12",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// Starts a backup that waits for a broker which accepts connections and never replies.
fn waiting_backup(server: &HealthchecksStandIn) -> (Site, Child, TcpListener) {
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = silent.local_addr().expect("an address").port();
    let site = site(server, &["backup"]).with_rabbitmq_at("rabbitmq", &broker_at(port));
    let child = site
        .command()
        .arg("backup")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    server.await_at("ping/backup/start");
    (site, child, silent)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
}

#[test]
fn a_killed_run_is_a_start_without_an_end() {
    let server = HealthchecksStandIn::start();
    let (_site, mut child, _silent) = waiting_backup(&server);
    child.kill().expect("our child can be killed");
    child.wait().expect("our child ends");
    assert_heard(&server, &[("backup", &["start"])]);
}

#[test]
fn a_cancelled_run_is_heard_as_one() {
    let server = HealthchecksStandIn::start();
    let (_site, mut child, _silent) = waiting_backup(&server);
    kill(pid(&child), Signal::SIGTERM).expect("our child can be ended");
    assert_eq!(child.wait().expect("our child ends").code(), Some(130));
    assert_heard(&server, &[("backup", &["start", "130"])]);
}

/// A backup that must succeed within a time although no notification arrives.
#[track_caller]
fn unheard_backup(site: &Site, within: Duration) -> Outcome {
    let began = Instant::now();
    let outcome = site.succeed(["backup"]);
    assert!(began.elapsed() < within, "it took {:?}", began.elapsed());
    assert!(
        outcome.stderr.contains("WARN") && outcome.stderr.contains("could not be notified"),
        "{}",
        outcome.stderr
    );
    assert_eq!(site.snapshots().len(), 1);
    outcome
}

#[test]
fn a_ping_server_that_is_down_costs_a_warning_that_does_not_say_its_address() {
    let server = HealthchecksStandIn::start();
    let site = site(&server, &["backup"]);
    site.secret("backup.hc", &format!("http://127.0.0.1:{}/0b8a9e3c-secret", free_port()));
    let outcome = unheard_backup(&site, Duration::from_secs(20));
    assert!(
        !outcome.stderr.contains("0b8a9e3c") && !outcome.stderr.contains("http://"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_ping_server_that_never_answers_holds_nothing_up_for_long() {
    let server =
        HealthchecksStandIn::start().answering(Answers { never: true, ..Answers::default() });
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = with_checks(
        site.with_files("configs", &[&tree]).initialised(),
        &server,
        &["backup"],
        "timeout_seconds = 1",
    );
    unheard_backup(&site, Duration::from_secs(20));
}

#[test]
fn a_server_that_stumbles_is_tried_again() {
    let server =
        HealthchecksStandIn::start().answering(Answers { unavailable: 2, ..Answers::default() });
    let site = site(&server, &["check"]);
    site.succeed(["check"]);
    assert_heard(&server, &[("check", &["start", "start", "start", "0"])]);
}

#[test]
fn no_body_holds_a_secret() {
    let server = HealthchecksStandIn::start();
    let site = Site::new();
    // Unreadable files are named in log and report: here with a name that is a secret elsewhere,
    // and one that looks like one.
    let (known, assigned) = ("kanarienvogel77", "kanarienvogel88");
    let webhook = site.secret("webhook.url", &server.url("hook"));
    let header = site.secret("header", known);
    let paths = [site.path(known), site.path(&format!("token={assigned}"))];
    let site = site.with_files("known", &[&paths[0]]).with_files("assigned", &[&paths[1]]).with(&format!(
        "[[monitoring.webhook]]\nurl = {{ file = {webhook:?} }}\nheaders = {{ X-Key = {{ file = {header:?} }} }}"
    ));
    let site = with_checks(
        site.initialised(),
        &server,
        &["backup", "backup/known", "backup/assigned"],
        "",
    );
    let outcome = site.run(["backup"]);
    assert_ne!(outcome.code, Some(0));
    let said = outcome.stderr + &outcome.stdout;
    assert!(
        said.contains(known) && said.contains(assigned),
        "the log names both, or nothing is proven here: {said}"
    );
    let bodies: Vec<String> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert!(bodies.iter().any(|body| body.contains("***")), "{bodies:?}");
    assert!(
        !bodies.iter().any(|body| body.contains(known) || body.contains(assigned)),
        "{bodies:?}"
    );
    let hook = &server.seen_at("hook")[0];
    assert_eq!(hook.headers["x-key"], known);
    assert!(
        hook.json()["sources"].as_array().is_some_and(|sources| sources.len() == 2),
        "{}",
        hook.body
    );
}

#[test]
fn a_body_is_the_tail_that_the_server_takes() {
    let long = HealthchecksStandIn::start();
    let site = site(&long, &["backup"]);
    site.succeed(["backup"]);
    let whole = &long.seen_at("ping/backup/0")[0].body;
    assert!(whole.len() > 150, "{whole}");

    let short = HealthchecksStandIn::start()
        .answering(Answers { body_limit: Some(120), ..Answers::default() });
    site.secret("backup.hc", &short.url("ping/backup"));
    site.succeed(["backup"]);
    let tail = &short.seen_at("ping/backup/0")[0].body;
    assert!(
        tail.len() <= 120 && tail.ends_with(" s\n") && tail.contains("configs: well"),
        "{tail}"
    );
}

#[test]
fn bodies_can_be_switched_off() {
    let server = HealthchecksStandIn::start();
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let site = with_checks(
        site.with_files("configs", &[&tree]).initialised(),
        &server,
        &["backup"],
        "log = false",
    );
    site.succeed(["backup"]);
    assert_heard(&server, &[("backup", &["start", "0"])]);
    assert!(server.seen().iter().all(|seen| seen.body.is_empty()));
}

#[test]
fn a_ping_key_makes_a_check_of_each_job_and_source() {
    let server = HealthchecksStandIn::start();
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let key = site.secret("ping.key", "fqOOd6-F4MMNuCEnzTU01w");
    let site = site.with_files("configs", &[&tree]).initialised().with(&format!(
        "[monitoring.healthchecks]\nping_key = {{ file = {key:?} }}\nbase_url = {:?}\ncreate = true",
        server.url("")
    ));
    site.succeed(["backup"]);
    let mut paths: Vec<String> = server.seen().into_iter().map(|seen| seen.path).collect();
    paths.sort();
    let key = "/fqOOd6-F4MMNuCEnzTU01w/kaleem-dr-backup";
    let wanted = ["-configs/0", "-configs/start", "/0", "/start"].map(|end| format!("{key}{end}"));
    assert_eq!(paths, wanted);
    assert!(server.seen().iter().all(|seen| seen.query["create"] == "1"));
}

#[test]
fn a_check_that_jobs_share_is_green_only_when_all_of_them_are() {
    let server = HealthchecksStandIn::start();
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let url = site.secret("all.hc", &server.url("ping/all"));
    let lost = site.path("lost");
    let site = site.with_files("configs", &[&tree]).with_mirror("second", &lost).initialised();
    let site = site.with(&format!("[monitoring.healthchecks]\nurl = {{ file = {url:?} }}"));
    // A mirror that is another repository is refused.
    fs::create_dir_all(&lost).expect("a directory can be made");
    fs::write(lost.join("config"), "another").expect("a file can be written");
    let code = site.run(["replicate"]).code.expect("an exit status");
    assert_ne!(code, 0);
    site.succeed(["backup"]);
    assert_eq!(server.heard()["all"], ["start", &code.to_string(), "start", "log"]);
    fs::remove_dir_all(&lost).expect("the directory can be removed");
    site.succeed(["replicate"]);
    site.succeed(["backup"]);
    assert_eq!(server.heard()["all"][4..], ["start", "0", "start", "0"]);
}

#[test]
fn each_job_is_recorded_with_its_end_and_its_report() {
    let server = HealthchecksStandIn::start();
    let site = site(&server, &["verify", "verify/configs", "check", "forget", "prune"]);
    fs::write(site.path("tree/noise"), noise(3_000_000, 7)).expect("a file can be written");
    let site =
        site.with("[retention]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0");
    for args in [
        &["backup"][..],
        &["backup"],
        &["verify"],
        &["check", "--read-data"],
        &["forget", "--yes"],
        &["prune", "--yes", "--instant"],
    ] {
        site.succeed(args.iter().copied());
    }
    damage_the_largest_pack(&site.repository());
    assert_eq!(site.run(["verify"]).code, Some(4));
    let (_, history) = site.json(["history"]);
    let events = history[0].as_array().expect("a list");
    let ends: Vec<String> = events
        .iter()
        .map(|event| format!("{} {}", event["kind"].as_str().expect("a word"), event["exit"]))
        .collect();
    assert_eq!(
        ends,
        ["verify 4", "prune 0", "forget 0", "check 0", "verify 0", "backup 0", "backup 0"]
    );
    assert_eq!(events[0]["report"][0]["source"], "configs");
    assert_eq!(events[2]["report"]["forgotten"], 1);
    assert_eq!(events[3]["report"]["num_errors"], 0);
    assert_eq!(server.heard()["verify/configs"], ["start", "0", "start", "4"]);
    assert_eq!(server.heard()["prune"], ["start", "0"]);
}

/// Flips a byte in the middle of the largest pack.
fn damage_the_largest_pack(repository: &Path) {
    let directories = fs::read_dir(repository.join("data")).expect("packs can be listed");
    let packs = directories.flat_map(|directory| {
        fs::read_dir(directory.expect("an entry").path()).expect("packs can be listed")
    });
    let largest = packs
        .map(|pack| pack.expect("an entry"))
        .max_by_key(|pack| pack.metadata().expect("its length").len());
    flip_byte(&largest.expect("a pack").path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_heard_as_a_failure_and_goes_on() {
    let server = HealthchecksStandIn::start();
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let text = format!(
        "state_directory = {:?}\n[monitoring.healthchecks]\nurl = {{ env = \"HC\" }}",
        home.path().to_str().expect("UTF-8")
    );
    let environment: Environment = [("HC", server.url("ping/all"))].into_iter().collect();
    let config = Config::parse(&text, Path::new("test.toml"), &[], &environment)
        .expect("the config is valid");
    let both = Arc::new((config, environment));
    let run = RunId::new();
    let watched = tokio::spawn(async move {
        let monitor = Monitor::new(&both.0, &both.1, LogTail::default());
        let repositories = vec!["/backups".to_owned()];
        let job = Job::of(EventKind::Prune, run, repositories);
        let work = async { panic!("an index is out of range") };
        monitor.watch(job, work, |(): &()| Ended::from(Exit::Done)).await.1
    });
    assert!(watched.await.expect_err("the panic goes on").is_panic());
    assert_heard(&server, &[("all", &["start", "1"])]);
    let body = &server.seen_at("ping/all/1")[0].body;
    assert!(body.contains("panicked: an index is out of range"), "{body}");
    let ledger =
        kaleem_dr_core::engine::ledger::Ledger::open(home.path()).expect("the ledger opens");
    assert!(ledger.has(run).expect("the ledger can be read"));
}

#[test]
fn a_ledger_that_cannot_be_written_is_a_failure() {
    let server = HealthchecksStandIn::start();
    let site = site(&server, &["check"]);
    // A directory in place of the ledger's file.
    fs::create_dir_all(site.path("state/ledger.sqlite")).expect("a directory can be made");
    let outcome = run(site.command().arg("check"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("ledger"), "{}", outcome.stderr);
    assert_heard(&server, &[("check", &["start", "1"])]);
}
