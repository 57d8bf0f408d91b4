//! The frame of every page: head, navigation, choices, footer. And what a page answers if it cannot.

use axum::{
    http::{HeaderMap, StatusCode, header::SET_COOKIE},
    response::{Html, IntoResponse as _, Response},
};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::{
    ask::{Ask, Theme},
    cache::Seen,
    session, show,
    state::PageState,
    words::Words,
};
use crate::{
    engine::repository::RepositoryError,
    ground::{error_chain, language::Language},
    operate::{report::ReportError, site::SiteError},
};

/// A view of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Objectives,
    Points,
    Drills,
    Alarms,
    History,
}

impl View {
    const ALL: [Self; 6] =
        [Self::Overview, Self::Objectives, Self::Points, Self::Drills, Self::Alarms, Self::History];

    fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Objectives => "/objectives",
            Self::Points => "/points",
            Self::Drills => "/drills",
            Self::Alarms => "/alarms",
            Self::History => "/history",
        }
    }

    fn title(self, words: &Words) -> &'static str {
        match self {
            Self::Overview => words.overview,
            Self::Objectives => words.objectives,
            Self::Points => words.points,
            Self::Drills => words.drills,
            Self::Alarms => words.alarms,
            Self::History => words.history,
        }
    }
}

/// Why a page cannot be shown.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    /// The reason, as one line; empty if there is nothing at the address.
    pub(super) why: String,
}

impl Fault {
    pub(super) fn missing() -> Self {
        Self { status: StatusCode::NOT_FOUND, why: String::new() }
    }

    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, why: why.into() }
    }
}

impl From<SiteError> for Fault {
    fn from(error: SiteError) -> Self {
        let status = match &error {
            SiteError::Report(ReportError::Unknown(_))
            | SiteError::Repository(
                RepositoryError::NoPath { .. } | RepositoryError::NoSnapshot { .. },
            ) => StatusCode::NOT_FOUND,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, why: error_chain(&error) }
    }
}

/// The content of a page.
pub(super) struct Content {
    pub(super) view: View,
    pub(super) title: String,
    pub(super) body: Markup,
    /// The view of the repository that it shows, if it shows one.
    pub(super) seen: Option<Seen>,
}

/// Answers with a page, or with the reason why it cannot be shown.
pub(super) fn answer(
    state: &PageState,
    ask: &Ask,
    headers: &HeaderMap,
    content: Result<Content, Fault>,
) -> Response {
    let words = Words::of(ask.language);
    let (status, title, view, body) = match content {
        Ok(content) => {
            let body = html! {
                h1 { (content.title) }
                @if let Some(seen) = &content.seen { (freshness(seen, words)) }
                (content.body)
            };
            (StatusCode::OK, content.title, Some(content.view), body)
        }
        Err(fault) => {
            let is_missing = fault.status == StatusCode::NOT_FOUND;
            let title = if is_missing { words.missing_page } else { words.failed };
            let body = html! {
                h1 { (title) }
                p { @if fault.why.is_empty() { (words.missing_detail) } @else { bdi lang="en" { (fault.why) } } }
            };
            (fault.status, title.to_owned(), None, body)
        }
    };
    let frame = Frame { title: &title, view, host: Some(state.site.identity().host.as_str()) };
    respond(status, frame_page(&frame, ask, state.access.needs_token(), &body), ask, headers)
}

/// Answers with the question for the token.
pub(super) fn sign_in(ask: &Ask, headers: &HeaderMap) -> Response {
    let words = Words::of(ask.language);
    let body = html! {
        section.sign-in {
            h1 { (words.sign_in) }
            form #sign-in hidden data-wrong=(words.wrong_token) data-unreachable=(words.unreachable) {
                // For password managers, which keep a token with a name.
                input type="text" autocomplete="username" value="kaleem-dr" readonly hidden;
                label for="token" { (words.token) }
                input #token type="password" autocomplete="current-password" required dir="ltr" aria-describedby="token-help";
                p #token-help .note { (code_in(words.token_help)) }
                p #wrong .bad role="alert" {}
                button type="submit" { (words.sign_in) }
            }
            noscript { p { a href="/session/basic" { (words.without_script) } } }
        }
    };
    let frame = Frame { title: words.sign_in, view: None, host: None };
    respond(StatusCode::UNAUTHORIZED, frame_page(&frame, ask, false, &body), ask, headers)
}

