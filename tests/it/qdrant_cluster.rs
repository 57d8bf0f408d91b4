//! Qdrant clusters of several peers, captured and restored shard by shard.
//!
//! Tests of a healthy cluster run against the peers at `KALEEM_TEST_QDRANT_PEERS` (comma-separated
//! URLs of their HTTP APIs, with `KALEEM_TEST_QDRANT_API_KEY`) if it is set, and against a stand-in
//! otherwise; a cluster that fails on demand is always the stand-in.

use std::{env, sync::Arc, time::Duration};

use kaleem_dr_core::{
    CancellationToken,
    engine::source::Source as _,
    ground::{Exit, error_chain},
    jiff::Timestamp,
    operate::config::secret::Environment,
    recovery::source::{Rename, Restorable as _, RestoreRequest, RestoreTarget, ScratchTarget},
};
use kaleem_dr_sources::qdrant::QdrantSource;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    qdrant_cluster_stand_in::{ClusterFaults, QdrantClusterStandIn, exchanges, recorded_file},
    qdrant_scene::{Captured, Server, alike, beside, in_place, restore},
    qdrant_stand_in::{API_KEY, QdrantStandIn, Refusal},
    servers::qdrant_engine,
    site::Site,
};

/// A cluster, and the names on it that belong to one test.
struct Peers {
    urls: Vec<String>,
    key: String,
    prefix: String,
    stand_in: Option<QdrantClusterStandIn>,
}

impl Peers {
    /// Real peers if they are configured.
    fn any(test: &str) -> Self {
        let prefix = format!("kdr_{test}_{}_", Timestamp::now().as_microsecond());
        match env::var("KALEEM_TEST_QDRANT_PEERS") {
            Ok(urls) => Self {
                urls: urls.split(',').map(|url| url.trim().to_owned()).collect(),
                key: env::var("KALEEM_TEST_QDRANT_API_KEY").unwrap_or_else(|_| "unused".into()),
                prefix,
                stand_in: None,
            },
            Err(_) => Self { prefix, ..Self::failing(QdrantClusterStandIn::start()) },
        }
    }

    fn failing(stand_in: QdrantClusterStandIn) -> Self {
        let urls = stand_in.urls().to_vec();
        Self { urls, key: "unused".into(), prefix: String::new(), stand_in: Some(stand_in) }
    }

    /// Always a stand-in, with the recorded collections.
    fn recorded() -> Self {
        Self::failing(QdrantClusterStandIn::recorded())
    }

