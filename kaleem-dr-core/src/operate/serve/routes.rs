//! The routes, and what holds for each of them: methods, names of the host, the token, headers.

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
            LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::json;

use super::{
    access::Judged,
    api,
    ask::Ask,
    layout::{self, Fault},
    pages, session,
    state::Shared,
};
use crate::operate::report;

/// The content that the page itself needs, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const PAGE_CSS: &str = include_str!("page.css");
const PAGE_JS: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");
/// Paths that need no token: they show nothing of the installation.
const OPEN: [&str; 4] = ["/healthz", "/session", "/session/basic", "/session/end"];

pub(super) fn router(state: Shared) -> Router {
    Router::new()
        .merge(pages::routes())
        .nest("/api/v1", api::routes())
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/session", get(begin_session))
        .route("/session/basic", get(begin_session_basic))
        .route("/session/end", get(end_session))
        .route("/assets/page.css", get(style))
        .route(
            "/assets/page.js",
            get(async || text("text/javascript; charset=utf-8", PAGE_JS.into())),
        )
        .route("/assets/icon.svg", get(async || text("image/svg+xml", ICON.into())))
        .fallback(missing)
        .layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Everything that a request must satisfy before a route sees it, and the headers of every answer.
async fn guard(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = match refused(&state, &parts.method, &parts.uri, &parts.headers).await {
        Some(refusal) => refusal,
        None => next.run(Request::from_parts(parts, body)).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Why a request is refused.
async fn refused(
    state: &Shared,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<Response> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let refusal = plain(uri, StatusCode::METHOD_NOT_ALLOWED, "this page only reads");
        return Some(with(refusal, ALLOW, "GET, HEAD"));
    }
    if let Some(names) = &state.hosts
        && !is_ours(headers, names)
    {
        let why = "this name of the host is not one of `serve.hosts` in the config";
        return Some(plain(uri, StatusCode::MISDIRECTED_REQUEST, why));
    }
    let path = uri.path();
    if OPEN.contains(&path)
        || path.starts_with("/assets/")
        || !state.access.needs_token()
        || session::is_open(headers, &state.access, Timestamp::now())
    {
        return None;
    }
    match judge(state, headers, "Bearer ").await {
        Some(Judged::Right) => None,
        Some(Judged::Busy) => Some(busy(uri)),
        Some(Judged::Wrong) => Some(unauthorised(uri, "the token is wrong")),
        None if is_for_programs(uri) => {
            Some(unauthorised(uri, "a token is needed: `Authorization: Bearer TOKEN`"))
        }
        None => Some(layout::sign_in(&Ask::of(uri, headers), headers)),
    }
}

/// Compares the token of a request; `None` if it has none of this scheme.
async fn judge(state: &Shared, headers: &HeaderMap, scheme: &str) -> Option<Judged> {
    let presented = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)?.trim();
    let token = match scheme {
        "Bearer " => Some(presented.to_owned()),
        // A name, a colon and the token (RFC 7617); our own script sends the token alone.
        _ => BASE64_STANDARD
            .decode(presented)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(|text| match text.split_once(':') {
                Some((_, token)) if scheme == "Basic " => token.to_owned(),
                _ => text,
            }),
    };
    Some(state.access.judge(&token.unwrap_or_default()).await)
}

/// Reports whether a request names this host: as `localhost`, by an address, or by a name of the
/// config. A name of another site that resolves to this address would let that site's scripts read
/// the page.
fn is_ours(headers: &HeaderMap, names: &[String]) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let bare = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok()
        || names.iter().any(|name| name.eq_ignore_ascii_case(bare))
}

fn is_for_programs(uri: &Uri) -> bool {
    uri.path() == "/metrics" || uri.path().starts_with("/api/")
}

fn plain(uri: &Uri, status: StatusCode, why: &str) -> Response {
    if is_for_programs(uri) {
        return (status, Json(json!({ "status": status.as_u16(), "error": why }))).into_response();
    }
    (status, format!("{why}\n")).into_response()
}

fn unauthorised(uri: &Uri, why: &str) -> Response {
    with(plain(uri, StatusCode::UNAUTHORIZED, why), WWW_AUTHENTICATE, "Bearer realm=\"kaleem-dr\"")
}

fn busy(uri: &Uri) -> Response {
    with(
        plain(uri, StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens; wait a moment"),
        RETRY_AFTER,
        "5",
    )
}

fn with(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

async fn begin_session(State(state): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    match judge(&state, &headers, "Token ").await {
        Some(Judged::Right) => signed_in(&state, &headers, StatusCode::NO_CONTENT),
        Some(Judged::Busy) => busy(&uri),
        _ => plain(&uri, StatusCode::UNAUTHORIZED, "the token is wrong"),
    }
}

/// For browsers without scripts: they ask for the token themselves.
async fn begin_session_basic(
    State(state): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match judge(&state, &headers, "Basic ").await {
        Some(Judged::Right) => {
            with(signed_in(&state, &headers, StatusCode::SEE_OTHER), LOCATION, "/")
        }
        Some(Judged::Busy) => busy(&uri),
        _ => with(
            plain(&uri, StatusCode::UNAUTHORIZED, "a token is needed"),
            WWW_AUTHENTICATE,
            "Basic realm=\"kaleem-dr\", charset=\"UTF-8\"",
        ),
    }
}

fn signed_in(state: &Shared, headers: &HeaderMap, status: StatusCode) -> Response {
    let mut response = status.into_response();
    if let Some(cookie) = session::begin(&state.access, headers, Timestamp::now()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

async fn end_session(headers: HeaderMap) -> Response {
    let mut response = with(StatusCode::SEE_OTHER.into_response(), LOCATION, "/");
    if let Some(cookie) = session::end(&headers) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// Answers as long as the program runs; reads nothing, so that nothing can delay it.
async fn health() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

async fn metrics(State(state): State<Shared>, uri: Uri) -> Response {
    match state.past(crate::Site::metrics_text).await {
        Ok(values) => text("text/plain; version=0.0.4; charset=utf-8", values),
        Err(error) => {
            let fault = Fault::from(error);
            plain(&uri, fault.status, &fault.why)
        }
    }
}

async fn style() -> Response {
    text("text/css; charset=utf-8", format!("{}{PAGE_CSS}", report::style()))
}

fn text(kind: &'static str, content: String) -> Response {
    ([(CONTENT_TYPE, kind)], Body::from(content)).into_response()
}

async fn missing(State(state): State<Shared>, ask: Ask, uri: Uri, headers: HeaderMap) -> Response {
    if is_for_programs(&uri) {
        return plain(
            &uri,
            StatusCode::NOT_FOUND,
            "nothing is at this address; /api/v1 lists what exists",
        );
    }
    layout::answer(&state, &ask, &headers, Err(Fault::missing()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_ours() {
        let names = ["backup.example".to_owned()];
        let is =
            |host: &str| is_ours(&HeaderMap::from_iter([(HOST, host.parse().unwrap())]), &names);
        for ours in [
            "localhost",
            "LOCALHOST:7453",
            "127.0.0.1:7453",
            "[::1]:80",
            "[::1]",
            "10.0.0.1",
            "Backup.example:443",
        ] {
            assert!(is(ours), "{ours}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example:7453",
            "127.0.0.1.evil.example",
            "",
            "a@localhost",
        ] {
            assert!(!is(foreign), "{foreign}");
        }
        assert!(!is_ours(&HeaderMap::new(), &names));
    }
}
