//! The JSON API: the documents that commands print with `--json`, with the age of what they show.

use std::path::PathBuf;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    ask::Ask,
    cache::Seen,
    files::PAGE,
    layout::Fault,
    pages::{alarms_of_others, points_selected, selection},
    state::Shared,
};
use crate::{
    engine::ledger::{ListedEvent, PastEvent, Proof},
    ground::{RunId, SnapshotId},
    operate::{
        document::{
            Chained, DOCUMENTS as PRINTED, Document, Entry, Point, SnapshotLine, StatusLine,
        },
        job::HostStatus,
        metrics::Value,
        site::Overview,
        tripwire::{Alarm, RecordedAlarm},
    },
    recovery::{change_log::RestorableSpan, drill::DrillReport},
};

/// The largest number of items in an answer, and the default.
const MOST: u64 = 1000;
const USUAL: u64 = 100;

/// A document that follows from one reading of the repository.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer<T> {
    /// Time at which the repository was read.
    pub read_at: Timestamp,
    /// Age of that reading, in seconds.
    pub age_seconds: i64,
    /// Why the newest attempt to read it failed; what follows is then older than `[serve]` allows.
    pub problem: Option<String>,
    /// The document, as the command prints it.
    pub data: T,
}

/// As `Answer`, with the exit status of the command.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Judged<T> {
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer<T>,
    /// Exit status that the command ends with: 6 if a limit is exceeded.
    pub exit_code: u8,
}

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Part<T> {
    /// Number of all items that match.
    pub total: u64,
    /// Number of items before these.
    pub offset: u64,
    /// The items.
    pub items: Vec<T>,
}

/// The entries of a directory.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Listing {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Directories that cannot be read, one sentence each.
    pub damaged: Vec<String>,
    /// The entries.
    #[serde(flatten)]
    pub part: Part<Entry>,
}

/// Active alarms.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Alarms {
    /// Alarms of this host.
    pub own: Vec<Alarm>,
    /// Alarms of other hosts, as the repository records them.
    pub recorded: Vec<RecordedAlarm>,
}

/// An answer without data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The reason, as one line.
    pub error: String,
}

/// The documents of the API.
pub const DOCUMENTS: [Document; 14] = [
    Document::of::<Answer<Alarms>>("api-alarms"),
    Document::of::<Chained>("api-drill"),
    Document::of::<Part<DrillReport>>("api-drills"),
    Document::of::<Refusal>("api-error"),
    Document::of::<Listing>("api-files"),
    Document::of::<Part<ListedEvent>>("api-history"),
    Document::of::<Judged<Vec<HostStatus>>>("api-hosts"),
    Document::of::<Vec<Value>>("api-metrics"),
    Document::of::<Answer<Vec<RestorableSpan>>>("api-moments"),
    Document::of::<Answer<Part<Point>>>("api-points"),
    Document::of::<Vec<Proof>>("api-proofs"),
    Document::of::<Vec<PastEvent>>("api-run"),
    Document::of::<Answer<Part<SnapshotLine>>>("api-snapshots"),
    Document::of::<Judged<Vec<StatusLine>>>("api-status"),
];

/// The paths of the API, with the document that each answers with.
const PATHS: [(&str, &str); 14] = [
    ("/api/v1/status", "api-status"),
    ("/api/v1/hosts", "api-hosts"),
    ("/api/v1/points", "api-points"),
    ("/api/v1/moments", "api-moments"),
    ("/api/v1/snapshots", "api-snapshots"),
    ("/api/v1/snapshots/{id}/files", "api-files"),
    ("/api/v1/history", "api-history"),
    ("/api/v1/history/{run}", "api-run"),
    ("/api/v1/proofs", "api-proofs"),
    ("/api/v1/drills", "api-drills"),
    ("/api/v1/drills/{run}", "api-drill"),
    ("/api/v1/alarms", "api-alarms"),
    ("/api/v1/metrics", "api-metrics"),
    ("/api/v1/schemas/{name}", ""),
];

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(index))
        .route("/status", get(status))
        .route("/hosts", get(hosts))
        .route("/points", get(points))
        .route("/moments", get(moments))
        .route("/snapshots", get(snapshots))
        .route("/snapshots/{id}/files", get(files))
        .route("/history", get(history))
        .route("/history/{run}", get(run))
        .route("/proofs", get(proofs))
        .route("/drills", get(drills))
        .route("/drills/{run}", get(drill))
        .route("/alarms", get(alarms))
        .route("/metrics", get(metrics))
        .route("/schemas", get(schemas))
        .route("/schemas/{name}", get(schema))
}

