//! A stand-in for the servers that are notified of the end of jobs: it records every request, and
//! replies like Healthchecks.
//!
//! It is not Healthchecks: it has no checks and no state. Requests follow its HTTP API
//! (`http_api.md` of the project); webhooks, ntfy and a Pushgateway are addresses in it too.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use super::served::Served;

/// A request as received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    /// Its body, parsed as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{:?} is not JSON: {error}", self.body))
    }
}

/// The replies of the stand-in.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// This many requests are answered with 503 first.
    pub unavailable: usize,
    /// No request is ever answered.
    pub never: bool,
    /// The announced limit for a body, in bytes.
    pub body_limit: Option<usize>,
}

/// A running stand-in. It ends when this value is dropped.
pub struct HealthchecksStandIn {
    inner: Arc<Mutex<Inner>>,
    served: Served,
}

#[derive(Default)]
struct Inner {
    answers: Answers,
    seen: Vec<Seen>,
}

impl HealthchecksStandIn {
    pub fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let served = Served::start(Router::new().fallback(answer).with_state(inner.clone()));
        Self { inner, served }
    }

    pub fn answering(self, answers: Answers) -> Self {
        self.lock().answers = answers;
        self
    }

    /// The URL of a path in it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.served.address)
    }

    /// Every request so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// The requests to addresses below a path.
    pub fn seen_at(&self, path: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.path.trim_start_matches('/').starts_with(path))
            .collect()
    }

    /// The pings of each check, in order: `start` and `0` for `backup`.
    pub fn heard(&self) -> BTreeMap<String, Vec<String>> {
        let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for seen in self.seen_at("ping/") {
            let (check, signal) = seen
                .path
                .trim_start_matches("/ping/")
                .rsplit_once('/')
                .expect("a check and a signal");
            heard.entry(check.to_owned()).or_default().push(signal.to_owned());
        }
        heard
    }

    /// Waits until a request to an address has arrived.
    pub fn await_at(&self, path: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.seen_at(path).is_empty() {
            assert!(Instant::now() < deadline, "nothing came to {path}: {:?}", self.seen());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let pair =
        |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let query = uri.query().unwrap_or_default().split('&').filter_map(pair).collect();
    let (never, unavailable, limit) = {
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seen.push(Seen { method, path: uri.path().to_owned(), query, headers, body });
        let unavailable = inner.answers.unavailable > 0;
        inner.answers.unavailable = inner.answers.unavailable.saturating_sub(1);
        (inner.answers.never, unavailable, inner.answers.body_limit)
    };
    if never {
        std::future::pending::<()>().await;
    }
    let status = if unavailable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut response = (status, "OK").into_response();
    if let Some(limit) = limit {
        response.headers_mut().insert("ping-body-limit", limit.into());
    }
    response
}
