//! The calls of RabbitMQ's management API that this source uses.
//!
//! Every call has a time-out, and a reply is never longer than [`ANSWER_LIMIT_BYTES`].

mod refusal;
mod request;

use std::{collections::BTreeSet, fmt, net::IpAddr, time::Duration};

use bytes::Bytes;
use kaleem_dr_core::{
    engine::manifest::ServerInfo, ground::SourceError, operate::config::secret::SecretString,
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde::Deserialize;
use serde_json::Value;

use self::{
    refusal::User,
    request::{Failure, encode_segment},
};
use super::{
    completion,
    config::{RabbitmqConfig, RabbitmqConfigError},
    definitions::Definitions,
    target::Target,
};
use crate::http_api::HttpApi;

/// Limit for a reply kept in memory, in bytes. By default, RabbitMQ itself imports at most 20 MB.
pub const ANSWER_LIMIT_BYTES: u64 = 256 << 20;

/// A client of a management API, with its login.
pub struct ManagementClient {
    api: HttpApi,
    username: String,
    password: SecretString,
    timeout: Duration,
}

impl fmt::Debug for ManagementClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementClient")
            .field("server", &self.api.server())
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The server's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Product and version, as the server reports them.
    pub server: ServerInfo,
    /// Number of messages in its queues.
    pub messages: u64,
    /// Ports of the management API that listen on every address of the server.
    pub open_ports: Vec<u16>,
    /// The types of exchanges that can be declared.
    pub exchange_types: BTreeSet<String>,
}

/// A listener in the overview.
#[derive(Deserialize)]
struct Listener {
    protocol: String,
    ip_address: String,
    port: u16,
    /// An object, or an empty list.
    #[serde(default)]
    socket_opts: Value,
}

impl Listener {
    /// The management API is called `http` or `https` there, on any port.
    fn is_open_management(&self) -> bool {
        // Releases before 4.0 show `::` as the address of every web listener; the options contain the actual one.
        let address = self.socket_opts.get("ip").and_then(Value::as_str);
        let address = address.unwrap_or(&self.ip_address);
        self.protocol.starts_with("http")
            && !self.protocol.contains('/')
            && address.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

impl ManagementClient {
    /// Prepares the client without connecting.
    ///
    /// # Errors
    /// If the URL is invalid or contains credentials, or the certificates cannot be used.
    pub fn new(
        config: &RabbitmqConfig,
        password: SecretString,
    ) -> Result<Self, RabbitmqConfigError> {
        let api = HttpApi::new(
            &config.url,
            config.ca_file.as_ref(),
            HeaderMap::new(),
            config.docker.as_ref(),
        )?;
        let timeout = Duration::from_secs(config.timeout_seconds.get());
        Ok(Self { api, username: config.username.clone(), password, timeout })
    }

    /// The URL, without a trailing slash; it contains no credentials.
    pub(super) fn url(&self) -> &str {
        self.api.url()
    }

    /// Host and port, or the container, for messages.
    #[must_use]
    pub fn server(&self) -> &str {
        self.api.server()
    }

    /// The user name of the login.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Reports whether the password is sent over a network unencrypted.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.api.is_plain() && !self.api.is_here()
    }

    /// Product, version and number of messages.
    ///
    /// # Errors
    /// Those of every call: [`SourceError::Unreachable`], [`SourceError::Unauthorised`],
    /// [`SourceError::Server`].
    pub async fn overview(&self) -> Result<Overview, SourceError> {
        #[derive(Deserialize)]
        struct Answer {
            product_name: Option<String>,
            rabbitmq_version: String,
            #[serde(default)]
            queue_totals: Totals,
            #[serde(default)]
            listeners: Vec<Listener>,
            #[serde(default)]
            exchange_types: Vec<ExchangeType>,
        }
        #[derive(Deserialize)]
        struct ExchangeType {
            name: String,
            #[serde(default = "enabled")]
            enabled: bool,
        }
        fn enabled() -> bool {
            true
        }
        #[derive(Default, Deserialize)]
        struct Totals {
            #[serde(default)]
            messages: u64,
        }
        let answer: Answer = self.get_json("api/overview", "return its version").await?;
        let product = answer.product_name.unwrap_or_else(|| "RabbitMQ".into());
        let server = ServerInfo::new(product, answer.rabbitmq_version);
        let open = answer
            .listeners
            .iter()
            .filter(|listener| listener.is_open_management())
            .map(|listener| listener.port);
        let types = answer.exchange_types.into_iter().filter(|kind| kind.enabled);
        Ok(Overview {
            server,
            messages: answer.queue_totals.messages,
            open_ports: open.collect(),
            exchange_types: types.map(|kind| kind.name).collect(),
        })
    }

    /// The server as the target of an import.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn target(&self) -> Result<Target, SourceError> {
        #[derive(Deserialize)]
        struct Node {
            #[serde(default)]
            running: bool,
            #[serde(default)]
            applications: Vec<Named>,
            #[serde(default)]
            enabled_plugins: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
            #[serde(default)]
            state: String,
        }
        let overview = self.overview().await?;
        let nodes: Vec<Node> = self
            .get_json(
                "api/nodes?columns=running,enabled_plugins,applications.name",
                "list its plugins",
            )
            .await?;
        // What a plugin depends on is running too, but it is not listed as enabled; and a node that
        // has just started does not list everything that runs. A node that is down lists nothing.
        let plugins = nodes
            .into_iter()
            .filter(|node| node.running && !node.applications.is_empty())
            .map(|node| {
                let running = node.applications.into_iter().map(|plugin| plugin.name);
                running.chain(node.enabled_plugins).collect::<BTreeSet<_>>()
            })
            .reduce(|all, node| all.intersection(&node).cloned().collect());
        // Releases before 3.12 do not have this list.
        let deprecated: Vec<Named> = self
            .get_if_known("api/deprecated-features", "list its deprecated features")
            .await?
            .unwrap_or_default();
        let denied = deprecated
            .iter()
            .any(|feature| feature.name == "transient_nonexcl_queues" && feature.state == "denied");
        Ok(Target {
            address: self.server().to_owned(),
            username: self.username.clone(),
            server: overview.server,
            exchange_types: overview.exchange_types,
            plugins,
            takes_transient_queues: !denied,
        })
    }

