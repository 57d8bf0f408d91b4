//! Each fault is created and its finding checked; a machine without faults has no such finding.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{DoctorReport, Examination, Space, examine, fixture::Fixture, repositories::of_lock};
use crate::{
    engine::{
        ledger::{Event, EventKind, Ledger},
        repository::{LockInfo, LockKind, LockVerdict},
    },
    ground::{
        Exit, RunId,
        diagnosis::{Diagnosis, Severity},
    },
    operate::tripwire::{Alarm, Alarms, Suspicion},
};

async fn look(place: &Fixture, offline: bool) -> DoctorReport {
    examine(examination(place, offline)).await
}

fn examination(place: &Fixture, offline: bool) -> Examination {
    let (config, environment, host) = (place.config(), place.environment(), place.host());
    let config_path = Some(place.path("config.toml"));
    Examination { config, config_path, environment, primary: Some("local".into()), host, offline }
}

fn find<'a>(report: &'a DoctorReport, id: &str) -> Option<&'a Diagnosis> {
    report.findings.iter().find(|seen| seen.id == id && seen.severity != Severity::Ok)
}

/// Looks at a place that is broken, and expects one finding that reports it, with a fix.
#[track_caller]
fn wants(report: &DoctorReport, id: &str, severity: Severity, words: &str) {
    let seen =
        find(report, id).unwrap_or_else(|| panic!("no finding {id}: {:#?}", report.findings));
    assert_eq!(seen.severity, severity, "{seen:?}");
    assert!(seen.what.contains(words), "{words:?} is not in {seen:?}");
    let mends = severity <= Severity::Information || id == Diagnosis::UNSEEN || seen.fix.is_some();
    assert!(mends, "{seen:?} has no fix");
}

/// A fault on the disk, and the expected finding.
struct Case {
    breaks: fn(&mut Fixture),
    id: &'static str,
    severity: Severity,
    words: &'static str,
}

fn case(
    id: &'static str,
    severity: Severity,
    words: &'static str,
    breaks: fn(&mut Fixture),
) -> Case {
    Case { breaks, id, severity, words }
}

