//! `doctor`: problems from the handbook, reproduced on a real site, and found by the program with
//! their fixes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{
    mirror::S3Mirror,
    program::run,
    qdrant_stand_in::{QdrantStandIn, READ_ONLY_KEY},
    servers::{self, free_port},
    site::Site,
};

/// The root directory of a machine without earlier scripts.
fn bare_root(site: &Site) -> PathBuf {
    let root = site.path("root");
    put(&root, "proc/net/tcp", "  sl  local_address rem_address   st\n");
    root
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
    fs::write(&path, text).expect("it can be written");
}

/// Runs `doctor --json`; returns its exit code and findings.
fn doctor(site: &Site, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let root = bare_root(site);
    let mut command = site.command();
    command.args(["--json", "doctor", "--root"]).arg(root).args(args).env("PATH", "/nowhere");
    let outcome = run(&mut command);
    let report: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    assert_eq!(report["message_type"], "doctor");
    assert_eq!(report["exit_code"].as_i64(), outcome.code.map(i64::from));
    (outcome.code, report["findings"].as_array().expect("findings").clone())
}

#[track_caller]
fn wants(findings: &[Value], id: &str, severity: &str, words: &str) {
    let found = findings.iter().any(|seen| {
        let says = ["what", "cause", "fix"]
            .iter()
            .any(|part| seen[part].as_str().is_some_and(|text| text.contains(words)));
        seen["id"] == id && seen["severity"] == severity && says
    });
    assert!(found, "no {severity} {id} with {words:?}: {findings:#?}");
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().expect("UTF-8"))
}

#[test]
fn a_healthy_site_has_nothing_to_fix() {
    let bucket = S3Mirror::new("doctor");
    let site = bucket.of(Site::new(), "r2");
    fs::create_dir(site.path("data")).expect("a directory");
    fs::write(site.path("data/file"), "x").expect("a file");
    let data = site.path("data");
    let site = site.with_files("configs", &[&data]).initialised();
    fs::set_permissions(site.config_path(), fs::Permissions::from_mode(0o600))
        .expect("its mode can be set");
    let (code, before) = doctor(&site, &[]);
    assert_eq!(code, Some(1));
    wants(&before, "no-backup-yet", "error", "kaleem-dr backup configs");
    wants(&before, "mirror-missing", "error", "kaleem-dr replicate r2");
    site.succeed(["backup"]);
    site.succeed(["replicate"]);
    let (code, findings) = doctor(&site, &["--strict"]);
    let above: Vec<_> = findings
        .iter()
        .filter(|seen| seen["severity"] == "warning" || seen["severity"] == "error")
        .collect();
    // The free space of the test disk, and whether the server reveals its lifecycle rules, do not
    // depend on the site.
    let ours: Vec<_> = above
        .iter()
        .filter(|seen| !["disk-space-low", "bucket-lifecycle"].iter().any(|id| seen["id"] == *id))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
    assert_eq!(code, Some(i32::from(!above.is_empty())));
    wants(&findings, "endpoint", "ok", "answers");
    wants(&findings, "clock", "ok", "within");
    wants(&findings, "mirror", "ok", "r2");
}

