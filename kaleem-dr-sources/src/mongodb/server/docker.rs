//! Looks up the address of a server in a container with the Docker Engine API, over the engine's
//! socket.
//!
//! It only calls `GET /containers/{name}/json` (Engine API, any version) and runs no `docker`
//! program.

use std::{
    collections::BTreeMap, error::Error, fmt::Write as _, io, net::IpAddr, path::PathBuf,
    time::Duration,
};

use kaleem_dr_core::ground::SourceError;
use reqwest::{Client, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The engine replies at once, or hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The container of a server. Its address replaces host and port of the connection string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockerContainer {
    /// Name or id of the container.
    pub container: String,
    /// Path of the engine's socket.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
}

fn default_socket() -> PathBuf {
    "/var/run/docker.sock".into()
}

impl DockerContainer {
    /// Reports whether Docker accepts this name.
    pub(crate) fn is_valid(&self) -> bool {
        self.container.starts_with(|first: char| first.is_ascii_alphanumeric())
            && self.container.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    }

    /// Asks the engine for the address at which `port` of the container can be reached from this
    /// host: a published port, or else the container itself.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`], with advice.
    pub(crate) async fn address(&self, port: u16) -> Result<(String, u16), SourceError> {
        self.inspect().await?.address(port).map_err(|why| self.unreachable(why))
    }

    async fn inspect(&self) -> Result<Inspected, SourceError> {
        let client =
            Client::builder().unix_socket(self.socket.as_path()).timeout(ANSWER_TIMEOUT).build();
        let client = client.map_err(|error| self.unreachable(error.to_string()))?;
        // The host is irrelevant: everything goes through the socket.
        let request = client.get(format!("http://docker/containers/{}/json", self.container));
        let reply =
            request.send().await.map_err(|error| self.unreachable(self.describe(&error)))?;
        match reply.status() {
            StatusCode::OK => reply.json().await.map_err(|error| {
                self.unreachable(format!("its description is malformed: {error}"))
            }),
            StatusCode::NOT_FOUND => Err(self.unreachable(
                "there is no container with this name: `docker ps` lists the running ones",
            )),
            status => Err(self.unreachable(format!("the Docker engine answered {status}"))),
        }
    }

    fn unreachable(&self, why: impl Into<String>) -> SourceError {
        SourceError::Unreachable {
            server: format!("the container {}", self.container),
            cause: why.into().into(),
        }
    }

    fn describe(&self, error: &reqwest::Error) -> String {
        let socket = self.socket.display();
        let mut cause: Option<&dyn Error> = Some(error);
        let mut reasons = String::new();
        while let Some(current) = cause {
            match current.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::PermissionDenied) => {
                    return format!(
                        "{socket} denies access: run as root, or as a member of the group that owns it (docker)"
                    );
                }
                Some(io::ErrorKind::NotFound) => {
                    return format!(
                        "the socket {socket} does not exist: does Docker run here, and is `socket` its path?"
                    );
                }
                Some(io::ErrorKind::ConnectionRefused) => {
                    return format!("nothing listens on {socket}: start Docker");
                }
                _ => {}
            }
            // Writing to a String cannot fail.
            let _ = write!(reasons, "{}{current}", if reasons.is_empty() { "" } else { ": " });
            cause = current.source();
        }
        format!("{socket} did not reply: {reasons}")
    }
}

/// The fields that we use of a container's description.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    #[serde(default)]
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    /// By `27017/tcp`; null if a port is exposed but not published.
    #[serde(default)]
    ports: Option<BTreeMap<String, Option<Vec<Published>>>>,
    #[serde(default)]
    networks: Option<BTreeMap<String, Network>>,
}

#[derive(Debug, Deserialize)]
struct Published {
    #[serde(rename = "HostIp", default)]
    ip: String,
    #[serde(rename = "HostPort")]
    port: String,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(rename = "IPAddress", default)]
    address: String,
}

impl Inspected {
    fn address(&self, port: u16) -> Result<(String, u16), String> {
        if !self.state.running {
            return Err(format!(
                "it is not running ({}): start it with `docker start`",
                self.state.status
            ));
        }
        let settings = &self.network_settings;
        let published = settings
            .ports
            .as_ref()
            .and_then(|ports| ports.get(&format!("{port}/tcp")))
            .and_then(Option::as_ref);
        if let Some(published) = published.and_then(|published| published.first()) {
            let port = published
                .port
                .parse()
                .map_err(|_| format!("its published port `{}` is not a number", published.port))?;
            return Ok((reachable(&published.ip), port));
        }
        if self.host_config.network_mode == "host" {
            return Ok(("127.0.0.1".to_owned(), port));
        }
        let networks = settings.networks.iter().flat_map(BTreeMap::values);
        match networks.map(|network| network.address.as_str()).find(|address| !address.is_empty()) {
            Some(address) => Ok((address.to_owned(), port)),
            None => Err(format!(
                "it does not publish port {port} and has no address of its own: publish the port (`-p 127.0.0.1:{port}:{port}`), or put the \
                 server's port into the connection string"
            )),
        }
    }
}

