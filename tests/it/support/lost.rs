//! A site whose machine is lost: its config, state, secrets and local repository are gone, and its
//! servers are empty. A mirror in a bucket is left, and what an operator keeps elsewhere.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use reqwest::Method;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    everything::{Everything, Servers},
    mirror::S3Mirror,
    program::Outcome,
    qdrant_stand_in::API_KEY,
    servers::Rabbitmq,
    site::{PASSWORD, Site},
    tree::Tree,
};

/// Everything that users of the site would notice.
#[derive(Debug, PartialEq)]
pub struct Content {
    pub mongo: BTreeMap<String, Vec<Document>>,
    pub rabbitmq: Value,
    pub qdrant: BTreeMap<String, Value>,
    pub workflows: Vec<(String, String)>,
    pub tree: Tree,
}

impl Content {
    /// Reads it from the servers and the disk.
    pub async fn of(all: &Everything) -> Self {
        Self::at(&all.servers, &all.site.path("tree"), &all.site.path(".n8n")).await
    }

    /// Reads it from the servers, a file tree, and n8n's directory.
    pub async fn at(servers: &Servers, tree: &Path, n8n: &Path) -> Self {
        Self {
            mongo: documents(&servers.mongo.uri()).await,
            rabbitmq: definitions(&servers.rabbitmq.server).await,
            qdrant: servers.qdrant.content(),
            workflows: workflows(&n8n.join("database.sqlite")),
            tree: Tree::of(tree),
        }
    }

    /// Compares everything with what was there before.
    #[track_caller]
    pub fn assert_equal(&self, before: &Self) {
        assert_eq!(self.mongo, before.mongo);
        assert_eq!(self.rabbitmq, before.rabbitmq);
        assert_eq!(self.qdrant, before.qdrant);
        assert_eq!(self.workflows, before.workflows);
        self.tree.assert_equal(&before.tree);
    }
}

impl Servers {
    /// Removes the content of the servers.
    pub async fn empty(&self) {
        let client = Client::with_uri_str(self.mongo.uri()).await.expect("a valid address");
        for name in client.list_database_names().await.expect("databases can be listed") {
            if !matches!(name.as_str(), "admin" | "config" | "local") {
                client.database(&name).drop().await.expect("a database can be dropped");
            }
        }
        rabbitmq(&self.rabbitmq.server, Method::DELETE, "api/vhosts/shop").await;
        rabbitmq(&self.rabbitmq.server, Method::DELETE, "api/users/shop%20user").await;
        for name in self.qdrant.collections() {
            let url = format!("{}/collections/{name}", self.qdrant.url().trim_end_matches('/'));
            let sent = reqwest::Client::new().delete(url).header("api-key", API_KEY).send().await;
            assert!(sent.expect("the stand-in answers").status().is_success());
        }
        assert_eq!(self.qdrant.collections(), Vec::<String>::new());
    }
}

/// A lost machine.
pub struct Lost {
    pub all: Everything,
    pub mirror: S3Mirror,
    /// What was there before the loss.
    pub before: Content,
    kept: TempDir,
}

impl Lost {
    /// Backs up everything, updates the mirror, and loses the machine.
    pub async fn everything(name: &str, more: impl FnOnce(Site) -> Site) -> Self {
        Self::after(name, more, &[]).await
    }

    /// The same with another command and a second backup after the first one.
    pub async fn after(name: &str, more: impl FnOnce(Site) -> Site, command: &[&str]) -> Self {
        let mirror = S3Mirror::new(name);
        let all = Everything::set_up(|site| more(mirror.of(site, "r2"))).await;
        all.site.initialised_and_backed_up();
        if !command.is_empty() {
            all.site.succeed(command.iter().copied());
            all.site.succeed(["backup"]);
        }
        all.site.succeed(["replicate"]);
        let before = Content::of(&all).await;
        let kept = tempfile::tempdir().expect("a temporary directory can be made");
        let lost = Self { all, mirror, before, kept };
        lost.keep("password", PASSWORD);
        lost.keep("key.id", &lost.mirror.s3.key);
        lost.keep("key.secret", &lost.mirror.s3.secret);
        for name in ["mongo.uri", "rabbitmq.pass", "qdrant.key"] {
            let secret = fs::read_to_string(lost.all.site.path(name)).expect("a secret");
            lost.keep(name, secret.trim());
        }
        lost.lose().await;
        lost
    }

    /// A file that the operator keeps elsewhere.
    pub fn keep(&self, name: &str, value: &str) -> PathBuf {
        let path = self.kept(name);
        fs::write(&path, value).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        path
    }

    pub fn kept(&self, name: &str) -> PathBuf {
        self.kept.path().join(name)
    }

    /// Removes everything of the machine, and the content of the servers.
    pub async fn lose(&self) {
        let site = &self.all.site;
        for entry in fs::read_dir(site.directory()).expect("the site's directory") {
            let path = entry.expect("an entry").path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("it can be removed");
        }
        self.all.servers.empty().await;
    }

