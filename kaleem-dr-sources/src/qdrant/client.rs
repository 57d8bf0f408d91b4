//! Requests to one Qdrant server: address, API key, time-outs, and interpretation of replies.
//!
//! The calls themselves are in [`super::api`].

use std::{fmt, time::Duration};

use bytes::Bytes;
use kaleem_dr_core::{
    ground::{Cause, SourceError},
    operate::config::secret::{ExposeSecret as _, SecretString},
};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::config::{QdrantConfig, QdrantConfigError};
use crate::{
    docker::DockerContainer,
    http_api::{self, BodyError, HttpApi, read},
};

/// Limit for a reply kept in memory, in bytes. Points are read in pages of a few MiB; only a single
/// huge point can be longer.
const ANSWER_LIMIT_BYTES: u64 = 256 << 20;

/// Limit for the time that one request waits because the server limits their rate. Its limits are
/// per minute.
const MOST_WAITING: Duration = Duration::from_mins(5);

/// A server, with the API key for it.
pub struct QdrantClient {
    api: HttpApi,
    has_key: bool,
    timeout: Duration,
    snapshot_timeout: Duration,
}

impl fmt::Debug for QdrantClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QdrantClient").field("server", &self.api.server()).finish_non_exhaustive()
    }
}

impl QdrantClient {
    /// Prepares the client without connecting.
    ///
    /// # Errors
    /// If the URL is invalid or contains credentials, or the certificates cannot be used.
    pub fn new(
        config: &QdrantConfig,
        api_key: Option<&SecretString>,
    ) -> Result<Self, QdrantConfigError> {
        Self::at(&config.url, config.docker.as_ref(), config, api_key)
    }

    /// The clients for `url` and each of `peers`, in this order.
    pub(super) fn all(
        config: &QdrantConfig,
        api_key: Option<&SecretString>,
    ) -> Result<Vec<Self>, QdrantConfigError> {
        let peers = config.peers.iter().map(|url| Self::at(url, None, config, api_key));
        std::iter::once(Self::new(config, api_key)).chain(peers).collect()
    }

    fn at(
        url: &str,
        container: Option<&DockerContainer>,
        config: &QdrantConfig,
        api_key: Option<&SecretString>,
    ) -> Result<Self, QdrantConfigError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = api_key {
            let mut key = HeaderValue::from_str(key.expose_secret())
                .map_err(|_| QdrantConfigError::ApiKeyCharacters)?;
            key.set_sensitive(true);
            headers.insert("api-key", key);
        }
        let api = HttpApi::new(url, config.ca_file.as_ref(), headers, container)?;
        if api.url().contains('?') {
            return Err(QdrantConfigError::CredentialsInUrl);
        }
        Ok(Self {
            api,
            has_key: api_key.is_some(),
            timeout: Duration::from_secs(config.timeout_seconds.get()),
            snapshot_timeout: Duration::from_secs(config.snapshot_timeout_seconds.get()),
        })
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

