//! A stand-in for a Qdrant cluster of two peers, **not** Qdrant: each peer listens on loopback, and
//! both share one state. Made from the exchanges of a real cluster of 1.18.2
//! (`tests/fixtures/qdrant/cluster/exchanges.json`).
//!
//! Real are paths, parameters, status codes, bodies, the placement of shards, and the snapshot files
//! of the recorded shards. Invented: the points of the recorded shards, of which only the number was
//! recorded; and how long a replica is filled. Real peers, set with `KALEEM_TEST_QDRANT_PEERS`, have
//! the last word.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use kaleem_dr_core::{ground::digest::ByteDigest, jiff::Timestamp};
use serde_json::{Value, json};

use super::{
    qdrant_stand_in::{
        Collection, Points, Refusal, Tar, at_time, failure, key, no_collection, payload_index,
        points_of_shard, read_upload, result, segments, unescaped, wrong_checksum,
    },
    served::Served,
};

/// The ids of the recorded peers.
pub const PEERS: [u64; 2] = [8_805_145_411_912_629, 8_420_467_886_530_551];

/// The recorded shards: collection, shard, number of points, file.
const RECORDED: [(&str, u32, u64, &[u8]); 8] = [
    ("plain", 0, 46, include_bytes!("../../fixtures/qdrant/cluster/plain-shard-0.snapshot")),
    ("plain", 1, 52, include_bytes!("../../fixtures/qdrant/cluster/plain-shard-1.snapshot")),
    ("plain", 2, 47, include_bytes!("../../fixtures/qdrant/cluster/plain-shard-2.snapshot")),
    ("plain", 3, 55, include_bytes!("../../fixtures/qdrant/cluster/plain-shard-3.snapshot")),
    ("twice", 0, 107, include_bytes!("../../fixtures/qdrant/cluster/twice-shard-0.snapshot")),
    ("twice", 1, 93, include_bytes!("../../fixtures/qdrant/cluster/twice-shard-1.snapshot")),
    ("tenants", 1, 60, include_bytes!("../../fixtures/qdrant/cluster/tenants-shard-1.snapshot")),
    ("tenants", 2, 60, include_bytes!("../../fixtures/qdrant/cluster/tenants-shard-2.snapshot")),
];

/// Faults of the stand-in.
#[derive(Clone, Debug, Default)]
pub struct ClusterFaults {
    /// Calls that are answered with an error, on any peer.
    pub refusals: Vec<Refusal>,
    /// After an upload, the other replica looks active and empty for this many looks, as long as the
    /// peers have not agreed that it is outdated.
    pub lag: usize,
    /// Other replicas are never filled.
    pub never_fill: bool,
}

/// The running peers. They end when this value is dropped.
pub struct QdrantClusterStandIn {
    inner: Arc<Mutex<Inner>>,
    served: [Option<Served>; 2],
    urls: Vec<String>,
}

struct Inner {
    collections: BTreeMap<String, Spread>,
    aliases: BTreeMap<String, String>,
    /// By peer, collection and shard.
    files: BTreeMap<(usize, String, u32, String), Bytes>,
    up: [bool; 2],
    faults: ClusterFaults,
    calls: Vec<String>,
}

/// A collection, and its shards by id.
#[derive(Clone, Default)]
struct Spread {
    settings: Collection,
    shards: BTreeMap<u32, Shard>,
}

#[derive(Clone)]
struct Shard {
    key: Value,
    /// By peer: the points of its replica.
    replicas: BTreeMap<usize, Points>,
    filling: Option<Filling>,
    recorded: Option<&'static [u8]>,
}

/// A replica that is filled from another one.
#[derive(Clone, Copy)]
struct Filling {
    from: usize,
    to: usize,
    /// Looks until the peers know of it, and until it is filled.
    lag: usize,
    looks: usize,
}

