//! A bad network in front of a real S3 server: each request may meet one fault, drawn from a seed.
//!
//! The servers behind it are real: `SeaweedFS`, or `s3s-fs` in this process. The client's own
//! time-outs are short in these tests, so that a fault costs little time.

use std::{
    collections::HashSet,
    convert::Infallible,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};

use super::served::Served;

/// Limit for a body, in bytes.
const BODY_LIMIT: usize = 64 << 20;
/// Duration of a hanging request; the client must time out earlier.
const HANG: Duration = Duration::from_secs(20);

/// A fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No reply at all.
    TimeOut,
    /// The connection breaks before the request reaches the server.
    ResetBefore,
    /// The request is executed, and the connection breaks within the reply.
    ResetWithin,
    /// Refused with a status, not executed.
    Refused(u16),
    /// Executed, but reported as failed.
    CarriedOutButRefused(u16),
    /// A list page is truncated in the middle, with a matching length.
    CutPage,
    /// A byte of the object is changed: in the reply to a read, or in the request of a write.
    WrongByte,
    /// The reply arrives in small pieces.
    SlowDrip,
}

const FAULTS: [Fault; 14] = [
    Fault::TimeOut,
    Fault::ResetBefore,
    Fault::ResetWithin,
    Fault::Refused(429),
    Fault::Refused(500),
    Fault::Refused(501),
    Fault::Refused(503),
    Fault::CarriedOutButRefused(500),
    Fault::CarriedOutButRefused(503),
    Fault::CutPage,
    Fault::WrongByte,
    Fault::WrongByte,
    Fault::ResetWithin,
    Fault::SlowDrip,
];

/// The server behind the network.
#[derive(Clone, Debug)]
enum Upstream {
    Http(String, reqwest::Client),
    InProcess(s3s::service::S3Service),
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    seed: AtomicU64,
    /// Number of faults per thousand requests.
    per_mille: AtomicU64,
    requests: AtomicU64,
    lists: AtomicU64,
    injected: AtomicU64,
    only_adds: AtomicBool,
    /// Paths of objects that were written.
    written: Mutex<HashSet<String>>,
    /// Deletions and second writes that were refused.
    denied: Mutex<Vec<String>>,
}

/// A bad network. It ends when this value is dropped.
#[derive(Debug)]
pub struct FaultyS3 {
    shared: Arc<Shared>,
    served: Served,
}

impl FaultyS3 {
    /// In front of the server at `endpoint`.
    pub fn before(endpoint: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
        Self::start(Upstream::Http(endpoint.to_owned(), client))
    }

    /// In front of an `s3s-fs` in this process, which keeps its buckets in a directory.
    pub fn before_s3s_fs(directory: &Path, key: &str, secret: &str) -> Self {
        let files = s3s_fs::FileSystem::new(directory).expect("the directory is there");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(key, secret));
        Self::start(Upstream::InProcess(service.build()))
    }

    fn start(upstream: Upstream) -> Self {
        let (seed, zero) = (AtomicU64::new(0), || AtomicU64::new(0));
        let shared = Arc::new(Shared {
            upstream,
            seed,
            per_mille: zero(),
            requests: zero(),
            lists: zero(),
            injected: zero(),
            only_adds: AtomicBool::new(false),
            written: Mutex::default(),
            denied: Mutex::default(),
        });
        let router = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(shared.clone());
        let served = Served::start(router);
        Self { shared, served }
    }

    /// The URL of the proxy.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.served.address)
    }

    /// From now on, `per_mille` of a thousand requests meet a fault, drawn from this seed.
    pub fn misbehave(&self, seed: u64, per_mille: u64) {
        self.shared.seed.store(seed, Ordering::SeqCst);
        self.shared.per_mille.store(per_mille, Ordering::SeqCst);
    }

    /// From now on, nothing fails.
    pub fn behave(&self) {
        self.misbehave(0, 0);
    }

    /// From now on, objects can be added and read, and neither deleted nor written a second time.
    pub fn only_add(&self) {
        self.shared.only_adds.store(true, Ordering::SeqCst);
    }

    /// The deletions and second writes that were refused so far.
    pub fn denied(&self) -> Vec<String> {
        self.shared.denied.lock().expect("no request panics").clone()
    }

    /// Number of faults so far.
    pub fn injected(&self) -> u64 {
        self.shared.injected.load(Ordering::SeqCst)
    }

    /// Number of requests so far, and of list requests among them.
    pub fn requests(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::SeqCst), self.shared.lists.load(Ordering::SeqCst))
    }
}

