//! The HTTP API of a server: its address, certificates, limits for replies, and errors.
//!
//! Redirects are not followed (they would send the login elsewhere), errors name the server by host and port only, and the process's
//! proxy variables are ignored: such an API should not be exposed to the open network. Each source interprets the replies itself.
//! If the server is in a container, its address is looked up with each new connection.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use kaleem_dr_core::ground::{Cause, SourceError};
use reqwest::{
    Certificate, Client, Method, RequestBuilder, Response, Url,
    header::{DATE, HeaderMap},
    redirect::Policy,
};

use crate::docker::{DockerConfigError, DockerContainer, LOOKUP_TIMEOUT, Lookup, LookupError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit for the part of a reply in an unknown format that an error quotes, in characters.
const QUOTED: usize = 200;

/// A server's HTTP API. Connects with the first request.
pub(crate) struct HttpApi {
    http: Client,
    /// The prefix of all requests.
    base: Url,
    /// The URL as configured, without a trailing slash.
    url: String,
    server: String,
    is_here: bool,
}

/// The reason why an address or its certificates are unusable. Never contains the address.
#[derive(Debug)]
pub(crate) enum HttpApiError {
    /// It is not the URL of an HTTP API, for this reason.
    Url(String),
    /// It contains a user or a password.
    CredentialsInUrl,
    /// The certificates could not be read.
    CaFile { path: PathBuf, cause: io::Error },
    /// TLS could not be set up with these certificates.
    Tls(reqwest::Error),
    /// The key `docker` does not select a container.
    Docker(DockerConfigError),
}

/// The reason why a reply could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The connection broke. The error does not contain the address.
    Broken(reqwest::Error),
    /// It is longer than the limit.
    TooLong,
}

impl HttpApi {
    /// The API at an `http` or `https` URL, whose path is a prefix of all paths. `headers` are sent with every request. A container
    /// replaces the address of the host; the URL's port is the port inside the container, and its host the name in a certificate.
    pub(crate) fn new(
        url: &str,
        ca_file: Option<&PathBuf>,
        headers: HeaderMap,
        container: Option<&DockerContainer>,
    ) -> Result<Self, HttpApiError> {
        let mut base: Url = url.parse().map_err(|error| HttpApiError::Url(format!("{error}")))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(HttpApiError::CredentialsInUrl);
        }
        if !matches!(base.scheme(), "http" | "https") {
            return Err(HttpApiError::Url(format!("it begins with `{}:`", base.scheme())));
        }
        let (Some(host), Some(port)) = (base.host_str(), base.port_or_known_default()) else {
            return Err(HttpApiError::Url("it has no host".into()));
        };
        let mut server = format!("{host}:{port}");
        let mut is_here = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        // `Url::join` replaces everything after the last slash, which would drop a prefix.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let url = base.as_str().trim_end_matches('/').to_owned();
        let mut http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .default_headers(headers);
        if let Some(container) = container {
            let lookup = Lookup::new(container, port).map_err(HttpApiError::Docker)?;
            (server, is_here) = (lookup.to_string(), true);
            looked_up(&mut base)?;
            http = http
                .connect_timeout(CONNECT_TIMEOUT + LOOKUP_TIMEOUT)
                .dns_resolver(Arc::new(lookup));
        }
        if let Some(path) = ca_file {
            let pem = fs::read(path)
                .map_err(|cause| HttpApiError::CaFile { path: path.clone(), cause })?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(HttpApiError::Tls)?;
            http = http.tls_certs_merge(certificates);
        }
        Ok(Self { http: http.build().map_err(HttpApiError::Tls)?, base, url, server, is_here })
    }

    /// The URL as configured, without a trailing slash.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Host and port, or the container, for messages.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Reports whether requests are sent unencrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Reports whether the server is on this machine, directly or in a container.
    pub(crate) fn is_here(&self) -> bool {
        self.is_here
    }

    /// A request without a time-out. `path` is relative, and its segments are escaped.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, SourceError> {
        // The paths are ours, so joining them cannot fail; if it does, the cause is reported like any other.
        let url = self
            .base
            .join(path)
            .map_err(|error| SourceError::Unsupported(format!("{path} is not a path: {error}")))?;
        Ok(self.http.request(method, url))
    }

    /// The server's time from the header of a reply to a request of the base URL; `None` if the reply has none.
    pub(crate) async fn date(
        &self,
        method: Method,
        timeout: Duration,
    ) -> Result<Option<String>, SourceError> {
        let request = self.http.request(method, self.base.clone()).timeout(timeout);
        let answer = self.send(request).await?;
        Ok(answer.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    /// Sends a request, and returns the reply with any status, before its body.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, SourceError> {
        request.send().await.map_err(|error| self.unreachable(error))
    }

    pub(crate) fn unreachable(&self, error: reqwest::Error) -> SourceError {
        let cause = match LookupError::behind(&error) {
            Some(why) => why.into(),
            None => error.without_url().into(),
        };
        SourceError::Unreachable { server: self.server.clone(), cause }
    }

    /// The error for a request that the server denies.
    pub(crate) fn denied(&self, action: &str, why: impl Into<Cause>) -> SourceError {
        SourceError::Unauthorised {
            server: self.server.clone(),
            action: action.to_owned(),
            cause: why.into(),
        }
    }

    /// The error for a reply that cannot be used.
    pub(crate) fn failed(&self, action: &str, why: impl Into<Cause>) -> SourceError {
        failed(&self.server, action, why)
    }
}

