//! HTTP for repositories: our own connections, IPv4 first, rate limits, and checked responses.

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Buf as _, Bytes};
use futures::Stream;
use http::{Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use md5::{Digest as _, Md5};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, raw::parse_content_length};
use reqwest::{
    Certificate, Client, ClientBuilder, Proxy,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use super::{
    Tuning,
    access::{IpChoice, Network},
    integrity::WHOLE_MD5,
    listing::{check_page, token_of_request},
    opendal_error::is_lasting,
    rate_limit::{RateLimit, SLICE_BYTES, Turn},
};
use crate::ground::Cause;

/// The header that names a bucket's region.
pub(super) const REGION_HEADER: &str = "x-amz-bucket-region";

/// The HTTP client for one service.
///
/// # Errors
/// If the CA file cannot be read or the proxy is not an address.
pub(crate) fn client(network: &Network, tuning: &Tuning) -> Result<Client, Cause> {
    Ok(builder(network, tuning)?.build()?)
}

/// The builder of [`client`].
///
/// # Errors
/// As [`client`].
pub(crate) fn builder(network: &Network, tuning: &Tuning) -> Result<ClientBuilder, Cause> {
    // A redirect would send a signed request to a host that it was not signed for.
    let mut http = Client::builder()
        .connect_timeout(tuning.connect_timeout)
        .tcp_keepalive(tuning.connect_timeout)
        .redirect(Policy::none())
        .dns_resolver(Resolver(network.ip));
    if let Some(path) = &network.ca_file {
        let failed = |why: &dyn std::fmt::Display| format!("the CA file {}: {why}", path.display());
        let pem = fs::read(path).map_err(|error| failed(&error))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(&error))?;
        if certificates.is_empty() {
            return Err(failed(&"it contains no certificate").into());
        }
        http = http.tls_certs_merge(certificates);
    }
    if let Some(proxy) = &network.proxy {
        // The error would repeat the address.
        http = http.proxy(
            Proxy::all(proxy).map_err(|_| "`proxy` is not an address; write http://HOST:PORT")?,
        );
    }
    Ok(http)
}

