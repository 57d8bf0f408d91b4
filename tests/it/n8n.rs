//! n8n: a copy under load is a single committed state, a missing key is always reported, and
//! restored data are equal.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    thread::JoinHandle,
    time::Duration,
};

use kaleem_dr_core::{
    CancellationToken,
    engine::{
        repository::{Access, Location, Repository},
        source::Source as _,
    },
    ground::{
        SourceError,
        host::HostScope,
        progress::{ProgressSink, Silent},
    },
    operate::{
        config::secret::{Environment, SecretString},
        job::{BackupJob, RunReport, backup},
    },
    recovery::{
        point::PointReader,
        points::{PointChoice, open_point},
        source::{Restorable, RestoreRequest, RestoreTarget, ScratchTarget},
        staged::{Sink, StagedWork},
    },
};
use kaleem_dr_sources::n8n::{N8nSource, database};
use rusqlite::Connection;
use serde_json::json;

use crate::support::{program::run, site::Site, tree::names};

/// Rows per transaction.
const BATCH: i64 = 3;
const KEY_FILE: &str = "{\n\t\"encryptionKey\": \"fXc2Zl7g3Kp0n8nkey\"\n}";

/// An n8n directory, a repository, and space for restored data.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// With three workflows, two credentials, the key, binary data and a list of community
    /// packages.
    fn new() -> Self {
        let place =
            Self { directory: tempfile::tempdir().expect("a temporary directory can be made") };
        let data = place.path(".n8n/binaryData/workflows/1/executions/7/binary_data");
        fs::create_dir_all(&data).expect("a directory can be made");
        fs::write(data.join("3f1c"), vec![9; 300_000]).expect("a file can be written");
        fs::write(data.join("3f1c.metadata"), r#"{"fileName":"صورة.png"}"#)
            .expect("a file can be written");
        fs::create_dir_all(place.path(".n8n/nodes/node_modules/n8n-nodes-x"))
            .expect("a directory can be made");
        fs::write(place.path(".n8n/nodes/node_modules/n8n-nodes-x/index.js"), "large")
            .expect("a file can be written");
        fs::write(place.path(".n8n/nodes/package.json"), "{}").expect("a file can be written");
        fs::write(place.path(".n8n/config"), KEY_FILE).expect("a file can be written");
        place
            .connection()
            .execute_batch(
                "CREATE TABLE workflow_entity (id TEXT PRIMARY KEY, name TEXT, nodes TEXT);
                 CREATE TABLE credentials_entity (id TEXT PRIMARY KEY, name TEXT, data TEXT);
                 CREATE TABLE shared_workflow (workflow TEXT REFERENCES workflow_entity(id));
                 CREATE TABLE numbered (n INTEGER PRIMARY KEY, batch INTEGER, filling BLOB);
                 INSERT INTO workflow_entity VALUES ('a', 'orders', '[]'), ('b', 'mail', '[]'), ('c', 'طلبات', '[]');
                 INSERT INTO credentials_entity VALUES ('1', 'smtp', 'U2FsdGVkX1+abc'), ('2', 'api', 'U2FsdGVkX19def');
                 INSERT INTO shared_workflow VALUES ('a');",
            )
            .expect("the tables can be made");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path(".n8n/database.sqlite")
    }

    /// A connection like n8n's own.
    fn connection(&self) -> Connection {
        let connection = Connection::open(self.database()).expect("the database opens");
        connection.busy_timeout(Duration::from_secs(20)).expect("a time-out can be set");
        connection
            .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
            .expect("WAL can be switched on");
        connection
    }

    fn source(&self) -> Arc<N8nSource> {
        self.source_with(json!({}), &Environment::default())
    }

    fn source_with(&self, more: serde_json::Value, environment: &Environment) -> Arc<N8nSource> {
        let mut config =
            json!({"directory": self.path(".n8n"), "scratch_directory": self.directory.path()});
        config
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let config = serde_json::from_value(config).expect("the config is valid");
        Arc::new(
            N8nSource::new("n8n".parse().expect("a name"), config, environment)
                .expect("the config is valid"),
        )
    }

    async fn back_up(&self, source: &Arc<N8nSource>) -> (RunReport, PointReader) {
        let access = Access::new(
            Location::Directory(self.path("repository")),
            SecretString::from("password"),
        );
        let repository = if self.path("repository").exists() {
            Repository::open(&access).await.expect("the repository opens")
        } else {
            Repository::init(&access, 2).await.expect("a repository can be made")
        };
        let job = BackupJob::new(repository.clone(), vec![source.clone()]);
        let report =
            backup(&job, &silent(), &CancellationToken::new()).await.expect("the backup runs");
        assert!(report.sources[0].error.is_none(), "{report:?}");
        let point = open_point(
            &repository,
            source.name(),
            &PointChoice::newest(HostScope::Any),
            &silent(),
            &CancellationToken::new(),
        )
        .await;
        (report, point.expect("the point opens").0)
    }

    async fn export(&self, source: &N8nSource, point: &PointReader) -> PathBuf {
        let path = self.path("n8n-sqlite.tar.gz");
        let mut sink =
            Sink::new(Box::new(fs::File::create(&path).expect("a file can be made")), true);
        source
            .staged()
            .expect("n8n has a staged form")
            .write(point, &mut sink)
            .await
            .expect("the tar is written");
        sink.finish().await.expect("the tar is finished");
        path
    }

    async fn open(&self, source: &N8nSource, file: &Path) -> Result<PointReader, SourceError> {
        fs::create_dir_all(self.path("scratch")).expect("a directory can be made");
        let work = StagedWork::new(self.path("scratch"));
        source.staged().expect("n8n has a staged form").open(file, &work).await
    }

    fn beside(&self, name: &str) -> RestoreRequest {
        RestoreRequest::whole(RestoreTarget::Beside(Some(self.path(name).display().to_string())))
    }
}

