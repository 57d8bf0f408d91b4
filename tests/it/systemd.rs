//! The jobs of `schedule install` in a systemd that really runs: each ends as it does by hand.
//!
//! Where no systemd can be booted, these tests do nothing; `dev/test` reports that.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::support::{
    healthchecks_stand_in::HealthchecksStandIn,
    program::run,
    qdrant_stand_in::{API_KEY, QdrantStandIn},
    seed,
    servers::MongoServer,
    site::Site,
    systemd::Systemd,
    tree::names,
};

/// A user that is not root, to whom n8n's files belong.
const NODE: u32 = 1000;

/// n8n's directory, with a stopped n8n that used WAL, owned by a user.
fn n8n(directory: &Path) {
    fs::create_dir_all(directory.join("storage/workflows/1")).expect("a directory can be made");
    fs::write(directory.join("storage/workflows/1/data"), "attachment")
        .expect("a file can be written");
    fs::write(directory.join("config"), r#"{"encryptionKey":"fXc2Zl7g3Kp0n8nkey"}"#)
        .expect("a file can be written");
    let database = directory.join("database.sqlite");
    Connection::open(&database)
        .expect("a database can be made")
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE workflow_entity (id TEXT PRIMARY KEY, name TEXT);
             CREATE TABLE credentials_entity (id TEXT PRIMARY KEY, data TEXT);
             INSERT INTO workflow_entity VALUES ('a', 'orders');",
        )
        .expect("the tables can be made");
    for path in [directory, &directory.join("config"), &database] {
        chown(path, Some(NODE), Some(NODE)).expect("root can give files away");
    }
}

