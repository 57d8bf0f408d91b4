//! Two repositories in one run: the source is read once, both have the same content, and the
//! failure of one does not affect the other.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{
    fs,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ::mongodb::{
    Client,
    bson::{Document, doc},
};
use async_trait::async_trait;
use bytes::Bytes;
use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{
        Access, Location, Repository,
        store::{BasicStore, Object, ObjectStore, ObjectWriter, OpendalStore, StoreError},
    },
    ground::Exit,
    operate::{
        config::secret::SecretString,
        job::{BackupJob, SecondaryRepository, backup},
    },
    recovery::source::Restorable,
};
use kaleem_dr_sources::files::{FilesConfig, FilesSource};

use crate::support::{points::progress, restic::Restic, seed, servers, site::Site, tree::Tree};

const FAR_PASSWORD: &str = "far-password";

fn with_far(site: Site, location: &str, backup: &str) -> Site {
    let password = site.secret("far.pass", FAR_PASSWORD);
    site.with(&format!(
        "[repository.r2]\nlocation = {location:?}\npassword = {{ file = {password:?} }}\ntags = [\"r2\"]\n[backup]\nalso = [\"r2\"]\n{backup}"
    ))
}

fn far(site: &Site) -> Restic {
    Restic::on_directory(&site.path("far"), FAR_PASSWORD)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_read_once_and_both_repositories_hold_the_same() {
    let client = Client::with_uri_str(servers::mongo_uri())
        .await
        .expect("the test server's address is valid");
    let database = client.database("second_once");
    database.drop().await.expect("our own database can be dropped");
    let users = database.collection::<Document>("users");
    users
        .insert_many((0..500).map(|n| doc! { "_id": n, "n": n * 7 }))
        .await
        .expect("documents can be inserted");
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let location = site.path("far").display().to_string();
    let site = with_far(
        site.with_mongo("mongo", &format!("{}second_once", servers::mongo_uri())).with_files("configs", &[&tree]),
        &location,
        "forget = true\n[retention]\nkeep_last = 2\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0",
    )
    .initialised();
    site.succeed(["--repo", "r2", "init", "--copy-chunker-params", "local"]);

    let dry = site.run(["backup", "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    assert!(
        far(&site).snapshots().is_empty() && site.snapshots().is_empty(),
        "a dry run writes nowhere"
    );

    for night in 0..3 {
        users.insert_one(doc! { "_id": 1000 + night }).await.expect("a document can be inserted");
        let (outcome, lines) = site.json(["backup"]);
        let run = lines.last().expect("a report");
        assert_eq!(outcome.code, Some(0), "{run}\n{}", outcome.stderr);
        for source in run["sources"].as_array().expect("sources") {
            assert_eq!(source["copies"][0]["repository"], "r2");
            assert!(source["copies"][0]["snapshot"].is_string(), "{source}");
        }
        assert!(run["further"][0]["forgotten"].is_u64(), "{run}");
    }
    // A tree contains the times of its capture: equal trees come from a single capture.
    let trees = |restic: &Restic| {
        let mut trees: Vec<String> =
            restic.snapshots().iter().map(|snapshot| snapshot["tree"].to_string()).collect();
        trees.sort();
        trees
    };
    assert_eq!(trees(&far(&site)), trees(&site.restic()));
    assert_eq!(far(&site).snapshots().len(), 4, "the same retention holds in both");
    far(&site).check_read_data();
    site.restic().check_read_data();
    let target = site.path("stock");
    let id = far(&site)
        .snapshots()
        .iter()
        .rfind(|snapshot| snapshot["tags"].to_string().contains("source:configs"))
        .expect("a copy")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    far(&site).succeed(["restore", &id, "--verify", "--target", target.to_str().expect("UTF-8")]);
    Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")))
        .assert_equal(&Tree::of(&tree));
    database.drop().await.expect("our own database can be dropped");
}

#[test]
fn a_far_repository_that_is_down_makes_the_run_partial_and_spoils_nothing() {
    let nobody = format!("s3:http://127.0.0.1:{}/bucket/prefix", servers::free_port());
    let site = Site::new();
    let missing = site.path("far").display().to_string();
    for location in [nobody, missing] {
        let site = Site::new();
        let tree = site.path("tree");
        seed::file_tree(&tree);
        let (key, secret) =
            (site.secret("s3.key", "0123456789"), site.secret("s3.secret", "0123456789abcdef"));
        let keys = if location.starts_with("s3:") {
            format!(
                "[repository.r2]\naccess_key_id = {{ file = {key:?} }}\nsecret_access_key = {{ file = {secret:?} }}"
            )
        } else {
            "[repository.r2]".to_owned()
        };
        let password = site.secret("far.pass", FAR_PASSWORD);
        let site = site
            .with_files("configs", &[&tree])
            .with(&format!("{keys}\nlocation = {location:?}\npassword = {{ file = {password:?} }}\n[backup]\nalso = [\"r2\"]"))
            .initialised();
        let (outcome, lines) = site.json(["backup"]);
        let run = lines.last().expect("a report");
        assert_eq!(outcome.code, Some(3), "{location}: {run}");
        assert_eq!(run["further"][0]["repository"], "r2");
        assert!(run["further"][0]["error"].is_string(), "{run}");
        assert!(
            run["sources"][0]["snapshot"].is_string() && run["sources"][0]["error"].is_null(),
            "{run}"
        );
        let shown = site.run(["backup"]);
        assert!(shown.stdout.contains("error: repository r2: "), "{}", shown.stdout);
        site.restic().check_read_data();
        assert_eq!(site.snapshots().len(), 2);
    }
}

#[test]
fn when_the_first_repository_is_gone_the_next_one_takes_its_place() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let location = site.path("far").display().to_string();
    let site = with_far(site.with_files("configs", &[&tree]), &location, "").initialised();
    site.succeed(["--repo", "r2", "init", "--copy-chunker-params", "local"]);
    fs::rename(site.repository(), site.path("gone")).expect("a directory can be renamed");
    let (outcome, lines) = site.json(["backup"]);
    let run = lines.last().expect("a report");
    assert_eq!(outcome.code, Some(3), "{run}\n{}", outcome.stderr);
    assert_eq!(run["further"][0]["repository"], "local");
    assert!(
        run["further"][0]["error"].as_str().is_some_and(|error| error.contains("no repository")),
        "{run}"
    );
    assert_eq!(far(&site).snapshots().len(), 1);
    far(&site).check_read_data();
}

/// A disk that accepts no more packs.
#[derive(Debug)]
struct FullDisk {
    inner: OpendalStore,
    full: AtomicBool,
}

#[async_trait]
impl BasicStore for FullDisk {
    fn location(&self) -> String {
        self.inner.location()
    }
    async fn list(&self, directory: &str) -> Result<Vec<Object>, StoreError> {
        self.inner.list(directory).await
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.inner.read(key, range).await
    }
    async fn write(&self, key: &str, content: Vec<Bytes>) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) && key.starts_with("data/") {
            return Err(StoreError::new(
                "write",
                key,
                self.location(),
                false,
                "no space left on device",
            ));
        }
        self.inner.write(key, content).await
    }
    async fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.inner.writer(key).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
    async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.inner.size(key).await
    }
}