/// Prepares a URL for a lookup: a port in the URL would replace the port that was found, and the host must be a name, because addresses
/// are not looked up.
fn looked_up(base: &mut Url) -> Result<(), HttpApiError> {
    let is_name = base.domain().is_some();
    let refused = |()| {
        HttpApiError::Url("with `docker`, its host must be a name, such as `localhost`".into())
    };
    if !is_name && base.scheme() == "https" {
        return Err(HttpApiError::Url(
            "with `docker`, the host of an https URL must be a name of the server's certificate"
                .into(),
        ));
    }
    if !is_name {
        base.set_host(Some("localhost")).map_err(|_| refused(()))?;
    }
    base.set_port(None).map_err(refused)
}

/// The error for a reply of `server` that cannot be used.
pub(crate) fn failed(server: &str, action: &str, why: impl Into<Cause>) -> SourceError {
    SourceError::Server { server: server.to_owned(), action: action.to_owned(), cause: why.into() }
}

/// Reads a body of at most `limit_bytes`.
pub(crate) async fn read(response: &mut Response, limit_bytes: u64) -> Result<Bytes, BodyError> {
    let mut body = BytesMut::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| BodyError::Broken(error.without_url()))?
    {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > limit_bytes {
            return Err(BodyError::TooLong);
        }
    }
    Ok(body.freeze())
}

/// The server's explanation on one line: that in its error document, or else the beginning of the body, which may come from a proxy.
/// `word` is applied to each word of it.
pub(crate) fn reason(
    explained: Option<String>,
    body: &[u8],
    word: impl Fn(&str) -> String,
) -> String {
    let text =
        explained.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(QUOTED).collect());
    let text = text.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "no reason given".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(url: &str) -> Result<HttpApi, HttpApiError> {
        HttpApi::new(url, None, HeaderMap::new(), None)
    }

    #[test]
    fn an_address_with_credentials_is_refused_without_showing_them() {
        for url in ["http://u:canary@127.0.0.1:1", "ftp://127.0.0.1/canary", "canary", "http://"] {
            let shown = format!("{:?}", api(url).err().unwrap());
            assert!(!shown.contains("canary"), "{shown}");
        }
        assert!(matches!(api("https://a:b@c"), Err(HttpApiError::CredentialsInUrl)));
    }

    #[test]
    fn in_a_container_the_port_of_the_url_is_only_looked_up() {
        let inside = |url: &str| {
            HttpApi::new(url, None, HeaderMap::new(), Some(&DockerContainer::named("kaleem-mq")))
        };
        for (url, sent) in [
            ("http://127.0.0.1:15672/a", "http://localhost/a/b"),
            ("https://mq.example:15671", "https://mq.example/b"),
        ] {
            let api = inside(url).ok().unwrap();
            assert_eq!(
                api.request(Method::GET, "b").unwrap().build().unwrap().url().as_str(),
                sent
            );
            assert_eq!((api.url(), api.is_here()), (url, true));
            assert!(api.server().starts_with("the container kaleem-mq:1567"), "{}", api.server());
        }
        assert!(matches!(inside("https://10.0.0.5:15671"), Err(HttpApiError::Url(_))));
        let neither = DockerContainer { container: None, ..DockerContainer::named("x") };
        let refused = HttpApi::new("http://h", None, HeaderMap::new(), Some(&neither));
        assert!(matches!(refused, Err(HttpApiError::Docker(_))));
    }

    #[test]
    fn a_path_prefix_is_kept() {
        let api = api("https://mq.example/prefix").unwrap();
        let request = api.request(Method::GET, "api/overview").unwrap().build().unwrap();
        assert_eq!(request.url().as_str(), "https://mq.example/prefix/api/overview");
        assert_eq!((api.server(), api.url()), ("mq.example:443", "https://mq.example/prefix"));
    }

    #[test]
    fn only_this_machine_is_here() {
        for (url, here) in [
            ("http://127.0.0.1:15672", true),
            ("http://localhost:15672", true),
            ("http://[::1]:15672", true),
            ("https://mq.example", false),
            ("http://10.0.0.5:6333", false),
        ] {
            assert_eq!(api(url).unwrap().is_here(), here, "{url}");
        }
    }
}
