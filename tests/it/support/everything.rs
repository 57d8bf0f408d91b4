//! The five sources of the handbook, each on a server that belongs to one test.
#![expect(clippy::unnecessary_debug_formatting, reason = "a quoted path is a TOML string")]

use std::{fs, ops::Deref, path::Path};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use rusqlite::Connection;

use super::{
    qdrant_stand_in::{API_KEY, QdrantStandIn},
    seed,
    servers::{MongoServer, RabbitmqServer},
    site::Site,
};

/// The handbook's five sources on servers of their own, backed up once. Qdrant is a stand-in.
pub struct Everything {
    pub site: Site,
    pub servers: Servers,
}

/// The servers of the handbook with some content. Qdrant is a stand-in.
pub struct Servers {
    pub mongo: MongoServer,
    pub rabbitmq: RabbitmqServer,
    pub qdrant: QdrantStandIn,
}

impl Deref for Everything {
    type Target = Servers;

    fn deref(&self) -> &Servers {
        &self.servers
    }
}

impl Servers {
    /// Starts them, and fills them.
    pub async fn filled() -> Self {
        let (mongo, rabbitmq, qdrant) =
            (MongoServer::start(), RabbitmqServer::start(), QdrantStandIn::recorded());
        let database =
            Client::with_uri_str(mongo.uri()).await.expect("a valid address").database("kaleem");
        let users: Vec<Document> =
            (0..200).map(|n| doc! { "_id": n, "name": format!("مستخدم {n}") }).collect();
        database.collection("users").insert_many(users).await.expect("documents can be inserted");
        database
            .collection("orders")
            .insert_one(doc! { "_id": "o1", "total": 7 })
            .await
            .expect("a document can be inserted");
        rabbitmq.import(&seed::definitions("shop")).await;
        Self { mongo, rabbitmq, qdrant }
    }
}

impl Everything {
    /// Starts everything, and backs it up.
    pub async fn backed_up() -> Self {
        let all = Self::set_up(|site| site).await;
        all.site.initialised_and_backed_up();
        all
    }

    /// Starts everything, with additions to the config, and without a repository.
    pub async fn set_up(more: impl FnOnce(Site) -> Site) -> Self {
        let servers = Servers::filled().await;
        let Servers { mongo, rabbitmq, qdrant } = &servers;
        let site = Site::new();
        let tree = site.path("tree");
        seed::file_tree(&tree);
        n8n(&site.path(".n8n"));
        let collections = ["docs".to_owned(), "sessions".to_owned()];
        let site = site
            .with_mongo("mongo", &format!("{}/kaleem", mongo.uri().trim_end_matches('/')))
            .with_rabbitmq_at("rabbitmq", &rabbitmq.server)
            .with_qdrant("qdrant", &qdrant.url(), API_KEY, &collections)
            .with_files("configs", &[&tree])
            .with(&format!(
                "[source.n8n]\ntype = \"n8n\"\ndirectory = {:?}",
                site_path(&tree, ".n8n")
            ));
        let site = more(site);
        Self { site, servers }
    }

    /// Everything on the servers and on disk that has a scratch name.
    pub async fn scratch(&self) -> Vec<String> {
        let client = Client::with_uri_str(self.mongo.uri()).await.expect("a valid address");
        let mut found = client.list_database_names().await.expect("databases can be listed");
        found.extend(self.rabbitmq.vhosts().await);
        found.extend(self.qdrant.collections());
        if let Ok(entries) = fs::read_dir(self.site.path("state/scratch")) {
            found.extend(
                entries.map(|entry| {
                    entry.expect("an entry").file_name().to_string_lossy().into_owned()
                }),
            );
        }
        found.retain(|name| name.contains("kdr_drill_") && name != "kdr_drill_of_somebody_else");
        found
    }
}

fn site_path(beside: &Path, name: &str) -> std::path::PathBuf {
    beside.parent().expect("it is in the site").join(name)
}

/// Fills n8n's directory.
pub fn n8n(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory can be made");
    fs::write(directory.join("config"), r#"{"encryptionKey":"fXc2Zl7g3Kp0n8nkey"}"#)
        .expect("a file can be written");
    // SQLite cannot open a path below another process's root.
    let made = tempfile::tempdir().expect("a temporary directory can be made");
    let database = made.path().join("database.sqlite");
    Connection::open(&database)
        .expect("a database can be made")
        .execute_batch(
            "CREATE TABLE workflow_entity (id TEXT PRIMARY KEY, name TEXT);
             CREATE TABLE credentials_entity (id TEXT PRIMARY KEY, data TEXT);
             INSERT INTO workflow_entity VALUES ('a', 'orders');",
        )
        .expect("the tables can be made");
    fs::copy(&database, directory.join("database.sqlite")).expect("a file can be copied");
}