    /// Compares the live data with those before the loss. An interrupted restore in place may have
    /// left a collection that an alias reaches; the next one then restores it under another name, and
    /// moves the alias.
    pub async fn assert_equal_after_kills(&self, why: &str) {
        let mut now = Content::of(&self.all).await;
        let is_there = |(name, content): (&String, &Value)| {
            let renamed = format!("{name}_restored_");
            let mut found = now
                .qdrant
                .iter()
                .filter(|(found, _)| *found == name || found.starts_with(&renamed));
            found.any(|(_, found)| found == content)
        };
        let calls = self.all.qdrant.calls();
        let last = &calls[calls.len().saturating_sub(120)..];
        let missing = self.before.qdrant.iter().find(|one| !is_there(*one)).map(|(name, _)| name);
        assert_eq!(missing, None, "{why}: {:?}: {:#?}", now.qdrant.keys(), last);
        now.qdrant.clone_from(&self.before.qdrant);
        now.assert_equal(&self.before);
    }

    /// Compares the live data with those before the loss; what was restored next to them does not
    /// count.
    pub async fn assert_unchanged(&self) {
        let mut now = Content::of(&self.all).await;
        now.qdrant.retain(|name, _| self.before.qdrant.contains_key(name));
        now.assert_equal(&self.before);
    }

    /// The location of the mirror, as an operator writes it.
    pub fn location(&self) -> String {
        let S3Mirror { s3, prefix } = &self.mirror;
        format!("s3:{}/{}/{prefix}", s3.endpoint, s3.bucket)
    }

    /// `bootstrap` from the bucket, with these further arguments.
    pub fn bootstrap(&self, more: &[&str]) -> Outcome {
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        let (location, password) = (self.location(), text(self.kept("password")));
        let (id, secret) = (text(self.kept("key.id")), text(self.kept("key.secret")));
        let args = [
            "bootstrap",
            "--from",
            &location,
            "--password-file",
            &password,
            "--key-id-file",
            &id,
            "--secret-key-file",
            &secret,
        ];
        self.all.site.run(args.into_iter().chain(more.iter().copied()))
    }

    /// The options that name the secrets of all sources.
    pub fn secrets(&self) -> Vec<String> {
        [
            ("source.mongo.uri", "mongo.uri"),
            ("source.rabbitmq.password", "rabbitmq.pass"),
            ("source.qdrant.api_key", "qdrant.key"),
        ]
        .iter()
        .map(|(key, file)| format!("--secret={key}={}", self.kept(file).display()))
        .collect()
    }

    /// `bootstrap` with the secrets of all sources, which must succeed.
    #[track_caller]
    pub fn bootstrapped(&self) -> Outcome {
        let secrets = self.secrets();
        let outcome = self.bootstrap(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
        outcome
    }
}

/// The documents of the database `kaleem`, by collection.
pub async fn documents(uri: &str) -> BTreeMap<String, Vec<Document>> {
    use futures::TryStreamExt as _;
    let client = Client::with_uri_str(uri).await.expect("a valid address");
    let database = client.database("kaleem");
    let mut found = BTreeMap::new();
    for name in database.list_collection_names().await.expect("collections can be listed") {
        let collection = database.collection::<Document>(&name);
        let cursor = collection.find(doc! {}).sort(doc! { "_id": 1 }).await.expect("a cursor");
        found.insert(name, cursor.try_collect().await.expect("documents can be read"));
    }
    found
}

async fn definitions(server: &Rabbitmq) -> Value {
    let mut found = rabbitmq(server, Method::GET, "api/definitions").await;
    if let Some(found) = found.as_object_mut() {
        for list in found.values_mut().filter_map(Value::as_array_mut) {
            // Virtual hosts next to the live ones do not count.
            list.retain(|item| {
                let beside = |key: &str| {
                    item[key].as_str().is_some_and(|of| of.starts_with("kaleem_restored_"))
                };
                !beside("vhost") && !beside("name")
            });
            list.sort_by_key(ToString::to_string);
        }
        found.retain(|_, value| value.is_array());
    }
    found
}

async fn rabbitmq(server: &Rabbitmq, method: Method, path: &str) -> Value {
    let url = format!("{}/{path}", server.url.trim_end_matches('/'));
    let request = reqwest::Client::new().request(method, url);
    let answer = request.basic_auth(&server.username, Some(&server.password)).send().await;
    answer.expect("the broker answers").json().await.unwrap_or_default()
}

/// The workflows in a database of n8n: id and name. Empty if it does not exist.
pub fn workflows(path: &Path) -> Vec<(String, String)> {
    // SQLite cannot open a path below another process's root.
    let read = tempfile::tempdir().expect("a temporary directory can be made");
    let copy = read.path().join("database.sqlite");
    if fs::copy(path, &copy).is_err() {
        return Vec::new();
    }
    // What is not in the database yet is in its log.
    let _ = fs::copy(path.with_extension("sqlite-wal"), copy.with_extension("sqlite-wal"));
    let database = Connection::open(&copy).expect("the database opens");
    let mut query =
        database.prepare("select id, name from workflow_entity order by id").expect("a query");
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows can be read")
}
