//! Migration from earlier scripts: a tree with everything that they install is read, judged,
//! replaced once the new jobs are proven, and reverted.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use ::mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    program::{Outcome, kaleem_dr, run},
    restic::Restic,
    servers,
};

const PASSWORD: &str = "old-password";
const SECRET: &str = "canary-of-mongo";
const CRON: &str = "etc/cron.d/kaleem-backups";
const LINK: &str = "etc/systemd/system/timers.target.wants/kaleem-backup-r2.timer";
const CONFIG: &str = "etc/kaleem-dr/kaleem-dr.toml";

/// A machine with the earlier scripts, in a directory.
struct Machine {
    root: TempDir,
}

impl Machine {
    /// With the given address for MongoDB. The off-site remote `r2` in rclone's config is a
    /// directory.
    fn new(mongo_uri: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        let machine = Self { root };
        machine.write("etc/restic.pass", &format!("{PASSWORD}\n"), 0o600);
        machine.write(
            "etc/kaleem-backups.env",
            &format!(
                "MONGO_MODE=host\nMONGO_URI=\"{mongo_uri}\"\nN8N_ENABLED=0\nRESTORE_HC_URL=\"https://hc-ping.com/canary-of-monitoring\"\n"
            ),
            0o600,
        );
        let far = machine.path("far");
        machine.write(
            "root/.config/rclone/rclone.conf",
            &format!("[r2]\ntype = alias\nremote = {}\n", far.display()),
            0o600,
        );
        machine.write(
            CRON,
            "0 3 * * * root /bin/bash -lc \". /etc/kaleem-backups.env; BACKUP_ROOT=/backups RESTIC_REPO=/backups/restic-local \
             RESTIC_PASSWORD_FILE=/etc/restic.pass /opt/kaleem/scripts/kaleem-backup.v2.1.sh >> \
             /var/log/kaleem-backups/backup.log 2>&1\"\n\
             20 3 1 * * root /bin/bash -lc \". /etc/kaleem-backups.env; RESTIC_REPO=/backups/restic-local \
             RESTIC_PASSWORD_FILE=/etc/restic.pass /opt/kaleem/scripts/kaleem-restore-test.sh >> \
             /var/log/kaleem-backups/restore-test.log 2>&1\"\n",
            0o644,
        );
        machine.write(
            "etc/systemd/system/kaleem-backup-r2.service",
            "[Service]\nType=oneshot\nEnvironment=HOME=/root\nEnvironment=XDG_CACHE_HOME=/var/cache/restic\n\
             Environment=RESTIC_CACHE_DIR=/var/cache/restic\nExecStart=/opt/kaleem/scripts/kaleem-backup.r2.sh\n",
            0o644,
        );
        machine.write(
            "etc/systemd/system/kaleem-backup-r2.timer",
            "[Timer]\nOnCalendar=*-*-* 03:40:00\nPersistent=true\n[Install]\nWantedBy=timers.target\n",
            0o644,
        );
        fs::create_dir(machine.path("etc/systemd/system/timers.target.wants"))
            .expect("a directory can be made");
        symlink("/etc/systemd/system/kaleem-backup-r2.timer", machine.path(LINK))
            .expect("a link can be made");
        machine.write("etc/nginx/nginx.conf", "events {}\n", 0o644);
        machine.script(
            "kaleem-backup.v2.1.sh",
            "KEEP_DAILY=\"${KEEP_DAILY:-9}\"\nmongodump --uri=\"$MONGO_URI\" --archive=\"$BACKUP_ROOT/mongo/m.archive.gz\" --gzip\n\
             restic -r \"$RESTIC_REPO\" backup \"$BACKUP_ROOT/mongo\" /etc /opt/kaleem\n\
             restic -r \"$RESTIC_REPO\" forget --keep-daily \"$KEEP_DAILY\" --keep-weekly 5 \\\n  --keep-monthly 6 --prune\n",
        );
        machine.script(
            "kaleem-backup.r2.sh",
            "export RESTIC_REPOSITORY=\"rclone:r2:kaleem-backup/restic\"\nrestic backup /etc /opt/kaleem --tag r2\n",
        );
        machine.script(
            "kaleem-restore-test.sh",
            "restic -r \"$RESTIC_REPO\" restore latest --target /tmp/restore-local\n",
        );
        machine.restic().init(2);
        machine.restic().backup([machine.path("etc/nginx")]);
        machine
    }