type Made<T> = Result<Json<T>, Fault>;

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let error =
            if self.why.is_empty() { "nothing is at this address".to_owned() } else { self.why };
        (self.status, Json(Refusal { status: self.status.as_u16(), error })).into_response()
    }
}

async fn index() -> Response {
    let paths = PATHS.map(|(path, document)| match document {
        "" => json!({ "path": path, "schema": null }),
        name => json!({ "path": path, "schema": format!("/api/v1/schemas/{name}") }),
    });
    Json(json!({ "paths": paths })).into_response()
}

async fn schemas() -> Response {
    let names = PRINTED.iter().chain(&DOCUMENTS).map(|document| document.name).collect::<Vec<_>>();
    Json(names).into_response()
}

async fn schema(Path(name): Path<String>) -> Result<Response, Fault> {
    let mut all = PRINTED.iter().chain(&DOCUMENTS);
    let document = all.find(|document| document.name == name).ok_or_else(Fault::missing)?;
    Ok(Json(document.schema()).into_response())
}

/// An answer from the view of the repository.
async fn answered<T>(
    state: &Shared,
    data: impl FnOnce(&Overview) -> T,
) -> Result<Answer<T>, Fault> {
    let (view, Seen { problem, .. }) = state.view().await.map_err(|why| {
        Fault::unavailable(why.unwrap_or_else(|| "the repository has not been read yet".to_owned()))
    })?;
    Ok(Answer {
        read_at: view.read_at,
        age_seconds: Timestamp::now().duration_since(view.read_at).as_secs(),
        problem: problem.map(|problem| problem.why),
        data: data(&view),
    })
}

/// `offset` and `limit` of a request.
fn bounds(ask: &Ask) -> (u64, u64) {
    let limit = ask.query.number("limit").unwrap_or(USUAL).min(MOST);
    (ask.query.number("offset").unwrap_or_default(), limit)
}

fn part<T>(all: impl Iterator<Item = T>, ask: &Ask) -> Part<T> {
    let (offset, limit) = bounds(ask);
    let (mut items, mut total) = (Vec::new(), 0u64);
    for item in all {
        if total >= offset && total - offset < limit {
            items.push(item);
        }
        total += 1;
    }
    Part { total, offset, items }
}

async fn status(State(state): State<Shared>) -> Made<Judged<Vec<StatusLine>>> {
    let mut exit_code = 0;
    let answer = answered(&state, |view| {
        exit_code = view.status.exit().code();
        StatusLine::of(&view.status)
    });
    let answer = answer.await?;
    Ok(Json(Judged { answer, exit_code }))
}

async fn hosts(State(state): State<Shared>) -> Made<Judged<Vec<HostStatus>>> {
    let mut exit_code = 0;
    let answer = answered(&state, |view| {
        exit_code = view.hosts.exit().code();
        view.hosts.hosts.clone()
    });
    let answer = answer.await?;
    Ok(Json(Judged { answer, exit_code }))
}

async fn points(State(state): State<Shared>, ask: Ask) -> Made<Answer<Part<Point>>> {
    let (source, host) = (ask.query.text("source"), ask.query.text("host"));
    let of = |view: &Overview| part(points_selected(view, source, host).map(Point::from), &ask);
    Ok(Json(answered(&state, of).await?))
}

