//! A stand-in for Qdrant, **not** Qdrant: the few calls that our source makes, on loopback, as
//! recorded from a real 1.18.2 (`tests/fixtures/qdrant/exchanges.json`, and traps that were
//! measured).
//!
//! Real are paths, parameters, status codes, bodies, headers, and the snapshot files of `docs` and
//! `sessions`, which are served and accepted byte for byte. Invented: it keeps points in memory,
//! and snapshots of any other collection are tars in Qdrant's layout with the points as JSON
//! inside. It recognises a recorded segment by its bytes, except for times. A real server, set with
//! `KALEEM_TEST_QDRANT_URL`, has the last word.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::StreamExt as _;
use kaleem_dr_core::ground::digest::ByteDigest;
use serde_json::{Value, json};

use super::served::Served;

/// The recorded snapshot of `docs`.
pub const DOCS: &[u8] = include_bytes!("../../fixtures/qdrant/docs.snapshot");
const SESSIONS: &[u8] = include_bytes!("../../fixtures/qdrant/sessions.snapshot");
const FULL: &[u8] = include_bytes!("../../fixtures/qdrant/full.snapshot");
/// The stand-in's own file in a segment of a snapshot that it made.
const POINTS: &str = "snapshot/files/stand-in-points.dat";
const PEER: u64 = 6_214_784_781_599_714;

/// The valid API key.
pub const API_KEY: &str = "stand-in-key-kanarienvogel78";
pub const READ_ONLY_KEY: &str = "stand-in-read-only-kanarienvogel79";

/// Faults of the stand-in.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Calls that are answered with an error.
    pub refusals: Vec<Refusal>,
    /// Every connection of a download breaks after this many bytes.
    pub cut_downloads_after: Option<usize>,
    /// No download ever gets past this byte.
    pub no_download_beyond: Option<usize>,
    /// A download sends nothing more after this many bytes, and does not end.
    pub hang_downloads_after: Option<usize>,
    /// One byte of each download does not match the checksum.
    pub corrupt_downloads: bool,
    /// One component of one vector is changed after an upload.
    pub alter_vector: bool,
    /// A point is written while a snapshot is taken.
    pub write_during_snapshot: bool,
    /// Another snapshot in the same second replaces ours with other bytes.
    pub same_second_snapshot: bool,
    /// An upload creates a collection that answers 500 to everything.
    pub break_uploads: bool,
    /// The description of a snapshot has no checksum.
    pub no_checksums: bool,
    /// Strict mode: a page may have this many points.
    pub most_points: Option<u64>,
    /// Strict mode: this many pages are refused because of the rate.
    pub over_rate: usize,
    /// Each snapshot has other times in its headers.
    pub new_times: bool,
}

/// A call that fails.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub method: Method,
    /// A part of its path.
    pub path: &'static str,
    /// With 200, the call is reported as successful.
    pub status: u16,
    pub error: &'static str,
    /// The server does the work all the same.
    pub done: bool,
    /// Number of calls that fail.
    pub times: usize,
    /// Number of calls that succeed first.
    pub after: usize,
}

impl Refusal {
    pub fn always(method: Method, path: &'static str, status: u16, error: &'static str) -> Self {
        Self { method, path, status, error, done: false, times: usize::MAX, after: 0 }
    }
}

/// A running stand-in. It ends when this value is dropped.
pub struct QdrantStandIn {
    inner: Arc<Mutex<Inner>>,
    served: Served,
}

struct Inner {
    version: String,
    keys: bool,
    collections: BTreeMap<String, Collection>,
    aliases: BTreeMap<String, String>,
    /// Files in the snapshot directories, including unlisted ones.
    files: BTreeMap<(String, String), Bytes>,
    full: BTreeMap<String, u64>,
    faults: Faults,
    calls: Vec<String>,
    /// The time in the headers of the last snapshot.
    clock: u64,
}

#[derive(Clone, Default)]
pub(super) struct Collection {
    pub(super) config: Value,
    pub(super) schema: serde_json::Map<String, Value>,
    /// By id: numbers before strings.
    pub(super) points: Points,
    pub(super) shards: Vec<(u32, Value)>,
    pub(super) broken: bool,
    /// The recorded file, as long as the collection is unchanged.
    pub(super) recorded: Option<&'static [u8]>,
}

