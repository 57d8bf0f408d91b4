//! The few calls of RabbitMQ's management API that this source makes.
//!
//! Every call has a time-out, an answer is never longer than [`ANSWER_LIMIT_BYTES`], redirects are not followed (they would
//! carry the password elsewhere), and errors name the server by host and port only. The process' proxy variables are not
//! read: the management API is not for the open network.

use std::{fmt, fs, net::IpAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use kaleem_dr_core::{
    engine::manifest::ServerInfo,
    ground::{Cause, SourceError},
    operate::config::secret::{ExposeSecret as _, SecretString},
};
use reqwest::{
    Certificate, Client, Method, StatusCode, Url,
    header::{CONTENT_TYPE, DATE, HeaderValue},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    config::{RabbitmqConfig, RabbitmqConfigError},
    definitions::Definitions,
};

/// The longest answer that is taken into memory. RabbitMQ itself imports no more than 20 MB unless told to.
pub const ANSWER_LIMIT_BYTES: u64 = 256 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many times longer an import may take than any other request: the server declares every queue before it answers.
const IMPORT_PATIENCE: u32 = 10;

/// The tag without which RabbitMQ keeps its definitions to itself.
const ADMINISTRATOR: &str = "administrator";

/// A login at a management API.
pub struct ManagementClient {
    http: Client,
    base: Url,
    server: String,
    username: String,
    password: SecretString,
    timeout: Duration,
}

impl fmt::Debug for ManagementClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementClient")
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Product and version.
    pub server: ServerInfo,
    /// Messages that lie in its queues.
    pub messages: u64,
    /// Ports of the management API that listen on every address of the server.
    pub open_ports: Vec<u16>,
}

/// One of the server's listeners, of the overview.
#[derive(Deserialize)]
struct Listener {
    protocol: String,
    ip_address: String,
    port: u16,
}

impl Listener {
    /// The management API is `http` or `https` there, on whatever port.
    fn is_open_management(&self) -> bool {
        self.protocol.starts_with("http")
            && !self.protocol.contains('/')
            && self.ip_address.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

impl ManagementClient {
    /// Prepares the calls; makes none.
    ///
    /// # Errors
    /// When the address is none, holds credentials, or the certificates cannot be used.
    pub fn new(
        config: &RabbitmqConfig,
        password: SecretString,
    ) -> Result<Self, RabbitmqConfigError> {
        let mut base: Url =
            config.url.parse().map_err(|error| RabbitmqConfigError::Url(format!("{error}")))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(RabbitmqConfigError::CredentialsInUrl);
        }
        if !matches!(base.scheme(), "http" | "https") {
            return Err(RabbitmqConfigError::Url(format!("it begins with `{}:`", base.scheme())));
        }
        let (Some(host), Some(port)) = (base.host_str(), base.port_or_known_default()) else {
            return Err(RabbitmqConfigError::Url("it names no host".into()));
        };
        let server = format!("{host}:{port}");
        // `Url::join` replaces what follows the last slash, which would drop a `management.path_prefix`.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut http =
            Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none()).no_proxy();
        if let Some(path) = &config.ca_file {
            let pem = fs::read(path)
                .map_err(|cause| RabbitmqConfigError::CaFile { path: path.clone(), cause })?;
            http = http.tls_certs_merge(
                Certificate::from_pem_bundle(&pem).map_err(RabbitmqConfigError::Tls)?,
            );
        }
        let http = http.build().map_err(RabbitmqConfigError::Tls)?;
        let timeout = Duration::from_secs(config.timeout_seconds.get());
        Ok(Self { http, base, server, username: config.username.clone(), password, timeout })
    }