    /// With a database of its own on the test server.
    async fn with_database(name: &str) -> Self {
        let client = Client::with_uri_str(servers::mongo_uri())
            .await
            .expect("the test server's address is valid");
        let database = client.database(name);
        database.drop().await.expect("our own database can be dropped");
        let users = database.collection::<Document>("users");
        users
            .insert_many((0..50).map(|n| doc! { "_id": n }))
            .await
            .expect("documents can be inserted");
        Self::new(&format!("{}{name}", servers::mongo_uri()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory can be made");
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode can be set");
    }

    fn script(&self, name: &str, commands: &str) {
        self.write(
            &format!("opt/kaleem/scripts/{name}"),
            &format!("#!/usr/bin/env bash\nset -euo pipefail\n{commands}"),
            0o755,
        );
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn restic(&self) -> Restic {
        Restic::on_directory(&self.path("backups/restic-local"), PASSWORD)
    }

    fn far(&self) -> Restic {
        Restic::on_directory(&self.path("far/kaleem-backup/restic"), PASSWORD)
    }

    /// Syncs the local repository off site, like rclone.
    fn sync(&self) {
        copy(&self.path("backups/restic-local"), &self.path("far/kaleem-backup/restic"));
    }

    fn migrate(&self, args: &[&str]) -> Outcome {
        let mut command = kaleem_dr();
        for variable in ["KALEEM_DR_CONFIG", "RESTIC_REPOSITORY", "RESTIC_PASSWORD_FILE"] {
            command.env_remove(variable);
        }
        run(command.args(["migrate", "--root"]).arg(self.root.path()).args(args))
    }

    fn survey(&self) -> Value {
        let outcome = self.migrate(&["--json"]);
        let survey = serde_json::from_str::<Value>(&outcome.stdout).expect("JSON")["survey"].take();
        let findings = survey["findings"].as_array().expect("findings");
        let has_errors = findings.iter().any(|finding| finding["severity"] == "error");
        assert_eq!(outcome.code, Some(has_errors.into()), "an error is not a success: {survey}");
        survey
    }

    /// Files and links in `/etc`, with modes and contents, except what restic and the new jobs keep
    /// elsewhere.
    fn etc(&self) -> BTreeMap<PathBuf, (u32, String)> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.path("etc")];
        while let Some(directory) = pending.pop() {
            for path in fs::read_dir(directory)
                .expect("a directory")
                .map(|entry| entry.expect("an entry").path())
            {
                let metadata = path.symlink_metadata().expect("it is there");
                if metadata.is_dir() {
                    pending.push(path);
                } else {
                    let link = metadata
                        .is_symlink()
                        .then(|| fs::read_link(&path).expect("a link").display().to_string());
                    let content =
                        link.unwrap_or_else(|| fs::read_to_string(&path).expect("a text"));
                    found.insert(path, (metadata.permissions().mode(), content));
                }
            }
        }
        found
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

fn codes(survey: &Value) -> Vec<&str> {
    survey["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| finding["code"].as_str().expect("a code"))
        .collect()
}

fn nobody() -> String {
    format!(
        "mongodb://backup:{SECRET}@127.0.0.1:{}/kaleem?authSource=admin&serverSelectionTimeoutMS=300",
        servers::free_port()
    )
}

#[test]
fn a_survey_names_what_is_wrong_repeats_no_secret_and_writes_nothing() {
    let machine = Machine::new(&nobody());
    machine.sync();
    machine.script(
        "kaleem-restore-test.r2.sh",
        "curl -fsS -X POST \"http://127.0.0.1:6333/snapshots/recover\" -d '{}'\n\
         curl -u \"kaleem:canary-of-rabbit\" -X POST http://127.0.0.1:15672/api/definitions -d @f\n\
         rclone sync /backups/restic-local r2:kaleem-backup/restic\n",
    );
    fs::set_permissions(machine.path("etc/kaleem-backups.env"), fs::Permissions::from_mode(0o644))
        .expect("its mode can be set");
    machine.write("etc/cron.d/more", "5 5 * * * root rclone sync /a r2:b\n", 0o644);
    let before = machine.etc();
    let survey = machine.survey();
    let found = codes(&survey);
    for code in [
        "exposed-secret",
        "qdrant-recover",
        "secret-in-arguments",
        "sync-over-repository",
        "other-schedule",
        "missing-value",
        "restore-rights",
        "uri-in-arguments",
        "old-prune",
        "compressed-before-deduplication",
        "no-lock",
        "history",
        "same-disk",
        "off-site-mirror",
        "bucket",
    ] {
        assert!(found.contains(&code), "{code} in {found:?}");
    }
    let sync = survey["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|finding| finding["code"] == "sync-over-repository");
    let place = sync.and_then(|finding| finding["place"].as_str()).expect("its place");
    assert_eq!(place, "/opt/kaleem/scripts/kaleem-restore-test.r2.sh:5");
    for (name, args, code) in [
        ("as text", &[][..], 1),
        ("as JSON", &["--json"], 1),
        ("the config", &["--output", "-"], 0),
    ] {
        let outcome = machine.migrate(args);
        assert_eq!(outcome.code, Some(code), "{name}: {}", outcome.stderr);
        let said = outcome.stdout + &outcome.stderr;
        assert!(!said.contains("canary") && !said.contains(PASSWORD), "{name}: {said}");
    }
    // RabbitMQ's password is in no variable: leaving it out of the config would be noticed too
    // late.
    let refused = machine.migrate(&["--apply"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("nothing was changed") && refused.stderr.contains("RABBIT_PASS"),
        "{}",
        refused.stderr
    );
    assert_eq!(machine.etc(), before);
    assert!(!machine.path("var").exists(), "a survey keeps no state");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_taken_over_once_its_first_backup_is_proven_and_put_back_byte_for_byte()
{
    let machine = Machine::with_database("migrate_whole").await;
    machine.sync();
    let (before, history) = (machine.etc(), machine.restic().snapshots());

    let outcome = machine.migrate(&["--apply"]);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(
        !machine.path(CRON).exists() && !machine.path(LINK).is_symlink(),
        "the old jobs are off"
    );
    assert!(
        !outcome.stdout.contains("forgot") && !outcome.stdout.contains("prune:"),
        "a trial forgets nothing: {}",
        outcome.stdout
    );
    let old_cron = &before[&machine.path(CRON)].1;
    assert_eq!(&machine.read("etc/cron.d/kaleem-backups.disabled-by-kaleem-dr"), old_cron);
    let cron = machine.read("etc/cron.d/kaleem-dr");
    for line in
        ["# Runs: daily 03:00 UTC", "# Runs: daily 03:40 UTC", "# Runs: monthly 1 03:20 UTC"]
    {
        assert!(cron.lines().any(|found| found == line), "the old times are kept: {line}: {cron}");
    }
    let config = machine.read(CONFIG);
    for line in ["mirror_of = \"local\"", "keep_daily = 9", "keep_weekly = 5", "keep_monthly = 6"] {
        assert!(config.lines().any(|found| found == line), "{line}: {config}");
    }
    assert!(
        !config.contains("mongodb://") && !config.contains("canary") && !config.contains(PASSWORD),
        "{config}"
    );
    let secret = machine.path("etc/kaleem-dr/mongo.uri");
    assert_eq!(fs::metadata(&secret).expect("it is there").permissions().mode() & 0o777, 0o600);
    let now = machine.restic().data_snapshots();
    assert_eq!(now.len(), history.len() + 2, "mongo and configs are saved");
    assert!(
        history.iter().all(|old| now.iter().any(|snapshot| snapshot["id"] == old["id"])),
        "the history stays"
    );
    assert_eq!(machine.far().data_snapshots().len(), now.len(), "and is off site");
    machine.far().check_read_data();

    let mut again = kaleem_dr();
    let outcome = run(again.arg("--config").arg(machine.path(CONFIG)).arg("backup"));
    assert_eq!(outcome.code, Some(0), "the config backs up at once: {}", outcome.stderr);
    let twice = machine.migrate(&["--apply"]);
    assert_eq!(twice.code, Some(5), "{}", twice.stderr);
    assert!(twice.stderr.contains("migrated already"), "{}", twice.stderr);

    let undone = machine.migrate(&["--undo"]);
    assert_eq!(undone.code, Some(0), "{}", undone.stderr);
    assert!(!undone.stdout.contains("unchanged: "), "{}", undone.stdout);
    assert_eq!(machine.etc(), before);
    assert!(!machine.path("etc/kaleem-dr").exists());
    assert_eq!(machine.migrate(&["--undo"]).code, Some(2), "there is nothing more to undo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_that_fails_switches_nothing_off_and_can_be_taken_up_again() {
    let machine = Machine::new(&nobody());
    machine.sync();
    let before = machine.etc();
    let outcome = machine.migrate(&["--apply"]);
    assert_eq!(outcome.code, Some(3), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stderr.contains("The old jobs continue unchanged"), "{}", outcome.stderr);
    let after = machine.etc();
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(
        new.iter().all(|path| path.starts_with(machine.path("etc/kaleem-dr"))),
        "only the config and its secrets: {new:?}"
    );
    assert!(
        before.iter().all(|(path, file)| after.get(path) == Some(file)),
        "the old jobs are as they were"
    );

    let database = Machine::with_database("migrate_again").await;
    let uri = format!("{}migrate_again\n", servers::mongo_uri());
    machine.write("etc/kaleem-dr/mongo.uri", &uri, 0o600);
    let outcome = machine.migrate(&["--apply", "--systemd"]);
    drop(database);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(
        !machine.path(CRON).exists()
            && machine.path("etc/systemd/system/kaleem-dr-backup.timer").exists()
    );
    assert!(
        machine.path("etc/systemd/system/timers.target.wants/kaleem-dr-backup.timer").is_symlink()
    );
    assert!(outcome.stdout.contains("systemctl stop kaleem-backup-r2.timer"), "{}", outcome.stdout);

    let undone = machine.migrate(&["--undo"]);
    assert_eq!(undone.code, Some(0), "{}", undone.stderr);
    assert!(
        undone.stdout.contains("mongo.uri was changed since"),
        "the operator's fix stays: {}",
        undone.stdout
    );
    fs::remove_dir_all(machine.path("etc/kaleem-dr")).expect("what was left is there");
    assert_eq!(machine.etc(), before);
}

#[test]
fn ids_distinguish_a_mirror_from_a_repository_of_its_own() {
    let machine = Machine::new(&nobody());
    let survey = machine.survey();
    assert_eq!(
        survey["relation"]["kind"], "unknown",
        "nothing is off site yet: {}",
        survey["relation"]
    );
    assert!(codes(&survey).contains(&"off-site-unknown"));
    let config = machine.migrate(&["--output", "-"]).stdout;
    assert!(
        config.contains("also = [\"r2\"]") && !config.contains("mirror_of"),
        "what deletes nothing is chosen: {config}"
    );

    machine.sync();
    assert_eq!(machine.survey()["relation"]["only_there"], 0);
    machine.far().backup([machine.path("opt/kaleem")]);
    let survey = machine.survey();
    assert_eq!(
        (&survey["relation"]["kind"], &survey["relation"]["only_there"]),
        (&"mirror".into(), &1.into())
    );
    assert!(codes(&survey).contains(&"off-site-snapshots"));

    fs::remove_dir_all(machine.path("far")).expect("it is there");
    fs::create_dir_all(machine.path("far/kaleem-backup")).expect("a directory can be made");
    machine.far().init(2);
    assert_eq!(machine.survey()["relation"]["kind"], "own");
    assert!(machine.migrate(&["--output", "-"]).stdout.contains("also = [\"r2\"]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_only_the_mirror_has_hold_the_change_until_they_are_brought_home() {
    let machine = Machine::with_database("migrate_foreign").await;
    machine.sync();
    machine.far().backup([machine.path("opt/kaleem")]);
    let before = machine.etc();
    let outcome = machine.migrate(&["--apply"]);
    assert_eq!(outcome.code, Some(5), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(
        before.iter().all(|(path, file)| machine.etc().get(path) == Some(file)),
        "the old jobs are as they were"
    );
    let mut home = kaleem_dr();
    home.arg("--config").arg(machine.path(CONFIG)).args([
        "replicate",
        "--from",
        "r2",
        "--to",
        "local",
        "--no-delete",
    ]);
    let home = run(&mut home);
    assert_eq!(home.code, Some(0), "{}", home.stderr);
    let outcome = machine.migrate(&["--apply"]);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(!machine.path(CRON).exists());
}

#[test]
fn what_the_operator_has_is_not_written_over_and_no_other_job_stops_unseen() {
    let machine = Machine::new(&nobody());
    machine.write(CONFIG, "# mine\n", 0o600);
    let before = machine.etc();
    let refused = machine.migrate(&["--apply"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stdout);
    assert!(refused.stderr.contains("kaleem-dr.toml exists"), "{}", refused.stderr);
    assert_eq!(machine.etc(), before);
    assert!(!machine.path("etc/kaleem-dr/mongo.uri").exists());
    fs::remove_file(machine.path(CONFIG)).expect("it is there");

    let cron = machine.read(CRON);
    machine.write(CRON, &format!("{cron}7 7 * * * root /usr/bin/true\n"), 0o644);
    let refused = machine.migrate(&["--apply"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stdout);
    assert!(refused.stderr.contains("kaleem-backups:3"), "{}", refused.stderr);
    assert!(!machine.path(CONFIG).exists());

    let written = machine.path("look.toml");
    let args = ["--output", written.to_str().expect("UTF-8")];
    assert_eq!(machine.migrate(&args).code, Some(0));
    assert_eq!(machine.migrate(&args).code, Some(2), "a file that is there stays");
}
