//! The Compose example of `packaging/docker`, as an operator would start it, with other images: MongoDB is the wire server, RabbitMQ is
//! real, Qdrant is a relay to the stand-in in this process, and n8n is a program that has n8n's database open.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Engine, NODE, RELAY, SERVERS, SHARE, await_log, mongo_uri, python, python_mounts,
    read_only_proxy::ReadOnlyProxy, relay, repository, secantusd,
};
use crate::support::{
    lost::{Content, documents, workflows},
    program::{Outcome, run},
    qdrant_stand_in::{API_KEY, QdrantStandIn},
    seed,
    tree::Tree,
};

/// The repository password.
pub const PASSWORD: &str = "shop-password";
const RABBITMQ_PASSWORD: &str = "shop-rabbitmq-password";
/// Compose's name for the project; the example names a container, so only one can run.
const PROJECT: &str = "shop";
const MONGO_PORT: u16 = 27017;
const RABBITMQ_PORT: u16 = 15672;

/// A broker as the image would start it: reachable from other containers, with the user of the example.
const RABBITMQ: &str = r"
echo '[rabbitmq_management].' >/data/enabled_plugins
printf 'default_user = kaleem\ndefault_pass = %s\ndefault_user_tags.administrator = true\nloopback_users = none\ndisk_free_limit.absolute = 1MB\n' \
    shop-rabbitmq-password >/data/rabbitmq.conf
export HOME=/data RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE=/data/rabbitmq.conf
export RABBITMQ_ENABLED_PLUGINS_FILE=/data/enabled_plugins RABBITMQ_MNESIA_BASE=/data/mnesia RABBITMQ_LOG_BASE=/data/log
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-noinput +S 2:2 +sbwt none'
exec /usr/lib/rabbitmq/bin/rabbitmq-server
";

/// Has the database open in WAL mode, with the newest workflow only in the log, as a running n8n does.
const N8N: &str = r#"
import pathlib, signal, sqlite3
home = pathlib.Path("/home/node/.n8n")
(home / "config").write_text('{"encryptionKey":"fXc2Zl7g3Kp0n8nkey"}')
(home / "config").chmod(0o600)
database = sqlite3.connect(home / "database.sqlite", isolation_level=None)
database.executescript("""
    PRAGMA journal_mode = WAL;
    PRAGMA wal_autocheckpoint = 0;
    CREATE TABLE workflow_entity (id TEXT PRIMARY KEY, name TEXT);
    CREATE TABLE credentials_entity (id TEXT PRIMARY KEY, data TEXT);
    INSERT INTO workflow_entity VALUES ('a', 'orders'), ('b', 'only in the log');
""")
print("ready", flush=True)
signal.pause()
"#;

/// The example, running. It is removed with its volumes when this value is dropped.
pub struct Shop<'a> {
    engine: &'a Engine,
    directory: TempDir,
    pub qdrant: QdrantStandIn,
    relay: Child,
    /// The only access of the program's containers to the engine.
    pub proxy: ReadOnlyProxy,
}

impl<'a> Shop<'a> {
    /// Starts everything, with content.
    pub async fn open(engine: &'a Engine) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = |name: &str| directory.path().join(name);
        let qdrant = QdrantStandIn::recorded();
        let qdrant_address = qdrant.url().replace("http://", "tcp:");
        let relay_to_stand_in = Command::new(python())
            .arg(repository().join("tests/it/support/relay.py"))
            .arg(format!("unix:{}", path("qdrant.sock").display()))
            .arg(qdrant_address.trim_end_matches('/'))
            .stdin(Stdio::null())
            .spawn()
            .expect("the relay can be started");
        let proxy = ReadOnlyProxy::start(&path("engine.sock"), engine.socket());
        let shop = Self { engine, qdrant, relay: relay_to_stand_in, proxy, directory };
        // One that a killed run left.
        shop.write_files();
        shop.remove();
        seed::file_tree(&shop.path("conf"));
        let up = shop.compose(["up", "--detach"]);
        assert_eq!(up.code, Some(0), "{}{}", up.stdout, up.stderr);
        await_log(engine, &shop.container("mongo"), "listening on");
        await_log(engine, &shop.container("n8n"), "ready");
        await_log(engine, "shop-rabbitmq", "completed with");
        for (service, port) in [("mongo", MONGO_PORT), ("rabbitmq", RABBITMQ_PORT)] {
            relay(engine, &shop.container(service), shop.directory.path(), port);
        }
        shop.seed().await;
        shop
    }