    fn stand_in(&self) -> &QdrantClusterStandIn {
        self.stand_in.as_ref().expect("this test runs on a stand-in")
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn api(&self, peer: usize, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = reqwest::Client::new()
            .request(method, format!("{}/{path}", self.urls[peer]))
            .header("api-key", &self.key);
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.expect("the peer answers");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// A call that succeeds, if need be once the peers know what the last one has created.
    async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        let mut tries = 0;
        let (status, answer) = loop {
            let (status, answer) = self.api(0, method.clone(), path, body.clone()).await;
            tries += 1;
            if status == 200 || tries == 50 {
                break (status, answer);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["result"].clone()
    }

    /// Uploads a file as a program does: in a form.
    async fn upload(&self, peer: usize, path: &str, file: &'static [u8]) -> (u16, Value) {
        let part = reqwest::multipart::Part::bytes(file).file_name("shard.snapshot");
        let form = reqwest::multipart::Form::new().part("snapshot", part);
        let request = reqwest::Client::new().post(format!("{}/{path}", self.urls[peer]));
        let response = request.multipart(form).send().await.expect("the peer answers");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Creates `plain` with 4 shards, an index and the alias `live`; `twice` with 2 replicas of 2
    /// shards; and, with keys, `tenants` with a shard for each of two keys.
    async fn seed(&self, with_keys: bool) {
        for (name, more) in [
            ("plain", json!({ "shard_number": 4 })),
            ("twice", json!({ "shard_number": 2, "replication_factor": 2 })),
            ("tenants", json!({ "shard_number": 1, "sharding_method": "custom" })),
        ] {
            let by_key = name == "tenants";
            if by_key && !with_keys {
                continue;
            }
            let mut settings = json!({ "vectors": { "size": 4, "distance": "Dot" }, "wal_config": { "wal_capacity_mb": 1 }, "optimizers_config": { "default_segment_number": 1 } });
            for (key, value) in more.as_object().expect("settings") {
                settings[key] = value.clone();
            }
            let path = format!("collections/{}", self.name(name));
            self.done(Method::PUT, &path, settings).await;
            for key in if by_key { vec![json!("a"), json!("b")] } else { vec![Value::Null] } {
                let offset = if key == "b" { 1000 } else { 0 };
                if by_key {
                    self.done(Method::PUT, &format!("{path}/shards"), json!({ "shard_key": key }))
                        .await;
                }
                let points: Vec<_> = (0..120)
                    .map(|n| {
                        let f = f64::from(n);
                        json!({ "id": offset + n, "payload": { "color": if n % 2 == 0 { "red" } else { "أزرق" }, "n": n }, "vector": [f / 7.0, -f, 0.25, f.sin()] })
                    })
                    .collect();
                let mut body = json!({ "points": points });
                if by_key {
                    body["shard_key"] = key;
                }
                self.done(Method::PUT, &format!("{path}/points?wait=true"), body).await;
            }
        }
        let plain = self.name("plain");
        let index = json!({ "field_name": "color", "field_schema": "keyword" });
        self.done(Method::PUT, &format!("collections/{plain}/index?wait=true"), index).await;
        let alias = json!({ "create_alias": { "collection_name": plain, "alias_name": self.name("live") } });
        self.done(Method::POST, "collections/aliases", json!({ "actions": [alias] })).await;
        for collection in self.collections().await {
            self.agree(&collection).await;
        }
    }

    /// Waits until every peer sees the same points of a collection.
    async fn agree(&self, collection: &str) {
        let expected = self.points(0, collection).await;
        self.assert_points(collection, &expected).await;
    }

    /// Asserts that every peer sees these points, at the latest a moment after the others.
    async fn assert_points(&self, collection: &str, expected: &[Value]) {
        for peer in 0..self.urls.len() {
            for _ in 0..200 {
                if self.points(peer, collection).await == expected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(self.points(peer, collection).await, expected, "peer {peer}: {collection}");
        }
    }

    /// Every point of a collection as one peer sees it, sorted by id; none if it does not know the
    /// collection.
    async fn points(&self, peer: usize, collection: &str) -> Vec<Value> {
        let body = json!({ "limit": 10_000, "with_payload": true, "with_vector": true });
        let path = format!("collections/{collection}/points/scroll");
        let (_, answer) = self.api(peer, Method::POST, &path, body).await;
        answer["result"]["points"].as_array().cloned().unwrap_or_default()
    }

    async fn collections(&self) -> Vec<String> {
        let (_, answer) = self.api(0, Method::GET, "collections", Value::Null).await;
        let list = answer["result"]["collections"].as_array().expect("a list").clone();
        let mut names: Vec<_> =
            list.iter().map(|it| it["name"].as_str().expect("a name").to_owned()).collect();
        names.retain(|name| name.starts_with(&self.prefix));
        names.sort();
        names
    }

    /// Asserts that an alias refers to this collection on every peer, at the latest a moment after the
    /// others.
    async fn assert_alias(&self, alias: &str, expected: &str) {
        for peer in 0..self.urls.len() {
            let mut found = Value::Null;
            for _ in 0..200 {
                let (_, answer) = self.api(peer, Method::GET, "aliases", Value::Null).await;
                let aliases = answer["result"]["aliases"].as_array().expect("a list").clone();
                let known = aliases.iter().find(|known| known["alias_name"] == alias);
                found = known.map_or(Value::Null, |known| known["collection_name"].clone());
                if found == expected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(found, expected, "peer {peer}: {alias}");
        }
    }

    /// Asserts that no peer has a temporary snapshot of one of its shards.
    async fn assert_no_files(&self, when: &str) {
        if let Some(stand_in) = &self.stand_in {
            assert_eq!(stand_in.files(), [] as [String; 0], "{when}");
        }
        for collection in self.collections().await {
            for peer in 0..self.urls.len() {
                let path = format!("collections/{collection}/cluster");
                let (_, answer) = self.api(peer, Method::GET, &path, Value::Null).await;
                for shard in answer["result"]["local_shards"].as_array().into_iter().flatten() {
                    let path =
                        format!("collections/{collection}/shards/{}/snapshots", shard["shard_id"]);
                    let (_, listed) = self.api(peer, Method::GET, &path, Value::Null).await;
                    assert_eq!(listed["result"], json!([]), "{when}: peer {peer}, {path}");
                }
            }
        }
    }

    async fn clean_up(&self) {
        for collection in self.collections().await {
            self.api(0, Method::DELETE, &format!("collections/{collection}"), Value::Null).await;
        }
    }

    fn source_of(&self, more: &Value) -> Arc<QdrantSource> {
        let mut config = json!({ "url": self.urls[0], "peers": self.urls[1..], "api_key": { "env": "QDRANT_KEY" }, "collections": [format!("{}*", self.prefix)] });
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let environment: Environment = [("QDRANT_KEY", self.key.as_str())].into_iter().collect();
        let config = serde_json::from_value(config).expect("a valid config");
        let name = "vectors".parse().expect("a source name");
        Arc::new(QdrantSource::new(name, &config, &environment).expect("the config is good"))
    }

    fn source(&self) -> Arc<QdrantSource> {
        self.source_of(&json!({}))
    }
}

// Tests of a healthy cluster.

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_captured_shard_by_shard_and_restored_point_by_point() {
    let peers = Peers::any("cluster");
    peers.seed(true).await;
    let source = peers.source();
    let point = Captured::of(source.clone()).await.point().await;
    peers.assert_no_files("after a capture").await;
    let paths: Vec<_> = point.manifest().artifacts.iter().map(|file| file.path.clone()).collect();
    let (plain, twice, tenants) = (peers.name("plain"), peers.name("twice"), peers.name("tenants"));
    for (name, shards) in [(&plain, vec![0, 1, 2, 3]), (&twice, vec![0, 1])] {
        for id in shards {
            let path = format!("/qdrant/collections/{name}.shards/{id}.snapshot");
            assert!(paths.contains(&path), "{path}: {paths:?}");
        }
    }
    for name in [&plain, &twice, &tenants] {
        assert_eq!(point.manifest().details["collections"][name]["known"], "content", "{name}");
    }
    assert!(source.inspect(&point).await.expect("an inspection").is_well());

    let rename = |name: &String| Rename::new(name.clone(), format!("{name}_back"));
    let request = beside("unused").with_rename([&plain, &twice, &tenants].map(rename).to_vec());
    let report = restore(&source, &point, request).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.items, 480);
    for (name, count) in [(&plain, 120), (&twice, 120), (&tenants, 240)] {
        let line = format!("{count} points of collection {name}, every id, vector and payload");
        assert!(report.compared.contains(&line), "{report:?}");
        let before = peers.points(0, name).await;
        assert_eq!(before.len(), count);
        // Each peer reads its own replicas.
        peers.assert_points(&format!("{name}_back"), &before).await;
    }
    peers.assert_alias(&peers.name("live"), &plain).await;
    peers.assert_no_files("after a restore").await;
    peers.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_a_clusters_alias_is_switched_on_every_peer_and_a_plain_name_replaced() {
    let peers = Peers::any("cluster_place");
    peers.seed(false).await;
    let (plain, twice, live) = (peers.name("plain"), peers.name("twice"), peers.name("live"));
    let source = peers.source();
    let point = Captured::of(source.clone()).await.point().await;
    let before = (peers.points(0, &plain).await, peers.points(0, &twice).await);
    for name in [&plain, &twice] {
        let path = format!("collections/{name}/points/delete?wait=true");
        peers.done(Method::POST, &path, json!({ "points": [1, 2, 3] })).await;
    }
    let plan = source.plan_restore(&point, in_place()).await.expect("a plan");
    let new = plan.request.rename.iter().find(|rename| rename.from == plain).expect("a name");
    let new = new.to.clone();
    let report = source.restore(&point, plan).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    peers.assert_alias(&live, &new).await;
    peers.assert_points(&live, &before.0).await;
    peers.assert_points(&twice, &before.1).await;
    assert_eq!(peers.points(0, &plain).await.len(), 117, "the old collection is unchanged");
    peers.assert_no_files("after a restore in place").await;
    peers.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_on_a_cluster_compares_everything_sees_a_lost_point_and_leaves_nothing() {
    let peers = Peers::any("cluster_drill");
    peers.seed(true).await;
    let source = peers.source();
    let point = Captured::of(source.clone()).await.point().await;
    let before = peers.collections().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut scratch = ScratchTarget::new(peers.name("kdr_drill_01"), directory.path());
    scratch.control = true;
    let report = source.rehearse(&point, &scratch).await.expect("a rehearsal");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.items, 480);
    let control = report.control.expect("a negative control");
    assert!(!control.found.is_empty(), "{control:?}");
    assert_eq!(peers.collections().await, before);
    peers.assert_no_files("after a rehearsal").await;
    peers.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clusters_point_restores_into_one_node_and_one_nodes_into_a_cluster() {
    let (peers, server) = (Peers::any("to_node"), Server::any("to_cluster"));
    if peers.stand_in.is_some() != server.is_stand_in() {
        eprintln!(
            "a real Qdrant does not read the files of a stand-in: set both addresses or none"
        );
        return;
    }
    peers.seed(false).await;
    let (plain, twice) = (peers.name("plain"), peers.name("twice"));
    let point = Captured::of(peers.source()).await.point().await;
    let rename = vec![
        Rename::new(plain.clone(), server.name("plain")),
        Rename::new(twice.clone(), server.name("twice")),
    ];
    let on_node = server.source();
    let report = restore(&on_node, &point, beside("unused").with_rename(rename)).await;
    let report = report.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    for (from, to) in [(&plain, "plain"), (&twice, "twice")] {
        assert_eq!(server.points(&server.name(to)).await, peers.points(0, from).await);
    }
    server.assert_no_files("after a restore").await;
    server.clean_up().await;

    server.seed().await;
    let point = Captured::of(on_node).await.point().await;
    let (docs, sessions) = (server.name("docs"), server.name("sessions"));
    let rename = vec![
        Rename::new(docs.clone(), peers.name("docs")),
        Rename::new(sessions.clone(), peers.name("sessions")),
    ];
    let request = beside("unused").with_rename(rename);
    let report = restore(&peers.source(), &point, request).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    for (from, to) in [(&docs, "docs"), (&sessions, "sessions")] {
        peers.assert_points(&peers.name(to), &server.points(from).await).await;
    }
    peers.assert_no_files("after a restore").await;
    server.clean_up().await;
    peers.clean_up().await;
}

// Tests of a cluster that fails on demand.

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_answers_as_the_cluster_did() {
    let peers = Peers::recorded();
    // Names of snapshots: as recorded, and as they are now.
    let mut names: Vec<(String, String)> = Vec::new();
    // The first nine made the collections, whose points were not recorded.
    for exchange in &exchanges()[9..] {
        let (request, expected) = (&exchange["request"], &exchange["response"]);
        let mut path = request["path"].as_str().expect("a path").trim_start_matches('/').to_owned();
        for (old, new) in &names {
            path = path.replace(old, new);
        }
        let peer = usize::from(exchange["peer"] == "peer2");
        let method: Method =
            request["method"].as_str().expect("a method").parse().expect("a method");
        if let Some(sha256) = expected["body_sha256"].as_str() {
            let url = format!("{}/{path}", peers.urls[peer]);
            let body = reqwest::get(url).await.expect("an answer").bytes().await.expect("a body");
            assert_eq!(kaleem_dr_core::ground::digest::ByteDigest::of(&body), sha256, "{path}");
            continue;
        }
        let (status, answer) = if let Some((_, sha256)) = path.split_once("checksum=") {
            peers.upload(peer, &path, recorded_file(sha256)).await
        } else {
            peers.api(peer, method.clone(), &path, request["json"].clone()).await
        };
        assert_eq!(json!(status), expected["status"], "{path}");
        let mut known = expected["json"].clone();
        if let Some(name) = known["result"]["name"].as_str().map(str::to_owned) {
            names.push((name, answer["result"]["name"].as_str().expect("a name").to_owned()));
            known["result"]["name"] = answer["result"]["name"].clone();
            known["result"]["creation_time"] = answer["result"]["creation_time"].clone();
        }
        if known["result"]["config"].is_object() {
            for key in ["indexed_vectors_count", "segments_count"] {
                known["result"][key] = answer["result"][key].clone();
            }
        }
        assert!(alike(&answer, &known), "{method} {path}:\n{answer}\n{known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_shards_are_captured_verified_and_restored() {
    let peers = Peers::recorded();
    let source = peers.source();
    let point = Captured::of(source.clone()).await.point().await;
    peers.assert_no_files("after a capture").await;
    let inspection = source.inspect(&point).await.expect("an inspection");
    assert!(inspection.is_well(), "{inspection:?}");
    let line =
        "collection plain: 4 shards with 4 segments, complete down to the list of their files";
    assert!(inspection.checked.iter().any(|checked| checked == line), "{inspection:?}");
    let report = restore(&source, &point, beside("copy")).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.items, 520);
    for name in ["plain", "twice", "tenants"] {
        for peer in 0..2 {
            let copy = peers.points(peer, &format!("copy_{name}")).await;
            assert_eq!(copy, peers.points(0, name).await, "{name} on peer {peer}");
        }
    }
    // Each shard went to a peer that holds it.
    let calls = peers.stand_in().calls();
    let uploads = |peer: usize| {
        let one = format!("{peer} POST /collections/copy_plain/shards/");
        calls.iter().filter(|call| call.starts_with(&one)).count()
    };
    assert_eq!((uploads(0), uploads(1)), (2, 2));
}

#[test]
fn qdrants_engine_reads_the_points_of_the_recorded_shards() {
    let stand_in = QdrantClusterStandIn::recorded();
    let (url, peer) = (&stand_in.urls()[0], &stand_in.urls()[1]);
    let engine = qdrant_engine().display().to_string();
    // The points of the stand-in are invented, so only their number can be equal.
    let site = Site::new().with(&format!(
        "[source.vectors]\ntype = \"qdrant\"\nurl = {url:?}\npeers = [{peer:?}]\nengine = {engine:?}\ncontent_digest = false"
    ));
    site.initialised_and_backed_up();
    let verified = site.run(["verify", "vectors"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    for (name, points) in [("plain", 200), ("twice", 200), ("tenants", 120)] {
        let line = format!(
            "collection {name}: {points} points read by Qdrant's engine, as many as were captured"
        );
        assert!(verified.stdout.contains(&line), "{}", verified.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_peer_down_replicas_are_captured_and_collections_without_are_named() {
    for down in [0, 1] {
        let mut peers = Peers::recorded();
        peers.stand_in.as_mut().expect("a stand-in").stop_peer(down);
        let captured = Captured::of(peers.source()).await;
        assert_eq!(captured.report.exit, Exit::Partial, "{:?}", captured.report);
        let incomplete = &captured.report.sources[0].incomplete;
        let whats: Vec<_> = incomplete.iter().map(|left| left.what.as_str()).collect();
        assert_eq!(whats, ["collection plain", "collection tenants"]);
        let port = [16735, 16835][down];
        let address = format!("(http://127.0.0.1:{port}/)");
        assert!(incomplete[0].why.contains(&address), "{}", incomplete[0].why);
        assert!(incomplete[0].why.contains("these do not answer"), "{}", incomplete[0].why);
        let point = captured.point_of(&CancellationToken::new()).await;
        for id in 0..2 {
            let path = format!("/qdrant/collections/twice.shards/{id}.snapshot");
            assert!(point.manifest().artifact(&path).is_some(), "{path}");
        }
        assert_eq!(point.manifest().details["collections"]["twice"]["known"], "content");
        assert_eq!(peers.stand_in().files(), [] as [String; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_url_is_named_with_the_key_to_set() {
    let peers = Peers::recorded();
    let source = peers.source_of(&json!({ "peers": [] }));
    let advice = "add the URL of its HTTP API to `peers`";
    let probe = source.probe().await.expect("a probe");
    assert!(
        probe.warnings[0].contains("of a cluster of 2 peers, peer 8420467886530551"),
        "{probe:?}"
    );
    assert!(probe.warnings[0].contains(advice), "{probe:?}");
    let captured = Captured::of(source.clone()).await;
    assert_eq!(captured.report.exit, Exit::Partial);
    let why = &captured.report.sources[0].incomplete[0].why;
    assert!(why.contains("shard 1") && why.contains(advice), "{why}");
    let whole = Captured::of(peers.source()).await.point().await;
    let request = beside("copy").with_only(vec!["plain".into()]);
    let error = restore(&source, &whole, request).await.expect_err("it fails");
    assert!(error_chain(&error).contains(advice), "{}", error_chain(&error));
    assert_eq!(peers.collections().await, ["plain", "tenants", "twice"], "nothing is left");
    assert_eq!(peers.source().probe().await.expect("a probe").warnings, [] as [&str; 0]);

    // A server that is not of this cluster must never receive a shard.
    let stranger = Server::failing(QdrantStandIn::recorded());
    let peers = Peers { key: API_KEY.into(), ..Peers::recorded() };
    let both = peers.source_of(&json!({ "peers": [stranger.url] }));
    let refused = error_chain(&both.probe().await.expect_err("it is refused"));
    assert!(refused.contains("is not a peer of the cluster of"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_is_taken_if_a_peer_takes_no_snapshot() {
    let peers = Peers::recorded();
    let refusal = Refusal {
        times: 1,
        ..Refusal::always(Method::POST, "/collections/twice/shards/0/snapshots", 500, "injected")
    };
    peers
        .stand_in()
        .set_faults(ClusterFaults { refusals: vec![refusal], ..ClusterFaults::default() });
    let point = Captured::of(peers.source()).await.point().await;
    assert!(point.manifest().artifact("/qdrant/collections/twice.shards/0.snapshot").is_some());
    peers.assert_no_files("after a capture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shards_snapshot_behind_a_proxy_that_gave_up_is_found_and_removed() {
    let peers = Peers::recorded();
    let refusal = Refusal {
        done: true,
        times: 1,
        ..Refusal::always(Method::POST, "/plain/shards/2/snapshots", 504, "gateway timed out")
    };
    peers
        .stand_in()
        .set_faults(ClusterFaults { refusals: vec![refusal], ..ClusterFaults::default() });
    let point = Captured::of(peers.source()).await.point().await;
    assert!(point.manifest().artifact("/qdrant/collections/plain.shards/2.snapshot").is_some());
    peers.assert_no_files("after a capture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_waits_until_every_replica_is_filled_and_one_that_never_is_fails_it() {
    let peers = Peers::recorded();
    let source = peers.source_of(&json!({ "snapshot_timeout_seconds": 3 }));
    let point = Captured::of(source.clone()).await.point().await;
    let request = || beside("copy").with_only(vec!["twice".into()]);
    peers.stand_in().set_faults(ClusterFaults { lag: 3, ..ClusterFaults::default() });
    let report = restore(&source, &point, request()).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    let expected = [(0, 0, 107), (0, 1, 107), (1, 0, 93), (1, 1, 93)];
    assert_eq!(peers.stand_in().replicas("copy_twice"), expected);

    let request = RestoreRequest::whole(RestoreTarget::Beside(Some("never".into())));
    peers.stand_in().set_faults(ClusterFaults { never_fill: true, ..ClusterFaults::default() });
    let error = restore(&source, &point, request.with_only(vec!["twice".into()])).await;
    let told = error_chain(&error.expect_err("it fails"));
    assert!(told.contains("failed to fill the replicas of never_twice"), "{told}");
    assert!(!peers.collections().await.contains(&"never_twice".to_owned()), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_on_a_peer_that_is_down_does_not_hold_up_a_restore() {
    let mut peers = Peers::recorded();
    let source = peers.source();
    let point = Captured::of(source.clone()).await.point().await;
    peers.stand_in.as_mut().expect("a stand-in").stop_peer(1);
    // Its replica is not filled as long as it is down.
    let faults = ClusterFaults { never_fill: true, ..ClusterFaults::default() };
    peers.stand_in().set_faults(faults);
    let request = beside("copy").with_only(vec!["twice".into()]);
    let report = restore(&source, &point, request).await.expect("a restore");
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(peers.points(0, "copy_twice").await, peers.points(0, "twice").await);
    let told = "replicas there are filled once it is back";
    assert!(report.warnings.iter().any(|warning| warning.contains(told)), "{report:?}");
    // A collection that needs this peer is not restored by halves.
    let request = beside("half").with_only(vec!["plain".into()]);
    let error = restore(&source, &point, request).await.expect_err("it fails");
    let told = error_chain(&error);
    assert!(told.contains("it placed it on peer 8420467886530551"), "{told}");
    assert!(!peers.collections().await.contains(&"half_plain".to_owned()), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_peer_refuses_fails_the_restore_and_leaves_nothing() {
    let peers = Peers::recorded();
    let source = peers.source();
    let point = Captured::of(source.clone()).await.point().await;
    let before = peers.collections().await;
    for path in ["/copy_plain/shards/3/snapshots/upload", "/copy_tenants/shards/2/snapshots/upload"]
    {
        let refusals = vec![Refusal::always(Method::POST, path, 500, "injected")];
        peers.stand_in().set_faults(ClusterFaults { refusals, ..ClusterFaults::default() });
        let error = restore(&source, &point, beside("copy")).await.expect_err("it fails");
        assert!(error_chain(&error).contains("injected"), "{}", error_chain(&error));
        assert_eq!(peers.collections().await, before, "{path}");
        peers.assert_no_files("after a failed restore").await;
    }
}