impl QdrantClusterStandIn {
    /// Two peers without a collection.
    pub fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            collections: BTreeMap::new(),
            aliases: BTreeMap::new(),
            files: BTreeMap::new(),
            up: [true; 2],
            faults: ClusterFaults::default(),
            calls: Vec::new(),
        }));
        let serve = |peer: usize| {
            let router = Router::new().fallback(answer).layer(DefaultBodyLimit::disable());
            Served::start(router.with_state((peer, inner.clone())))
        };
        let served = [serve(0), serve(1)];
        let urls = served.iter().map(|served| format!("http://{}", served.address)).collect();
        Self { urls, inner, served: served.map(Some) }
    }

    /// With the recorded collections `plain` (4 shards, alias `live`), `twice` (2 replicas) and
    /// `tenants` (sharded by key).
    pub fn recorded() -> Self {
        let stand_in = Self::start();
        let mut inner = stand_in.lock();
        for exchange in exchanges().iter().take(9) {
            let request = &exchange["request"];
            if request["method"] != "GET" {
                let method = request["method"].as_str().expect("a method").parse();
                let path = request["path"].as_str().expect("a path");
                let made = inner.respond(0, &method.expect("a method"), path, &request["json"]);
                assert_eq!(made.status(), 200, "{path}");
            }
        }
        for (name, id, _, file) in RECORDED {
            let shards = &mut inner.collections.get_mut(name).expect("it was made").shards;
            let shard = shards.get_mut(&id).expect("it was made");
            shard.replicas.values_mut().for_each(|points| *points = recorded_points(name, id));
            shard.recorded = Some(file);
        }
        drop(inner);
        stand_in
    }

    /// The URLs of its peers.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    pub fn set_faults(&self, faults: ClusterFaults) {
        self.lock().faults = faults;
    }

    /// Ends a peer: nothing listens on its port any more.
    pub fn stop_peer(&mut self, peer: usize) {
        self.lock().up[peer] = false;
        self.served[peer] = None;
    }

    /// Files on the peers' disks.
    pub fn files(&self) -> Vec<String> {
        self.lock().files.keys().map(|(peer, .., file)| format!("peer {peer}: {file}")).collect()
    }

    /// Every call so far: peer, method and path.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The number of points of each replica of a collection, by shard and peer.
    pub fn replicas(&self, name: &str) -> Vec<(u32, usize, usize)> {
        let shards = &self.lock().collections[name].shards;
        let one = |(id, shard): (&u32, &Shard)| {
            let id = *id;
            shard
                .replicas
                .iter()
                .map(move |(peer, points)| (id, *peer, points.len()))
                .collect::<Vec<_>>()
        };
        shards.iter().flat_map(one).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the stand-in")
    }
}

/// The recorded file with this SHA-256.
pub fn recorded_file(sha256: &str) -> &'static [u8] {
    let found = RECORDED.iter().find(|it| ByteDigest::of(it.3) == sha256);
    found.expect("it is recorded").3
}

/// The recorded exchanges.
pub fn exchanges() -> &'static [Value] {
    static EXCHANGES: OnceLock<Value> = OnceLock::new();
    let text = include_str!("../../fixtures/qdrant/cluster/exchanges.json");
    EXCHANGES.get_or_init(|| serde_json::from_str(text).expect("JSON"))["exchanges"]
        .as_array()
        .expect("a list")
}

/// As many points as the recorded shard has.
fn recorded_points(name: &str, shard: u32) -> Points {
    let (.., count, _) =
        RECORDED.iter().find(|it| (it.0, it.1) == (name, shard)).expect("it is recorded");
    let mut points = Points::new();
    for n in 0..*count {
        let mut point = json!({ "id": u64::from(shard) * 1000 + n, "payload": { "n": n }, "vector": [0.5, n, -1.5, 2.0] });
        if name == "tenants" {
            point["shard_key"] = json!(if shard == 1 { "a" } else { "b" });
        }
        points.insert(key(&point["id"]), point);
    }
    points
}

async fn answer(
    State((peer, state)): State<(usize, Arc<Mutex<Inner>>)>,
    request: Request,
) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().to_string());
    let mut upload = None;
    let mut body = Value::Null;
    if uri.split('?').next().is_some_and(|path| path.ends_with("/snapshots/upload")) {
        match read_upload(request).await {
            Ok(file) => upload = Some(file),
            Err(refused) => return refused,
        }
    } else {
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
        body = serde_json::from_slice(&bytes).unwrap_or_default();
    }
    let mut inner = state.lock().expect("no handler panics while it holds the state");
    inner.calls.push(format!("{peer} {method} {uri}"));
    let faults = &mut inner.faults.refusals;
    let refusal = faults.iter_mut().find(|refusal| {
        refusal.method == method && uri.contains(refusal.path) && refusal.times > 0
    });
    let refusal = refusal.map(|refusal| {
        refusal.times -= 1;
        refusal.clone()
    });
    if refusal.as_ref().is_none_or(|refusal| refusal.done) {
        let done = match upload {
            Some(bytes) => inner.upload(peer, &uri, &bytes),
            None => inner.respond(peer, &method, &uri, &body),
        };
        if refusal.is_none() {
            return done;
        }
    }
    let refusal = refusal.expect("all other calls were answered");
    failure(StatusCode::from_u16(refusal.status).expect("a status"), refusal.error)
}