    /// The address, without a slash at its end; it holds no credentials.
    pub(super) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Host and port.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The user we log in as.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Whether the password crosses a network in the clear.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let loopback = self
            .base
            .host_str()
            .is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]");
        self.base.scheme() == "http" && !loopback
    }

    /// Product, version and messages.
    ///
    /// # Errors
    /// As every call: [`SourceError::Unreachable`], [`SourceError::Unauthorised`], [`SourceError::Server`].
    pub async fn overview(&self) -> Result<Overview, SourceError> {
        #[derive(Deserialize)]
        struct Answer {
            product_name: Option<String>,
            rabbitmq_version: String,
            #[serde(default)]
            queue_totals: Totals,
            #[serde(default)]
            listeners: Vec<Listener>,
        }
        #[derive(Default, Deserialize)]
        struct Totals {
            #[serde(default)]
            messages: u64,
        }
        let answer: Answer = self.get_json("api/overview", "give its version").await?;
        let product = answer.product_name.unwrap_or_else(|| "RabbitMQ".into());
        let server = ServerInfo { product, version: answer.rabbitmq_version };
        let open = answer
            .listeners
            .iter()
            .filter(|listener| listener.is_open_management())
            .map(|listener| listener.port);
        Ok(Overview { server, messages: answer.queue_totals.messages, open_ports: open.collect() })
    }

    /// The server's time, as it heads its answers with it; `None` where it does not.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`].
    pub async fn date(&self) -> Result<Option<String>, SourceError> {
        let answer = self.http.head(self.base.clone()).timeout(self.timeout).send().await;
        let unreachable = |error: reqwest::Error| SourceError::Unreachable {
            server: self.server.clone(),
            cause: error.without_url().into(),
        };
        let answer = answer.map_err(unreachable)?;
        Ok(answer.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    /// Succeeds if the login may read and write definitions.
    ///
    /// # Errors
    /// [`SourceError::Unauthorised`] tells a refused login from a user without the tag `administrator`.
    pub async fn check_rights(&self) -> Result<(), SourceError> {
        let user: User = self.get_json("api/whoami", "log in").await?;
        if user.is_administrator() {
            Ok(())
        } else {
            Err(self.denied("read definitions", user.lacks_rights()))
        }
    }

    /// All definitions of the cluster.
    ///
    /// # Errors
    /// As every call.
    pub async fn definitions(&self) -> Result<Definitions, SourceError> {
        let action = "read definitions";
        let document = self.call(Method::GET, "api/definitions", None, action).await?;
        Definitions::parse(&document)
            .map_err(|error| self.failed(action, Failure::NotOurs(error.into())))
    }

    /// Merges definitions into what the server has. An error may come after a part of them was taken in.
    ///
    /// # Errors
    /// As every call.
    pub async fn import(&self, definitions: &Definitions) -> Result<(), SourceError> {
        let document = definitions.to_bytes().into();
        self.call(Method::POST, "api/definitions", Some(document), "import definitions")
            .await
            .map(drop)
    }

    /// Makes an empty virtual host; `false` if it was there already.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_vhost(&self, name: &str) -> Result<bool, SourceError> {
        let path = format!("api/vhosts/{}", encode_segment(name));
        let body = Bytes::from_static(b"{}");
        let (status, _) = self
            .call_for_status(
                Method::PUT,
                &path,
                Some(body),
                &format!("make the virtual host {name}"),
            )
            .await?;
        Ok(status == StatusCode::CREATED)
    }

    /// Deletes one queue, exchange or policy: `kind` is the word in the API's paths.
    ///
    /// # Errors
    /// As every call.
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

    /// Deletes a virtual host with all that is in it.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_vhost(&self, name: &str) -> Result<(), SourceError> {
        let path = format!("api/vhosts/{}", encode_segment(name));
        self.call(Method::DELETE, &path, None, &format!("delete the virtual host {name}"))
            .await
            .map(drop)
    }

    async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        action: &str,
    ) -> Result<T, SourceError> {
        let body = self.call(Method::GET, path, None, action).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.failed(action, Failure::NotOurs(error.into())))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        action: &str,
    ) -> Result<Bytes, SourceError> {
        self.call_for_status(method, path, body, action).await.map(|(_, answer)| answer)
    }

    async fn call_for_status(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        action: &str,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        let (status, answer) = self.send(method, path, body, action).await?;
        if status.is_success() {
            Ok((status, answer))
        } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            Err(self.denied(action, self.why_denied(&answer).await))
        } else {
            Err(self.failed(action, Failure::Status { status, reason: reason(&answer) }))
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        action: &str,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        // The paths are ours and escaped, so joining them cannot fail; were it to, the cause is told like any other.
        let url = self
            .base
            .join(path)
            .map_err(|error| SourceError::Unsupported(format!("{path} is no path: {error}")))?;
        let patience = if method == Method::POST { IMPORT_PATIENCE } else { 1 };
        let mut request = self
            .http
            .request(method, url)
            .timeout(self.timeout.saturating_mul(patience))
            .basic_auth(&self.username, Some(self.password.expose_secret()));
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body);
        }
        let unreachable = |error: reqwest::Error| SourceError::Unreachable {
            server: self.server.clone(),
            cause: error.without_url().into(),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let mut answer = BytesMut::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.failed(action, Failure::Broken(error.without_url())))?
        {
            answer.extend_from_slice(&chunk);
            if answer.len() as u64 > ANSWER_LIMIT_BYTES {
                return Err(self.failed(action, Failure::TooLong));
            }
        }
        Ok((response.status(), answer.freeze()))
    }

    /// RabbitMQ answers 401 to a wrong password and to a right one without rights; who we are to it tells them apart.
    async fn why_denied(&self, answer: &[u8]) -> Denied {
        match self.send(Method::GET, "api/whoami", None, "log in").await {
            Ok((StatusCode::OK, body)) => match serde_json::from_slice::<User>(&body) {
                Ok(user) if !user.is_administrator() => user.lacks_rights(),
                _ => Denied::Refused { reason: reason(answer) },
            },
            // A user who may not even use the API is known to RabbitMQ, and its password was right.
            Ok((_, body)) if reason(&body).contains("Not management user") => {
                Denied::NotAdministrator {
                    user: self.username.clone(),
                    tags: "none for the management API".into(),
                }
            }
            Ok((_, body)) => Denied::Login { user: self.username.clone(), reason: reason(&body) },
            Err(_) => Denied::Refused { reason: reason(answer) },
        }
    }

    fn denied(&self, action: &str, why: Denied) -> SourceError {
        SourceError::Unauthorised {
            server: self.server.clone(),
            action: action.to_owned(),
            cause: why.into(),
        }
    }

    fn failed(&self, action: &str, why: Failure) -> SourceError {
        SourceError::Server {
            server: self.server.clone(),
            action: action.to_owned(),
            cause: why.into(),
        }
    }
}