    /// Reports whether the API key is sent over a network unencrypted.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.has_key && self.api.is_plain() && !self.api.is_here()
    }

    /// Reports whether the server can be reached over a network and needs no API key.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.has_key && !self.api.is_here()
    }

    /// The server's time from the header of a reply; `None` if the reply has none.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`].
    pub async fn date(&self) -> Result<Option<String>, SourceError> {
        self.api.date(Method::GET, self.timeout).await
    }

    /// Limit for a silence within a download.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Limit for an operation on a whole collection.
    pub(super) fn snapshot_timeout(&self) -> Duration {
        self.snapshot_timeout
    }

    /// The status of the reply that caused an error, if a reply did.
    pub(super) fn status_of(error: &SourceError) -> Option<StatusCode> {
        let SourceError::Server { cause, .. } = error else { return None };
        match cause.downcast_ref::<Failure>()? {
            Failure::Status { status, .. } => Some(*status),
            Failure::TooLong | Failure::NotOurs(_) => None,
        }
    }

    /// A request without a time-out of its own.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, SourceError> {
        self.api.request(method, path)
    }

    /// A call that the server answers at once.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        action: &str,
    ) -> Result<Answer, SourceError> {
        self.send(self.with_body(method, path, body)?.timeout(self.timeout), action).await
    }

    /// A call for which the server reads or writes a whole collection before it replies.
    pub(super) async fn long_call(
        &self,
        method: Method,
        path: &str,
        action: &str,
    ) -> Result<Answer, SourceError> {
        self.send(self.long(self.request(method, path)?), action).await
    }

    /// Sets the time-out for operations on whole collections.
    pub(super) fn long(&self, request: RequestBuilder) -> RequestBuilder {
        request.timeout(self.snapshot_timeout)
    }

    fn with_body(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<RequestBuilder, SourceError> {
        let request = self.request(method, path)?;
        Ok(match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    /// Sends a request and reads the whole reply. Only a denied key is an error here; the caller
    /// interprets the status.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        action: &str,
    ) -> Result<Answer, SourceError> {
        let mut response = self.send_patiently(request).await?;
        let body = read(&mut response, ANSWER_LIMIT_BYTES).await.map_err(|error| match error {
            BodyError::Broken(error) => self.unreachable(error),
            BodyError::TooLong => self.failed(action, Failure::TooLong),
        })?;
        self.allowed(&response, &body, action)?;
        Ok(Answer {
            status: response.status(),
            body,
            action: action.to_owned(),
            server: self.api.server().to_owned(),
        })
    }

    /// Sends a request, again if the server limits the rate of requests (strict mode) and names the
    /// time until the next one.
    async fn send_patiently(&self, mut request: RequestBuilder) -> Result<Response, SourceError> {
        let mut waited = Duration::ZERO;
        loop {
            // `None` if the body is a stream.
            let again = request.try_clone();
            let response = self.api.send(request).await?;
            let pause = (response.status() == StatusCode::TOO_MANY_REQUESTS)
                .then(|| response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok())
                .flatten()
                .map(|seconds: u64| Duration::from_secs(seconds.max(1)));
            match (pause, again) {
                (Some(pause), Some(again)) if waited + pause <= MOST_WAITING => {
                    tokio::time::sleep(pause).await;
                    waited += pause;
                    request = again;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Turns a denied API key into an error, and passes on every other reply.
    pub(super) fn allowed(
        &self,
        response: &Response,
        body: &[u8],
        action: &str,
    ) -> Result<(), SourceError> {
        let why = match response.status() {
            StatusCode::UNAUTHORIZED if !self.has_key => Denied::NoKey,
            StatusCode::UNAUTHORIZED => Denied::Key { reason: reason(body) },
            StatusCode::FORBIDDEN => Denied::Rights { reason: reason(body) },
            _ => return Ok(()),
        };
        Err(self.api.denied(action, why))
    }

    pub(super) fn unreachable(&self, error: reqwest::Error) -> SourceError {
        self.api.unreachable(error)
    }

    /// The error for a reply that we cannot use.
    pub(super) fn failed(&self, action: &str, why: impl Into<Cause>) -> SourceError {
        self.api.failed(action, why)
    }
}

/// A complete reply of the server.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Bytes,
    action: String,
    server: String,
}

impl Answer {
    /// The `result` of a successful reply.
    pub(super) fn result<T: DeserializeOwned>(self) -> Result<T, SourceError> {
        #[derive(Deserialize)]
        struct Document<T> {
            result: T,
        }
        if !self.status.is_success() {
            return Err(self.error());
        }
        match serde_json::from_slice::<Document<T>>(&self.body) {
            Ok(document) => Ok(document.result),
            Err(error) => Err(self.failed(Failure::NotOurs(error.into()))),
        }
    }

    /// The reply as a document of another form than usual.
    pub(super) fn document<T: DeserializeOwned>(self) -> Result<T, SourceError> {
        if !self.status.is_success() {
            return Err(self.error());
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| self.failed(Failure::NotOurs(error.into())))
    }

    /// The body of a successful reply.
    pub(super) fn body(self) -> Result<Bytes, SourceError> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.error()) }
    }

    /// `None` if the server replied with 404.
    pub(super) fn found(self) -> Option<Self> {
        (self.status != StatusCode::NOT_FOUND).then_some(self)
    }

    fn error(&self) -> SourceError {
        self.failed(Failure::Status { status: self.status, reason: reason(&self.body) })
    }

    fn failed(&self, why: Failure) -> SourceError {
        http_api::failed(&self.server, &self.action, why)
    }
}

/// The reason why the server denies a request.
#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("it requires an API key; set `api_key`")]
    NoKey,
    #[error("it rejects the API key: {reason}")]
    Key { reason: String },
    #[error("the API key lacks the permission, as a read-only key does: {reason}")]
    Rights { reason: String },
}

/// The reason why a reply cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server reported an error.
    #[error("it answered {status}: {reason}")]
    Status { status: StatusCode, reason: String },
    /// The reply is longer than any of Qdrant's.
    #[error("its reply is longer than {ANSWER_LIMIT_BYTES} bytes")]
    TooLong,
    /// The reply comes from another program, such as a proxy.
    #[error("its reply is not that of Qdrant's HTTP API")]
    NotOurs(#[source] Cause),
}

/// The error in a reply, on one line: Qdrant's JSON or plain text, or the beginning of any other
/// body.
pub(super) fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        error: String,
    }
    let explained =
        serde_json::from_slice(body).ok().map(|Document { status: Status { error } }| error);
    http_api::reason(explained, body, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> QdrantConfig {
        serde_json::from_value(serde_json::json!({ "url": url })).unwrap()
    }

    fn client(url: &str) -> Result<QdrantClient, QdrantConfigError> {
        QdrantClient::new(&config(url), Some(&SecretString::from("canary".to_owned())))
    }

    #[test]
    fn an_address_with_credentials_is_refused_without_showing_them() {
        for url in [
            "http://u:canary@127.0.0.1:6333",
            "http://h/?api-key=canary",
            "ftp://127.0.0.1/canary",
            "canary",
            "http://",
        ] {
            let shown = format!("{0} {0:?}", client(url).unwrap_err());
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn debug_shows_no_key_and_a_key_with_a_line_break_is_refused() {
        let shown = format!("{:?}", client("http://127.0.0.1:6333").unwrap());
        assert!(shown.contains("127.0.0.1:6333") && !shown.contains("canary"), "{shown}");
        let key = SecretString::from("canary\n2".to_owned());
        let shown =
            format!("{0} {0:?}", QdrantClient::new(&config("http://h"), Some(&key)).unwrap_err());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn only_a_server_elsewhere_without_a_key_is_open() {
        let is_open = |url: &str| QdrantClient::new(&config(url), None).unwrap().is_open();
        assert!(is_open("http://10.0.0.5:6333") && !is_open("http://127.0.0.1:6333"));
        assert!(!client("http://10.0.0.5:6333").unwrap().is_open());
    }

    #[test]
    fn reasons_are_one_line_in_either_form() {
        assert_eq!(reason(br#"{"status":{"error":"Not found:\n x"},"time":0.1}"#), "Not found: x");
        assert_eq!(reason(b"Invalid API key or JWT"), "Invalid API key or JWT");
        assert_eq!(reason(b""), "no reason given");
    }
}