    /// A path in the project's directory.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The example's files, unchanged; secrets; and the images and commands that replace the example's.
    fn write_files(&self) {
        for name in ["compose.yaml", "kaleem-dr.toml"] {
            fs::copy(repository().join("packaging/docker").join(name), self.path(name))
                .expect("a file can be copied");
        }
        fs::create_dir(self.path("secrets")).expect("a directory can be made");
        for (name, value) in [
            ("repository-password", PASSWORD),
            ("mongo-uri", "mongodb://mongo:27017/kaleem"),
            ("qdrant-key", API_KEY),
            ("rabbitmq-password", RABBITMQ_PASSWORD),
        ] {
            let path = self.path("secrets").join(name);
            fs::write(&path, value).expect("a file can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let share = format!("{}:{SHARE}", self.directory.path().display());
        let server = |command: Vec<String>| {
            let mounts = python_mounts().into_iter().chain([share.clone()]);
            json!({ "image": SERVERS, "command": command, "volumes": mounts.collect::<Vec<_>>() })
        };
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let relay = words(&[&python(), RELAY, "tcp:0.0.0.0:6333", "unix:/share/qdrant.sock"]);
        let mut n8n = server(words(&[&python(), "-c", N8N]));
        n8n["user"] = format!("{NODE}:{NODE}").into();
        let socket = format!("{}:/var/run/docker.sock:ro", self.path("engine.sock").display());
        let mounts: Vec<_> = Engine::program_mounts().into_iter().chain([socket]).collect();
        let program = json!({ "image": self.engine.program_image(), "volumes": mounts });
        let services = json!({ "services": {
            "mongo": server(secantusd("/data/mongo")),
            "qdrant": server(relay),
            // Compose would expand a dollar sign.
            "rabbitmq": server(words(&["/bin/bash", "-ec", RABBITMQ])),
            "n8n": n8n,
            "kaleem-dr": program,
            "kaleem-dr-restore": program,
        } });
        // JSON is YAML.
        fs::write(self.path("images.yaml"), services.to_string()).expect("a file can be written");
    }

    /// Runs `docker-compose` on the project.
    pub fn compose<'b>(&self, args: impl IntoIterator<Item = &'b str>) -> Outcome {
        let mut command = self.engine.client("docker-compose");
        run(command
            .current_dir(self.directory.path())
            .args(["-p", PROJECT, "-f", "compose.yaml", "-f", "images.yaml"])
            .args(args))
    }

    /// Runs the program in a service of the example.
    pub fn run<'b>(&self, service: &'b str, args: &[&'b str]) -> Outcome {
        self.compose(["run", "--rm", "-T", service].into_iter().chain(args.iter().copied()))
    }

    /// Runs the program in a service of the example, and expects success.
    #[track_caller]
    pub fn succeed(&self, service: &str, args: &[&str]) -> Outcome {
        let outcome = self.run(service, args);
        assert_eq!(outcome.code, Some(0), "{args:?}\n{}{}", outcome.stdout, outcome.stderr);
        outcome
    }

    /// The container of a service.
    pub fn container(&self, service: &str) -> String {
        let outcome = self.compose(["ps", "--all", "-q", service]);
        outcome.stdout.trim().to_owned()
    }

    /// The repository, as the host sees it.
    pub fn repository(&self) -> PathBuf {
        self.volume("backups").join("restic")
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.engine.volume(&format!("{PROJECT}_{name}"))
    }

    /// The address of MongoDB for this process.
    fn mongo_uri(&self) -> String {
        mongo_uri(&self.path(&format!("{MONGO_PORT}.sock")))
    }

    async fn rabbitmq(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let socket = self.path(&format!("{RABBITMQ_PORT}.sock"));
        let client = reqwest::Client::builder().unix_socket(socket.as_path()).build();
        let url = format!("http://rabbitmq/api/{path}");
        let request = client.expect("a client").request(method, url);
        let mut request = request.basic_auth("kaleem", Some(RABBITMQ_PASSWORD));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("the broker answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap_or_default()
    }

    async fn seed(&self) {
        let client = Client::with_uri_str(self.mongo_uri()).await.expect("a valid address");
        let users: Vec<Document> =
            (0..200).map(|n| doc! { "_id": n, "name": format!("مستخدم {n}") }).collect();
        let collection = client.database("kaleem").collection("users");
        collection.insert_many(users).await.expect("documents can be inserted");
        self.rabbitmq(Method::POST, "definitions", Some(&seed::definitions("shop"))).await;
    }

    /// Reads everything.
    pub async fn content(&self) -> Content {
        let mut rabbitmq = self.rabbitmq(Method::GET, "definitions/shop", None).await;
        let definitions = rabbitmq.as_object_mut().expect("definitions");
        definitions.retain(|_, value| value.is_array());
        for list in definitions.values_mut().filter_map(Value::as_array_mut) {
            list.sort_by_key(ToString::to_string);
        }
        Content {
            mongo: documents(&self.mongo_uri()).await,
            rabbitmq,
            qdrant: self.qdrant.content(),
            workflows: workflows(&self.n8n().join("database.sqlite")),
            tree: Tree::of(&self.path("conf")),
        }
    }

    /// Stops n8n, and removes everything.
    pub async fn lose(&self) {
        let client = Client::with_uri_str(self.mongo_uri()).await.expect("a valid address");
        client.database("kaleem").drop().await.expect("a database can be dropped");
        self.rabbitmq(Method::DELETE, "vhosts/shop", None).await;
        self.rabbitmq(Method::DELETE, "users/shop%20user", None).await;
        for name in self.qdrant.collections() {
            let url = format!("{}/collections/{name}", self.qdrant.url().trim_end_matches('/'));
            let sent = reqwest::Client::new().delete(url).header("api-key", API_KEY).send().await;
            assert!(sent.expect("the stand-in answers").status().is_success());
        }
        let stopped = self.compose(["kill", "n8n"]);
        assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
        for directory in [self.n8n(), self.path("conf")] {
            empty(&directory);
        }
    }

    fn n8n(&self) -> PathBuf {
        self.volume("n8n-data")
    }

    fn remove(&self) {
        // There may be nothing, and a drop cannot report a failure.
        drop(self.compose(["down", "--volumes", "--remove-orphans", "--timeout", "0"]));
    }
}

/// Removes what is in a directory, which stays because it is mounted.
fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_directory = path.symlink_metadata().expect("it is there").is_dir();
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("it can be removed");
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        // It may have ended already, and a drop cannot report a failure.
        let _ = self.relay.kill();
        let _ = self.relay.wait();
        self.remove();
    }
}
