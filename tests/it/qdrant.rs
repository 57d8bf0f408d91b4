//! Qdrant: captured into a real repository, restored, compared, and every kind of failure.
//!
//! Tests of a healthy server run against the one at `KALEEM_TEST_QDRANT_URL` (with
//! `KALEEM_TEST_QDRANT_API_KEY`) if it is set, and against a stand-in otherwise; a server that
//! fails on demand is always the stand-in.

use std::{env, fs, ops::Deref, path::Path, sync::Arc};

use kaleem_dr_core::{
    CancellationToken,
    engine::{
        repository::{Access, Location, Repository},
        source::Source as _,
    },
    ground::{
        Exit, SourceError, error_chain,
        host::HostScope,
        progress::{ProgressSink, Silent, StageProgress, Unit},
    },
    jiff::Timestamp,
    operate::{
        config::secret::{Environment, SecretString},
        job::{BackupJob, RunReport, backup},
    },
    recovery::{
        point::PointReader,
        points::{PointChoice, open_point},
        source::{
            Change, Rename, Restorable, RestoreReport, RestoreRequest, RestoreTarget, ScratchTarget,
        },
        staged::{Sink, StagedWork},
    },
};
use kaleem_dr_sources::qdrant::QdrantSource;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    qdrant_stand_in::{API_KEY, Faults, QdrantStandIn, READ_ONLY_KEY, Refusal, exchanges},
    restic::Restic,
    site::{PASSWORD, Site},
};

const FULL: &[u8] = include_bytes!("../fixtures/qdrant/full.snapshot");
const DOCS: &[u8] = include_bytes!("../fixtures/qdrant/docs.snapshot");

/// A server, and the names on it that belong to one test.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) prefix: String,
    stand_in: Option<QdrantStandIn>,
}

impl Server {
    /// A real server if one is configured.
    pub(crate) fn any(test: &str) -> Self {
        let prefix = format!("kdr_{test}_{}_", Timestamp::now().as_microsecond());
        match env::var("KALEEM_TEST_QDRANT_URL") {
            Ok(url) => {
                let key =
                    env::var("KALEEM_TEST_QDRANT_API_KEY").unwrap_or_else(|_| "unused".into());
                Self { url, key, prefix, stand_in: None }
            }
            Err(_) => Self { prefix, ..Self::failing(QdrantStandIn::start()) },
        }
    }

    /// Always a stand-in.
    pub(crate) fn failing(stand_in: QdrantStandIn) -> Self {
        Self {
            url: stand_in.url(),
            key: API_KEY.into(),
            prefix: String::new(),
            stand_in: Some(stand_in),
        }
    }

    pub(crate) fn is_stand_in(&self) -> bool {
        self.stand_in.is_some()
    }

    fn recorded() -> Self {
        Self::failing(QdrantStandIn::recorded())
    }

    fn stand_in(&self) -> &QdrantStandIn {
        self.stand_in.as_ref().expect("this test runs on a stand-in")
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn api(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = reqwest::Client::new()
            .request(method, format!("{}/{path}", self.url))
            .header("api-key", &self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("the server answers");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.api(method.clone(), path, Some(body)).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["result"].clone()
    }

    /// Creates `docs` with named vectors and an index, behind the alias `search`; and `sessions`
    /// with plain vectors and no alias.
    pub(crate) async fn seed(&self) {
        let (docs, sessions) = (self.name("docs"), self.name("sessions"));
        let wal = json!({ "wal_capacity_mb": 1 });
        let vectors = json!({ "title": { "size": 4, "distance": "Cosine" }, "body": { "size": 2, "distance": "Dot" } });
        self.done(
            Method::PUT,
            &format!("collections/{docs}"),
            json!({ "vectors": vectors, "wal_config": wal }),
        )
        .await;
        let index = json!({ "field_name": "tenant", "field_schema": { "type": "keyword", "is_tenant": true } });
        self.done(Method::PUT, &format!("collections/{docs}/index?wait=true"), index).await;
        let points: Vec<_> = (0..150)
            .map(|n| {
                let id = if n % 3 == 0 { json!(format!("00000000-0000-0000-0000-{n:012}")) } else { json!(n) };
                let f = f64::from(n);
                json!({ "id": id, "payload": { "tenant": format!("t{}", n % 4), "text": "نص", "weight": f / 7.0 },
                        "vector": { "title": [f.sin(), f.cos(), 0.3, 1.0 + f], "body": [f / 3.0, -f] } })
            })
            .collect();
        self.done(
            Method::PUT,
            &format!("collections/{docs}/points?wait=true"),
            json!({ "points": points }),
        )
        .await;
        let settings = json!({ "vectors": { "size": 3, "distance": "Euclid" }, "wal_config": wal });
        self.done(Method::PUT, &format!("collections/{sessions}"), settings).await;
        let points: Vec<_> =
            (0..20).map(|n| json!({ "id": n, "payload": { "k": n }, "vector": [f64::from(n) / 9.0, 0.1, -1.5] })).collect();
        self.done(
            Method::PUT,
            &format!("collections/{sessions}/points?wait=true"),
            json!({ "points": points }),
        )
        .await;
        let alias = json!({ "create_alias": { "collection_name": docs, "alias_name": self.name("search") } });
        self.done(Method::POST, "collections/aliases", json!({ "actions": [alias] })).await;
    }

    /// Changes what a restore must bring back.
    async fn spoil(&self, collection: &str) {
        let vectors = if collection.ends_with("docs") {
            json!({ "title": [1, 1, 1, 1], "body": [9, 9] })
        } else {
            json!([9, 9, 9])
        };
        let point = json!({ "id": 1, "payload": { "spoilt": true }, "vector": vectors });
        self.done(
            Method::PUT,
            &format!("collections/{collection}/points?wait=true"),
            json!({ "points": [point] }),
        )
        .await;
    }

    /// The collections of this test.
    pub(crate) async fn collections(&self) -> Vec<String> {
        let (_, answer) = self.api(Method::GET, "collections", None).await;
        let mut names: Vec<_> = answer["result"]["collections"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|collection| collection["name"].as_str().expect("a name").to_owned())
            .filter(|name| name.starts_with(&self.prefix))
            .collect();
        names.sort();
        names
    }

    /// The collection of an alias of this test.
    async fn alias(&self, alias: &str) -> Option<String> {
        let (_, answer) = self.api(Method::GET, "aliases", None).await;
        let aliases = answer["result"]["aliases"].as_array().expect("a list").clone();
        let found = aliases.iter().find(|known| known["alias_name"] == alias)?;
        Some(found["collection_name"].as_str().expect("a name").to_owned())
    }

    /// Every point of a collection, as returned by the server.
    pub(crate) async fn points(&self, collection: &str) -> Vec<Value> {
        let body = json!({ "limit": 10000, "with_payload": true, "with_vector": true });
        let page =
            self.done(Method::POST, &format!("collections/{collection}/points/scroll"), body).await;
        page["points"].as_array().expect("points").clone()
    }

    /// Asserts that no temporary snapshot and no uploaded file exist, listed or not.
    pub(crate) async fn assert_no_files(&self, when: &str) {
        if let Some(stand_in) = &self.stand_in {
            assert_eq!(stand_in.files(), [], "{when}: files are left on the server");
        }
        for collection in self.collections().await {
            let (status, listed) =
                self.api(Method::GET, &format!("collections/{collection}/snapshots"), None).await;
            assert!(
                status == 500 || listed["result"] == json!([]),
                "{when}: {collection} has {listed}"
            );
        }
    }

    /// Removes everything of this test.
    pub(crate) async fn clean_up(&self) {
        for collection in self.collections().await {
            self.api(Method::DELETE, &format!("collections/{collection}"), None).await;
        }
    }

    pub(crate) fn source_of(&self, key: &str, more: &Value) -> QdrantSource {
        let mut config = json!({ "url": self.url, "api_key": { "env": "QDRANT_KEY" }, "collections": [format!("{}*", self.prefix)] });
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let config = serde_json::from_value(config).expect("a valid config");
        let environment: Environment = [("QDRANT_KEY", key)].into_iter().collect();
        QdrantSource::new("vectors".parse().expect("a source name"), &config, &environment)
            .expect("the config is good")
    }

    pub(crate) fn source(&self) -> Arc<QdrantSource> {
        Arc::new(self.source_of(&self.key, &json!({})))
    }
}

/// A repository, and the outcome of one run.
pub(crate) struct Captured {
    pub(crate) directory: TempDir,
    pub(crate) repository: Repository,
    pub(crate) report: RunReport,
}

impl Captured {
    pub(crate) async fn of(source: Arc<QdrantSource>) -> Self {
        Self::of_cancelled(source, &CancellationToken::new()).await
    }

    async fn of_cancelled(source: Arc<QdrantSource>, cancel: &CancellationToken) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let access = Access::new(
            Location::Directory(directory.path().join("repository")),
            SecretString::from(PASSWORD),
        );
        let repository = Repository::init(&access, 2).await.expect("a repository can be made");
        let job = BackupJob::new(repository.clone(), vec![source as Arc<dyn Restorable>]);
        let report = backup(&job, &progress(), cancel).await.expect("the run begins");
        Self { directory, repository, report }
    }

    /// The point of a successful run.
    pub(crate) async fn point(self) -> Held {
        assert_eq!(self.report.exit, Exit::Done, "{:?}", self.report);
        Held { point: self.point_of(&CancellationToken::new()).await, directory: self.directory }
    }

    pub(crate) async fn point_of(&self, cancel: &CancellationToken) -> PointReader {
        let name = "vectors".parse().expect("a source name");
        open_point(
            &self.repository,
            &name,
            &PointChoice::newest(HostScope::Any),
            &progress(),
            cancel,
        )
        .await
        .expect("the run left a point")
        .0
    }

    pub(crate) fn error(&self) -> &str {
        assert_ne!(self.report.exit, Exit::Done, "{:?}", self.report);
        self.report.sources[0].error.as_deref().expect("an error")
    }

    pub(crate) async fn snapshots(&self) -> usize {
        self.repository.snapshots().await.expect("snapshots can be listed").len()
    }
}

/// A point, and the repository that contains it.
pub(crate) struct Held {
    pub(crate) point: PointReader,
    pub(crate) directory: TempDir,
}

impl Deref for Held {
    type Target = PointReader;