impl ObjectStore for FullDisk {}

fn access(directory: &Path, password: &str) -> Access {
    let location = Location::Directory(directory.to_path_buf());
    Access::new(location, SecretString::from(password))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_loses_nothing_that_the_far_repository_can_take() {
    let home = tempfile::tempdir().expect("a directory");
    let (tree, near, far) =
        (home.path().join("tree"), home.path().join("near"), home.path().join("far"));
    seed::file_tree(&tree);
    let whole =
        Repository::init(&access(&near, "near"), 2).await.expect("a repository can be made");
    let second = Repository::init_like(&access(&far, "far"), 2, &whole)
        .await
        .expect("a repository can be made");
    for full_far in [false, true] {
        let disk = |directory: &Path, full: bool| {
            let inner = OpendalStore::directory(directory).expect("the repository is there");
            Arc::new(FullDisk { inner, full: AtomicBool::new(full) })
        };
        let (full_near, full_far) = (disk(&near, !full_far), disk(&far, full_far));
        let spoiled = full_far.full.load(Ordering::SeqCst);
        let config: FilesConfig =
            serde_json::from_value(serde_json::json!({ "paths": [tree] })).expect("a valid config");
        let source =
            FilesSource::new("configs".parse().expect("a name"), config).expect("a valid config");
        let first = Repository::open_in(full_near, &access(&near, "near")).await.expect("it opens");
        let next = Repository::open_in(full_far, &access(&far, "far")).await.expect("it opens");
        let mut job = BackupJob::new(first, vec![Arc::new(source) as Arc<dyn Restorable>]);
        let mut secondary = SecondaryRepository::of("r2", Ok(next));
        secondary.tags = vec!["r2".into()];
        job.secondaries = vec![secondary];
        fs::write(tree.join("new"), format!("{spoiled}").repeat(999)).expect("a file");
        let report = backup(&job, &progress(), &CancellationToken::new()).await.expect("a run");
        assert_eq!(report.exit, Exit::Partial, "{report:?}");
        let line = &report.sources[0];
        assert_eq!(line.snapshot.is_some(), spoiled, "{line:?}");
        assert_eq!(line.copies.len(), 1);
        assert_eq!(line.copies[0].snapshot.is_some(), !spoiled, "{line:?}");
        assert_eq!(line.copies[0].error.is_some(), spoiled, "{line:?}");
    }
    assert_eq!(
        (
            whole.snapshots().await.expect("a list").len(),
            second.snapshots().await.expect("a list").len()
        ),
        (1, 1)
    );
    Restic::on_directory(&near, "near").check_read_data();
    Restic::on_directory(&far, "far").check_read_data();
    let target = home.path().join("back");
    Restic::on_directory(&near, "near").restore_latest(&target, true);
    Tree::of(&target.join(tree.strip_prefix("/").expect("absolute")))
        .assert_equal(&Tree::of(&tree));
}