/// A port published on every address of the host is reached on loopback.
fn reachable(ip: &str) -> String {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) if !ip.is_unspecified() => ip.to_string(),
        Ok(IpAddr::V6(ip)) if !ip.is_unspecified() => format!("[{ip}]"),
        Ok(IpAddr::V6(_)) => "[::1]".to_owned(),
        _ => "127.0.0.1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as BoundListener;

    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    use super::*;

    fn address(inspected: Value, port: u16) -> Result<(String, u16), String> {
        serde_json::from_value::<Inspected>(inspected).unwrap().address(port)
    }

    fn running(settings: &Value) -> Value {
        json!({ "State": { "Running": true, "Status": "running" }, "HostConfig": { "NetworkMode": "bridge" }, "NetworkSettings": settings })
    }

    #[test]
    fn a_published_port_comes_before_the_containers_own_address() {
        let settings = json!({
            "Ports": { "27017/tcp": [ { "HostIp": "0.0.0.0", "HostPort": "32768" }, { "HostIp": "::", "HostPort": "32768" } ] },
            "Networks": { "kaleem": { "IPAddress": "172.18.0.3" } },
        });
        assert_eq!(address(running(&settings), 27017).unwrap(), ("127.0.0.1".into(), 32768));
        assert_eq!(
            address(running(&settings), 27018).unwrap(),
            ("172.18.0.3".into(), 27018),
            "another port is not published"
        );
        let exposed = json!({ "Ports": { "27017/tcp": null }, "Networks": { "a": { "IPAddress": "" }, "b": { "IPAddress": "172.18.0.4" } } });
        assert_eq!(address(running(&exposed), 27017).unwrap(), ("172.18.0.4".into(), 27017));
        let inside =
            json!({ "Ports": { "27017/tcp": [ { "HostIp": "10.0.0.5", "HostPort": "27017" } ] } });
        assert_eq!(address(running(&inside), 27017).unwrap(), ("10.0.0.5".into(), 27017));
    }

    #[test]
    fn an_unreachable_container_is_reported_with_advice() {
        let stopped = json!({ "State": { "Running": false, "Status": "exited" } });
        assert!(address(stopped, 27017).unwrap_err().contains("is not running (exited)"));
        assert!(
            address(running(&json!({ "Ports": {}, "Networks": {} })), 27017)
                .unwrap_err()
                .contains("does not publish port 27017")
        );
        let host = json!({ "State": { "Running": true }, "HostConfig": { "NetworkMode": "host" }, "NetworkSettings": {} });
        assert_eq!(address(host, 27017).unwrap(), ("127.0.0.1".into(), 27017));
    }

    /// A stand-in for the engine: answers every request on the socket alike, and gives the request line back.
    async fn stand_in(listener: UnixListener, status: &str, body: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(reply.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn the_engine_is_asked_over_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let docker = DockerContainer {
            container: "kaleem-mongo".into(),
            socket: directory.path().join("engine.sock"),
        };
        let cause =
            |error: SourceError| error.source().map(ToString::to_string).unwrap_or_default();

        let absent = docker.address(27017).await.unwrap_err();
        assert_eq!(absent.to_string(), "cannot reach the container kaleem-mongo");
        assert!(cause(absent).contains("does not exist"));

        let listener = UnixListener::bind(&docker.socket).unwrap();
        let body = running(&json!({ "Ports": { "27017/tcp": [ { "HostIp": "127.0.0.1", "HostPort": "27099" } ] } })).to_string();
        let (request, found) =
            tokio::join!(stand_in(listener, "200 OK", &body), docker.address(27017));
        assert_eq!(request, "GET /containers/kaleem-mongo/json HTTP/1.1");
        assert_eq!(found.unwrap(), ("127.0.0.1".into(), 27099));

        std::fs::remove_file(&docker.socket).unwrap();
        let listener = UnixListener::bind(&docker.socket).unwrap();
        let body = r#"{"message":"No such container: kaleem-mongo"}"#;
        let (_, missing) =
            tokio::join!(stand_in(listener, "404 Not Found", body), docker.address(27017));
        assert!(cause(missing.unwrap_err()).contains("no container with this name"));

        // A socket file without a listener.
        std::fs::remove_file(&docker.socket).unwrap();
        drop(BoundListener::bind(&docker.socket).unwrap());
        assert!(cause(docker.address(27017).await.unwrap_err()).contains("start Docker"));
    }

    #[test]
    fn only_names_that_docker_gives_are_asked_for() {
        let named = |name: &str| {
            DockerContainer { container: name.into(), socket: default_socket() }.is_valid()
        };
        assert!(named("kaleem-mongo") && named("a_1.b"));
        assert!(!named("") && !named("../images") && !named("a/json?x") && !named("-a"));
    }
}