/// Who we are to the server.
#[derive(Deserialize)]
struct User {
    name: String,
    tags: Tags,
}

/// A list since RabbitMQ 3.9, one string with commas before.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    Text(String),
}

impl User {
    fn tags(&self) -> Vec<&str> {
        match &self.tags {
            Tags::List(tags) => tags.iter().map(String::as_str).collect(),
            Tags::Text(tags) => {
                tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect()
            }
        }
    }

    fn is_administrator(&self) -> bool {
        self.tags().contains(&ADMINISTRATOR)
    }

    fn lacks_rights(&self) -> Denied {
        Denied::NotAdministrator { user: self.name.clone(), tags: self.tags().join(", ") }
    }
}

/// Why the server denies us something.
#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("the login of user {user} was refused: {reason}")]
    Login { user: String, reason: String },
    #[error("user {user} lacks the tag {ADMINISTRATOR}; its tags: {tags}")]
    NotAdministrator { user: String, tags: String },
    #[error("{reason}")]
    Refused { reason: String },
}

/// Why an answer is of no use.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it answered {status}: {reason}")]
    Status { status: StatusCode, reason: String },
    #[error("its answer broke off")]
    Broken(#[source] reqwest::Error),
    #[error("its answer is longer than {ANSWER_LIMIT_BYTES} bytes")]
    TooLong,
    #[error("its answer is not that of RabbitMQ's management API")]
    NotOurs(#[source] Cause),
}

/// The `reason` of an error document, on one line; or the beginning of whatever else was answered (by a proxy, say).
fn reason(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        reason: String,
    }
    let text = match serde_json::from_slice(answer) {
        Ok(Document { reason }) => reason,
        Err(_) => String::from_utf8_lossy(answer).chars().take(200).collect(),
    };
    let text = text.split_whitespace().map(without_credentials).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "no reason given".into() } else { text }
}

/// RabbitMQ repeats the parameter it did not like, and the URI of a shovel holds a password.
fn without_credentials(word: &str) -> String {
    match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &word[..scheme], &word[at..])
        }
        _ => word.to_owned(),
    }
}

/// Escapes a name for use as one segment of a path; `/` is the usual virtual host, so slashes too.
fn encode_segment(name: &str) -> String {
    use fmt::Write as _;
    name.bytes().fold(String::new(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            path.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use kaleem_dr_core::operate::config::secret::SecretRef;

    use super::*;

    fn config(url: &str) -> RabbitmqConfig {
        RabbitmqConfig {
            url: url.into(),
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
    fn a_path_prefix_is_kept() {
        let client = client("https://mq.example/rabbit").unwrap();
        assert_eq!(
            client.base.join("api/overview").unwrap().as_str(),
            "https://mq.example/rabbit/api/overview"
        );
        assert_eq!(client.server(), "mq.example:443");
    }

    #[test]
    fn reasons_are_one_line_and_hold_no_credentials() {
        let answer = br#"{"error":"bad_request","reason":"Validation failed\n\nuri amqp://u:canary@h/v is bad\n"}"#;
        assert_eq!(reason(answer), "Validation failed uri amqp://…@h/v is bad");
        assert_eq!(reason(b"<html>\n502"), "<html> 502");
        assert_eq!(reason(b""), "no reason given");
    }

    #[test]
    fn names_become_one_segment_of_a_path() {
        assert_eq!(encode_segment("/"), "%2F");
        assert_eq!(encode_segment("a.b ü"), "a%2Eb%20%C3%BC");
    }

    #[test]
    fn only_a_management_api_on_every_address_is_open() {
        let listener = |protocol: &str, address: &str| Listener {
            protocol: protocol.into(),
            ip_address: address.into(),
            port: 15672,
        };
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
