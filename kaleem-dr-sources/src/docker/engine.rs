//! The two calls of the Docker Engine API that are used, and the part of their replies that is read.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Write as _,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};

/// The engine replies at once, or hangs.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An engine, reached through its socket.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(super) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_path_buf() }
    }

    /// The container with a name or id; `None` if there is none.
    ///
    /// # Errors
    /// The reason, with advice, if the engine does not answer.
    pub(super) async fn inspect(&self, name: &str) -> Result<Option<Inspected>, String> {
        self.get(&format!("containers/{name}/json"), &[]).await
    }

    /// All containers with a label, whether they run or not.
    ///
    /// # Errors
    /// As for [`Engine::inspect`].
    pub(super) async fn with_label(&self, label: &str) -> Result<Vec<Listed>, String> {
        let filters = serde_json::json!({ "label": [label] }).to_string();
        let listed = self.get("containers/json", &[("all", "1"), ("filters", &filters)]).await?;
        Ok(listed.unwrap_or_default())
    }

    /// Sends a request; `None` if the engine replies that there is no such object.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, String> {
        let client =
            Client::builder().unix_socket(self.socket.as_path()).timeout(ANSWER_TIMEOUT).build();
        let client = client.map_err(|error| error.to_string())?;
        // The host is irrelevant: everything goes through the socket.
        let mut url: reqwest::Url =
            format!("http://docker/{path}").parse().map_err(|error| format!("{path}: {error}"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let reply = client.get(url).send().await.map_err(|error| self.describe(&error))?;
        match reply.status() {
            StatusCode::OK => reply.json().await.map(Some).map_err(|error| {
                format!("the reply of the Docker engine is malformed: {}", error.without_url())
            }),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::FORBIDDEN => Err(format!(
                "{} denies `GET /{path}`: allow reading containers, if a proxy is in front of the Docker engine",
                self.socket.display()
            )),
            status => Err(format!("the Docker engine answered {status}")),
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

/// A container in a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    /// Each begins with a slash.
    #[serde(default)]
    names: Vec<String>,
    /// `running`, `exited`, …
    #[serde(default)]
    state: String,
}

impl Listed {
    /// Name and state, for messages.
    pub(super) fn in_words(&self) -> String {
        let name = self.names.first().map_or(&*self.id, |name| name.trim_start_matches('/'));
        format!("{name} ({})", self.state)
    }
}

/// The fields that we use of a container's description.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    pub(super) id: String,
    state: State,
    #[serde(default)]
    pub(super) host_config: HostConfig,
    #[serde(default)]
    pub(super) network_settings: NetworkSettings,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    /// Also true while it is paused or restarting.
    running: bool,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    restarting: bool,
    #[serde(default)]
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    #[serde(default)]
    pub(super) network_mode: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    /// By `27017/tcp`; null if a port is exposed but not published.
    #[serde(default)]
    pub(super) ports: Option<BTreeMap<String, Option<Vec<Published>>>>,
    #[serde(default)]
    networks: Option<BTreeMap<String, Network>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Published {
    #[serde(rename = "HostIp", default)]
    pub(super) ip: String,
    #[serde(rename = "HostPort")]
    pub(super) port: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Network {
    #[serde(rename = "NetworkID", default)]
    pub(super) id: String,
    /// Empty if it has none, or does not run.
    #[serde(rename = "IPAddress", default)]
    v4: String,
    #[serde(rename = "GlobalIPv6Address", default)]
    v6: String,
}

impl Network {
    /// The container's address on this network.
    pub(super) fn address(&self) -> Option<IpAddr> {
        [&self.v4, &self.v6].into_iter().find_map(|address| address.parse().ok())
    }
}

impl Inspected {
    /// The reason why it does not serve requests, with advice; `None` if it runs.
    pub(super) fn not_running(&self) -> Option<String> {
        let State { running, paused, restarting, status } = &self.state;
        if *paused {
            Some("it is paused: continue it with `docker unpause`".to_owned())
        } else if *restarting {
            Some("it keeps restarting: `docker logs` shows why".to_owned())
        } else if !running {
            Some(format!("it is not running ({status}): start it with `docker start`"))
        } else {
            None
        }
    }

    /// The networks that it is attached to, by name.
    pub(super) fn networks(&self) -> impl Iterator<Item = (&str, &Network)> {
        let networks = self.network_settings.networks.iter().flatten();
        networks.map(|(name, network)| (name.as_str(), network))
    }
}