/// Text with parts in backquotes.
pub(super) fn code_in(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code dir="ltr" { (part) } } @else { (part) }
        }
    }
}

struct Frame<'a> {
    title: &'a str,
    view: Option<View>,
    /// The host, for who may know it.
    host: Option<&'a str>,
}

fn respond(status: StatusCode, page: Markup, ask: &Ask, headers: &HeaderMap) -> Response {
    let mut response = (status, Html(page.into_string())).into_response();
    for (name, value) in ask.choices() {
        if let Some(cookie) = session::keep(name, value, headers) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}

fn frame_page(frame: &Frame<'_>, ask: &Ask, has_session: bool, body: &Markup) -> Markup {
    let words = Words::of(ask.language);
    let other = match ask.language {
        Language::En => Language::Ar,
        Language::Ar => Language::En,
    };
    html! {
        (DOCTYPE)
        html lang=(ask.language.code()) dir=(ask.language.direction()) data-theme=(ask.theme.word()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) @if let Some(host) = frame.host { " · " (host) } " · kaleem-dr" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/page.css";
                script src="/assets/page.js" defer {}
            }
            body {
                a.skip href="#content" { (words.skip) }
                header.bar {
                    div.inner {
                        a.brand href="/" {
                            img src="/assets/icon.svg" alt="" width="28" height="28";
                            span { strong { "kaleem-dr" } @if let Some(host) = frame.host { bdi.host { (host) } } }
                        }
                        @if frame.host.is_some() { (navigation(frame.view, words)) }
                        div.choices {
                            span.themes role="group" aria-label=(words.theme) {
                                @for (theme, word) in Theme::ALL.into_iter().zip(words.themes) {
                                    a href=(ask.query.with("theme", theme.word().as_bytes())) aria-current=[(theme == ask.theme).then_some("true")] { (word) }
                                }
                            }
                            a.language href=(ask.query.with("lang", other.code().as_bytes())) lang=(other.code()) hreflang=(other.code()) { (words.language) }
                            @if has_session { a href="/session/end" { (words.sign_out) } }
                        }
                    }
                }
                main #content tabindex="-1" { (body) }
                footer {
                    div.inner {
                        span { bdi { "kaleem-dr " (env!("CARGO_PKG_VERSION")) } " · " (words.reads_only) }
                        @if frame.host.is_some() {
                            span { a href="/api/v1" { "API" } " · " a href="/metrics" { bdi { "/metrics" } } }
                        }
                    }
                }
            }
        }
    }
}

fn navigation(current: Option<View>, words: &Words) -> Markup {
    html! {
        nav aria-label=(words.navigation) {
            ul {
                @for view in View::ALL {
                    li { a href=(view.path()) aria-current=[(Some(view) == current).then_some("page")] { (view.title(words)) } }
                }
            }
        }
    }
}

/// The age of the view of the repository, and why it could not be read again.
fn freshness(seen: &Seen, words: &Words) -> Markup {
    let now = Timestamp::now();
    html! {
        @if let Some(view) = &seen.view {
            p.note.freshness {
                (words.repository_read) " "
                (show::ago(now.duration_since(view.read_at).as_secs(), words))
            }
        }
        @if let Some(problem) = &seen.problem {
            div.verdict.bad role="alert" {
                strong { (words.not_read) }
                p { bdi lang="en" { (problem.why) } " (" (show::ago(now.duration_since(problem.at).as_secs(), words)) ")" }
            }
        }
    }
}