async fn moments(State(state): State<Shared>) -> Made<Answer<Vec<RestorableSpan>>> {
    Ok(Json(answered(&state, |view| view.spans.clone()).await?))
}

async fn snapshots(State(state): State<Shared>, ask: Ask) -> Made<Answer<Part<SnapshotLine>>> {
    let wanted = ask.query.text("source");
    let of = |view: &Overview| {
        let all = view.snapshots.iter().filter(|snapshot| {
            wanted.is_none_or(|wanted| snapshot.source().is_some_and(|of| of.as_str() == wanted))
        });
        part(all.map(SnapshotLine::from), &ask)
    };
    Ok(Json(answered(&state, of).await?))
}

async fn files(State(state): State<Shared>, Path(id): Path<String>, ask: Ask) -> Made<Listing> {
    let view = state.view().await.map_err(|why| Fault::unavailable(why.unwrap_or_default()))?.0;
    let snapshot = view.snapshots.iter().map(crate::engine::repository::Snapshot::id);
    let snapshot =
        snapshot.into_iter().find(|of| of.to_string() == id).ok_or_else(Fault::missing)?;
    let path = ask.query.path("path").unwrap_or_else(|| PathBuf::from("/"));
    let offset = ask.query.number("offset").unwrap_or_default();
    let listed = state.files.list(&view, &id, &path, offset).await?;
    let too_slow = || Fault {
        status: StatusCode::GATEWAY_TIMEOUT,
        why: "reading this directory takes too long".to_owned(),
    };
    let directory = listed.ok_or_else(too_slow)?;
    debug_assert!(directory.rows.len() as u64 <= PAGE);
    let items = directory.rows.iter().map(|row| row.entry.clone()).collect();
    let part = Part { total: directory.total, offset, items };
    Ok(Json(Listing { snapshot, damaged: directory.damaged.clone(), part }))
}

async fn history(State(state): State<Shared>, ask: Ask) -> Made<Part<ListedEvent>> {
    let mut wanted = selection(&ask);
    (wanted.offset, wanted.limit) = bounds(&ask);
    let offset = wanted.offset;
    let (items, total) = state.past(move |site| site.past_jobs(&wanted)).await?;
    Ok(Json(Part { total, offset, items }))
}

async fn run(State(state): State<Shared>, Path(run): Path<String>) -> Made<Vec<PastEvent>> {
    let run: RunId = run.parse().map_err(|_| Fault::missing())?;
    let events = state.past(move |site| site.past_run(run)).await?;
    if events.is_empty() { Err(Fault::missing()) } else { Ok(Json(events)) }
}

async fn proofs(State(state): State<Shared>, ask: Ask) -> Made<Vec<Proof>> {
    let most = usize::try_from(bounds(&ask).1).unwrap_or(usize::MAX);
    Ok(Json(state.past(move |site| site.past_proofs(most)).await?))
}

async fn drills(State(state): State<Shared>, ask: Ask) -> Made<Part<DrillReport>> {
    let (offset, limit) = bounds(&ask);
    let number = |of: u64| usize::try_from(of).unwrap_or(usize::MAX);
    let read = state.past(move |site| site.past_drills(number(offset), number(limit)));
    let (items, total) = read.await?;
    Ok(Json(Part { total: total as u64, offset, items }))
}

async fn drill(State(state): State<Shared>, Path(run): Path<String>) -> Made<Chained> {
    let run: RunId = run.parse().map_err(|_| Fault::missing())?;
    let report = state.past(move |site| site.proof_report(Some(&run.to_string()))).await?;
    Ok(Json(Chained::from(&report)))
}

async fn alarms(State(state): State<Shared>) -> Made<Answer<Alarms>> {
    let of = |view: &Overview| Alarms {
        own: view.status.alarms.clone(),
        recorded: alarms_of_others(view).into_iter().cloned().collect(),
    };
    Ok(Json(answered(&state, of).await?))
}

async fn metrics(State(state): State<Shared>) -> Made<Vec<Value>> {
    Ok(Json(state.past(crate::Site::metrics).await?))
}