impl QdrantStandIn {
    /// An empty one that requires [`API_KEY`].
    pub fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            version: "1.18.2".into(),
            keys: true,
            collections: BTreeMap::new(),
            aliases: BTreeMap::new(),
            files: BTreeMap::new(),
            full: BTreeMap::new(),
            faults: Faults::default(),
            calls: Vec::new(),
            clock: 1_764_000_000,
        }));
        let served = Served::start(
            Router::new()
                .fallback(answer)
                .layer(DefaultBodyLimit::disable())
                .with_state(inner.clone()),
        );
        Self { inner, served }
    }

    /// One with the recorded collections `docs` (120 points, alias `search`) and `sessions` (30
    /// points, alias `live-sessions`).
    pub fn recorded() -> Self {
        let stand_in = Self::start();
        {
            let mut inner = stand_in.lock();
            for exchange in exchanges() {
                let request = &exchange["request"];
                let path = request["path"].as_str().expect("a path");
                let seeds = request["method"] == "PUT" || path == "/collections/aliases";
                if seeds
                    && !path.contains("__restore")
                    && !request["json"].to_string().contains("__restore")
                {
                    let method =
                        request["method"].as_str().expect("a method").parse().expect("a method");
                    let response =
                        inner.respond(&method, path, &HeaderMap::new(), &request["json"]);
                    assert_eq!(response.status().as_u16(), 200, "{path}");
                }
            }
            for (name, file) in [("docs", DOCS), ("sessions", SESSIONS)] {
                inner.collections.get_mut(name).expect("it is recorded").recorded = Some(file);
            }
        }
        stand_in
    }

    /// URL of the stand-in.
    pub fn url(&self) -> String {
        format!("http://{}", self.served.address)
    }

    /// Sets the faults.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Sets the reported version.
    pub fn set_version(&self, version: &str) {
        self.lock().version = version.into();
    }

    /// From now on, snapshots of a collection have this content, regardless of its points.
    pub fn serve_file(&self, name: &str, content: Vec<u8>) {
        self.lock().collections.get_mut(name).expect("it is there").recorded = Some(content.leak());
    }

    /// Makes a collection answer 500 to everything.
    pub fn break_collection(&self, name: &str) {
        self.lock().collections.get_mut(name).expect("it is there").broken = true;
    }

    /// Files in the snapshot directories, listed or not, by collection.
    pub fn files(&self) -> Vec<(String, String)> {
        self.lock().files.keys().cloned().collect()
    }

    /// The names of its collections.
    pub fn collections(&self) -> Vec<String> {
        self.lock().collections.keys().cloned().collect()
    }

    /// The settings and points of each collection, by its name and by each of its aliases.
    pub fn content(&self) -> BTreeMap<String, Value> {
        let inner = self.lock();
        let content = |collection: &Collection| {
            let points: Vec<&Value> = collection.points.values().collect();
            json!({ "collection": collection.describe(), "points": points })
        };
        let aliases = inner
            .aliases
            .iter()
            .filter_map(|(alias, real)| Some((alias, inner.collections.get(real)?)));
        let named = inner.collections.iter().chain(aliases);
        named.map(|(name, collection)| (name.clone(), content(collection))).collect()
    }

    /// Every call so far: method and path.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the stand-in")
    }
}

/// The recorded exchanges.
pub fn exchanges() -> &'static [Value] {
    static RECORDED: OnceLock<Value> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        serde_json::from_str(include_str!("../../fixtures/qdrant/exchanges.json"))
            .expect("the recording is JSON")
    });
    recorded["exchanges"].as_array().expect("a list of exchanges")
}

async fn answer(State(state): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
    let (method, uri, headers) =
        (request.method().clone(), request.uri().to_string(), request.headers().clone());
    let path = uri.split('?').next().unwrap_or_default().to_owned();
    // The body is read first, as a server does.
    let mut upload = None;
    let mut body = Value::Null;
    if path.ends_with("/snapshots/upload") {
        match read_upload(request).await {
            Ok(file) => upload = Some(file),
            Err(refused) => return refused,
        }
    } else {
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
        if !bytes.is_empty() {
            match serde_json::from_slice(&bytes) {
                Ok(json) => body = json,
                Err(error) => {
                    return failure(
                        StatusCode::BAD_REQUEST,
                        &format!("Format error in JSON body: {error}"),
                    );
                }
            }
        }
    }
    let mut inner = state.lock().expect("no handler panics while it holds the state");
    inner.calls.push(format!("{method} {uri}"));
    if let Some(denied) = inner.denied(&method, &path, &headers) {
        return denied;
    }
    let mut refused = None;
    for refusal in &mut inner.faults.refusals {
        if refusal.method == method && path.contains(refusal.path) && refusal.times > 0 {
            if refusal.after > 0 {
                refusal.after -= 1;
                continue;
            }
            refusal.times -= 1;
            refused = Some(refusal.clone());
            break;
        }
    }
    if let Some(refusal) = refused {
        if refusal.done {
            drop(inner.dispatch(&method, &uri, &headers, &body, upload));
        }
        if refusal.status == 200 {
            return result(&json!(true));
        }
        return failure(StatusCode::from_u16(refusal.status).expect("a status"), refusal.error);
    }
    inner.dispatch(&method, &uri, &headers, &body, upload)
}

