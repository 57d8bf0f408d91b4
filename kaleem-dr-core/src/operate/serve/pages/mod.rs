//! The views. Each reads what it needs, and returns its content for the frame.

mod alarms;
mod drills;
mod history;
mod objectives;
mod overview;
mod pager;
mod points;
mod snapshot;

pub(super) use self::{
    alarms::of_others as alarms_of_others, history::selection, points::selected as points_selected,
};
use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::HeaderMap,
    response::Response,
    routing::{MethodRouter, get},
};

use super::{
    ask::Ask,
    cache::Seen,
    layout::{Content, Fault, answer},
    state::{PageState, Shared},
    words::Words,
};
use crate::operate::site::Overview;

/// The routes of all views.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", page(async |state, ask, _| overview::content(&state, &ask).await))
        .route("/objectives", page(async |state, ask, _| objectives::content(&state, &ask).await))
        .route("/points", page(async |state, ask, _| points::content(&state, &ask).await))
        .route(
            "/snapshots/{id}",
            page(async |state, ask, id| snapshot::content(&state, &ask, &id).await),
        )
        .route("/drills", page(async |state, ask, _| drills::list(&state, &ask).await))
        .route("/drills/{run}", page(async |state, ask, run| drills::one(&state, &ask, &run).await))
        .route("/drills/{run}/report.html", get(drills::download))
        .route("/alarms", page(async |state, ask, _| alarms::content(&state, &ask).await))
        .route("/history", page(async |state, ask, _| history::list(&state, &ask).await))
        .route(
            "/history/{run}",
            page(async |state, ask, run| history::one(&state, &ask, &run).await),
        )
}

/// A route that answers with a page. `content` receives the last part of the path.
fn page<F, Made>(content: F) -> MethodRouter<Shared>
where
    F: Fn(Shared, Arc<Ask>, String) -> Made + Clone + Send + Sync + 'static,
    Made: Future<Output = Result<Content, Fault>> + Send,
{
    get(async move |State(state): State<Shared>, ask: Ask, headers: HeaderMap| -> Response {
        let last = ask.path.rsplit('/').next().unwrap_or_default().to_owned();
        let ask = Arc::new(ask);
        let made = content(state.clone(), ask.clone(), last).await;
        answer(&state, &ask, &headers, made)
    })
}

/// The view of the repository for a page.
async fn view(state: &PageState, words: &Words) -> Result<(Arc<Overview>, Seen), Fault> {
    state
        .view()
        .await
        .map_err(|why| Fault::unavailable(why.unwrap_or_else(|| words.not_read_yet.to_owned())))
}
