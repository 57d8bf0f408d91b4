//! The test servers: shared ones started by `dev/up`, and private ones that a test may kill.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

/// The shared MongoDB wire server. Each test uses its own databases.
pub fn mongo_uri() -> String {
    variable("KALEEM_TEST_MONGO_URI")
}

/// The management API of the shared RabbitMQ, with an administrator. Each test uses its own virtual
/// hosts.
#[derive(Clone, Debug)]
pub struct Rabbitmq {
    /// URL without credentials.
    pub url: String,
    pub username: String,
    pub password: String,
}

/// The shared RabbitMQ, of the release in Debian stable.
pub fn rabbitmq() -> Rabbitmq {
    rabbitmq_at(&variable("KALEEM_TEST_RABBITMQ_URL"))
}

/// The shared RabbitMQ of the newest release; `None` where it cannot run.
pub fn rabbitmq_4() -> Option<Rabbitmq> {
    can_run("rabbitmq-4").then(|| rabbitmq_at(&variable("KALEEM_TEST_RABBITMQ_4_URL")))
}

/// The directory that the booted systemd shares with the tests; `None` where none can be booted.
pub fn systemd_share() -> Option<PathBuf> {
    can_run("systemd").then(|| variable("KALEEM_TEST_SYSTEMD").into())
}

/// The directory of the Docker engine, which contains `docker.sock`; `None` where none can run.
pub fn docker_engine() -> Option<PathBuf> {
    can_run("docker").then(|| variable("KALEEM_TEST_DOCKER").into())
}

/// The program of the MongoDB wire server.
pub fn secantusd() -> PathBuf {
    variable("KALEEM_TEST_SECANTUSD").into()
}

/// The program that drives Chromium; `None` where it could not be installed.
pub fn chromedriver() -> Option<PathBuf> {
    can_run("chromium").then(|| variable("KALEEM_TEST_CHROMEDRIVER").into())
}

/// The shared brokers, one of each release.
pub fn rabbitmqs() -> Vec<Rabbitmq> {
    [rabbitmq()].into_iter().chain(rabbitmq_4()).collect()
}

/// Reports whether the servers of a group could be started. `dev/up` lists the groups that could
/// not; `dev/test` reports them in its last lines, and fails in CI.
pub fn can_run(group: &str) -> bool {
    let without = env::var("KALEEM_TEST_WITHOUT").unwrap_or_default();
    !without.split_whitespace().any(|name| name == group)
}

fn rabbitmq_at(url: &str) -> Rabbitmq {
    let mut url: reqwest::Url = url.parse().expect("the address of RabbitMQ is a URL");
    let username = url.username().to_owned();
    let password = url.password().unwrap_or_default().to_owned();
    url.set_username("")
        .and_then(|()| url.set_password(None))
        .expect("an HTTP URL has room for credentials");
    Rabbitmq { url: url.to_string(), username, password }
}

/// A RabbitMQ for one test, which the test may wipe. It is stopped when this value is dropped.
#[derive(Debug)]
pub struct RabbitmqServer {
    state: TempDir,
    pub server: Rabbitmq,
}

impl RabbitmqServer {
    /// Starts an empty broker with the script that starts the shared ones.
    pub fn start() -> Self {
        Self::start_as("KALEEM_TEST_RABBITMQ_URL")
    }

    /// Starts an empty broker of the newest release; `None` where it cannot run.
    pub fn start_4() -> Option<Self> {
        can_run("rabbitmq-4").then(|| Self::start_as("KALEEM_TEST_RABBITMQ_4_URL"))
    }

    /// Starts an empty broker of each release.
    pub fn each() -> Vec<Self> {
        [Self::start()].into_iter().chain(Self::start_4()).collect()
    }

    /// Starts the broker whose address is in this variable.
    fn start_as(variable: &str) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        let output =
            script("dev/up", &state).env_remove(variable).output().expect("dev/up can be run");
        assert!(output.status.success(), "dev/up: {}", String::from_utf8_lossy(&output.stderr));
        let written = fs::read_to_string(state.path().join("env"))
            .expect("dev/up says where its servers are");
        let url = written
            .lines()
            .find_map(|line| line.strip_prefix(&format!("export {variable}=")))
            .expect("dev/up says where RabbitMQ is");
        Self { server: rabbitmq_at(url), state }
    }
}

