//! A stand-in for Qdrant, **not** Qdrant: the few calls that our source makes, on loopback, as
//! recorded from a real 1.18.2 (`tests/fixtures/qdrant/exchanges.json`, and traps that were
//! measured).
//!
//! Real are paths, parameters, status codes, bodies, headers, and the snapshot files of `docs` and
//! `sessions`, which are served and accepted byte for byte. Invented: it keeps points in memory,
//! and snapshots of any other collection are tars in Qdrant's layout with the points as JSON
//! inside. It recognises a recorded segment by its bytes, except for times. A real server, set with
//! `KALEEM_TEST_QDRANT_URL`, has the last word.

mod collection;
mod faults;
mod files;
mod replies;
mod server;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use axum::{Router, extract::DefaultBodyLimit, http::HeaderMap};
use serde_json::{Value, json};

pub use self::faults::{Faults, Refusal};
pub(super) use self::{
    collection::Collection,
    files::{Points, Tar, at_time, key, points_of_shard, segments},
    replies::{
        failure, no_collection, payload_index, read_upload, result, unescaped, wrong_checksum,
    },
};
use self::{
    files::SESSIONS,
    server::{Inner, answer},
};
use super::served::Served;

/// The recorded snapshot of `docs`.
pub const DOCS: &[u8] = include_bytes!("../../../fixtures/qdrant/docs.snapshot");

const PEER: u64 = 6_214_784_781_599_714;

/// The valid API key.
pub const API_KEY: &str = "stand-in-key-kanarienvogel78";

pub const READ_ONLY_KEY: &str = "stand-in-read-only-kanarienvogel79";

/// A running stand-in. It ends when this value is dropped.
pub struct QdrantStandIn {
    inner: Arc<Mutex<Inner>>,
    served: Served,
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
        serde_json::from_str(include_str!("../../../fixtures/qdrant/exchanges.json"))
            .expect("the recording is JSON")
    });
    recorded["exchanges"].as_array().expect("a list of exchanges")
}