const LOW: Space =
    Space { free_bytes: 199, total_bytes: 1000, free_inodes: 500, total_inodes: 1000 };

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    use Severity::{Error, Information, Warning};
    vec![
        case("secret-file-mode", Error, "repository.local.password", |place| {
            place.set_mode("pass", 0o640);
        }),
        case("secret-file-mode", Error, "source.stub.key", |place| {
            let path = place.write("stub.key", "x");
            let key = format!("key = {{ file = '{}' }}\n", path.display());
            place.toml.push_str(&key);
            place.set_mode("stub.key", 0o604);
        }),
        case("secret-file-unreadable", Error, "s3.key", |place| {
            fs::remove_file(place.path("s3.key")).unwrap();
        }),
        case("secret-file-mode", Error, "rclone_config", |place| {
            let path = place.write("rclone.conf", "[r]\ntype = s3\n");
            place.set_mode("rclone.conf", 0o644);
            place.replace(
                "'s3:https://s3.example.test/bucket/restic'",
                &format!("'rclone:r:b/p'\nrclone_config = '{}'", path.display()),
            );
        }),
        case("config-writable", Error, "config.toml", |place| {
            place.write("config.toml", "");
            place.set_mode("config.toml", 0o666);
        }),
        case("key-rotation-due", Information, "100 days", |place| {
            place.machine.now = Timestamp::now() + SignedDuration::from_hours(100 * 24);
        }),
        case("disk-space-low", Warning, "19 %", |place| place.machine.space = Some(LOW)),
        case("disk-inodes-low", Warning, "inodes", |place| {
            place.machine.space = Some(Space { free_bytes: 900, free_inodes: 1, ..LOW });
        }),
        case("disk-room-short", Error, "199 B free", |place| {
            place.machine.space = Some(LOW);
            place.write("staged/stub/stub-1.tar", &"x".repeat(100));
            let staged = format!(
                "[staged]\ndirectory = '{}'\n[source.stub]",
                place.path("staged").display()
            );
            place.replace("[source.stub]", &staged);
        }),
        case(Diagnosis::UNSEEN, Warning, "the disk does not answer", |place| {
            place.machine.space = None;
        }),
        case("one-device", Warning, "/srv/data", |place| {
            place.machine.other_devices.clear();
            only_local(place);
        }),
        case("one-device", Information, "/srv/data", |place| place.machine.other_devices.clear()),
        case("no-copy-elsewhere", Warning, "on this machine", only_local),
        case("panel-open", Warning, "15672", |place| {
            place.write("root/proc/net/tcp", "  sl\n 0: 00000000:3D38 00000000:0000 0A 0\n");
        }),
        case("panel-open", Warning, "8081", |place| {
            place.write(
                "root/proc/net/tcp6",
                "  sl\n 0: 00000000000000000000000000000000:1F91 00:0000 0A 0\n",
            );
        }),
        case("secret-file-owner", Error, "belongs to the user", |place| {
            let pass = place.path("pass");
            // Only root may give files away; without root, the test pretends to be another user.
            if std::os::unix::fs::chown(&pass, Some(4243), None).is_err() {
                place.uid = 4242;
            }
        }),
        case(Diagnosis::UNSEEN, Warning, "/proc/net/tcp", |place| {
            fs::remove_file(place.path("root/proc/net/tcp")).unwrap();
        }),
        case("bucket-key", Error, "20 characters", |place| {
            place.environment.retain(|(name, _)| name != "KEY");
            place.environment.push(("KEY".into(), "AKIAIOSFODNN7CANARY1".into()));
            place.replace("s3.example.test", "account.r2.cloudflarestorage.com");
        }),
        case("no-home", Error, "HOME", |place| {
            place.environment.retain(|(name, _)| name != "HOME");
            place
                .replace("'s3:https://s3.example.test/bucket/restic'", "'rclone:r2:bucket/restic'");
        }),
        case("no-home", Information, "HOME", |place| {
            place.environment.retain(|(name, _)| name != "HOME");
        }),
        case("cache-directory", Error, "cannot be created", |place| {
            place.write("cache", "a file");
            let (from, to) = (
                place.path("cache").display().to_string(),
                place.path("cache/below").display().to_string(),
            );
            place.replace(&from, &to);
        }),
        case("state-directory", Error, "cannot be written", |place| {
            place.write("state", "a file");
        }),
        case("restic-old", Information, "0.12", |place| {
            place.write("root/usr/bin/restic", "");
            place.machine.restic = "restic 0.12.1 compiled with go1.16".into();
        }),
        case("restic-old", Warning, "/usr/bin/restic", |place| {
            place.write("root/usr/bin/restic", "");
            place.write("root/etc/cron.d/old", "0 3 * * * root restic -r /elsewhere check\n");
            place.machine.restic = "restic 0.12.1 compiled with go1.16".into();
        }),
        case("foreign-pruner", Error, "/etc/cron.d/old:1", |place| {
            let line = format!(
                "0 3 * * * root restic -r {} forget --prune\n",
                place.path("repository").display()
            );
            place.write("root/etc/cron.d/old", &line);
        }),
        case("secret-in-job", Error, "/etc/crontab:1", |place| {
            place.write(
                "root/etc/crontab",
                "0 3 * * * root curl -u kaleem:canary http://127.0.0.1:15672/api/definitions\n",
            );
        }),
        case("repository-missing", Error, "local", |_| {}),
        case("source-unreachable", Error, "connection refused", |place| {
            place.toml.push_str("fault = 'down'\n");
        }),
        case("source-unauthorised", Error, "log in", |place| {
            place.toml.push_str("fault = 'shut'\n");
        }),
        case("source-warning", Warning, "odd", |place| place.toml.push_str("fault = 'odd'\n")),
        case("source-unreachable", Error, "no answer within 1 s", |place| {
            place.toml.push_str("fault = 'silent'\n[doctor]\ndeadline_seconds = 1\n");
        }),
        case("no-source", Warning, "no [source.NAME]", |place| {
            let end = place.toml.find("[source.stub]").unwrap();
            place.toml.truncate(end);
        }),
    ]
}