    /// The server's time from the header of a reply; `None` if the reply has none.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`].
    pub async fn date(&self) -> Result<Option<String>, SourceError> {
        self.api.date(Method::HEAD, self.timeout).await
    }

    /// Succeeds if the user may read and write definitions.
    ///
    /// # Errors
    /// [`SourceError::Unauthorised`] distinguishes a refused login from a user without the tag
    /// `administrator`.
    pub async fn check_rights(&self) -> Result<(), SourceError> {
        let user: User = self.get_json("api/whoami", "log in").await?;
        if user.is_administrator() {
            Ok(())
        } else {
            Err(self.api.denied("read definitions", user.lacks_rights()))
        }
    }

    /// All definitions of the cluster, completed with what its release leaves out of the export.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn definitions(&self) -> Result<Definitions, SourceError> {
        let action = "read definitions";
        let document = self.call(Method::GET, "api/definitions", None, action).await?;
        let not_ours = |error| self.api.failed(action, Failure::NotOurs(error));
        let mut definitions =
            Definitions::parse(&document).map_err(|error| not_ours(error.into()))?;
        // The lists contain statistics too, unless only these columns are requested.
        let exchanges = self.get_json(
            "api/exchanges?columns=name,vhost,type,durable,auto_delete,internal,arguments",
            "list exchanges",
        );
        let vhosts = self.get_json(
            "api/vhosts?columns=name,description,tags,default_queue_type,protected_from_deletion,metadata",
            "list virtual hosts",
        );
        let (exchanges, vhosts): (_, Vec<_>) = tokio::try_join!(exchanges, vhosts)?;
        completion::complete(&mut definitions, exchanges, &vhosts)
            .map_err(|error| not_ours(error.into()))?;
        Ok(definitions)
    }

    /// Merges definitions into those of the server. An error may occur after some of them were
    /// imported.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn import(&self, definitions: &Definitions) -> Result<(), SourceError> {
        let document = definitions.to_bytes().into();
        self.call(Method::POST, "api/definitions", Some(document), "import definitions")
            .await
            .map(drop)
    }

    /// Creates an empty virtual host; returns `false` if it existed already.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn create_vhost(&self, name: &str) -> Result<bool, SourceError> {
        let path = format!("api/vhosts/{}", encode_segment(name));
        let body = Bytes::from_static(b"{}");
        let (status, _) = self
            .call_for_status(
                Method::PUT,
                &path,
                Some(body),
                &format!("create the virtual host {name}"),
            )
            .await?;
        Ok(status == StatusCode::CREATED)
    }

    /// Deletes one queue, exchange or policy; `kind` is the word in the API's paths.
    ///
    /// # Errors
    /// Those of every call.
    pub(super) async fn delete_definition(
        &self,
        kind: &str,
        vhost: &str,
        name: &str,
    ) -> Result<(), SourceError> {
        let path = format!("api/{kind}/{}/{}", encode_segment(vhost), encode_segment(name));
        self.call(
            Method::DELETE,
            &path,
            None,
            &format!("delete {name} of the virtual host {vhost}"),
        )
        .await
        .map(drop)
    }

    /// Deletes a virtual host with its content.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn delete_vhost(&self, name: &str) -> Result<(), SourceError> {
        let path = format!("api/vhosts/{}", encode_segment(name));
        self.call(Method::DELETE, &path, None, &format!("delete the virtual host {name}"))
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use kaleem_dr_core::operate::config::secret::SecretRef;

    use super::*;

    fn config(url: &str) -> RabbitmqConfig {
        RabbitmqConfig {
            url: url.into(),
            docker: None,
            username: "kaleem".into(),
            password: SecretRef::Env("UNUSED".into()),
            timeout_seconds: 5.try_into().unwrap(),
            ca_file: None,
        }
    }

    fn client(url: &str) -> Result<ManagementClient, RabbitmqConfigError> {
        ManagementClient::new(&config(url), SecretString::from("canary".to_owned()))
    }

    #[test]
    fn an_address_with_credentials_is_refused_without_showing_them() {
        for url in
            ["http://kaleem:canary@127.0.0.1:15672", "ftp://127.0.0.1/canary", "canary", "http://"]
        {
            let shown = format!("{0} {0:?}", client(url).unwrap_err());
            assert!(!shown.contains("canary"), "{shown}");
        }
        assert!(matches!(client("https://a:b@c"), Err(RabbitmqConfigError::CredentialsInUrl)));
    }

    #[test]
    fn debug_shows_no_password() {
        let shown = format!("{:?}", client("http://127.0.0.1:15672").unwrap());
        assert!(shown.contains("127.0.0.1:15672") && !shown.contains("canary"), "{shown}");
    }

    #[test]
    fn only_a_management_api_on_every_address_is_open() {
        let listener = |protocol: &str, address: &str| Listener {
            protocol: protocol.into(),
            ip_address: address.into(),
            port: 15672,
            socket_opts: Value::Array(Vec::new()),
        };
        // As 3.10 shows a listener with `management.tcp.ip = 127.0.0.1`.
        let mut bound = listener("http", "::");
        bound.socket_opts =
            serde_json::json!({"cowboy_opts": {}, "ip": "127.0.0.1", "port": 15672});
        assert!(!bound.is_open_management());
        bound.socket_opts = serde_json::json!({"ip": "0.0.0.0"});
        assert!(bound.is_open_management());
        assert!(
            listener("http", "::").is_open_management()
                && listener("https", "0.0.0.0").is_open_management()
        );
        for closed in [
            listener("http", "127.0.0.1"),
            listener("amqp", "::"),
            listener("http/prometheus", "::"),
        ] {
            assert!(!closed.is_open_management(), "{} {}", closed.protocol, closed.ip_address);
        }
    }

    #[test]
    fn only_plain_http_beyond_this_host_is_exposed() {
        for (url, exposed) in [
            ("http://127.0.0.1:15672", false),
            ("http://localhost:15672", false),
            ("http://[::1]:15672", false),
            ("https://mq.example", false),
            ("http://mq.example:15672", true),
        ] {
            assert_eq!(client(url).unwrap().is_exposed(), exposed, "{url}");
        }
    }
}