impl Inner {
    fn respond(&mut self, peer: usize, method: &Method, uri: &str, body: &Value) -> Response {
        let path = uri.split('?').next().unwrap_or_default();
        let segments: Vec<String> = path.trim_matches('/').split('/').map(unescaped).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (method.as_str(), &segments[..]) {
            ("GET", [""]) => exchange_as_recorded("/"),
            ("GET", ["cluster"]) => {
                let peers: BTreeMap<_, _> = PEERS
                    .iter()
                    .zip([16735, 16835])
                    .map(|(id, port)| {
                        (id.to_string(), json!({ "uri": format!("http://127.0.0.1:{port}/") }))
                    })
                    .collect();
                result(&json!({ "status": "enabled", "peer_id": PEERS[peer], "peers": peers }))
            }
            ("GET", ["collections"]) => {
                let names: Vec<_> =
                    self.collections.keys().map(|name| json!({ "name": name })).collect();
                result(&json!({ "collections": names }))
            }
            ("GET", ["aliases"]) => {
                let list = self.aliases.iter().map(|(alias, collection)| json!({ "alias_name": alias, "collection_name": collection }));
                result(&json!({ "aliases": list.collect::<Vec<_>>() }))
            }
            ("POST", ["collections", "aliases"]) => {
                for action in body["actions"].as_array().expect("actions") {
                    let text = |value: &Value| value.as_str().expect("a name").to_owned();
                    if let Some(delete) = action.get("delete_alias") {
                        self.aliases.remove(&text(&delete["alias_name"]));
                    } else {
                        let create = &action["create_alias"];
                        self.aliases
                            .insert(text(&create["alias_name"]), text(&create["collection_name"]));
                    }
                }
                result(&json!(true))
            }
            ("PUT", ["collections", name]) => {
                self.collections.insert((*name).to_owned(), Spread::created(body));
                result(&json!(true))
            }
            ("DELETE", ["collections", name]) => {
                let known = self.collections.remove(*name).is_some();
                self.aliases.retain(|_, collection| collection != name);
                result(&json!(known))
            }
            (_, ["collections", name, rest @ ..]) => {
                let real = self.aliases.get(*name).cloned().unwrap_or_else(|| (*name).to_owned());
                if !self.collections.contains_key(&real) {
                    return no_collection(name);
                }
                self.of_collection(peer, method, &real, rest, body)
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn of_collection(
        &mut self,
        peer: usize,
        method: &Method,
        name: &str,
        rest: &[&str],
        body: &Value,
    ) -> Response {
        let (up, never_fill) = (self.up, self.faults.never_fill);
        let spread = self.collections.get_mut(name).expect("the caller has looked");
        match (method.as_str(), rest) {
            ("GET", ["cluster"]) => {
                let distribution = spread.distribution(peer);
                spread.look(never_fill);
                result(&distribution)
            }
            ("PUT", ["shards"]) => {
                let next = spread.shards.keys().max().map_or(0, |id| *id) + 1;
                for id in next..next
                    + u32::try_from(body["shards_number"].as_u64().unwrap_or(1)).expect("few")
                {
                    spread.add(id, body["shard_key"].clone());
                }
                result(&json!(true))
            }
            ("PUT", ["index"]) => {
                let (field, index) = payload_index(body);
                spread.settings.schema.insert(field, index);
                result(&json!({ "operation_id": 2, "status": "completed" }))
            }
            ("PUT", ["points"]) => {
                for point in body["points"].as_array().expect("points") {
                    spread.upsert(point, &body["shard_key"]);
                }
                result(&json!({ "operation_id": 3, "status": "completed" }))
            }
            ("GET", []) | ("POST", ["points", ..]) => {
                let Some(whole) = spread.whole(peer, up) else {
                    return failure(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "Service internal error: The replica set for shard 1 has no active replica",
                    );
                };
                match rest.get(1) {
                    None => result(&whole.describe()),
                    Some(&"count") => result(&json!({ "count": whole.points.len() })),
                    Some(&"scroll") => result(&whole.scroll(body)),
                    Some(_) => {
                        for id in body["points"].as_array().expect("ids") {
                            spread.delete(id);
                        }
                        result(&json!({ "operation_id": 4, "status": "completed" }))
                    }
                }
            }
            (_, ["shards", shard, "snapshots", file @ ..]) => {
                let shard = shard.parse().expect("a number");
                self.snapshots(peer, method, name, shard, file)
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn snapshots(
        &mut self,
        peer: usize,
        method: &Method,
        name: &str,
        id: u32,
        file: &[&str],
    ) -> Response {
        let spread = &self.collections[name];
        let Some(points) = spread.shards.get(&id).and_then(|shard| shard.replicas.get(&peer))
        else {
            let error = format!("Bad request: Shard {id} is not a local or queue proxy shard");
            return failure(StatusCode::BAD_REQUEST, &error);
        };
        let described = |name: &str, bytes: &Bytes| json!({ "name": name, "creation_time": "2026-11-28T23:32:55", "size": bytes.len(), "checksum": ByteDigest::of(bytes) });
        let place = |file: &str| (peer, name.to_owned(), id, file.to_owned());
        match (method.as_str(), file) {
            ("POST", []) => {
                let second = Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S");
                let file = format!("{name}-shard-{id}-{second}.snapshot");
                let bytes = spread.snapshot(id, points, peer);
                let answer = result(&described(&file, &bytes));
                self.files.insert(place(&file), bytes);
                answer
            }
            ("GET", []) => {
                let own = |at: &&(usize, String, u32, String)| {
                    (at.0, at.1.as_str(), at.2) == (peer, name, id)
                };
                let listed =
                    self.files.keys().filter(own).map(|at| described(&at.3, &self.files[at]));
                result(&Value::Array(listed.collect()))
            }
            ("GET", [file]) => match self.files.get(&place(file)) {
                Some(bytes) => bytes.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            ("DELETE", [file]) => match self.files.remove(&place(file)) {
                Some(_) => result(&json!(true)),
                None => failure(StatusCode::NOT_FOUND, "Not found: Snapshot not found"),
            },
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn upload(&mut self, peer: usize, uri: &str, bytes: &Bytes) -> Response {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let segments: Vec<String> = path.trim_matches('/').split('/').map(unescaped).collect();
        let (name, id) = (&segments[1], segments[3].parse::<u32>().expect("a number"));
        let lag = self.faults.lag;
        let Some(spread) = self.collections.get_mut(name) else { return no_collection(name) };
        if let Some(refused) = wrong_checksum(query, bytes) {
            return refused;
        }
        let shard = spread.shards.get_mut(&id).filter(|shard| shard.replicas.contains_key(&peer));
        let Some(shard) = shard else {
            return failure(StatusCode::NOT_FOUND, &format!("Not found: Shard {id} not found"));
        };
        let recorded = segments_of(bytes);
        let points = match RECORDED.iter().find(|it| segments_of(it.3) == recorded) {
            Some((name, id, ..)) => Some(recorded_points(name, *id)),
            None => points_of_shard(bytes),
        };
        let Some(points) = points else {
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Service internal error: Malformed tar archive",
            );
        };
        shard.replicas.insert(peer, points);
        let other = shard.replicas.keys().copied().find(|other| *other != peer);
        // Earlier uploads have been passed on meanwhile.
        if !self.faults.never_fill {
            spread.shards.values_mut().for_each(Shard::fill);
        }
        spread.shards.get_mut(&id).expect("it is there").filling =
            other.map(|to| Filling { from: peer, to, lag, looks: 2 });
        result(&Value::Null)
    }
}

/// The tars of segments, whatever the times in their headers.
fn segments_of(file: &[u8]) -> Vec<Vec<u8>> {
    segments(file).iter().map(|segment| at_time(segment, 0)).collect()
}

fn exchange_as_recorded(path: &str) -> Response {
    let exchange = exchanges().iter().find(|exchange| exchange["request"]["path"] == path);
    axum::Json(exchange.expect("it is recorded")["response"]["json"].clone()).into_response()
}

impl Spread {
    fn created(body: &Value) -> Self {
        let mut spread = Self { settings: Collection::created(body), ..Self::default() };
        if body["sharding_method"] != "custom" {
            let shards = body["shard_number"].as_u64().unwrap_or(2);
            spread.settings.config["params"]["shard_number"] = json!(shards);
            (0..u32::try_from(shards).expect("few")).for_each(|id| spread.add(id, Value::Null));
        }
        spread
    }

    /// Places it as the recorded cluster did: even numbers on the first peer.
    fn add(&mut self, id: u32, key: Value) {
        let both = self.settings.config["params"]["replication_factor"] == 2;
        let own = id as usize % 2;
        let peers = if both { vec![0, 1] } else { vec![own] };
        let replicas = peers.into_iter().map(|peer| (peer, Points::new())).collect();
        self.shards.insert(id, Shard { key, replicas, filling: None, recorded: None });
    }

    fn upsert(&mut self, point: &Value, shard_key: &Value) {
        let mut one = Collection { config: self.settings.config.clone(), ..Collection::default() };
        one.upsert(point, shard_key);
        let ids: Vec<u32> = self
            .shards
            .iter()
            .filter(|(_, shard)| shard.key == *shard_key)
            .map(|(id, _)| *id)
            .collect();
        for (id, point) in one.points {
            let text = point["id"].to_string();
            let sum: usize = text.bytes().map(usize::from).sum();
            let shard = self.shards.get_mut(&ids[sum % ids.len()]).expect("it is there");
            shard.recorded = None;
            shard
                .replicas
                .values_mut()
                .for_each(|points| drop(points.insert(id.clone(), point.clone())));
        }
    }

    fn delete(&mut self, id: &Value) {
        for shard in self.shards.values_mut() {
            shard.recorded = None;
            shard.replicas.values_mut().for_each(|points| drop(points.remove(&key(id))));
        }
    }

    /// The collection as this peer sees it: its own replicas before others. `None` if a shard is only
    /// on a peer that is down.
    fn whole(&self, peer: usize, up: [bool; 2]) -> Option<Collection> {
        let mut whole = self.settings.clone();
        for shard in self.shards.values() {
            let active = |peer: &usize| {
                up[*peer]
                    && !shard.filling.is_some_and(|filling| filling.lag == 0 && filling.to == *peer)
            };
            let from = [peer, 1 - peer]
                .into_iter()
                .find(|at| active(at) && shard.replicas.contains_key(at))?;
            whole.points.extend(shard.replicas[&from].clone());
        }
        Some(whole)
    }

    fn distribution(&self, peer: usize) -> Value {
        let (mut local, mut remote, mut transfers) = (Vec::new(), Vec::new(), Vec::new());
        for (id, shard) in &self.shards {
            let filling = shard.filling.filter(|filling| filling.lag == 0);
            for (at, points) in &shard.replicas {
                let state = if filling.is_some_and(|filling| filling.to == *at) {
                    "Recovery"
                } else {
                    "Active"
                };
                let mut replica = json!({ "shard_id": id, "state": state });
                if !shard.key.is_null() {
                    replica["shard_key"] = shard.key.clone();
                }
                if *at == peer {
                    replica["points_count"] = json!(points.len());
                    local.push(replica);
                } else {
                    replica["peer_id"] = json!(PEERS[*at]);
                    remote.push(replica);
                }
            }
            if let Some(Filling { from, to, .. }) = filling {
                let mut transfer = json!({ "shard_id": id, "from": PEERS[from], "to": PEERS[to], "sync": true, "method": "wal_delta" });
                if from == peer {
                    transfer["comment"] = json!("");
                }
                transfers.push(transfer);
            }
        }
        json!({ "peer_id": PEERS[peer], "shard_count": self.shards.len(), "local_shards": local, "remote_shards": remote, "shard_transfers": transfers })
    }

    /// Lets time pass.
    fn look(&mut self, never_fill: bool) {
        for shard in self.shards.values_mut() {
            let Some(filling) = &mut shard.filling else { continue };
            if filling.lag > 0 {
                filling.lag -= 1;
            } else if !never_fill {
                filling.looks -= 1;
                if filling.looks == 0 {
                    shard.fill();
                }
            }
        }
    }

    /// The recorded file, or a tar in the layout of a shard's snapshot.
    fn snapshot(&self, id: u32, points: &Points, peer: usize) -> Bytes {
        if let Some(recorded) = self.shards[&id].recorded {
            return Bytes::from_static(recorded);
        }
        let points: Vec<_> = points.values().collect();
        let mut file = Tar::default();
        file.add(
            &format!("segments/00000000-0000-0000-0000-{id:012}.tar"),
            &self.settings.segment(&json!(points)),
        );
        file.add("wal/closed-2", &[0; 4096]);
        let state = json!({ "is_local": true, "this_peer_id": PEERS[peer] });
        file.add("replica_state.json", state.to_string().as_bytes());
        file.add("shard_config.json", br#"{"type":"ReplicaSet"}"#);
        file.finish()
    }
}

impl Shard {
    fn fill(&mut self) {
        if let Some(Filling { from, to, .. }) = self.filling.take() {
            self.replicas.insert(to, self.replicas[&from].clone());
        }
    }
}