/// The system's resolver, sorted. The first family is preferred; the other is tried 300 ms later.
struct Resolver(IpChoice);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let choice = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses = chosen(found, choice);
            if addresses.is_empty() {
                let why = format!("dns error: {} has no address that `ip` allows", name.as_str());
                return Err(io::Error::new(io::ErrorKind::NotFound, why).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn chosen(mut addresses: Vec<SocketAddr>, choice: IpChoice) -> Vec<SocketAddr> {
    match choice {
        // The sort is stable: within a family, the system's order is kept.
        IpChoice::Any => addresses.sort_by_key(SocketAddr::is_ipv6),
        IpChoice::V4 => addresses.retain(SocketAddr::is_ipv4),
        IpChoice::V6 => addresses.retain(SocketAddr::is_ipv6),
    }
    addresses
}

/// OpenDAL's requests over our connections.
pub(super) struct Transport {
    client: Client,
    upload: Option<RateLimit>,
    download: Option<RateLimit>,
}

impl Transport {
    pub(super) fn new(client: Client, network: &Network) -> Self {
        Self {
            client,
            upload: network.upload_limit.map(RateLimit::new),
            download: network.download_limit.map(RateLimit::new),
        }
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (mut parts, body) = request.into_parts();
        let uri = parts.uri.clone();
        let listing = (parts.method == Method::GET).then(|| token_of_request(&uri)).flatten();
        let is_put = parts.method == Method::PUT;
        let is_head = parts.method == Method::HEAD;
        let url = reqwest::Url::parse(&uri.to_string()).map_err(|error| {
            Error::new(ErrorKind::Unexpected, "the request's address is invalid").set_source(error)
        })?;
        let mut send = self
            .client
            .request(parts.method, url)
            .headers(std::mem::take(&mut parts.headers))
            .version(parts.version);
        if !body.is_empty() {
            if is_put {
                send = send.header("content-md5", content_md5(&body));
            }
            send = send.body(reqwest::Body::wrap(LimitedBuffer {
                rest: body,
                turn: Turn::new(self.upload.clone()),
            }));
        }
        let mut answer = send.send().await.map_err(|error| {
            let passes = !is_lasting(&error);
            failed("the request failed", error, passes)
        })?;
        let status = answer.status();
        if status == StatusCode::NOT_IMPLEMENTED {
            // R2 occasionally returns this for operations that it does implement.
            return Err(Error::new(
                ErrorKind::Unexpected,
                "the service answered 501 Not Implemented",
            )
            .set_temporary());
        }
        let elsewhere = answer
            .headers()
            .get(REGION_HEADER)
            .filter(|_| status == StatusCode::BAD_REQUEST || status.is_redirection());
        if let Some(region) = elsewhere.and_then(|region| region.to_str().ok()) {
            let why = format!(
                "the service answered {status}: the bucket is in the region {region}; write `region = \"{region}\"`"
            );
            return Err(Error::new(ErrorKind::Unexpected, why));
        }
        // Bodies are passed on as received, never decoded, so the length is always correct.
        let length = if is_head { None } else { parse_content_length(answer.headers())? };
        let mut response =
            Response::builder().status(status).version(answer.version()).extension(uri);
        if let Some(headers) = response.headers_mut() {
            std::mem::swap(headers, answer.headers_mut());
        }
        let stream = LimitedStream {
            inner: Box::pin(answer.bytes_stream()),
            next: None,
            turn: Turn::new(self.download.clone()),
        };
        let mut body = HttpBody::new(stream, length);
        if let (Some(token), StatusCode::OK) = (listing, status) {
            let page = body.to_buffer().await?;
            check_page(&page.to_bytes(), &token)
                .map_err(|why| Error::new(ErrorKind::Unexpected, why).set_temporary())?;
            let size = page.len() as u64;
            body = HttpBody::new(futures::stream::iter([Ok(page)]), Some(size));
        }
        response.body(body).map_err(|error| {
            Error::new(ErrorKind::Unexpected, "the answer is invalid").set_source(error)
        })
    }
}

/// With this header, a service rejects a body that changed on the way, so that it never becomes an object. S3, R2 and `SeaweedFS`
/// support it for objects and for parts.
fn content_md5(body: &Buffer) -> String {
    let digest = WHOLE_MD5.try_with(|known| *known).unwrap_or_else(|_| {
        let mut digest = Md5::new();
        body.clone().for_each(|bytes| digest.update(&bytes));
        digest.finalize().into()
    });
    BASE64_STANDARD.encode(digest)
}

fn failed(what: &'static str, error: reqwest::Error, passes: bool) -> Error {
    Error::new(ErrorKind::Unexpected, what).with_temporary(passes).set_source(error.without_url())
}

/// A body that is sent within the rate limit.
struct LimitedBuffer {
    rest: Buffer,
    turn: Turn,
}

impl http_body::Body for LimitedBuffer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let here = self.rest.chunk().len();
        let length = if self.turn.is_limited() { here.min(SLICE_BYTES) } else { here };
        ready!(self.turn.poll(length, context));
        let slice = self.rest.copy_to_bytes(length);
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// A body that is received within the rate limit.
struct LimitedStream<S> {
    inner: Pin<Box<S>>,
    next: Option<Bytes>,
    turn: Turn,
}

impl<S: Stream<Item = reqwest::Result<Bytes>>> Stream for LimitedStream<S> {
    type Item = opendal::Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // OpenDAL treats an empty piece as the end.
        while this.next.as_ref().is_none_or(Bytes::is_empty) {
            this.next = match ready!(this.inner.as_mut().poll_next(context)) {
                None => return Poll::Ready(None),
                Some(Ok(bytes)) => Some(bytes),
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(failed("the answer broke off", error, true))));
                }
            };
        }
        let here = this.next.as_ref().map_or(0, Bytes::len);
        let length = if this.turn.is_limited() { here.min(SLICE_BYTES) } else { here };
        ready!(this.turn.poll(length, context));
        let slice = this.next.as_mut().map(|bytes| bytes.split_to(length)).unwrap_or_default();
        Poll::Ready(Some(Ok(Buffer::from(slice))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_comes_first_or_alone() {
        let addresses: Vec<SocketAddr> = ["[2001:db8::1]:0", "192.0.2.1:0", "192.0.2.2:0"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let first = |choice| chosen(addresses.clone(), choice).first().map(ToString::to_string);
        assert_eq!(chosen(addresses.clone(), IpChoice::Any).len(), 3);
        assert_eq!(first(IpChoice::Any).as_deref(), Some("192.0.2.1:0"));
        assert_eq!(chosen(addresses.clone(), IpChoice::V4).len(), 2);
        assert_eq!(first(IpChoice::V6).as_deref(), Some("[2001:db8::1]:0"));
    }
}