    fn deref(&self) -> &PointReader {
        &self.point
    }
}

pub(crate) fn progress() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}

/// Cancels when a stage begins.
#[derive(Debug)]
pub(crate) struct CancelAt {
    title: &'static str,
    cancel: CancellationToken,
}

impl ProgressSink for CancelAt {
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress> {
        if title == self.title {
            self.cancel.cancel();
        }
        Silent.begin(title, unit, total)
    }
}

pub(crate) fn beside(prefix: &str) -> RestoreRequest {
    RestoreRequest::whole(RestoreTarget::Beside(Some(prefix.into())))
}

pub(crate) fn in_place() -> RestoreRequest {
    RestoreRequest::whole(RestoreTarget::InPlace)
}

pub(crate) async fn restore(
    source: &QdrantSource,
    point: &PointReader,
    request: RestoreRequest,
) -> Result<RestoreReport, SourceError> {
    let plan = source.plan_restore(point, request).await?;
    source.restore(point, plan).await
}

fn staged_work(directory: &Path) -> StagedWork {
    StagedWork::new(directory)
}

// Tests of a healthy server.

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_is_whole_for_stock_restic_and_is_restored_under_new_names_point_by_point() {
    let server = Server::any("beside");
    server.seed().await;
    let (docs, sessions) = (server.name("docs"), server.name("sessions"));
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    server.assert_no_files("after a capture").await;

    let manifest = point.manifest();
    let paths: Vec<_> = manifest.artifacts.iter().map(|artifact| artifact.path.clone()).collect();
    let of = |name: &str, extension: &str| format!("/qdrant/collections/{name}.{extension}");
    let expected = [
        "/qdrant/aliases.json".to_owned(),
        of(&docs, "json"),
        of(&docs, "snapshot"),
        of(&sessions, "json"),
        of(&sessions, "snapshot"),
    ];
    assert_eq!(paths, expected);
    let snapshot = manifest.artifact(&of(&docs, "snapshot")).expect("it is there");
    assert_eq!(snapshot.items, Some(150));
    assert_eq!(snapshot.content_digest.as_ref().map(String::len), Some(64));
    assert_eq!(manifest.server.as_ref().expect("a server").product, "Qdrant");
    assert_eq!(manifest.details["collections"][&docs]["known"], "content");

    let restic = Restic::on_directory(&point.directory.path().join("repository"), PASSWORD);
    restic.check_read_data();
    let target = point.directory.path().join("back");
    restic.restore_latest(&target, true);
    let aliases: Value = serde_json::from_slice(
        &fs::read(target.join("qdrant/aliases.json")).expect("it came back"),
    )
    .expect("it is JSON");
    assert_eq!(
        aliases,
        json!({ "aliases": [{ "alias_name": server.name("search"), "collection_name": docs }] })
    );
    let description =
        fs::read(target.join(format!("qdrant/collections/{docs}.json"))).expect("it came back");
    let description: Value = serde_json::from_slice(&description).expect("it is JSON");
    assert_eq!(description["points"]["count"], 150);
    assert_eq!(description["config"]["params"]["vectors"]["title"]["size"], 4);

    let before = server.points(&docs).await;
    server.spoil(&docs).await;
    let request = beside("unused")
        .with_only(vec![docs.clone()])
        .with_rename(vec![Rename::new(docs.clone(), server.name("copy"))]);
    let plan = source.plan_restore(&point, request).await.expect("a plan");
    assert!(!plan.overwrites(), "{plan:?}");
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!((report.items, report.size_bytes), (150, snapshot.size_bytes));
    assert!(
        report.compared.iter().any(|line| line
            == &format!("150 points of collection {docs}, every id, vector and payload"))
    );
    assert_eq!(server.points(&server.name("copy")).await, before);
    assert_eq!(
        server.alias(&server.name("search")).await,
        Some(docs.clone()),
        "aliases are not touched"
    );
    server.assert_no_files("after a restore").await;
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_captures_of_unchanged_points_have_one_digest_and_one_more_point_has_another() {
    let server = Server::any("digest");
    server.seed().await;
    let source = server.source();
    let path = format!("/qdrant/collections/{}.snapshot", server.name("sessions"));
    let mut digests = Vec::new();
    for _ in 0..2 {
        let point = Captured::of(source.clone()).await.point().await;
        digests.push(
            point
                .manifest()
                .artifact(&path)
                .expect("it is there")
                .content_digest
                .clone()
                .expect("a digest"),
        );
    }
    assert_eq!(digests[0], digests[1]);
    server.spoil(&server.name("sessions")).await;
    let point = Captured::of(source).await.point().await;
    assert_ne!(
        point.manifest().artifact(&path).expect("it is there").content_digest.as_ref(),
        Some(&digests[0])
    );
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_an_alias_is_switched_and_can_be_switched_back_while_a_plain_collection_is_replaced()
 {
    let server = Server::any("in_place");
    server.seed().await;
    let (docs, sessions, search) =
        (server.name("docs"), server.name("sessions"), server.name("search"));
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let (docs_before, sessions_before) =
        (server.points(&docs).await, server.points(&sessions).await);
    server.spoil(&docs).await;
    server.spoil(&sessions).await;

    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let new = plan
        .request
        .rename
        .iter()
        .find(|rename| rename.from == docs)
        .expect("docs gets a new name")
        .to
        .clone();
    let lines: Vec<_> =
        plan.actions.iter().map(|action| format!("{:?} {}", action.change, action.what)).collect();
    for line in [
        format!("Create collection {new}"),
        format!("Leave collection {docs}"),
        format!("Overwrite collection {sessions}"),
        format!("Overwrite alias {search}"),
    ] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.alias(&search).await, Some(new.clone()));
    assert_eq!(server.points(&search).await, docs_before);
    assert_eq!(server.points(&sessions).await, sessions_before);
    assert_ne!(server.points(&docs).await, docs_before, "the old collection is unchanged");
    assert_eq!(
        server.collections().await,
        [docs.clone(), new.clone(), sessions],
        "no copy is left"
    );
    server.assert_no_files("after a restore in place").await;

    // The request in the report that undoes the switch.
    let by_hand = report
        .warnings
        .iter()
        .find_map(|warning| warning.split_once("send POST /collections/aliases "))
        .expect("a way back");
    server
        .done(
            Method::POST,
            "collections/aliases",
            serde_json::from_str(by_hand.1).expect("it is JSON"),
        )
        .await;
    assert_eq!(server.alias(&search).await, Some(docs));
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_everything_that_was_lost_comes_back_under_its_own_name_with_its_aliases() {
    let server = Server::any("lost");
    server.seed().await;
    let (docs, sessions, search) =
        (server.name("docs"), server.name("sessions"), server.name("search"));
    let source = server.source();
    let captured = Captured::of(source.clone()).await;
    let before = (server.points(&docs).await, server.points(&sessions).await);
    server.clean_up().await;
    assert!(server.collections().await.is_empty());

    let point = captured.point().await;
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    assert!(plan.actions.iter().all(|action| action.change == Change::Create), "{plan:?}");
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.collections().await, [docs.clone(), sessions.clone()]);
    assert_eq!((server.points(&docs).await, server.points(&sessions).await), before);
    assert_eq!(server.alias(&search).await, Some(docs));
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_compares_everything_and_leaves_nothing() {
    let server = Server::any("rehearsal");
    server.seed().await;
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let before = server.collections().await;
    let directory = tempfile::tempdir().expect("a directory");
    let scratch = ScratchTarget::new(server.name("kdr_drill_01"), directory.path());
    let report = source.rehearse(&point, &scratch).await.expect("a rehearsal");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.items, 170);
    assert_eq!(server.collections().await, before);
    server.assert_no_files("after a rehearsal").await;
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_snapshot_that_we_wrote_opens_again_and_restores() {
    let server = Server::any("staged");
    server.seed().await;
    let (docs, sessions) = (server.name("docs"), server.name("sessions"));
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let before = server.points(&docs).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("full-snapshot-2026-11-23.snapshot");
    let staged = source.staged().expect("Qdrant has a staged form");
    let mut sink =
        Sink::new(Box::new(fs::File::create(&path).expect("a file")), staged.name().is_gzip());
    staged.write(&point, &mut sink).await.expect("it can be written");
    sink.finish().await.expect("the file is written");

    // Like Qdrant's own: snapshots in the root, the mapping last, every entry a regular file.
    let mut members = Vec::new();
    let mut archive = tar::Archive::new(fs::File::open(&path).expect("a file"));
    for entry in archive.entries().expect("a tar") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
        members.push(entry.path().expect("a path").display().to_string());
    }
    assert_eq!(members.len(), 3);
    assert_eq!(members[2], "config.json");
    assert!(members[0].starts_with(&docs) && members[1].starts_with(&sessions), "{members:?}");

    let opened = staged.open(&path, &staged_work(directory.path())).await.expect("it opens");
    let snapshot = format!("/qdrant/collections/{docs}.snapshot");
    let sha256 = |point: &PointReader| {
        point.manifest().artifact(&snapshot).expect("it is there").sha256.clone()
    };
    assert_eq!(sha256(&opened), sha256(&point));
    assert!(source.inspect(&opened).await.expect("an inspection").is_well());
    let request = beside("unused").with_rename(vec![
        Rename::new(docs.clone(), server.name("docs2")),
        Rename::new(sessions, server.name("sessions2")),
    ]);
    let plan = source.plan_restore(&opened, request).await.expect("a plan");
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("does not record which Qdrant made it")),
        "{plan:?}"
    );
    let report = source.restore(&opened, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert!(
        report.uncompared.iter().any(|left| left.what.contains("150 points")),
        "equal is said only of what was compared: {report:?}"
    );
    assert_eq!(server.points(&server.name("docs2")).await, before);
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handbooks_full_snapshot_and_one_collections_file_restore() {
    let server = Server::any("handbook");
    let source = server.source();
    let directory = tempfile::tempdir().expect("a directory");
    for (file, content, expected) in [
        ("full-snapshot-2026-11-23-05-01-03.snapshot", FULL, vec![("docs", 120), ("sessions", 30)]),
        ("docs-6214784781599714-2026-11-23-05-01-03.snapshot", DOCS, vec![("docs", 120)]),
    ] {
        let path = directory.path().join(file);
        fs::write(&path, content).expect("a file");
        let staged = source.staged().expect("Qdrant has a staged form");
        let opened = staged.open(&path, &staged_work(directory.path())).await.expect("it opens");
        assert!(source.inspect(&opened).await.expect("an inspection").is_well());
        let rename =
            expected.iter().map(|(from, _)| Rename::new(*from, server.name(from))).collect();
        let report = restore(&source, &opened, beside("unused").with_rename(rename))
            .await
            .expect("a restore");
        assert!(report.is_equal(), "{report:?}");
        for (name, count) in expected {
            assert_eq!(server.points(&server.name(name)).await.len(), count);
        }
        let point = &server.points(&server.name("docs")).await[0];
        assert_eq!((&point["id"], &point["vector"]["kw"]["indices"]), (&json!(1), &json!([1, 21])));
        server.assert_no_files("after a restore").await;
        server.clean_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_names_what_of_a_full_snapshot_it_could_not_compare() {
    let server = Server::recorded();
    let site = Site::new().with_qdrant("vectors", &server.url, &server.key, &["*".to_owned()]);
    let file = site.path("full-snapshot-2026-11-23-05-01-03.snapshot");
    fs::write(&file, FULL).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let outcome = site.succeed(["restore", "vectors", "--from", file, "--target", "copy"]);
    assert_eq!(server.points("copy_docs").await.len(), 120);
    assert!(outcome.stdout.contains("NOT COMPARED: "), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("it is equal to what was captured"), "{}", outcome.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_backs_up_and_restores_with_the_program_and_no_output_holds_the_key() {
    let server = Server::any("program");
    server.seed().await;
    let site = Site::new()
        .with_qdrant("vectors", &server.url, &server.key, &[format!("{}*", server.prefix)])
        .initialised();
    let mut said = String::new();
    let name = server.name("copy");
    for command in [
        &["probe"][..],
        &["backup"],
        &["restore", "vectors", "--dry-run", "--target", &name],
        &["restore", "vectors", "--target", &name],
        &["config", "check"],
    ] {
        let outcome = site.succeed(command.iter().copied());
        said.push_str(&outcome.stdout);
        said.push_str(&outcome.stderr);
    }
    // Again: an existing target is refused.
    let refused = site.run(["restore", "vectors", "--target", &name]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    said.push_str(&refused.stderr);
    let wrong = site.secret("vectors.key", "kanarienvogel80");
    if server.stand_in.is_some() {
        let denied = site.run(["backup"]);
        assert!(
            denied.stdout.contains("rejects the API key")
                || denied.stderr.contains("rejects the API key"),
            "{denied:?}"
        );
        said.push_str(&denied.stdout);
        said.push_str(&denied.stderr);
    }
    assert!(wrong.exists());
    assert!(!said.contains(&server.key) && !said.contains("kanarienvogel"), "{said}");
    assert_eq!(server.points(&format!("{name}_{}", server.name("docs"))).await.len(), 150);
    server.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_path_takes_are_captured_and_restored() {
    let server = Server::any("names");
    let names = ["وثائق 100%", "a.b", "a", "a-1"].map(|name| server.name(name));
    for name in &names {
        let path = format!("collections/{}", escaped(name));
        let settings = json!({ "vectors": { "size": 2, "distance": "Dot" }, "wal_config": { "wal_capacity_mb": 1 } });
        server.done(Method::PUT, &path, settings).await;
        let points =
            json!({ "points": [{ "id": 7, "payload": { "name": name }, "vector": [0.1, 0.2] }] });
        server.done(Method::PUT, &format!("{path}/points?wait=true"), points).await;
    }
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let report = restore(&source, &point, beside(&server.name("back"))).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.items, 4);
    let back = escaped(&server.name(&format!("back_{}", names[0])));
    assert_eq!(server.points(&back).await[0]["payload"]["name"], *names[0]);
    server.clean_up().await;
}

fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
}

// Tests of a server that fails on demand.

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_answers_as_was_recorded() {
    let server = Server::recorded();
    for exchange in
        exchanges().iter().take(18).filter(|exchange| exchange["request"]["api_key"] == "valid")
    {
        let (request, recorded) = (&exchange["request"], &exchange["response"]);
        let path = request["path"].as_str().expect("a path").trim_start_matches('/');
        if request["method"] == "PUT" || path == "collections/aliases" {
            continue;
        }
        let body = request.get("json").cloned();
        let (status, answer) = server
            .api(
                request["method"].as_str().expect("a method").parse().expect("a method"),
                path,
                body,
            )
            .await;
        assert_eq!(json!(status), recorded["status"], "{path}");
        assert!(alike(&answer, &recorded["json"]), "{path}:\n{answer}\n{}", recorded["json"]);
    }
}

/// Equal except for times, the order of aliases, and the last digit of a normalised component.
pub(crate) fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| {
                    key == "time" || other.get(key).is_some_and(|v| alike(value, v))
                })
        }
        (Value::Array(one), Value::Array(other))
            if one.iter().any(|item| item.get("alias_name").is_some()) =>
        {
            one.len() == other.len() && one.iter().all(|item| other.contains(item))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| alike(a, b))
        }
        (Value::Number(one), Value::Number(other)) => {
            (one.as_f64().unwrap_or_default() - other.as_f64().unwrap_or_default()).abs() < 1e-6
        }
        _ => one == other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_every_64_kib_is_taken_up_again_and_one_that_never_ends_fails() {
    let server = Server::recorded();
    server
        .stand_in()
        .set_faults(Faults { cut_downloads_after: Some(64 << 10), ..Faults::default() });
    let point = Captured::of(server.source()).await.point().await;
    let record = point
        .manifest()
        .artifact("/qdrant/collections/docs.snapshot")
        .expect("it is there")
        .clone();
    // What the server sent is what it announced; what is kept differs in the times of headers.
    assert_eq!(record.size_bytes, DOCS.len() as u64);
    assert_eq!(
        point.manifest().details["server_sha256"]["/qdrant/collections/docs.snapshot"],
        kaleem_dr_core::ground::digest::ByteDigest::of(DOCS)
    );
    let parts = server
        .stand_in()
        .calls()
        .iter()
        .filter(|call| call.starts_with("GET /collections/docs/snapshots/docs"))
        .count();
    assert_eq!(parts, 3, "154,112 bytes in parts of 64 KiB");
    server.stand_in().set_faults(Faults { no_checksums: true, ..Faults::default() });
    Captured::of(server.source()).await.point().await;

    for beyond in (0..DOCS.len()).step_by(64 << 10) {
        server
            .stand_in()
            .set_faults(Faults { no_download_beyond: Some(beyond), ..Faults::default() });
        let captured = Captured::of(server.source()).await;
        assert!(
            captured.error().contains("/qdrant/collections/docs.snapshot"),
            "{}",
            captured.error()
        );
        assert_eq!(captured.snapshots().await, 0);
        server.assert_no_files(&format!("cut at {beyond}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_capture_keeps_no_snapshot_and_leaves_no_file_on_the_server() {
    let refuse = |method, path, status| vec![Refusal::always(method, path, status, "injected")];
    for (faults, told) in [
        (Faults { corrupt_downloads: true, ..Faults::default() }, "is not what"),
        (
            Faults { same_second_snapshot: true, ..Faults::default() },
            "another snapshot taken in the same second",
        ),
        (
            Faults { refusals: refuse(Method::GET, "/snapshots/docs", 404), ..Faults::default() },
            "404",
        ),
        (
            Faults { refusals: refuse(Method::GET, "/snapshots/docs", 500), ..Faults::default() },
            "injected",
        ),
        (
            Faults { refusals: refuse(Method::POST, "/snapshots", 500), ..Faults::default() },
            "of any collection",
        ),
        (
            Faults { refusals: refuse(Method::POST, "/snapshots", 403), ..Faults::default() },
            "does not allow us to create a snapshot",
        ),
        (
            Faults { refusals: refuse(Method::GET, "/aliases", 500), ..Faults::default() },
            "list aliases",
        ),
        (
            Faults {
                refusals: vec![Refusal {
                    after: 2,
                    ..Refusal::always(Method::POST, "/docs/points/scroll", 401, "injected")
                }],
                ..Faults::default()
            },
            "read the points of docs",
        ),
    ] {
        let server = Server::recorded();
        server.stand_in().set_faults(faults.clone());
        let captured = Captured::of(server.source()).await;
        assert!(captured.error().contains(told), "{faults:?}: {}", captured.error());
        assert_eq!(captured.snapshots().await, 0, "{faults:?}");
        server.stand_in().set_faults(Faults::default());
        server.assert_no_files(told).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_capture_leaves_no_file_on_the_server() {
    let server = Server::recorded();
    let cancel = CancellationToken::new();
    // Cancelled while the first download hangs on a silent connection.
    server
        .stand_in()
        .set_faults(Faults { hang_downloads_after: Some(100_000), ..Faults::default() });
    let watched = async {
        while !server.stand_in().calls().iter().any(|call| call.contains("/snapshots/docs-")) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (captured, ()) = tokio::join!(Captured::of_cancelled(server.source(), &cancel), watched);
    assert_ne!(captured.report.exit, Exit::Done);
    assert_eq!(captured.snapshots().await, 0);
    server.assert_no_files("after a cancellation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_deleted_makes_the_run_incomplete() {
    let server = Server::recorded();
    let refusals = vec![Refusal::always(Method::DELETE, "/docs/snapshots/", 500, "injected")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let captured = Captured::of(server.source()).await;
    assert_eq!(captured.report.exit, Exit::Partial, "{:?}", captured.report);
    let left = &captured.report.sources[0].incomplete[0];
    assert!(
        left.what.contains("temporary snapshot docs-") && left.why.contains("injected"),
        "{left:?}"
    );
    assert_eq!(captured.snapshots().await, 1, "the data is safe all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_collection_is_left_out_and_reported_and_the_others_are_saved() {
    let server = Server::recorded();
    server.stand_in().break_collection("docs");
    let probe = server.source().probe().await.expect("a probe");
    assert!(
        probe.warnings.iter().any(|warning| warning.starts_with("collection docs is broken")),
        "{probe:?}"
    );
    let captured = Captured::of(server.source()).await;
    assert_eq!(captured.report.exit, Exit::Partial, "{:?}", captured.report);
    assert_eq!(captured.report.sources[0].incomplete[0].what, "collection docs");
    let point = captured.point_of(&CancellationToken::new()).await;
    assert!(point.manifest().artifact("/qdrant/collections/sessions.snapshot").is_some());
    server.assert_no_files("after a capture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_during_a_snapshot_leave_the_digest_out_and_raise_no_alarm() {
    let server = Server::recorded();
    server.stand_in().set_faults(Faults { write_during_snapshot: true, ..Faults::default() });
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let record =
        point.manifest().artifact("/qdrant/collections/docs.snapshot").expect("it is there");
    assert_eq!((record.items, &record.content_digest), (None, &None));
    assert!(
        point.manifest().details["collections"]["docs"]["why"]
            .as_str()
            .expect("a reason")
            .contains("modified while")
    );
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert!(
        report
            .uncompared
            .iter()
            .any(|left| left.what.contains("120 points of collection docs (about 120")),
        "{report:?}"
    );
    assert!(
        !report.compared.iter().any(|line| line.contains("points")),
        "nothing is said of points: {report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_digests_counts_are_compared() {
    let server = Server::recorded();
    let source =
        Arc::new(server.source_of(
            API_KEY,
            &json!({ "content_digest": false, "exclude_collections": ["sess*"] }),
        ));
    let point = Captured::of(source.clone()).await.point().await;
    assert!(!server.stand_in().calls().iter().any(|call| call.contains("scroll")));
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert!(
        report.compared.contains(&"120 points of collection docs, only counted".to_owned()),
        "{report:?}"
    );
    assert_eq!(server.collections().await, ["copy_docs", "docs", "sessions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_vector_is_found_and_nothing_is_switched() {
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    server.stand_in().set_faults(Faults { alter_vector: true, ..Faults::default() });

    let report = restore(&source, &point, in_place()).await.expect("a restore");
    assert!(!report.is_equal());
    let whats: Vec<_> =
        report.differences.iter().map(|difference| difference.what.as_str()).collect();
    assert_eq!(whats, ["collection docs: content digest", "collection sessions: content digest"]);
    assert!(
        report.warnings.iter().any(|warning| warning.starts_with("no alias was switched")),
        "{report:?}"
    );
    assert_eq!(server.alias("search").await.as_deref(), Some("docs"));
    assert_eq!(server.alias("live-sessions").await.as_deref(), Some("sessions"));

    let directory = tempfile::tempdir().expect("a directory");
    let scratch = ScratchTarget::new("kdr_drill_02", directory.path());
    let before = server.collections().await;
    let rehearsal = source.rehearse(&point, &scratch).await.expect("a rehearsal");
    assert_eq!(rehearsal.differences.len(), 2, "{rehearsal:?}");
    assert_eq!(server.collections().await, before, "also an unequal rehearsal leaves nothing");
    server.assert_no_files("after an unequal restore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_restore_leaves_no_collection_and_no_file_and_full_snapshots_still_work() {
    let refuse = |method, path, status, error| vec![Refusal::always(method, path, status, error)];
    let disk_full = "Service internal error: No space left on device (os error 28)";
    for (faults, told) in [
        (Faults { break_uploads: true, ..Faults::default() }, "segment failed to load"),
        (
            Faults {
                refusals: refuse(Method::POST, "/upload", 500, disk_full),
                ..Faults::default()
            },
            "No space left on device",
        ),
        (
            Faults {
                refusals: refuse(Method::POST, "/upload", 400, "Checksum mismatch"),
                ..Faults::default()
            },
            "Checksum mismatch",
        ),
        (
            Faults {
                refusals: refuse(Method::POST, "/upload", 403, "Forbidden"),
                ..Faults::default()
            },
            "does not allow us to restore",
        ),
        (
            Faults {
                refusals: vec![Refusal {
                    done: true,
                    ..Refusal::always(Method::POST, "/upload", 500, "injected")
                }],
                ..Faults::default()
            },
            "injected",
        ),
        (
            Faults {
                refusals: refuse(Method::POST, "_sessions/points/scroll", 500, "injected"),
                ..Faults::default()
            },
            "read the points of copy_sessions",
        ),
    ] {
        let server = Server::recorded();
        let source = server.source();
        let point = Captured::of(source.clone()).await.point().await;
        server.stand_in().set_faults(faults.clone());
        let error = restore(&source, &point, beside("copy")).await.expect_err("it fails");
        assert!(error_chain(&error).contains(told), "{faults:?}: {}", error_chain(&error));
        server.stand_in().set_faults(Faults::default());
        assert_eq!(server.collections().await, ["docs", "sessions"], "{told}");
        server.assert_no_files(told).await;
        let (status, _) = server.api(Method::POST, "snapshots", None).await;
        assert_eq!(status, 200, "{told}: no broken collection is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cancelled_leaves_nothing() {
    let server = Server::recorded();
    let source = server.source();
    let captured = Captured::of(source.clone()).await;
    assert_eq!(captured.report.exit, Exit::Done);
    let cancel = CancellationToken::new();
    let name = "vectors".parse().expect("a source name");
    let at_the_first_comparison: Arc<dyn ProgressSink> =
        Arc::new(CancelAt { title: "compare copy_docs", cancel: cancel.clone() });
    let opened = open_point(
        &captured.repository,
        &name,
        &PointChoice::newest(HostScope::Any),
        &at_the_first_comparison,
        &cancel,
    )
    .await;
    let (point, _) = opened.expect("the run left a point");
    let restored = restore(&source, &point, beside("copy")).await;
    assert!(
        server
            .stand_in()
            .calls()
            .iter()
            .any(|call| call.contains("/collections/copy_docs/shards/0/snapshots/upload"))
    );
    assert!(matches!(restored, Err(SourceError::Cancelled)), "{restored:?}");
    assert_eq!(server.collections().await, ["docs", "sessions"]);
    server.assert_no_files("after a cancellation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_fails_is_switched_back() {
    for done in [true, false] {
        let server = Server::recorded();
        let source = server.source();
        let point = Captured::of(source.clone()).await.point().await;
        let refusal = Refusal {
            done,
            times: 1,
            ..Refusal::always(Method::POST, "/collections/aliases", 500, "injected")
        };
        server.stand_in().set_faults(Faults { refusals: vec![refusal], ..Faults::default() });
        let error = restore(&source, &point, in_place()).await.expect_err("it fails");
        let told = error_chain(&error);
        assert!(
            told.contains("injected") && told.contains("all of them are as they were"),
            "{told}"
        );
        assert_eq!(server.alias("search").await.as_deref(), Some("docs"));
        assert_eq!(server.alias("live-sessions").await.as_deref(), Some("sessions"));
        assert_eq!(server.collections().await, ["docs", "sessions"]);
        server.assert_no_files("after a switch that failed").await;
    }
    // If switching back is blocked too, the error gives the request.
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let refusal = Refusal {
        done: true,
        times: 1,
        ..Refusal::always(Method::POST, "/collections/aliases", 500, "injected")
    };
    let barred = Refusal::always(Method::POST, "/collections/aliases", 500, "barred");
    server.stand_in().set_faults(Faults { refusals: vec![refusal, barred], ..Faults::default() });
    let error = restore(&source, &point, in_place()).await.expect_err("it fails");
    let told = error_chain(&error);
    assert!(
        told.contains("to restore the previous state send POST /collections/aliases"),
        "{told}"
    );
    let leads_to = server.alias("search").await.expect("the alias is there");
    assert_eq!(
        server.points(&leads_to).await.len(),
        120,
        "what an alias may lead to is not removed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_fails_leaves_the_verified_copy_in_use() {
    let server = Server::recorded();
    let delete = json!({ "actions": [{ "delete_alias": { "alias_name": "search" } }] });
    server.done(Method::POST, "collections/aliases", delete).await;
    let source = Arc::new(server.source_of(API_KEY, &json!({ "collections": ["docs"] })));
    let point = Captured::of(source.clone()).await.point().await;
    let before = server.points("docs").await;
    let refusals = vec![Refusal::always(
        Method::POST,
        "/collections/docs/shards/0/snapshots/upload",
        500,
        "injected",
    )];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let copy = plan.request.rename[0].to.clone();
    let error = source.restore(&point, plan).await.expect_err("it fails");
    let told = error_chain(&error);
    assert!(told.contains(&format!("the alias docs now refers to {copy}")), "{told}");
    assert_eq!(server.alias("docs").await, Some(copy));
    assert_eq!(server.points("docs").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_of_another_minor_version_is_refused_before_anything_is_written() {
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    for version in ["1.17.9", "1.18.1", "1.19.0"] {
        server.stand_in().set_version(version);
        let error = source.plan_restore(&point, beside("copy")).await.expect_err("it is refused");
        assert!(
            matches!(&error, SourceError::Refused(why) if why.contains("start a Qdrant 1.18.2")),
            "{version}: {error}"
        );
    }
    server.stand_in().set_version("1.18.7");
    assert!(restore(&source, &point, beside("copy")).await.expect("a restore").is_equal());
}

/// A program that reads nothing and prints these points like Qdrant's engine, and then runs `end`.
fn engine_of(directory: &Path, points: &[Value], end: &str) -> String {
    let page = json!({ "shard": 0, "result": { "points": points, "next_page_offset": null } });
    fs::write(directory.join("page"), format!("{page}\n")).expect("a file");
    let script = format!("#!/bin/sh\ncat >/dev/null\ncat {}/page\n{end}\n", directory.display());
    let program = directory.join("engine");
    fs::write(&program, script).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).expect("it is ours");
    program.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn onto_another_minor_version_the_engine_reads_the_points_and_the_api_writes_them() {
    let server = Server::recorded();
    let point = Captured::of(server.source()).await.point().await;
    let before = server.points("docs").await;
    server.stand_in().set_version("1.19.0");
    let only_docs = |name: &str| beside(name).with_only(vec!["docs".into()]);
    let refused = server.source().plan_restore(&point, only_docs("no")).await;
    let told = error_chain(&refused.expect_err("it is refused"));
    assert!(told.contains("start a Qdrant 1.18.2") && told.contains("or set `engine`"), "{told}");

    let directory = tempfile::tempdir().expect("a directory");
    let source = |points: &[Value], end: &str| {
        let engine = engine_of(directory.path(), points, end);
        server.source_of(API_KEY, &json!({ "engine": engine }))
    };
    let with_engine = source(&before, "");
    let plan = with_engine.plan_restore(&point, only_docs("copy")).await.expect("a plan");
    let warning = "the server is Qdrant 1.19.0, which does not accept the files";
    assert!(plan.warnings.iter().any(|told| told.starts_with(warning)), "{plan:?}");
    let report = with_engine.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, every id, vector and payload";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
    assert_eq!(server.points("copy_docs").await, before);
    let calls = server.stand_in().calls();
    assert!(calls.iter().all(|call| !call.contains("upload")), "no file is uploaded");

    // A point less is a difference, and nothing is switched to it.
    let in_place = in_place().with_only(vec!["docs".into()]);
    let report = restore(&source(&before[1..], ""), &point, in_place).await.expect("a restore");
    assert_eq!(report.differences[0].what, "collection docs: points", "{report:?}");
    assert_eq!(server.alias("search").await.as_deref(), Some("docs"));

    // An engine that fails half way leaves nothing.
    let there = server.collections().await;
    let end = "echo 'error: shard 0: a broken segment' >&2; exit 1";
    let failed = restore(&source(&before, end), &point, only_docs("broken")).await;
    let told = error_chain(&failed.expect_err("it fails"));
    assert!(told.contains("a broken segment"), "{told}");
    assert_eq!(server.collections().await, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_digests_the_engine_reads_what_a_restore_must_equal() {
    let server = Server::recorded();
    let before = server.points("docs").await;
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine_of(directory.path(), &before, "");
    let more = json!({ "content_digest": false, "engine": engine, "collections": ["docs"] });
    let source = Arc::new(server.source_of(API_KEY, &more));
    let asked = server.stand_in().calls().len();
    let point = Captured::of(source.clone()).await.point().await;
    let calls = server.stand_in().calls().split_off(asked);
    assert!(!calls.iter().any(|call| call.contains("scroll")), "the live points are not read");
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, every id, vector and payload";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
    server.stand_in().set_faults(Faults { alter_vector: true, ..Faults::default() });
    let report = restore(&source, &point, beside("other")).await.expect("a restore");
    assert_eq!(report.differences[0].what, "collection docs: content digest", "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_collection_gives_the_same_bytes_though_its_snapshots_differ() {
    let server = Server::recorded();
    server.stand_in().set_faults(Faults { new_times: true, ..Faults::default() });
    let source = server.source();
    let path = "/qdrant/collections/docs.snapshot";
    let (first, second) = (
        Captured::of(source.clone()).await.point().await,
        Captured::of(source.clone()).await.point().await,
    );
    let sent = |point: &Held| point.manifest().details["server_sha256"][path].clone();
    assert_ne!(sent(&first), sent(&second), "the server made two different files");
    let kept = |point: &Held| point.manifest().artifact(path).expect("it is there").sha256.clone();
    assert_eq!(kept(&first), kept(&second));
    // What is kept is still a snapshot, and what is uploaded has the digest that is announced.
    assert!(source.inspect(&second).await.expect("an inspection").is_well());
    assert!(restore(&source, &second, beside("copy")).await.expect("a restore").is_equal());
    assert_eq!(server.points("copy_docs").await, server.points("docs").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_mode_costs_smaller_pages_and_waiting_but_no_digest() {
    let server = Server::recorded();
    let faults = Faults { most_points: Some(7), over_rate: 1, ..Faults::default() };
    server.stand_in().set_faults(faults);
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    assert_eq!(point.manifest().details["collections"]["docs"]["known"], "content");
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, every id, vector and payload";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_the_server_does_not_read_are_captured_all_the_same() {
    let server = Server::recorded();
    let refuse = |path| Refusal::always(Method::POST, path, 500, "injected");
    let refusals = vec![refuse("/points/scroll"), refuse("/sessions/points/count")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let known = |name: &str| point.manifest().details["collections"][name]["known"].clone();
    assert_eq!((known("docs"), known("sessions")), (json!("count"), json!("nothing")));
    server.stand_in().set_faults(Faults::default());
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let line = "120 points of collection docs, only counted";
    assert!(report.compared.iter().any(|compared| compared == line), "{report:?}");
    assert_eq!(report.uncompared.len(), 1, "{report:?}");
    assert_eq!(server.points("copy_sessions").await, server.points("sessions").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_name_a_proxy_swallowed_is_found_used_and_removed() {
    for status in [502, 504] {
        let server = Server::recorded();
        let refusal = Refusal {
            done: true,
            times: 1,
            ..Refusal::always(Method::POST, "/docs/snapshots", status, "upstream timed out")
        };
        server.stand_in().set_faults(Faults { refusals: vec![refusal], ..Faults::default() });
        let point = Captured::of(server.source()).await.point().await;
        assert!(point.manifest().artifact("/qdrant/collections/docs.snapshot").is_some());
        server.assert_no_files(&format!("after a {status}")).await;
    }
    // A proxy that passes nothing on: the collection is missing, and the operator is to look.
    let server = Server::recorded();
    let refusals = vec![Refusal::always(Method::POST, "/docs/snapshots", 502, "no upstream")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let source = Arc::new(server.source_of(API_KEY, &json!({ "timeout_seconds": 2 })));
    let captured = Captured::of(source).await;
    assert_eq!(captured.report.exit, Exit::Partial, "{:?}", captured.report);
    let incomplete = &captured.report.sources[0].incomplete;
    assert_eq!(incomplete[0].what, "collection docs");
    assert!(
        incomplete[1].what.starts_with("removal of a temporary snapshot of docs"),
        "{incomplete:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_by_key_are_made_first_and_a_success_without_shards_is_none() {
    let server = Server::failing(QdrantStandIn::start());
    let settings = json!({ "vectors": { "size": 2, "distance": "Dot" }, "sharding_method": "custom", "wal_config": { "wal_capacity_mb": 1 } });
    server.done(Method::PUT, "collections/tenants", settings).await;
    for (at, key) in [json!("riyadh"), json!(7)].iter().enumerate() {
        server.done(Method::PUT, "collections/tenants/shards", json!({ "shard_key": key })).await;
        let points = json!([{ "id": at, "payload": { "at": at }, "vector": [0.5, 1.5] }]);
        server
            .done(
                Method::PUT,
                "collections/tenants/points?wait=true",
                json!({ "points": points, "shard_key": key }),
            )
            .await;
    }
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.points("copy_tenants").await, server.points("tenants").await);
    let calls = server.stand_in().calls();
    let made: Vec<_> =
        calls.iter().filter(|call| call.starts_with("PUT /collections/copy_tenants")).collect();
    assert_eq!(
        made,
        [
            "PUT /collections/copy_tenants",
            "PUT /collections/copy_tenants/shards",
            "PUT /collections/copy_tenants/shards"
        ]
    );

    // The shards are created by a call that reports success and does nothing: Qdrant then answers
    // 200 and drops every point.
    let refusals = vec![Refusal::always(Method::PUT, "/collections/lost_tenants/shards", 200, "")];
    server.stand_in().set_faults(Faults { refusals, ..Faults::default() });
    let error = restore(&source, &point, beside("lost")).await.expect_err("it fails");
    assert!(
        error_chain(&error).contains("the new collection has no shards, not 1 (\"riyadh\"), 2 (7)"),
        "{}",
        error_chain(&error)
    );
    assert_eq!(server.collections().await, ["copy_tenants", "tenants"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_key_is_detected_by_a_probe_that_writes_nothing() {
    let server = Server::recorded();
    let source = server.source_of(READ_ONLY_KEY, &json!({}));
    let probe = source.probe().await.expect("a probe");
    assert!(
        probe.warnings.iter().any(|warning| warning.contains("may not create snapshots")),
        "{probe:?}"
    );
    assert_eq!(server.source().probe().await.expect("a probe").warnings, [] as [&str; 0]);
    server.assert_no_files("after a probe").await;
    let captured = Captured::of(Arc::new(source)).await;
    assert!(captured.error().contains("as a read-only key does"), "{}", captured.error());

    let error =
        server.source_of("kanarienvogel81", &json!({})).probe().await.expect_err("it is denied");
    let told = format!("{} {error:?}", error_chain(&error));
    assert!(told.contains("rejects the API key") && !told.contains("kanarienvogel"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_staged_files_say_where_they_break_and_what_is_whole() {
    let server = Server::recorded();
    let source = server.source();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("full-snapshot-damaged.snapshot");
    let staged = source.staged().expect("Qdrant has a staged form");
    let mut packed = Vec::from([0x1f, 0x8b]);
    packed.extend([0; 600]);
    for (content, told) in [
        (&FULL[..FULL.len() - 1024], "it ends after"),
        (
            &FULL[..180_000],
            "the complete ones are docs-6214784781599714-2026-11-23-05-01-03.snapshot",
        ),
        (&FULL[..90_000], "no collection in it is complete"),
        (&FULL[..206_336 - 512], "it does not end with config.json"),
        (&b"not a tar at all"[..], "is not a Qdrant snapshot"),
        (&packed, "gunzip"),
    ] {
        fs::write(&path, content).expect("a file");
        let error =
            staged.open(&path, &staged_work(directory.path())).await.expect_err("it is damaged");
        assert!(error_chain(&error).contains(told), "{told}: {}", error_chain(&error));
    }
    let left: Vec<_> = fs::read_dir(directory.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "nothing unpacked is left: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_holes_is_restored_with_its_holes_filled() {
    // Like the tar of a file with a hole: the last 1,024 bytes of the snapshot are zeros, and are
    // left out of the archive.
    let data = DOCS.len() - 1024;
    let mut header = tar::Header::new_gnu();
    header.set_path("docs-1-2026-11-23-05-01-03.snapshot").expect("a path");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o600);
    header.set_size(data as u64);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    let octal = |number: usize| -> [u8; 12] {
        format!("{number:011o}\0").into_bytes().try_into().expect("12 digits")
    };
    (gnu.sparse[0].offset, gnu.sparse[0].numbytes) = (octal(0), octal(data));
    (gnu.sparse[1].offset, gnu.sparse[1].numbytes) = (octal(DOCS.len()), octal(0));
    gnu.realsize = octal(DOCS.len());
    header.set_cksum();
    let mut file = [header.as_bytes(), &DOCS[..data]].concat();
    let mut tail = tar::Builder::new(Vec::new());
    let mapping = json!({ "collections_mapping": { "docs": "docs-1-2026-11-23-05-01-03.snapshot" }, "collections_aliases": {} })
        .to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(mapping.len() as u64);
    tail.append_data(&mut header, "config.json", mapping.as_bytes()).expect("memory takes all");
    file.extend(tail.into_inner().expect("memory takes all"));

    let server = Server::failing(QdrantStandIn::start());
    let source = server.source();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("full-snapshot-holes.snapshot");
    fs::write(&path, file).expect("a file");
    let opened = source
        .staged()
        .expect("a form")
        .open(&path, &staged_work(directory.path()))
        .await
        .expect("it opens");
    let record =
        opened.manifest().artifact("/qdrant/collections/docs.snapshot").expect("it is there");
    assert_eq!(record.sha256, kaleem_dr_core::ground::digest::ByteDigest::of(DOCS));
    let report = restore(&source, &opened, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(server.points("copy_docs").await.len(), 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_that_means_nothing_and_choices_without_meaning_are_refused() {
    let server = Server::recorded();
    let source = server.source();
    let point = Captured::of(source.clone()).await.point().await;
    for (request, told) in [
        (
            beside("copy").with_only(vec!["dosc".into()]),
            "no collection of the point matches `dosc`",
        ),
        (
            in_place().with_existing(kaleem_dr_core::recovery::source::Existing::Merge),
            "nothing can be merged",
        ),
        (
            in_place().with_extras(kaleem_dr_core::recovery::source::Extras::Remove),
            "a restore never removes",
        ),
        (
            beside("copy").with_rename(vec![Rename::new("docs", "search")]),
            "would overwrite the collection behind it",
        ),
    ] {
        let error = source.plan_restore(&point, request).await.expect_err("it is refused");
        assert!(error_chain(&error).contains(told), "{told}: {}", error_chain(&error));
    }
    // The plan is outdated: an alias has appeared in the meantime.
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let alias = json!({ "actions": [{ "create_alias": { "collection_name": "docs", "alias_name": "newcomer" } }] });
    server.done(Method::POST, "collections/aliases", alias).await;
    let error = source.restore(&point, plan).await.expect_err("it is refused");
    assert!(
        matches!(&error, SourceError::Refused(why) if why.contains("plan it again")),
        "{error}"
    );
}