/// splitmix64: a well-mixed number derived from a counter.
fn mixed(seed: u64, counter: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0xD6E8_FEB8_6659_FD93)
        .wrapping_add(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A request with its complete body.
struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn is_list(&self) -> bool {
        self.method == Method::GET
            && self.uri.query().is_some_and(|query| query.contains("list-type=2"))
    }

    /// Reports whether the request transfers an object, in either direction.
    fn moves_object(&self) -> bool {
        !self.is_list() && (self.method == Method::GET || self.method == Method::PUT)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut call = Call { method: parts.method, uri: parts.uri, headers: parts.headers, body };
    if shared.only_adds.load(Ordering::SeqCst) && !adds(&shared, &call) {
        return refusal(403);
    }
    let number = shared.requests.fetch_add(1, Ordering::SeqCst);
    shared.lists.fetch_add(u64::from(call.is_list()), Ordering::SeqCst);
    let drawn = mixed(shared.seed.load(Ordering::SeqCst), number);
    let mut fault = (drawn % 1000 < shared.per_mille.load(Ordering::SeqCst))
        .then(|| FAULTS[(drawn / 1000) as usize % FAULTS.len()]);
    // A request cannot fail in a part that it does not have.
    match fault {
        Some(Fault::CutPage) if !call.is_list() => fault = Some(Fault::ResetWithin),
        Some(Fault::WrongByte) if !call.moves_object() => fault = Some(Fault::Refused(503)),
        _ => {}
    }
    shared.injected.fetch_add(u64::from(fault.is_some()), Ordering::SeqCst);
    match fault {
        Some(Fault::TimeOut) => {
            tokio::time::sleep(HANG).await;
            return broken(Bytes::new(), None);
        }
        Some(Fault::ResetBefore) => return broken(Bytes::new(), None),
        Some(Fault::Refused(status)) => return refusal(status),
        Some(Fault::WrongByte) if call.method == Method::PUT && !call.body.is_empty() => {
            call.body = with_wrong_byte(&call.body, drawn);
        }
        _ => {}
    }
    let (wrong_answer, page) =
        (call.method == Method::GET && fault == Some(Fault::WrongByte), call.is_list());
    let (status, headers, body) = carry_out(&shared.upstream, call).await;
    match fault {
        Some(Fault::CarriedOutButRefused(status)) => refusal(status),
        Some(Fault::ResetWithin) => broken(body.slice(..body.len() / 2), Some(body.len())),
        Some(Fault::CutPage) if page => {
            plain(status, headers, body.slice(..cut(body.len(), drawn)))
        }
        Some(Fault::WrongByte) if wrong_answer && status.is_success() && !body.is_empty() => {
            plain(status, headers, with_wrong_byte(&body, drawn))
        }
        Some(Fault::SlowDrip) => dripping(status, headers, body),
        _ => plain(status, headers, body),
    }
}

/// Reports whether a request only reads or adds; otherwise records it as denied.
fn adds(shared: &Shared, call: &Call) -> bool {
    let path = call.uri.path().to_owned();
    let query = call.uri.query().unwrap_or_default();
    let is_upload = query.contains("uploadId=") || query.contains("uploads");
    let denied = match call.method {
        Method::DELETE => !is_upload,
        Method::POST => query.starts_with("delete"),
        Method::PUT if !is_upload => {
            !shared.written.lock().expect("no request panics").insert(path.clone())
        }
        _ => false,
    };
    if denied {
        let denied = format!("{} {path}", call.method);
        shared.denied.lock().expect("no request panics").push(denied);
    }
    !denied
}

async fn carry_out(upstream: &Upstream, call: Call) -> (StatusCode, HeaderMap, Bytes) {
    match upstream {
        Upstream::Http(endpoint, client) => {
            let path = call.uri.path_and_query().map_or("/", |path| path.as_str());
            // The request keeps its Host header, which the signature covers.
            let request = client
                .request(call.method, format!("{endpoint}{path}"))
                .headers(call.headers)
                .body(call.body);
            let answer = request.send().await.expect("the server behind answers");
            let (status, headers) = (answer.status(), answer.headers().clone());
            (status, headers, answer.bytes().await.expect("the server behind answers whole"))
        }
        Upstream::InProcess(service) => {
            let mut request = axum::http::Request::builder().method(call.method).uri(call.uri);
            *request.headers_mut().expect("the request is good") = call.headers;
            let request = request.body(s3s::Body::from(call.body)).expect("the request is good");
            let answer = match service.call(request).await {
                Ok(answer) => answer,
                Err(error) => panic!("s3s-fs: {error:?}"),
            };
            let (parts, body) = answer.into_parts();
            let body = axum::body::to_bytes(Body::new(body), BODY_LIMIT)
                .await
                .expect("the server behind answers whole");
            (parts.status, parts.headers, body)
        }
    }
}

fn plain(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Response {
    headers.remove(header::TRANSFER_ENCODING);
    // The reply to a HEAD has the length of a body that it does not contain.
    if !body.is_empty() {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    (status, headers, body).into_response()
}

fn refusal(status: u16) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let code = match status.as_u16() {
        403 => "AccessDenied",
        429 => "TooManyRequests",
        501 => "NotImplemented",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

/// A reply that promises more than it sends, and then breaks.
fn broken(begun: Bytes, promised: Option<usize>) -> Response {
    let pieces =
        futures::stream::iter([Ok(begun), Err(std::io::Error::other("an injected break"))]);
    let mut answer = Body::from_stream(pieces).into_response();
    let length: HeaderName = header::CONTENT_LENGTH;
    answer.headers_mut().insert(length, promised.unwrap_or(1).max(1).into());
    answer
}

fn dripping(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let step = (body.len() / 8).max(1);
    let pieces = futures::stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, Infallible>(rest.split_to(step.min(rest.len()))), rest))
    });
    let mut headers = headers;
    headers.remove(header::TRANSFER_ENCODING);
    (status, headers, Body::from_stream(pieces)).into_response()
}

fn with_wrong_byte(body: &Bytes, drawn: u64) -> Bytes {
    let mut bytes = body.to_vec();
    let at = cut(bytes.len(), drawn);
    bytes[at] ^= 0x20;
    bytes.into()
}

fn cut(length: usize, drawn: u64) -> usize {
    usize::try_from(drawn >> 20).unwrap_or(0) % length.max(1)
}
