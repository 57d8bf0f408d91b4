//! A Qdrant server for one test, and captures of it in a repository of their own.

use std::{env, ops::Deref, path::Path, sync::Arc};

use kaleem_dr_core::{
    CancellationToken,
    engine::repository::{Access, Location, Repository},
    ground::{
        Exit, SourceError,
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
        source::{Restorable, RestoreReport, RestoreRequest, RestoreTarget},
        staged::StagedWork,
    },
};
use kaleem_dr_sources::qdrant::QdrantSource;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    qdrant_stand_in::{API_KEY, QdrantStandIn},
    site::PASSWORD,
};

pub const FULL: &[u8] = include_bytes!("../../fixtures/qdrant/full.snapshot");

pub const DOCS: &[u8] = include_bytes!("../../fixtures/qdrant/docs.snapshot");

/// A server, and the names on it that belong to one test.
pub struct Server {
    pub url: String,
    pub key: String,
    pub prefix: String,
    pub stand_in: Option<QdrantStandIn>,
}

impl Server {
    /// A real server if one is configured.
    pub fn any(test: &str) -> Self {
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
    pub fn failing(stand_in: QdrantStandIn) -> Self {
        Self {
            url: stand_in.url(),
            key: API_KEY.into(),
            prefix: String::new(),
            stand_in: Some(stand_in),
        }
    }

    pub fn is_stand_in(&self) -> bool {
        self.stand_in.is_some()
    }

    pub fn recorded() -> Self {
        Self::failing(QdrantStandIn::recorded())
    }

    pub fn stand_in(&self) -> &QdrantStandIn {
        self.stand_in.as_ref().expect("this test runs on a stand-in")
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub async fn api(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
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

    pub async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.api(method.clone(), path, Some(body)).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["result"].clone()
    }

    /// Creates `docs` with named vectors and an index, behind the alias `search`; and `sessions`
    /// with plain vectors and no alias.
    pub async fn seed(&self) {
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
    pub async fn spoil(&self, collection: &str) {
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
    pub async fn collections(&self) -> Vec<String> {
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
    pub async fn alias(&self, alias: &str) -> Option<String> {
        let (_, answer) = self.api(Method::GET, "aliases", None).await;
        let aliases = answer["result"]["aliases"].as_array().expect("a list").clone();
        let found = aliases.iter().find(|known| known["alias_name"] == alias)?;
        Some(found["collection_name"].as_str().expect("a name").to_owned())
    }

    /// Every point of a collection, as returned by the server.
    pub async fn points(&self, collection: &str) -> Vec<Value> {
        let body = json!({ "limit": 10000, "with_payload": true, "with_vector": true });
        let page =
            self.done(Method::POST, &format!("collections/{collection}/points/scroll"), body).await;
        page["points"].as_array().expect("points").clone()
    }

    /// Asserts that no temporary snapshot and no uploaded file exist, listed or not.
    pub async fn assert_no_files(&self, when: &str) {
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
    pub async fn clean_up(&self) {
        for collection in self.collections().await {
            self.api(Method::DELETE, &format!("collections/{collection}"), None).await;
        }
    }

    pub fn source_of(&self, key: &str, more: &Value) -> QdrantSource {
        let mut config = json!({ "url": self.url, "api_key": { "env": "QDRANT_KEY" }, "collections": [format!("{}*", self.prefix)] });
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let config = serde_json::from_value(config).expect("a valid config");
        let environment: Environment = [("QDRANT_KEY", key)].into_iter().collect();
        QdrantSource::new("vectors".parse().expect("a source name"), &config, &environment)
            .expect("the config is good")
    }

    pub fn source(&self) -> Arc<QdrantSource> {
        Arc::new(self.source_of(&self.key, &json!({})))
    }
}

/// A repository, and the outcome of one run.
pub struct Captured {
    pub directory: TempDir,
    pub repository: Repository,
    pub report: RunReport,
}

impl Captured {
    pub async fn of(source: Arc<QdrantSource>) -> Self {
        Self::of_cancelled(source, &CancellationToken::new()).await
    }

    pub async fn of_cancelled(source: Arc<QdrantSource>, cancel: &CancellationToken) -> Self {
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
    pub async fn point(self) -> Held {
        assert_eq!(self.report.exit, Exit::Done, "{:?}", self.report);
        Held { point: self.point_of(&CancellationToken::new()).await, directory: self.directory }
    }

    pub async fn point_of(&self, cancel: &CancellationToken) -> PointReader {
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

    pub fn error(&self) -> &str {
        assert_ne!(self.report.exit, Exit::Done, "{:?}", self.report);
        self.report.sources[0].error.as_deref().expect("an error")
    }

    pub async fn snapshots(&self) -> usize {
        self.repository.snapshots().await.expect("snapshots can be listed").len()
    }
}

/// A point, and the repository that contains it.
pub struct Held {
    pub point: PointReader,
    pub directory: TempDir,
}

impl Deref for Held {
    type Target = PointReader;

    fn deref(&self) -> &PointReader {
        &self.point
    }
}

pub fn progress() -> Arc<dyn ProgressSink> {
    Arc::new(Silent)
}

/// Cancels when a stage begins.
#[derive(Debug)]
pub struct CancelAt {
    pub title: &'static str,
    pub cancel: CancellationToken,
}

impl ProgressSink for CancelAt {
    fn begin(&self, title: &str, unit: Unit, total: Option<u64>) -> Arc<dyn StageProgress> {
        if title == self.title {
            self.cancel.cancel();
        }
        Silent.begin(title, unit, total)
    }
}

pub fn beside(prefix: &str) -> RestoreRequest {
    RestoreRequest::whole(RestoreTarget::Beside(Some(prefix.into())))
}

pub fn in_place() -> RestoreRequest {
    RestoreRequest::whole(RestoreTarget::InPlace)
}

pub async fn restore(
    source: &QdrantSource,
    point: &PointReader,
    request: RestoreRequest,
) -> Result<RestoreReport, SourceError> {
    let plan = source.plan_restore(point, request).await?;
    source.restore(point, plan).await
}

pub fn staged_work(directory: &Path) -> StagedWork {
    StagedWork::new(directory)
}

/// Equal except for times, the order of aliases, and the last digit of a normalised component.
pub fn alike(one: &Value, other: &Value) -> bool {
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