pub(super) async fn read_upload(request: Request) -> Result<Bytes, Response> {
    let text = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned()).into_response();
    let mut form =
        Multipart::from_request(request, &()).await.map_err(|_| text("Multipart error"))?;
    while let Some(field) =
        form.next_field().await.map_err(|_| text("Multipart stream is incomplete"))?
    {
        if field.name() == Some("snapshot") {
            return field.bytes().await.map_err(|_| text("Multipart stream is incomplete"));
        }
    }
    Err(text("Field with name 'snapshot' is required"))
}

pub(super) fn result(result: &Value) -> Response {
    json_response(StatusCode::OK, &json!({ "result": result, "status": "ok", "time": 0.001 }))
}

pub(super) fn failure(status: StatusCode, error: &str) -> Response {
    json_response(status, &json!({ "status": { "error": error }, "time": 0.001 }))
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

pub(super) fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let code = (first == b'%' && after.len() >= 2)
            .then(|| {
                std::str::from_utf8(&after[..2])
                    .ok()
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        if code.is_some() {
            rest = &after[2..];
        }
        bytes.push(code.unwrap_or(first));
    }
    String::from_utf8(bytes).expect("names are UTF-8")
}

pub(super) fn no_collection(name: &str) -> Response {
    failure(StatusCode::NOT_FOUND, &format!("Not found: Collection `{name}` doesn't exist!"))
}

/// The refusals of strict mode, as Qdrant words them.
fn strict(faults: &mut Faults, body: &Value) -> Option<Response> {
    let limit = body["limit"].as_u64().unwrap_or(10);
    if let Some(most) = faults.most_points.filter(|most| limit > *most) {
        let error = format!(
            "Bad request: Limit exceeded {limit} > {most} for \"limit\". Help: Reduce the \"limit\" parameter to or below {most}."
        );
        return Some(failure(StatusCode::BAD_REQUEST, &error));
    }
    if faults.over_rate == 0 {
        return None;
    }
    faults.over_rate -= 1;
    let error = "Rate limiting exceeded: Read rate limit exceeded: Operation requires 1 tokens but only 0.5 were available. Retry after 1s";
    let mut refused = failure(StatusCode::TOO_MANY_REQUESTS, error);
    refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Some(refused)
}

impl Inner {
    fn denied(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        if !self.keys || path == "/" {
            return None;
        }
        let bearer = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let key = headers.get("api-key").and_then(|value| value.to_str().ok()).or(bearer);
        let reads = *method == Method::GET
            || path.ends_with("/points/scroll")
            || path.ends_with("/points/count");
        let (status, text) = match key {
            None => (
                StatusCode::UNAUTHORIZED,
                "Must provide an API key or an Authorization bearer token",
            ),
            Some(API_KEY) => return None,
            Some(READ_ONLY_KEY) if reads => return None,
            Some(READ_ONLY_KEY) => {
                return Some(failure(
                    StatusCode::FORBIDDEN,
                    "Forbidden: Global manage access is required",
                ));
            }
            Some(_) => (StatusCode::UNAUTHORIZED, "Invalid API key or JWT"),
        };
        Some((status, text.to_owned()).into_response())
    }

    fn dispatch(
        &mut self,
        method: &Method,
        uri: &str,
        headers: &HeaderMap,
        body: &Value,
        upload: Option<Bytes>,
    ) -> Response {
        match upload {
            Some(bytes) => self.upload(uri, &bytes),
            None => self.respond(method, uri, headers, body),
        }
    }

    fn respond(
        &mut self,
        method: &Method,
        uri: &str,
        headers: &HeaderMap,
        body: &Value,
    ) -> Response {
        if *method == Method::HEAD {
            return StatusCode::NOT_FOUND.into_response();
        }
        let path = uri.split('?').next().unwrap_or_default();
        let segments: Vec<String> = path.trim_matches('/').split('/').map(unescaped).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (method.as_str(), &segments[..]) {
            ("GET", [""]) => json_response(
                StatusCode::OK,
                &json!({ "title": "qdrant - vector search engine", "version": self.version }),
            ),
            ("GET", ["cluster"]) => result(&json!({ "status": "disabled" })),
            ("GET", ["collections"]) => {
                let names: Vec<_> =
                    self.collections.keys().map(|name| json!({ "name": name })).collect();
                result(&json!({ "collections": names }))
            }
            ("GET", ["aliases"]) => result(&json!({ "aliases": self.alias_list(None) })),
            ("POST", ["collections", "aliases"]) => self.change_aliases(body),
            ("POST", ["snapshots"]) => self.full_snapshot(),
            ("GET" | "PUT" | "DELETE", ["collections", name]) => {
                self.collection(method, name, body)
            }
            (_, ["collections", name, rest @ ..]) => {
                let real = self.aliases.get(*name).cloned().unwrap_or_else(|| (*name).to_owned());
                match self.collections.get(&real) {
                    None => no_collection(name),
                    Some(collection) if collection.broken => failure(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "Service internal error: shard 0 failed to load",
                    ),
                    Some(_) => self.of_collection(method, &real, rest, headers, body),
                }
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn alias_list(&self, of: Option<&str>) -> Vec<Value> {
        let aliases = self
            .aliases
            .iter()
            .filter(|(_, collection)| of.is_none_or(|of| of == collection.as_str()));
        aliases
            .map(
                |(alias, collection)| json!({ "alias_name": alias, "collection_name": collection }),
            )
            .collect()
    }

    fn collection(&mut self, method: &Method, name: &str, body: &Value) -> Response {
        match method.as_str() {
            "PUT" if self.collections.contains_key(name) => failure(
                StatusCode::CONFLICT,
                &format!("Wrong input: Collection `{name}` already exists!"),
            ),
            "PUT" => {
                self.collections.insert(name.to_owned(), Collection::created(body));
                result(&json!(true))
            }
            "DELETE" => {
                let known = self.collections.remove(name).is_some();
                self.aliases.retain(|_, collection| collection != name);
                self.files.retain(|(collection, _), _| collection != name);
                result(&json!(known))
            }
            _ => {
                let real = self.aliases.get(name).map_or(name, String::as_str);
                match self.collections.get(real) {
                    None => no_collection(name),
                    Some(collection) if collection.broken => failure(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "Service internal error: shard 0 failed to load",
                    ),
                    Some(collection) => result(&collection.describe()),
                }
            }
        }
    }

    fn of_collection(
        &mut self,
        method: &Method,
        name: &str,
        rest: &[&str],
        headers: &HeaderMap,
        body: &Value,
    ) -> Response {
        let collection = self.collections.get_mut(name).expect("the caller has looked");
        match (method.as_str(), rest) {
            ("GET", ["aliases"]) => result(&json!({ "aliases": self.alias_list(Some(name)) })),
            ("GET", ["cluster"]) => result(&collection.distribution()),
            ("PUT", ["shards"]) => {
                let shards = body["shards_number"].as_u64().unwrap_or(1);
                for _ in 0..shards {
                    // The first one is 1, also where there is none.
                    let next = collection.shards.last().map_or(0, |(id, _)| *id) + 1;
                    collection.shards.push((next, body["shard_key"].clone()));
                }
                result(&json!(true))
            }
            ("PUT", ["index"]) => {
                let (field, index) = payload_index(body);
                collection.schema.insert(field, index);
                collection.recorded = None;
                result(&json!({ "operation_id": 2, "status": "completed" }))
            }
            ("PUT", ["points"]) => {
                for point in body["points"].as_array().expect("points") {
                    collection.upsert(point, &body["shard_key"]);
                }
                result(&json!({ "operation_id": 3, "status": "completed" }))
            }
            ("POST", ["points", "count"]) => result(&json!({ "count": collection.points.len() })),
            ("POST", ["points", "scroll"]) => match strict(&mut self.faults, body) {
                Some(refused) => refused,
                None => result(&collection.scroll(body)),
            },
            ("POST", ["points", "delete"]) => {
                let ids: Vec<_> =
                    body["points"].as_array().into_iter().flatten().map(key).collect();
                collection.points.retain(|id, _| !ids.contains(id));
                collection.recorded = None;
                result(&json!({ "operation_id": 1, "status": "completed" }))
            }
            ("POST", ["snapshots"]) => self.snapshot(name),
            ("GET", ["snapshots"]) => {
                let listed: Vec<_> = self
                    .files
                    .iter()
                    .filter(|((collection, file), _)| {
                        collection == name && file.ends_with(".snapshot")
                    })
                    .map(|((_, file), bytes)| self.file(file, bytes))
                    .collect();
                result(&json!(listed))
            }
            ("GET", ["snapshots", file]) => match self
                .files
                .get(&(name.to_owned(), (*file).to_owned()))
            {
                Some(bytes) => self.download(file, bytes, headers),
                None => (StatusCode::NOT_FOUND, format!("Not found: Snapshot {file} not found"))
                    .into_response(),
            },
            ("DELETE", ["snapshots", file]) => {
                match self.files.remove(&(name.to_owned(), (*file).to_owned())) {
                    Some(_) => result(&json!(true)),
                    None => failure(
                        StatusCode::NOT_FOUND,
                        &format!("Not found: Snapshot {file} not found"),
                    ),
                }
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn file(&self, name: &str, bytes: &Bytes) -> Value {
        let mut file =
            json!({ "name": name, "creation_time": "2026-11-23T05:01:03", "size": bytes.len() });
        if !self.faults.no_checksums {
            file["checksum"] = ByteDigest::of(bytes).into();
        }
        file
    }

    fn snapshot(&mut self, name: &str) -> Response {
        let second = kaleem_dr_core::jiff::Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S");
        let file = format!("{name}-{PEER}-{second}.snapshot");
        let mut bytes = self.collections[name].snapshot();
        if self.faults.new_times {
            self.clock += 1;
            bytes = at_time(&bytes, self.clock).into();
        }
        if self.faults.write_during_snapshot {
            let collection = self.collections.get_mut(name).expect("it is there");
            let mut point = collection.points.values().next().expect("a point").clone();
            point["id"] = json!(collection.points.len() + 1_000_000);
            collection.upsert(&point, &Value::Null);
        }
        let described = self.file(&file, &bytes);
        let kept = if self.faults.same_second_snapshot {
            Bytes::from([&bytes[..], &[0; 512]].concat())
        } else {
            bytes
        };
        self.files.insert((name.to_owned(), file), kept);
        result(&described)
    }

    /// Fails if one collection is broken; and deletes a collection's snapshot from the same second.
    fn full_snapshot(&mut self) -> Response {
        if self.collections.values().any(|collection| collection.broken) {
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Service internal error: shard 0 failed to load",
            );
        }
        let second =
            kaleem_dr_core::jiff::Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S").to_string();
        self.files.retain(|(_, file), _| !file.contains(&second));
        let name = format!("full-snapshot-{second}.snapshot");
        self.full.insert(name.clone(), 0);
        result(&json!({ "name": name, "creation_time": "2026-11-23T05:01:03", "size": 0 }))
    }

    fn download(&self, name: &str, bytes: &Bytes, headers: &HeaderMap) -> Response {
        let mut bytes = bytes.clone();
        if self.faults.corrupt_downloads {
            let mut other = bytes.to_vec();
            let middle = other.len() / 2;
            other[middle] ^= 1;
            bytes = other.into();
        }
        let text = |name: header::HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        if text(header::ACCEPT_ENCODING).contains("gzip") {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(&bytes).expect("memory takes all");
            let packed = packed.finish().expect("memory takes all");
            let body =
                Body::from_stream(futures::stream::iter([Ok::<_, io::Error>(Bytes::from(packed))]));
            return ([(header::CONTENT_ENCODING, "gzip")], body).into_response();
        }
        let etag = format!("\"{}\"", &ByteDigest::of(&bytes)[..16]);
        let range = text(header::RANGE)
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok());
        let same = text(header::IF_RANGE).is_empty() || text(header::IF_RANGE) == etag;
        let start = range.filter(|_| same).unwrap_or(0);
        let part = bytes.slice(start..);
        let length = part.len();
        let mut end_of_part = length;
        let end = self.faults.cut_downloads_after.map_or(usize::MAX, |after| start + after);
        let end = end.min(self.faults.no_download_beyond.unwrap_or(usize::MAX));
        if end < bytes.len() {
            end_of_part = end.saturating_sub(start);
        }
        let is_cut = end_of_part < length;
        let body = match self.faults.hang_downloads_after {
            Some(after) => {
                let first =
                    futures::stream::iter([Ok::<_, io::Error>(part.slice(..after.min(length)))]);
                Body::from_stream(first.chain(futures::stream::pending()))
            }
            None if is_cut => {
                let first = futures::stream::iter([Ok(part.slice(..end_of_part))]);
                // Everything up to here is sent before the connection breaks.
                let then = futures::stream::once(async {
                    tokio::task::yield_now().await;
                    Err(io::Error::other("cut"))
                });
                Body::from_stream(first.chain(then))
            }
            None => Body::from(part),
        };
        let mut response = body.into_response();
        let value = |text: String| HeaderValue::from_str(&text).expect("a header's value");
        let answered = response.headers_mut();
        answered.insert(header::CONTENT_LENGTH, value(length.to_string()));
        answered.insert(header::CONTENT_TYPE, value("application/octet-stream".into()));
        answered
            .insert(header::CONTENT_DISPOSITION, value(format!("attachment; filename=\"{name}\"")));
        answered.insert(header::ACCEPT_RANGES, value("bytes".into()));
        answered.insert(header::ETAG, value(etag));
        if range.is_some() && same {
            answered.insert(
                header::CONTENT_RANGE,
                value(format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
            );
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        response
    }

    /// Replaces a shard of an existing collection. Unlike an upload to the collection, it leaves no
    /// file, and settings and indexes stay as they were.
    fn upload(&mut self, uri: &str, bytes: &Bytes) -> Response {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let segments: Vec<String> = path.trim_matches('/').split('/').map(unescaped).collect();
        let [_, name, _, shard, _, _] = &segments[..] else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let Some(collection) = self.collections.get_mut(name) else { return no_collection(name) };
        if !collection.shards.iter().any(|(id, _)| id.to_string() == *shard) {
            return failure(StatusCode::NOT_FOUND, &format!("Not found: Shard {shard} not found"));
        }
        if let Some(refused) = wrong_checksum(query, bytes) {
            return refused;
        }
        let Some(points) = points_of_shard(bytes) else {
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Service internal error: File IO error: Malformed tar archive, reached unknown entry",
            );
        };
        if self.faults.break_uploads {
            collection.broken = true;
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Service internal error: segment failed to load",
            );
        }
        collection.points.extend(points);
        collection.recorded = None;
        if self.faults.alter_vector {
            collection.alter_vector();
        }
        result(&Value::Null)
    }

    fn change_aliases(&mut self, body: &Value) -> Response {
        let mut aliases = self.aliases.clone();
        for action in body["actions"].as_array().expect("actions") {
            let text = |value: &Value| value.as_str().expect("a name").to_owned();
            if let Some(create) = action.get("create_alias") {
                let (alias, collection) =
                    (text(&create["alias_name"]), text(&create["collection_name"]));
                if self.collections.contains_key(&alias) {
                    return failure(
                        StatusCode::CONFLICT,
                        &format!(
                            "Wrong input: Can't create alias `{alias}`: a collection has that name"
                        ),
                    );
                }
                if !self.collections.contains_key(&collection) {
                    return no_collection(&collection);
                }
                aliases.insert(alias, collection);
            } else if let Some(delete) = action.get("delete_alias") {
                aliases.remove(&text(&delete["alias_name"]));
            }
        }
        self.aliases = aliases;
        result(&json!(true))
    }
}

impl Collection {
    pub(super) fn created(body: &Value) -> Self {
        let sharded_by_key = body["sharding_method"] == "custom";
        let shards = body["shard_number"].as_u64().unwrap_or(1);
        let mut params = json!({
            "vectors": body["vectors"],
            "shard_number": shards,
            "replication_factor": body["replication_factor"].as_u64().unwrap_or(1),
            "write_consistency_factor": 1,
            "on_disk_payload": true,
        });
        for key in ["sparse_vectors", "sharding_method"] {
            if !body[key].is_null() {
                params[key] = body[key].clone();
            }
        }
        let merged = |defaults: Value, given: &Value| {
            let mut settings = defaults;
            for (key, value) in given.as_object().into_iter().flatten() {
                settings[key] = value.clone();
            }
            settings
        };
        let config = json!({
            "params": params,
            "hnsw_config": merged(
                json!({ "m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0, "on_disk": false }),
                &body["hnsw_config"],
            ),
            "optimizer_config": merged(
                json!({
                    "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000, "default_segment_number": 1, "max_segment_size": null,
                    "memmap_threshold": null, "indexing_threshold": 10000, "flush_interval_sec": 5, "max_optimization_threads": null,
                    "prevent_unoptimized": null,
                }),
                &body["optimizers_config"],
            ),
            "wal_config": merged(
                json!({ "wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1 }),
                &body["wal_config"],
            ),
            "quantization_config": null,
        });
        let ids = if sharded_by_key { 0 } else { u32::try_from(shards).expect("few shards") };
        Self { config, shards: (0..ids).map(|id| (id, Value::Null)).collect(), ..Self::default() }
    }

    pub(super) fn describe(&self) -> Value {
        let mut schema = self.schema.clone();
        for index in schema.values_mut() {
            index["points"] = self.points.len().into();
        }
        json!({
            "status": "green", "optimizer_status": "ok", "indexed_vectors_count": self.points.len(),
            "points_count": self.points.len(), "segments_count": 1, "config": self.config, "payload_schema": schema,
            "update_queue": { "length": 0 },
        })
    }

    fn distribution(&self) -> Value {
        let shard = |(id, key): &(u32, Value)| {
            let mut shard =
                json!({ "shard_id": id, "points_count": self.points.len(), "state": "Active" });
            if !key.is_null() {
                shard["shard_key"] = key.clone();
            }
            shard
        };
        let shards: Vec<_> = self.shards.iter().map(shard).collect();
        json!({ "peer_id": PEER, "shard_count": shards.len(), "local_shards": shards, "remote_shards": [], "shard_transfers": [] })
    }

    /// Stores a point like Qdrant: 32-bit components, normalised for the cosine distance.
    pub(super) fn upsert(&mut self, point: &Value, shard_key: &Value) {
        let vectors = self.config["params"]["vectors"].clone();
        let mut vector = point["vector"].clone();
        if vectors["size"].is_u64() {
            vector = kept(&vector, &vectors["distance"]);
        } else if let Some(named) = vector.as_object_mut() {
            for (name, vector) in named {
                *vector = match vector.get("values") {
                    Some(values) => {
                        json!({ "indices": vector["indices"], "values": kept(values, &Value::Null) })
                    }
                    None => kept(vector, &vectors[name]["distance"]),
                };
            }
        }
        let mut stored =
            json!({ "id": point["id"], "payload": point["payload"], "vector": vector });
        if !shard_key.is_null() {
            stored["shard_key"] = shard_key.clone();
        }
        self.points.insert(key(&point["id"]), stored);
        self.recorded = None;
    }

    pub(super) fn scroll(&self, body: &Value) -> Value {
        let limit = usize::try_from(body["limit"].as_u64().unwrap_or(10)).expect("a limit");
        let from = if body["offset"].is_null() { (0, String::new()) } else { key(&body["offset"]) };
        let mut points: Vec<Value> =
            self.points.range(from..).take(limit + 1).map(|(_, point)| point.clone()).collect();
        let next = if points.len() > limit {
            points.pop().map_or(Value::Null, |point| point["id"].clone())
        } else {
            Value::Null
        };
        for point in &mut points {
            if body["with_vector"] != true {
                point["vector"] = Value::Null;
            }
            if body["with_payload"] != true {
                point["payload"] = Value::Null;
            }
        }
        json!({ "points": points, "next_page_offset": next })
    }

    fn alter_vector(&mut self) {
        let point = self.points.values_mut().next().expect("a point");
        let vector = match &mut point["vector"] {
            Value::Object(named) => {
                named.values_mut().find(|vector| vector.is_array()).expect("a dense vector")
            }
            plain => plain,
        };
        vector[0] = json!(vector[0].as_f64().expect("a component") + 0.5);
        self.recorded = None;
    }

    /// The recorded file, or a tar in Qdrant's layout.
    fn snapshot(&self) -> Bytes {
        if let Some(recorded) = self.recorded {
            return Bytes::from_static(recorded);
        }
        let mut file = Tar::default();
        for (at, (id, _)) in self.shards.iter().enumerate() {
            let points: Vec<_> = if at == 0 { self.points.values().collect() } else { Vec::new() };
            file.add(
                &format!("{id}/segments/00000000-0000-0000-0000-{id:012}.tar"),
                &self.segment(&json!(points)),
            );
            file.add(&format!("{id}/wal/open-1"), &[0; 4096]);
            file.add(&format!("{id}/replica_state.json"), br#"{"is_local":true}"#);
            file.add(&format!("{id}/shard_config.json"), br#"{"type":"ReplicaSet"}"#);
        }
        let mut keys: Vec<Value> = Vec::new();
        for (id, key) in self.shards.iter().filter(|(_, key)| !key.is_null()) {
            match keys.iter_mut().find(|pair| pair["key"] == *key) {
                Some(pair) => pair["shard_ids"].as_array_mut().expect("ids").push(json!(id)),
                None => keys.push(json!({ "key": key, "shard_ids": [id] })),
            }
        }
        let schema: serde_json::Map<_, _> = self
            .schema
            .iter()
            .map(|(field, index)| {
                (field.clone(), index.get("params").unwrap_or(&index["data_type"]).clone())
            })
            .collect();
        file.add("version.info", b"0.4.2");
        file.add("config.json", self.config.to_string().as_bytes());
        file.add("shard_key_mapping.json", json!(keys).to_string().as_bytes());
        file.add("payload_index.json", json!({ "schema": schema }).to_string().as_bytes());
        file.finish()
    }

    pub(super) fn segment(&self, points: &Value) -> Bytes {
        let mut file = Tar::default();
        let vectors = &self.config["params"]["vectors"];
        let named = if vectors["size"].is_u64() { json!({ "": vectors }) } else { vectors.clone() };
        for vector in named.as_object().expect("vectors").keys() {
            let storage = if vector.is_empty() {
                "vector_storage".to_owned()
            } else {
                format!("vector_storage-{vector}")
            };
            file.add(&format!("snapshot/files/{storage}/vectors/config.json"), b"{}");
        }
        file.add(
            "snapshot/files/segment.json",
            json!({ "version": 1, "config": { "vector_data": named } }).to_string().as_bytes(),
        );
        file.add("snapshot/files/version.info", b"0.6.0");
        file.add(POINTS, points.to_string().as_bytes());
        file.finish()
    }
}

/// An error if the checksum in the query is not that of the bytes.
pub(super) fn wrong_checksum(query: &str, bytes: &Bytes) -> Option<Response> {
    let expected = query.split('&').find_map(|pair| pair.strip_prefix("checksum="))?;
    if expected.len() != 64 {
        return Some(failure(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Validation error in query parameters: checksum",
        ));
    }
    let actual = ByteDigest::of(bytes);
    let error = format!("Checksum mismatch: expected {actual}, actual {expected}");
    (actual != expected).then(|| failure(StatusCode::BAD_REQUEST, &error))
}

pub(super) type Points = BTreeMap<(u64, String), Value>;

/// The points in the snapshot of a shard; `None` if the bytes are not one.
pub(super) fn points_of_shard(bytes: &[u8]) -> Option<Points> {
    let mut points = Points::new();
    let mut is_shard = false;
    for entry in tar::Archive::new(bytes).entries().ok()? {
        let mut entry = entry.ok()?;
        let name = entry.path().ok()?.to_str()?.to_owned();
        is_shard |= name == "replica_state.json";
        if !(name.starts_with("segments/") && name.ends_with(".tar")) {
            continue;
        }
        let mut segment = Vec::new();
        entry.read_to_end(&mut segment).ok()?;
        if let Some(recorded) = recorded_points(&segment) {
            points.extend(recorded);
            continue;
        }
        for file in tar::Archive::new(&segment[..]).entries().ok()? {
            let mut file = file.ok()?;
            if file.path().ok()?.to_str()? == POINTS {
                // Kept as they were stored: nothing is rounded twice.
                let own: Vec<Value> = serde_json::from_reader(&mut file).ok()?;
                points.extend(own.into_iter().map(|point| (key(&point["id"]), point)));
            }
        }
    }
    is_shard.then_some(points)
}

/// The points of a recorded segment, whatever the times in its headers.
fn recorded_points(segment: &[u8]) -> Option<Points> {
    let timeless = timeless(segment);
    let (name, _) = recorded_files().into_iter().find(|(_, file)| {
        segments(file).iter().any(|recorded| self::timeless(recorded) == timeless)
    })?;
    let seed = |path: String| exchanges().iter().find(move |it| it["request"]["path"] == path);
    let mut collection = Collection::created(
        &seed(format!("/collections/{name}")).expect("it is recorded")["request"]["json"],
    );
    let points = seed(format!("/collections/{name}/points?wait=true")).expect("it is recorded");
    for point in points["request"]["json"]["points"].as_array().expect("points") {
        collection.upsert(point, &Value::Null);
    }
    Some(collection.points)
}

/// The tars of segments in the snapshot of a collection or shard.
pub(super) fn segments(file: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(file).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        if name.contains("segments/") && name.ends_with(".tar") {
            let mut segment = Vec::new();
            entry.read_to_end(&mut segment).expect("memory takes all");
            found.push(segment);
        }
    }
    found
}

/// The bytes with the time of every header set to `time`, here and in tars inside.
pub(super) fn at_time(bytes: &[u8], time: u64) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for block in changed.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            let mut header = tar::Header::from_byte_slice(block).clone();
            header.set_mtime(time);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    changed
}

fn timeless(bytes: &[u8]) -> Vec<u8> {
    at_time(bytes, 0)
}

/// Every recorded snapshot of a collection; those in the full snapshot were taken separately, and
/// are other files.
fn recorded_files() -> [(&'static str, &'static [u8]); 4] {
    let in_full = |offset: usize, length: usize| &FULL[offset..offset + length];
    [
        ("docs", DOCS),
        ("sessions", SESSIONS),
        ("docs", in_full(512, DOCS.len())),
        ("sessions", in_full(512 + DOCS.len() + 512, SESSIONS.len())),
    ]
}

pub(super) fn key(id: &Value) -> (u64, String) {
    match id.as_u64() {
        Some(number) => (number, String::new()),
        None => (u64::MAX, id.as_str().expect("an id is a number or a text").to_owned()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "Qdrant keeps 32-bit components")]
fn kept(vector: &Value, distance: &Value) -> Value {
    let mut components: Vec<f32> = vector
        .as_array()
        .expect("a vector")
        .iter()
        .map(|component| component.as_f64().expect("a number") as f32)
        .collect();
    if distance == "Cosine" {
        let square = components.iter().map(|component| component * component).sum::<f32>();
        // A vector that is normalised already is kept as it is.
        if (square - 1.0).abs() > 1e-6 {
            components.iter_mut().for_each(|component| *component /= square.sqrt());
        }
    }
    // With the fewest digits that parse to the same 32-bit number, like Qdrant.
    let printed = |component: &f32| {
        component.to_string().parse::<f64>().expect("a printed number reads back")
    };
    components.iter().map(printed).map(Value::from).collect()
}

#[derive(Default)]
pub(super) struct Tar(Option<tar::Builder<Vec<u8>>>);

impl Tar {
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let builder = self.0.get_or_insert_with(|| tar::Builder::new(Vec::new()));
        builder.append_data(&mut header, name, content).expect("memory takes all");
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.expect("a tar has files").into_inner().expect("memory takes all").into()
    }
}

/// The field of a requested index, and its description in the collection's schema.
pub(super) fn payload_index(request: &Value) -> (String, Value) {
    let schema = &request["field_schema"];
    let kind = schema["type"].as_str().or(schema.as_str()).unwrap_or_default();
    let mut index = json!({ "data_type": kind });
    if schema.is_object() {
        index["params"] = schema.clone();
    }
    (request["field_name"].as_str().expect("a field").to_owned(), index)
}