impl RabbitmqServer {
    /// Imports definitions.
    pub async fn import(&self, definitions: &Value) {
        let answer = self.request(Method::POST, "api/definitions").json(definitions).send().await;
        let answer = answer.expect("the broker answers");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    /// The names of its virtual hosts.
    pub async fn vhosts(&self) -> Vec<String> {
        let answer =
            self.request(Method::GET, "api/vhosts").send().await.expect("the broker answers");
        let vhosts: Vec<Value> = answer.json().await.expect("a list");
        vhosts.iter().filter_map(|vhost| vhost["name"].as_str().map(str::to_owned)).collect()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let Rabbitmq { url, username, password } = &self.server;
        let url = format!("{}/{path}", url.trim_end_matches('/'));
        reqwest::Client::new().request(method, url).basic_auth(username, Some(password))
    }
}

impl Drop for RabbitmqServer {
    fn drop(&mut self) {
        // A drop cannot report a failure; the leftovers are in a temporary directory.
        let _ = script("dev/down", &self.state).status();
    }
}

/// A script of `dev/`, for a set of servers in this directory.
pub fn script(name: &str, state: &TempDir) -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name));
    command.env("KALEEM_DEV_STATE", state.path()).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The shared S3 server. Each test uses its own prefix in the bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    pub endpoint: String,
    pub key: String,
    pub secret: String,
    pub bucket: String,
}

/// The shared S3 server.
pub fn s3() -> S3 {
    S3 {
        endpoint: variable("KALEEM_TEST_S3_ENDPOINT"),
        key: variable("KALEEM_TEST_S3_KEY"),
        secret: variable("KALEEM_TEST_S3_SECRET"),
        bucket: variable("KALEEM_TEST_S3_BUCKET"),
    }
}

/// The shared S3 server, with another access key for the same bucket.
pub fn s3_with_second_key() -> S3 {
    S3 { key: variable("KALEEM_TEST_S3_KEY2"), secret: variable("KALEEM_TEST_S3_SECRET2"), ..s3() }
}

/// The stock restic program.
pub fn restic_program() -> PathBuf {
    variable("KALEEM_TEST_RESTIC").into()
}

/// The program that reads Qdrant's snapshots with Qdrant's own engine.
pub fn qdrant_engine() -> PathBuf {
    variable("KALEEM_TEST_QDRANT_ENGINE").into()
}

pub fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, or `dev/up` and `source .dev/env`")
    })
}

/// A MongoDB wire server for one test. It is killed when this value is dropped.
#[derive(Debug)]
pub struct MongoServer {
    process: Child,
    port: u16,
    _storage: TempDir,
}

impl MongoServer {
    /// Starts one on a free port and waits until it accepts connections.
    pub fn start() -> Self {
        // Another process may take the port before the server binds it; the server then ends at
        // once.
        (0..5)
            .find_map(|_| Self::try_start())
            .expect("five private MongoDB servers ended before they took a connection")
    }

    fn try_start() -> Option<Self> {
        let storage = tempfile::tempdir().expect("a temporary directory can be made");
        let log = fs::File::create(storage.path().join("log")).expect("the log can be made");
        let port = free_port();
        let process = Command::new(variable("KALEEM_TEST_SECANTUSD"))
            .args([
                "--host",
                "127.0.0.1",
                "--cache-size",
                "64M",
                "--port",
                &port.to_string(),
                "--storage-path",
            ])
            .arg(storage.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .expect("KALEEM_TEST_SECANTUSD can be run");
        let mut server = Self { process, port, _storage: storage };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.process.try_wait().expect("our child can be waited for").is_some() {
                return None;
            }
            assert!(
                Instant::now() < deadline,
                "a private MongoDB server took no connection for 30 s"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// The connection string.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/", self.port)
    }

    /// Kills it with SIGKILL, like the kernel's OOM killer.
    pub fn kill(&mut self) {
        self.process.kill().expect("our child can be killed");
        self.process.wait().expect("our child can be waited for");
    }
}

impl Drop for MongoServer {
    fn drop(&mut self) {
        // It may have ended already, and a drop cannot report a failure.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A loopback port that is unused at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}