fn silent() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}

/// Writes numbered rows in transactions, about 200 rows a second.
struct Writer {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(place: &Place) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut connection = place.connection();
        let (stopped, done) = (stop.clone(), committed.clone());
        let thread = thread::spawn(move || {
            for batch in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let transaction = connection.transaction().expect("a transaction begins");
                for n in 1..=BATCH {
                    transaction
                        .execute(
                            "INSERT INTO numbered VALUES (?1, ?2, randomblob(500))",
                            [batch * BATCH + n, batch],
                        )
                        .expect("a row can be written");
                }
                transaction.commit().expect("a transaction commits: n8n is not locked out");
                done.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, committed, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the writer met no error");
    }
}

/// The number of rows in a copy, which must be numbered without a gap and end with a whole
/// transaction.
fn committed_prefix(copy: &Path) -> i64 {
    let health = database::check(copy).expect("the copy opens");
    assert!(health.broken.is_empty(), "{health:?}");
    let copy = Connection::open(copy).expect("the copy opens");
    let (rows, last): (i64, i64) = copy
        .query_row("SELECT count(*), coalesce(max(n), 0) FROM numbered", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("rows can be counted");
    assert_eq!(rows, last, "no number is missing");
    assert_eq!(rows % BATCH, 0, "no transaction is there by half");
    rows
}

#[test]
fn fifty_copies_under_load_are_each_a_committed_prefix() {
    let place = Place::new();
    let writer = Writer::start(&place);
    let mut before = 0;
    for n in 0..50 {
        let at_least =
            i64::try_from(writer.committed.load(Ordering::SeqCst)).expect("small") * BATCH;
        let copy = place.path(&format!("copy-{n}.sqlite"));
        database::copy(&place.database(), &copy, &CancellationToken::new())
            .expect("it can be copied");
        let rows = committed_prefix(&copy);
        assert!(
            rows >= before && rows >= at_least,
            "what was committed before the copy is in it: {rows} {before} {at_least}"
        );
        before = rows;
        fs::remove_file(&copy).expect("it is there");
    }
    writer.stop();
    assert!(before > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_in_the_log_is_captured_and_the_live_files_are_left_as_they_are() {
    let place = Place::new();
    // A connection that stays open, so that the log is not checkpointed and a copy file by file
    // would miss it.
    let live = place.connection();
    live.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO workflow_entity VALUES ('d', 'only in the log', '[]')")
        .expect("a row can be written");
    let bare = place.path("bare.sqlite");
    fs::copy(place.database(), &bare).expect("a file can be copied");
    let bare =
        database::count(&bare).ok().and_then(|tables| tables.get("workflow_entity").copied());
    assert_ne!(bare, Some(4), "the trap is set");
    let main_file = fs::read(place.database()).expect("it can be read");
    let log = fs::read(place.path(".n8n/database.sqlite-wal")).expect("it can be read");

    let source = place.source();
    let (report, point) = place.back_up(&source).await;
    assert_eq!(report.exit.code(), 0, "{report:?}");
    assert_eq!(point.manifest().details["tables"]["workflow_entity"], 4);
    assert_eq!(fs::read(place.database()).expect("it can be read"), main_file);
    assert_eq!(fs::read(place.path(".n8n/database.sqlite-wal")).expect("it can be read"), log);
    drop(live);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_restored_equal_to_a_new_directory_and_so_is_the_tar() {
    let place = Place::new();
    let source = place.source();
    let writer = Writer::start(&place);
    let (report, point) = place.back_up(&source).await;
    writer.stop();
    assert_eq!(report.exit.code(), 0, "{report:?}");
    let inspection = source.inspect(&point).await.expect("it can be read");
    assert!(inspection.is_well() && inspection.findings.is_empty(), "{inspection:?}");
    assert!(
        inspection.checked.iter().any(|line| line == "workflow_entity: 3 rows"),
        "{inspection:?}"
    );

    let file = place.export(&source, &point).await;
    let listed = run(std::process::Command::new("tar").arg("-tzf").arg(&file)).stdout;
    for name in [
        "database.sqlite\n",
        "config\n",
        "binaryData/workflows/1/executions/7/binary_data/3f1c\n",
        "nodes/package.json\n",
    ] {
        assert!(listed.contains(name), "{name} in {listed}");
    }
    assert!(!listed.contains("node_modules"), "{listed}");
    let from_tar = place.open(&source, &file).await.expect("it is whole");
    assert_eq!(from_tar.manifest().details["tables"], point.manifest().details["tables"]);
    assert!(source.inspect(&from_tar).await.expect("it can be read").is_well());

    for (origin, name) in [(&point, "beside"), (&from_tar, "from the tar")] {
        let plan = source.plan_restore(origin, place.beside(name)).await.expect("a plan");
        assert!(!plan.overwrites(), "{plan:?}");
        let report = source.restore(origin, plan).await.expect("it is restored");
        assert!(report.is_done(), "{report:?}");
        committed_prefix(&place.path(name).join("database.sqlite"));
        assert_eq!(fs::read_to_string(place.path(name).join("config")).expect("the key"), KEY_FILE);
        let mode = |file: &str| {
            fs::metadata(place.path(name).join(file)).expect("it is there").permissions().mode()
                & 0o777
        };
        assert_eq!((mode("database.sqlite"), mode("config"), mode(".")), (0o600, 0o600, 0o700));
        let data = place.path(name).join("binaryData/workflows/1/executions/7/binary_data");
        assert_eq!(fs::read(data.join("3f1c")).expect("the file"), vec![9; 300_000]);
        let again =
            source.plan_restore(origin, place.beside(name)).await.expect_err("something is there");
        assert!(matches!(again, SourceError::Refused(_)), "{again}");
    }
    let left: Vec<_> = fs::read_dir(place.path("."))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("kaleem-dr"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_is_refused_while_it_runs_and_replays_no_old_log() {
    let place = Place::new();
    let source = place.source();
    let (_, point) = place.back_up(&source).await;
    let running = place.connection();
    running
        .execute_batch(
            "PRAGMA wal_autocheckpoint = 0; DELETE FROM shared_workflow; DELETE FROM workflow_entity; UPDATE credentials_entity SET name = 'changed'",
        )
        .expect("rows can be changed");
    fs::write(place.path(".n8n/config"), "{}").expect("a file can be written");
    fs::write(place.path(".n8n/binaryData/new since"), "stays").expect("a file can be written");
    let in_place = || RestoreRequest::whole(RestoreTarget::InPlace);
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    assert!(plan.overwrites());
    let refused = source.restore(&point, plan).await.expect_err("it is in use");
    assert!(matches!(&refused, SourceError::Refused(why) if why.contains("stop n8n")), "{refused}");
    let rows: i64 = running
        .query_row("SELECT count(*) FROM credentials_entity", [], |row| row.get(0))
        .expect("it still works");
    assert_eq!(rows, 2);
    // A crash leaves the log behind.
    let log = fs::read(place.path(".n8n/database.sqlite-wal")).expect("it can be read");
    drop(running);
    fs::write(place.path(".n8n/database.sqlite-wal"), log).expect("a file can be written");
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let report = source.restore(&point, plan).await.expect("it is restored");
    assert!(report.is_done(), "{report:?}");
    assert!(!place.path(".n8n/database.sqlite-wal").exists());
    let rows: i64 = place
        .connection()
        .query_row("SELECT count(*) FROM workflow_entity", [], |row| row.get(0))
        .expect("rows can be counted");
    assert_eq!(rows, 3);
    assert_eq!(fs::read_to_string(place.path(".n8n/config")).expect("the key"), KEY_FILE);
    assert!(place.path(".n8n/binaryData/new since").exists());
}

#[test]
fn another_process_that_has_it_open_is_named() {
    let place = Place::new();
    let site = Site::new()
        .with(&format!(
            "[source.n8n]\ntype = \"n8n\"\ndirectory = \"{}\"\nscratch_directory = \"{}\"",
            place.path(".n8n").display(),
            place.path(".").display()
        ))
        .initialised();
    site.succeed(["backup"]);
    // The test itself plays n8n: it has the database open, without a lock on it.
    let open = fs::File::open(place.database()).expect("it can be opened");
    let refused = site.run(["restore", "n8n", "--in-place", "--yes"]);
    assert_eq!(refused.code, Some(5), "{}{}", refused.stdout, refused.stderr);
    assert!(
        refused.stderr.contains(&format!("process {}", std::process::id())),
        "{}",
        refused.stderr
    );
    drop(open);
    site.succeed(["restore", "n8n", "--in-place", "--yes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_loud() {
    let place = Place::new();
    fs::remove_file(place.path(".n8n/config")).expect("it is there");
    let without = place.source();
    assert!(
        without.probe().await.expect("it is there").warnings[0]
            .contains("without the key no credential can be read")
    );
    let (report, point) = place.back_up(&without).await;
    assert_eq!(report.exit.code(), 3, "{report:?}");
    let inspection = without.inspect(&point).await.expect("it can be read");
    assert!(!inspection.is_well(), "{inspection:?}");

    let environment: Environment = [("N8N_ENCRYPTION_KEY", "canary-key")].into_iter().collect();
    let in_environment =
        place.source_with(json!({"encryption_key": {"env": "N8N_ENCRYPTION_KEY"}}), &environment);
    let (report, point) = place.back_up(&in_environment).await;
    assert_eq!(report.exit.code(), 3, "{report:?}");
    assert!(
        point.manifest().incomplete[0].why.contains("keep N8N_ENCRYPTION_KEY in a safe place"),
        "{report:?}"
    );
    let shown = format!(
        "{in_environment:?} {report:?} {}",
        serde_json::to_string(point.manifest()).expect("JSON")
    );
    assert!(!shown.contains("canary-key"));

    fs::write(place.path(".n8n/config"), KEY_FILE).expect("a file can be written");
    let (report, point) = place.back_up(&in_environment).await;
    assert_eq!(report.exit.code(), 3, "{report:?}");
    assert!(point.manifest().incomplete[0].why.contains("another key"), "{report:?}");
    fs::write(place.path(".n8n/config"), r#"{"encryptionKey":"canary-key"}"#)
        .expect("a file can be written");
    let (report, _) = place.back_up(&in_environment).await;
    assert_eq!(report.exit.code(), 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_compares_and_leaves_nothing() {
    let place = Place::new();
    let source = place.source();
    let (_, point) = place.back_up(&source).await;
    fs::create_dir(place.path("drill")).expect("a directory");
    let scratch = ScratchTarget::new("kdr_drill_1", place.path("drill"));
    let report = source.rehearse(&point, &scratch).await.expect("it can be rehearsed");
    assert!(
        report.is_done() && report.compared.iter().any(|line| line == "rows of 4 tables"),
        "{report:?}"
    );
    assert_eq!(fs::read_dir(place.path("drill")).expect("the directory is there").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_torn_copy_in_a_tar_is_found() {
    let place = Place::new();
    let source = place.source();
    // A tar like that of the earlier shell script: of the live directory, file by file, under its
    // path on the host.
    let live = place.connection();
    live.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO workflow_entity VALUES ('d', 'only in the log', '[]')")
        .expect("a row can be written");
    let file = place.path("old.tar.gz");
    let pack = || {
        run(std::process::Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(place.path("."))
            .arg(".n8n"))
    };
    assert_eq!(pack().code, Some(0));
    let point = place.open(&source, &file).await.expect("it is whole");
    assert_eq!(point.manifest().details["tables"]["workflow_entity"], 4, "its log counts");
    drop(live);

    let mut bytes = fs::read(place.database()).expect("it can be read");
    let half = bytes.len() / 2;
    bytes[half..].fill(0x5a);
    fs::write(place.database(), bytes).expect("a file can be written");
    assert_eq!(pack().code, Some(0));
    let point = place.open(&source, &file).await.expect("the tar is whole");
    let inspection = source.inspect(&point).await.expect("it can be read");
    assert!(!inspection.is_well(), "{inspection:?}");
    assert!(
        inspection
            .findings
            .iter()
            .any(|finding| finding.message.contains("database.sqlite is damaged")),
        "{inspection:?}"
    );
    let plan = source.plan_restore(&point, place.beside("damaged")).await.expect("a plan");
    let report = source.restore(&point, plan).await.expect("it says what differs");
    assert!(!report.is_equal() && !place.path("damaged").exists(), "{report:?}");

    let packed = fs::read(&file).expect("it can be read");
    fs::write(&file, &packed[..packed.len() / 2]).expect("a file can be written");
    let error = place.open(&source, &file).await.expect_err("it is cut off");
    assert!(matches!(error, SourceError::Damaged { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_directory_of_n8ns_is_not_followed() {
    let place = Place::new();
    let source = place.source();
    let (_, point) = place.back_up(&source).await;
    fs::create_dir_all(place.path("outside/workflows")).expect("a directory");
    fs::remove_dir_all(place.path(".n8n/binaryData")).expect("it can be removed");
    std::os::unix::fs::symlink(place.path("outside"), place.path(".n8n/binaryData"))
        .expect("a link");
    let plan = source
        .plan_restore(&point, RestoreRequest::whole(RestoreTarget::InPlace))
        .await
        .expect("a plan");
    let error = source.restore(&point, plan).await.expect_err("the link is not followed");
    assert!(error.to_string().contains("binaryData"), "{error}");
    assert_eq!(fs::read_dir(place.path("outside/workflows")).expect("a directory").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_no_process_has_open_is_copied_and_nothing_is_left_next_to_it() {
    let place = Place::new();
    drop(place.connection());
    let before = names(&place.path(".n8n"));
    assert!(!before.iter().any(|name| name.ends_with("-shm")), "the trap is set: {before:?}");
    let source = place.source();
    let (report, point) = place.back_up(&source).await;
    assert_eq!(report.exit.code(), 0, "{report:?}");
    assert_eq!(point.manifest().details["tables"]["workflow_entity"], 3);
    assert_eq!(names(&place.path(".n8n")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_both_versions_of_n8n_are_captured_and_restored() {
    let place = Place::new();
    for (path, content) in [
        (".n8n/storage/workflows/1/executions/7/execution_data/data.json", "of an execution"),
        (".n8n/nodes/package.json", "{}"),
        (".n8n/ssh/key", "a key"),
    ] {
        fs::create_dir_all(place.path(path).parent().expect("a directory"))
            .expect("a directory can be made");
        fs::write(place.path(path), content).expect("a file can be written");
    }
    let source = place.source();
    let (report, point) = place.back_up(&source).await;
    assert_eq!(report.exit.code(), 0, "{report:?}");
    let target = place.path("restored");
    let to = RestoreTarget::Beside(Some(target.to_str().expect("UTF-8").to_owned()));
    let plan =
        source.plan_restore(&point, RestoreRequest::whole(to)).await.expect("it can be planned");
    let report = source.restore(&point, plan).await.expect("it is restored");
    assert!(report.is_equal(), "{report:?}");
    let data = target.join("storage/workflows/1/executions/7/execution_data/data.json");
    assert_eq!(fs::read_to_string(data).expect("it is there"), "of an execution");
    assert_eq!(fs::read_to_string(target.join("ssh/key")).expect("it is there"), "a key");
    assert!(target.join("binaryData/workflows").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_in_another_place_is_captured_from_there_and_restored_to_it() {
    let place = Place::new();
    fs::create_dir(place.path("elsewhere")).expect("a directory can be made");
    fs::write(place.path("elsewhere/file"), "attachment").expect("a file can be written");
    let source =
        place.source_with(json!({"storage": place.path("elsewhere")}), &Environment::default());
    let (report, point) = place.back_up(&source).await;
    assert_eq!(report.exit.code(), 0, "{report:?}");
    fs::write(place.path("elsewhere/file"), "overwritten").expect("a file can be written");
    let plan = source.plan_restore(&point, RestoreRequest::whole(RestoreTarget::InPlace)).await;
    let report =
        source.restore(&point, plan.expect("it can be planned")).await.expect("it is restored");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(
        fs::read_to_string(place.path("elsewhere/file")).expect("it is there"),
        "attachment"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_n8n_on_another_database_is_refused_with_what_to_use() {
    let place = Place::new();
    fs::remove_file(place.database()).expect("it can be removed");
    let error = place.source().probe().await.expect_err("it is refused").to_string();
    assert!(error.contains("PostgreSQL") && error.contains("pg_dump"), "{error}");
}