#[test]
fn what_the_scripts_before_left_is_found_with_its_line_and_no_secret_is_repeated() {
    let site = Site::new();
    let repository = site.repository().display().to_string();
    let root = bare_root(&site);
    put(
        &root,
        "etc/cron.d/kaleem-backups",
        "RESTIC_PASSWORD=canary-one\n0 3 * * * root . /etc/kaleem-backups.env; /usr/local/bin/kaleem-backup.v2.1.sh\n",
    );
    put(
        &root,
        "etc/kaleem-backups.env",
        "MONGO_URI=\"mongodb://backup:canary-two@127.0.0.1:27017/kaleem?authSource=admin\"\n",
    );
    put(
        &root,
        "usr/local/bin/kaleem-backup.v2.1.sh",
        &format!(
            "#!/bin/bash\nmongodump --uri \"$MONGO_URI\" --oplog --archive=/b --gzip\n\
             curl -u kaleem:canary-three http://127.0.0.1:15672/api/definitions\n\
             restic -r {repository} backup /backups \\\n  --tag local\nrestic -r {repository} forget --keep-daily 7 --prune\n"
        ),
    );
    put(
        &root,
        "etc/systemd/system/kaleem-backup-r2.service",
        &format!(
            "[Service]\nExecStart=/usr/bin/restic -r {repository} -o s3.endpoint=https://x backup /etc\n"
        ),
    );
    put(&root, "etc/systemd/system/timers.target.wants/kaleem-backup-r2.timer", "");
    put(
        &root,
        "proc/net/tcp6",
        "sl\n0: 00000000000000000000000000000000:3D38 00000000000000000000000000000000:0000 0A 0\n",
    );
    put(&root, "usr/bin/restic", "#!/bin/sh\necho restic 0.12.1 compiled with go1.16\n");
    fs::set_permissions(root.join("usr/bin/restic"), fs::Permissions::from_mode(0o755))
        .expect("its mode can be set");

    let mut command = site.command();
    let outcome =
        run(command.args(["doctor", "--offline", "--root"]).arg(&root).env("PATH", "/usr/bin"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    for said in [
        "ERRORS",
        "/usr/local/bin/kaleem-backup.v2.1.sh:2 dumps one database (kaleem) with --oplog [mongodump-oplog]",
        "/usr/local/bin/kaleem-backup.v2.1.sh:6 runs `restic forget` [foreign-pruner]",
        "/etc/systemd/system/kaleem-backup-r2.service:2 calls restic with the option s3.endpoint [restic-s3-endpoint]",
        "[restic-without-cache]",
        "/etc/cron.d/kaleem-backups:1 contains a value of a secret variable [secret-in-job]",
        "/usr/local/bin/kaleem-backup.v2.1.sh:3 contains a user and password on a command line [secret-in-job]",
        "/etc/kaleem-backups.env contains secrets, and users other than root can read it (mode 644) [secret-file-mode]",
        "port 15672 (RabbitMQ's management) listens on every address of this machine [panel-open]",
        "/usr/bin/restic is restic 0.12, older than 0.16 [restic-old]",
        "do:  systemctl disable --now kaleem-backup-r2.timer kaleem-backup-r2.service",
    ] {
        assert!(outcome.stdout.contains(said), "{said}\n---\n{}", outcome.stdout);
    }
    let last = outcome.stdout.lines().last().unwrap_or_default();
    assert!(last.contains(" errors, ") && last.contains(" well"), "{last}");
    assert!(
        !outcome.stdout.contains("canary") && !outcome.stderr.contains("canary"),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
}

#[test]
fn servers_that_are_down_deny_access_or_take_no_snapshots_are_distinguished() {
    let qdrant = QdrantStandIn::start();
    let rabbitmq = servers::rabbitmq();
    let site = Site::new()
        .with_mongo(
            "mongo",
            &format!("mongodb://127.0.0.1:{}/kaleem?serverSelectionTimeoutMS=300", free_port()),
        )
        .with_qdrant("qdrant", &qdrant.url(), READ_ONLY_KEY, &[])
        .with_qdrant("gone", &format!("http://127.0.0.1:{}", free_port()), "key", &[])
        .with_rabbitmq_at(
            "rabbitmq",
            &servers::Rabbitmq { password: "canary-wrong".into(), ..rabbitmq },
        );
    let (code, findings) = doctor(&site, &[]);
    assert_eq!(code, Some(1));
    wants(&findings, "source-unreachable", "error", "mongo");
    wants(&findings, "source-unreachable", "error", "gone");
    wants(&findings, "qdrant-no-snapshots", "error", "write access");
    wants(&findings, "source-unauthorised", "error", "rabbitmq");
    assert!(!format!("{findings:?}").contains("canary"));
    let (_, offline) = doctor(&site, &["--offline"]);
    assert!(
        !offline.iter().any(|seen| seen["id"].as_str().is_some_and(|id| id.starts_with("source-"))),
        "{offline:#?}"
    );
    wants(&offline, "offline", "information", "4 sources were not asked");
}

#[test]
fn servers_that_are_well_say_so_with_their_clocks() {
    let qdrant = QdrantStandIn::start();
    let site = Site::new()
        .with_mongo(
            "mongo",
            &format!(
                "{}/doctor_{}",
                servers::mongo_uri().trim_end_matches('/'),
                std::process::id()
            ),
        )
        .with_qdrant("qdrant", &qdrant.url(), crate::support::qdrant_stand_in::API_KEY, &[])
        .with_rabbitmq("rabbitmq");
    let (_, findings) = doctor(&site, &[]);
    for source in ["mongo", "qdrant", "rabbitmq"] {
        wants(&findings, "source-reachable", "ok", source);
    }
    let rabbitmq = servers::rabbitmq().url.replace("http://", "");
    wants(&findings, "clock", "ok", rabbitmq.trim_end_matches('/'));
    wants(&findings, "mongo-restore-rights", "ok", "mongo");
}

#[test]
fn a_key_that_is_none_of_r2s_is_found_before_anything_is_sent() {
    let site = Site::new();
    let (id, secret) = (
        site.secret("r2.id", "AKIAIOSFODNN7CANARY1"),
        site.secret("r2.key", &"0123456789abcdef".repeat(4)),
    );
    let site = site.with(&format!(
        "[repository.r2]\nlocation = \"s3:https://account.r2.cloudflarestorage.com/b/p\"\npassword = {{ file = {} }}\n\
         access_key_id = {{ file = {} }}\nsecret_access_key = {{ file = {} }}",
        quoted(&id),
        quoted(&id),
        quoted(&secret)
    ));
    let (code, findings) = doctor(&site, &[]);
    assert_eq!(code, Some(1));
    wants(&findings, "bucket-key", "error", "20 characters");
    wants(&findings, "bucket-key", "error", "r2 check");
    assert!(!format!("{findings:?}").contains("CANARY"));
}

#[test]
fn a_snapshot_that_restic_made_after_ours_and_a_file_that_others_may_read_are_found() {
    let site = Site::new();
    fs::create_dir(site.path("data")).expect("a directory");
    fs::write(site.path("data/file"), "x").expect("a file");
    let data = site.path("data");
    let site = site.with_files("configs", &[&data]).initialised();
    site.succeed(["backup"]);
    site.restic().backup([&data]);
    let (_, findings) = doctor(&site, &["--offline"]);
    wants(&findings, "foreign-snapshot", "warning", "newer than our newest");
    site.succeed(["backup"]);
    let (_, findings) = doctor(&site, &["--offline"]);
    assert!(!findings.iter().any(|seen| seen["id"] == "foreign-snapshot"), "{findings:#?}");

    fs::set_permissions(site.path("repository.pass"), fs::Permissions::from_mode(0o640))
        .expect("its mode can be set");
    let (code, findings) = doctor(&site, &["--offline"]);
    assert_eq!(code, Some(1));
    wants(&findings, "secret-file-mode", "error", "chmod 600");
}
