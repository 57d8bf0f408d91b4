//! The server behind the stand-in: its state, and the answer to each call.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::StreamExt as _;
use kaleem_dr_core::ground::digest::ByteDigest;
use serde_json::{Value, json};

use super::{
    API_KEY, PEER, READ_ONLY_KEY,
    collection::Collection,
    faults::{Faults, strict},
    files::{at_time, key, points_of_shard},
    replies::{
        failure, json_response, no_collection, payload_index, read_upload, result, unescaped,
        wrong_checksum,
    },
};

/// The state of the stand-in.
pub(super) struct Inner {
    pub(super) version: String,
    pub(super) keys: bool,
    pub(super) collections: BTreeMap<String, Collection>,
    pub(super) aliases: BTreeMap<String, String>,
    /// Files in the snapshot directories, including unlisted ones.
    pub(super) files: BTreeMap<(String, String), Bytes>,
    pub(super) full: BTreeMap<String, u64>,
    pub(super) faults: Faults,
    pub(super) calls: Vec<String>,
    /// The time in the headers of the last snapshot.
    pub(super) clock: u64,
}

pub(super) async fn answer(State(state): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
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

    pub(super) fn respond(
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