fn only_local(place: &mut Fixture) {
    let (from, to) =
        (place.toml.find("[repository.r2]").unwrap(), place.toml.find("[source.stub]").unwrap());
    place.toml.replace_range(from..to, "");
    place.replace("also = ['r2']", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_machine_has_its_finding_and_what_mends_it() {
    for case in cases() {
        let mut place = Fixture::new();
        (case.breaks)(&mut place);
        let offline = !case.id.starts_with("source-");
        let report = look(&place, offline).await;
        wants(&report, case.id, case.severity, case.words);
        let shown = serde_json::to_string(&report).unwrap();
        assert!(!shown.contains("canary") && !shown.contains("CANARY"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_machine_has_no_finding_above_information() {
    let place = Fixture::new();
    place.write("config.toml", "");
    place.backed_up(1).await;
    let report = look(&place, true).await;
    let bad: Vec<_> =
        report.findings.iter().filter(|seen| seen.severity > Severity::Information).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(report.exit(true), Exit::Done);
    for looked_at in [
        "secret-files",
        "disk-space",
        "copies",
        "jobs",
        "panels",
        "alarms",
        "repository",
        "state-directory",
        "key-age",
    ] {
        assert!(
            report
                .findings
                .iter()
                .any(|seen| seen.id == looked_at && seen.severity == Severity::Ok),
            "{looked_at}"
        );
    }
}

#[test]
fn warnings_fail_only_when_they_are_to() {
    let report = |severity| DoctorReport {
        findings: vec![Diagnosis { severity, ..Diagnosis::ok("x", "x") }],
    };
    assert_eq!(
        (report(Severity::Warning).exit(false), report(Severity::Warning).exit(true)),
        (Exit::Done, Exit::Failed)
    );
    assert_eq!(
        (report(Severity::Error).exit(false), report(Severity::Information).exit(true)),
        (Exit::Failed, Exit::Done)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_tells_of_missing_backups_of_the_future_and_of_who_is_at_work() {
    let mut place = Fixture::new();
    let repository = place.backed_up(0).await;
    wants(&look(&place, true).await, "no-backup-yet", Severity::Error, "stub");
    let lock = repository.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    place.write(&format!("root/proc/{}/comm", std::process::id()), "kaleem-dr\n");
    wants(&look(&place, true).await, "run-at-work", Severity::Information, "shared since");
    place.write(&format!("root/proc/{}/comm", std::process::id()), "restic\n");
    wants(&look(&place, true).await, "foreign-lock", Severity::Warning, "shared since");
    place.host_name = "another".into();
    let report = look(&place, true).await;
    wants(&report, "foreign-lock", Severity::Warning, &crate::ground::host::name());
    lock.release().await.unwrap();
    drop(place);

    let mut place = Fixture::new();
    place.backed_up(1).await;
    place.machine.now = Timestamp::now() - SignedDuration::from_hours(24);
    wants(&look(&place, true).await, "snapshot-in-future", Severity::Error, "local");
    place.secret("pass", "another");
    wants(&look(&place, true).await, "repository-password", Severity::Error, "local");
}

#[test]
fn a_lock_whose_process_is_gone_is_only_mentioned() {
    let job = examination(&Fixture::new(), true);
    let (host, holder) = (job.host.name.clone(), "process 4242, since yesterday".to_owned());
    let lock = LockInfo {
        object: "locks/4242".into(),
        host,
        user: "root".into(),
        pid: 4242,
        is_exclusive: true,
        time: Some(Timestamp::now()),
        age_seconds: None,
        verdict: LockVerdict::Dead,
        is_stale: true,
        holder,
    };
    let seen = of_lock(&job, "local", &lock);
    assert_eq!((seen.id, seen.severity), ("stale-lock", Severity::Information));
    assert!(seen.what.contains("process 4242"), "{seen:?}");
    let unknown = LockInfo { verdict: LockVerdict::Unknown, ..lock.clone() };
    let seen = of_lock(&job, "local", &unknown);
    assert_eq!((seen.id, seen.severity), ("left-over-lock", Severity::Warning));
    let lock = LockInfo { verdict: LockVerdict::Running, ..lock };
    assert_eq!(of_lock(&job, "local", &LockInfo { is_stale: false, ..lock }).id, "foreign-lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn standing_alarms_and_broken_mirrors_are_errors() {
    let mut place = Fixture::new();
    place.replace("[repository.r2]", "[repository.r2]\nmirror_of = 'local'");
    wants(&look(&place, true).await, "mirror-never-made", Severity::Warning, "r2");
    let ledger = Ledger::open(&place.state()).unwrap();
    let pass = |exit| Event {
        run: RunId::new(),
        kind: EventKind::Replicate,
        repository: "s3:https://s3.example.test/bucket/restic".into(),
        started: Timestamp::now(),
        finished: Timestamp::now(),
        exit,
        report: serde_json::json!({}),
        parts: Vec::new(),
    };
    ledger.record(&pass(Exit::Unreachable)).unwrap();
    wants(&look(&place, true).await, "mirror-broken", Severity::Error, "ended with 7");
    ledger.record(&pass(Exit::Done)).unwrap();
    assert!(find(&look(&place, true).await, "mirror-broken").is_none());
    ledger.begin("s3:https://s3.example.test/bucket/restic", &["data/ab".to_owned()]).unwrap();
    wants(&look(&place, true).await, "mirror-cut-short", Severity::Warning, "1 objects");

    let alarm = Alarm {
        repository: "id".into(),
        source: "stub".parse().unwrap(),
        host: "h".into(),
        run: RunId::new(),
        time: Timestamp::now(),
        snapshot: "ab".into(),
        normal: None,
        is_recorded: false,
        suspicions: vec![Suspicion {
            what: "9 of 10 items are gone".into(),
            why: "more than 50 percent".into(),
        }],
    };
    Alarms::note(&place.state(), alarm).unwrap();
    wants(&look(&place, true).await, "alarm-standing", Severity::Error, "9 of 10 items are gone");
    place.write("state/alarms.json", "{");
    wants(&look(&place, true).await, Diagnosis::UNSEEN, Severity::Warning, "alarms");
}

/// A service on loopback that gives the same answer to every request.
async fn service(date: Timestamp, lifecycle: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let length = connection.read(&mut head).await.unwrap_or(0);
                let asks_rules = String::from_utf8_lossy(&head[..length]).contains("?lifecycle");
                let (status, body) =
                    if asks_rules { ("200 OK", lifecycle) } else { ("403 Forbidden", "") };
                let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
                let answer = format!(
                    "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                // The client may have closed the connection.
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_a_bucket_is_looked_at_family_by_family() {
    let here = service(Timestamp::now(), "").await;
    let mut place = Fixture::new();
    let open = format!("http://s3.example.test:{}", here.port());
    place.replace("https://s3.example.test", &open);
    place.replace("[repository.r2]", "[repository.r2]\ninsecure_http = true");
    place.toml.push_str("[doctor]\ndeadline_seconds = 2\n");
    wants(&look(&place, false).await, "endpoint-name", Severity::Error, "s3.example.test");

    // Nothing listens there on IPv6; a machine without it has nothing to say of it.
    let six: SocketAddr = format!("[::1]:{}", here.port()).parse().unwrap();
    place.machine.addresses = Some(vec![six, here]);
    let report = look(&place, false).await;
    assert!(
        report.findings.iter().any(|seen| seen.id == "endpoint" && seen.severity == Severity::Ok),
        "{:#?}",
        report.findings
    );
    if find(&report, "no-such-network").is_none() {
        wants(&report, "ipv6-broken", Severity::Warning, "IPv6");
        assert!(
            find(&report, "ipv6-broken")
                .unwrap()
                .fix
                .as_deref()
                .is_some_and(|fix| fix.contains("ip = \"v4\""))
        );
    }
    place.replace("insecure_http = true", "insecure_http = true\nip = 'v4'");
    let report = look(&place, false).await;
    assert!(find(&report, "ipv6-broken").is_none() && find(&report, "no-such-network").is_none());

    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = silent.local_addr().unwrap();
    drop(silent);
    place.machine.addresses = Some(vec![closed]);
    wants(&look(&place, false).await, "endpoint-unreachable", Severity::Error, "refused");
    place.replace("http://s3.example.test", "https://s3.example.test");
    place.machine.addresses = Some(vec![here]);
    wants(&look(&place, false).await, "endpoint-tls", Severity::Error, "s3.example.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_clock_or_rules_would_do_harm_is_an_error() {
    let rules = "<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter/>\
                 <Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>";
    let address = service(Timestamp::now() - SignedDuration::from_hours(1), rules).await;
    let mut place = Fixture::new();
    place.replace("https://s3.example.test", &format!("http://{address}"));
    place.machine.addresses = Some(vec![address]);
    let report = look(&place, false).await;
    wants(&report, "clock-skew", Severity::Error, "ahead");
    wants(&report, "bucket-lifecycle", Severity::Error, "30 days");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_costs_its_deadline_and_hides_nothing_else() {
    let mut place = Fixture::new();
    place.toml.push_str("fault = 'silent'\n[doctor]\ndeadline_seconds = 1\n");
    place.set_mode("pass", 0o644);
    place.machine.addresses = None;
    let began = Instant::now();
    let report = look(&place, false).await;
    assert!(began.elapsed() < Duration::from_secs(20), "one check after the other");
    wants(&report, "source-unreachable", Severity::Error, "stub");
    wants(&report, "secret-file-mode", Severity::Error, "pass");
}