/// The program with the site's config, as an operator would call it there.
fn by_hand(system: &Systemd, site: &Site) -> String {
    format!(
        "CREDENTIALS_DIRECTORY=/etc/kaleem-dr/credentials {} --config {} --env-file {}",
        system.program().display(),
        site.config_path().display(),
        site.path("variables").display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_ends_as_it_does_by_hand() {
    let Some(system) = Systemd::booted() else { return };
    let (mongo, qdrant) = (MongoServer::start(), QdrantStandIn::recorded());
    let client = mongodb::Client::with_uri_str(mongo.uri()).await.expect("a valid address");
    let users = client.database("kaleem").collection::<mongodb::bson::Document>("users");
    users.insert_one(mongodb::bson::doc! { "_id": 1 }).await.expect("a document can be inserted");

    let site = Site::within(&system.share, "na s$");
    let (tree, metrics, staged, mirror) =
        (site.path("tree"), site.path("met rics$"), site.path("sta ged$"), site.path("mirr or$"));
    seed::file_tree(&tree);
    fs::copy("/bin/true", tree.join("tool")).expect("a program can be copied");
    let made = run(Command::new("setcap").arg("cap_net_bind_service+ep").arg(tree.join("tool")));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    for directory in [&metrics, &staged, &mirror] {
        fs::create_dir(directory).expect("a directory can be made");
    }
    chown(&metrics, Some(NODE), Some(NODE)).expect("root can give files away");
    n8n(&site.path(".n8n"));
    // As a shell sources it, and systemd's EnvironmentFile= does not.
    site.secret("variables", &format!("export UNUSED=1 MONGO_URI='{}kaleem'", mongo.uri()));
    let collections = ["docs".to_owned()];
    let site = site
        .with_files("configs", &[&tree])
        .with("[source.mongo]\ntype = \"mongodb\"\nuri = { env = \"MONGO_URI\" }")
        .with_rabbitmq("rabbitmq")
        .with(&format!(
            "[source.qdrant]\ntype = \"qdrant\"\nurl = {:?}\napi_key = {{ credential = \"qdrant-key\" }}\ncollections = {collections:?}",
            qdrant.url()
        ))
        .with(&format!("[source.n8n]\ntype = \"n8n\"\ndirectory = {:?}", site_path(&tree, ".n8n")))
        .with_mirror("far", &mirror)
        .with(&format!(
            "[staged]\ndirectory = {staged:?}\n[monitoring.prometheus]\ntextfile = {:?}\n[schedule]\nenvironment_file = {:?}",
            metrics.join("kaleem.prom"),
            site_path(&tree, "variables"),
        ))
        .initialised();
    system.succeed("mkdir -p -m 700 /etc/kaleem-dr/credentials");
    system.succeed(&format!(
        "printf %s '{API_KEY}' >/etc/kaleem-dr/credentials/qdrant-key; chmod 600 /etc/kaleem-dr/credentials/qdrant-key"
    ));

    let hand = by_hand(&system, &site);
    let jobs = ["backup", "replicate", "verify", "check", "drill", "--repo far drill"];
    for job in jobs {
        let outcome = system.run(&format!("{hand} {job}"));
        assert_eq!(outcome.code, Some(0), "by hand, {job}: {}{}", outcome.stdout, outcome.stderr);
    }
    let installed = system.succeed(&format!("{hand} schedule install"));
    assert!(installed.contains("these commands ran:"), "{installed}");
    assert!(!installed.contains("warning:"), "{installed}");
    let by_hand = fs::read_to_string(metrics.join("kaleem.prom")).expect("metrics");
    for job in ["backup", "replicate", "verify", "check", "drill", "drill-far"] {
        fs::remove_file(metrics.join("kaleem.prom")).expect("every job writes metrics");
        let (result, journal) = system.start(&format!("kaleem-dr-{job}.service"));
        assert_eq!(result, "success", "{job}: {journal}");
        for word in [" WARN ", " ERROR ", "error:"] {
            assert!(!journal.contains(word), "{job}: {journal}");
        }
        let written = fs::read_to_string(metrics.join("kaleem.prom")).expect("metrics");
        assert_eq!(written.lines().count(), by_hand.lines().count(), "{job}: {written}");
        let exposure = system.run(&format!(
            "systemd-analyze security --no-pager --threshold=25 kaleem-dr-{job}.service"
        ));
        assert_eq!(exposure.code, Some(0), "{job}: {}", exposure.stdout);
    }
    assert_eq!(
        names(&site.path(".n8n")),
        ["config", "database.sqlite", "storage"],
        "a stopped n8n's database stays alone"
    );

    // n8n runs: its newest workflow is only in the log.
    let live = Connection::open(site.path(".n8n/database.sqlite")).expect("the database opens");
    live.execute_batch(
        "PRAGMA wal_autocheckpoint = 0; INSERT INTO workflow_entity VALUES ('b', 'only in the log')",
    )
    .expect("a row can be written");
    let (result, journal) = system.start("kaleem-dr-backup.service");
    assert_eq!(result, "success", "{journal}");
    drop(live);
    let out = site.path("restored n8n");
    system.succeed(&format!("{hand} restore n8n --to '{}' --yes", out.display()));
    let restored = Connection::open(out.join("database.sqlite")).expect("it opens");
    let rows: i64 = restored
        .query_row("SELECT count(*) FROM workflow_entity", [], |row| row.get(0))
        .expect("it can be read");
    assert_eq!(rows, 2);
    assert_eq!(fs::read(out.join("storage/workflows/1/data")).expect("it is there"), b"attachment");
}

fn site_path(tree: &Path, name: &str) -> std::path::PathBuf {
    tree.parent().expect("it is in the site").join(name)
}

/// A site of one small tree, installed.
fn small(system: &Systemd, more: &str) -> Site {
    let site = Site::within(&system.share, "repository");
    let tree = site.path("tree");
    seed::file_tree(&tree);
    site.secret("variables", "UNUSED=1");
    let site = site.with_files("configs", &[&tree]).with(more).initialised();
    system.succeed(&format!("{} schedule install", by_hand(system, &site)));
    site
}

#[test]
fn a_failure_is_reported_by_a_unit_that_does_not_fail_itself() {
    let Some(system) = Systemd::booted() else { return };
    let site = small(&system, "");
    let reporting = "kaleem-dr-failed@kaleem-dr-backup.service.service";
    fs::rename(site.repository(), site.path("elsewhere")).expect("the repository can be moved");
    let (result, _) = system.start("kaleem-dr-backup.service");
    assert_eq!(result, "exit-code");
    await_end(&system, reporting);
    let (result, journal) = system.ended(reporting);
    assert_eq!(result, "success", "{journal}");
    assert!(journal.contains("names no recipients"), "{journal}");
    let failed = system.succeed("systemctl --failed --no-legend --plain");
    assert!(!failed.contains("kaleem-dr-failed@"), "{failed}");
}

#[test]
fn a_unit_that_cannot_start_is_reported() {
    let Some(system) = Systemd::booted() else { return };
    let server = HealthchecksStandIn::start();
    let url = system.share.join("webhook.url");
    fs::write(&url, server.url("hook")).expect("a file can be written");
    fs::set_permissions(&url, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    system.succeed("rm -f /etc/kaleem-dr/credentials/missing");
    let _site = small(
        &system,
        &format!(
            "[[monitoring.webhook]]\nurl = {{ file = {url:?} }}\n[source.qdrant]\ntype = \"qdrant\"\nurl = \"http://127.0.0.1:1\"\n\
             api_key = {{ credential = \"missing\" }}"
        ),
    );
    let (result, journal) = system.start("kaleem-dr-backup.service");
    assert_ne!(result, "success", "{journal}");
    let reporting = "kaleem-dr-failed@kaleem-dr-backup.service.service";
    await_end(&system, reporting);
    let (result, journal) = system.ended(reporting);
    assert_eq!(result, "success", "{journal}");
    let told = server.seen_at("hook");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].json().to_string().contains("kaleem-dr-backup"), "{told:?}");
}

#[test]
fn a_job_that_is_stopped_in_the_middle_ends_by_itself_and_leaves_no_lock() {
    let Some(system) = Systemd::booted() else { return };
    let site = small(&system, "");
    system.succeed(
        "mkdir -p /run/systemd/system/kaleem-dr-backup.service.d
         printf '[Service]\\nEnvironment=KALEEM_DR_FAILPOINT=capture=hang\\n' >/run/systemd/system/kaleem-dr-backup.service.d/hang.conf
         systemctl daemon-reload; systemctl start --no-block kaleem-dr-backup.service",
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    let locks = site.repository().join("locks");
    while names(&locks).is_empty() {
        assert!(Instant::now() < deadline, "the backup takes its lock");
        std::thread::sleep(Duration::from_millis(50));
    }
    let began = Instant::now();
    system.succeed("systemctl stop kaleem-dr-backup.service");
    let took = began.elapsed();
    let (_, journal) = system.ended("kaleem-dr-backup.service");
    system.succeed("rm -r /run/systemd/system/kaleem-dr-backup.service.d; systemctl daemon-reload");
    assert!(took < Duration::from_secs(10), "{took:?}: {journal}");
    assert!(!journal.contains("SIGKILL") && !journal.contains("timed out"), "{journal}");
    assert_eq!(names(&locks), [""; 0], "{journal}");
    let (result, journal) = system.start("kaleem-dr-backup.service");
    assert_eq!(result, "success", "{journal}");
}

#[test]
fn the_jobs_of_a_user_run_in_its_own_systemd() {
    let Some(system) = Systemd::booted() else { return };
    system.succeed("id ops || useradd --create-home --uid 1234 ops; loginctl enable-linger ops");
    let site = Site::within(&system.share, "repository");
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory can be made");
    fs::write(tree.join("a"), "of the user").expect("a file can be written");
    let site = site.with_files("configs", &[&tree]).initialised();
    system.succeed(&format!(
        "chown -R ops: '{}'; chmod 755 '{}'",
        site.directory().display(),
        site.directory().display()
    ));
    let as_user =
        |command: &str| format!("su ops -c 'export XDG_RUNTIME_DIR=/run/user/1234; {command}'");
    let deadline = Instant::now() + Duration::from_secs(30);
    while system.run(&as_user("systemctl --user is-system-running")).code != Some(0) {
        assert!(Instant::now() < deadline, "the user's systemd comes up");
        std::thread::sleep(Duration::from_millis(100));
    }
    let program =
        format!("{} --config {}", system.program().display(), site.config_path().display());
    let installed = system.succeed(&as_user(&format!("{program} schedule install --user")));
    assert!(
        installed.contains("/home/ops/.config/systemd/user/kaleem-dr-backup.timer"),
        "{installed}"
    );
    assert!(!installed.contains("warning:"), "{installed}");
    for job in ["backup", "verify", "check", "drill"] {
        let started =
            system.run(&as_user(&format!("systemctl --user start kaleem-dr-{job}.service")));
        let journal = system.succeed("journalctl --sync; journalctl --no-pager -n 40 _UID=1234");
        assert_eq!(started.code, Some(0), "{job}: {}{journal}", started.stderr);
    }
    let listed = system.succeed(&as_user(&format!("{program} schedule list --user")));
    assert!(listed.contains("kaleem-dr-backup"), "{listed}");
    let timers = system.succeed(&as_user("systemctl --user list-timers --no-pager"));
    assert!(timers.contains("kaleem-dr-backup.timer"), "{timers}");
    system.succeed(&as_user(&format!("{program} schedule remove --user")));
    let left = system.succeed("find /home/ops/.config/systemd -name 'kaleem-dr*'");
    assert_eq!(left, "");
}

/// Waits until a service that systemd has started has ended.
fn await_end(system: &Systemd, service: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let shown =
            system.succeed(&format!("systemctl show -p ActiveState -p InvocationID '{service}'"));
        if shown.contains("=inactive") && !shown.contains("InvocationID=\n")
            || shown.contains("=failed")
        {
            return;
        }
        assert!(Instant::now() < deadline, "{service} runs: {shown}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
