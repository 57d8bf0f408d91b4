//! Drills and recoveries, with their reports.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, header::CONTENT_DISPOSITION},
    response::{Html, IntoResponse as _, Response},
};
use jiff::Timestamp;
use maud::{Markup, PreEscaped, html};

use super::pager;
use crate::{
    ground::{Exit, RunId},
    operate::serve::{
        ask::Ask,
        layout::{Content, Fault, View, answer, code_in},
        show::{self, maybe, pill},
        state::Shared,
        words::Words,
    },
    recovery::drill::DrillReport,
};

/// Drills on a page.
const PAGE: u64 = 20;

pub(super) async fn list(state: &Shared, ask: &Ask) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let (from, most) = (number(ask.page() * PAGE), number(PAGE));
    let (drills, total) = state.past(move |site| site.past_drills(from, most)).await?;
    let now = Timestamp::now();
    let head = [
        words.time,
        words.kind,
        words.outcome,
        words.repository,
        words.level,
        words.sources,
        words.whole_restore,
        words.took,
    ];
    let body = html! {
        @if total == 0 { p.empty { (code_in(words.no_drill)) } } @else {
            div.wide tabindex="0" role="region" aria-label=(words.drills) {
                table {
                    thead { tr { @for title in head { th scope="col" { (title) } } } }
                    tbody { @for drill in &drills { (row(drill, now, words)) } }
                }
            }
            (pager::pager(ask, total as u64, PAGE, words))
        }
    };
    Ok(Content { view: View::Drills, title: words.drills.to_owned(), body, seen: None })
}

fn row(drill: &DrillReport, now: Timestamp, words: &Words) -> Markup {
    let took = drill.finished.duration_since(drill.started).as_secs_f64();
    let sources: Vec<&str> = drill.sources.iter().map(|source| source.source.as_str()).collect();
    html! {
        tr {
            th scope="row" { a href={ "/drills/" (drill.run) } { (show::time(drill.finished)) } " " span.note { (show::ago(now.duration_since(drill.finished).as_secs(), words)) } }
            td { (words.kind(drill.kind)) }
            td { @if drill.exit == Exit::Done { (pill("good", words.succeeded)) } @else { (pill("bad", words.not_succeeded)) } }
            td { bdi dir="ltr" { (show::name(&drill.repository)) } }
            td { (words.level(drill.level)) }
            td { (show::name(&sources.join(", "))) }
            td { (maybe(drill.rto_seconds(), show::duration)) }
            td { (show::duration(took)) }
        }
    }
}

pub(super) async fn one(state: &Shared, ask: &Ask, run: &str) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let run: RunId = run.parse().map_err(|_| Fault::missing())?;
    let report = state.past(move |site| site.proof_report(Some(&run.to_string()))).await?;
    // The title of the page is above it.
    let fragment =
        report.to_fragment(ask.language).replacen("<h1>", "<h2>", 1).replacen("</h1>", "</h2>", 1);
    let body = html! {
        p { a href={ "/drills/" (run) "/report.html" (ask.query.with("lang", ask.language.code().as_bytes())) } download { (words.download) } }
        // The report escapes what it shows.
        article.report { (PreEscaped(fragment)) }
    };
    Ok(Content { view: View::Drills, title: words.report.to_owned(), body, seen: None })
}

/// The report as a file: it brings its own style and its own policy.
pub(super) async fn download(
    State(state): State<Shared>,
    Path(run): Path<String>,
    ask: Ask,
    headers: HeaderMap,
) -> Response {
    let Ok(run) = run.parse::<RunId>() else {
        return answer(&state, &ask, &headers, Err(Fault::missing()));
    };
    match state.past(move |site| site.proof_report(Some(&run.to_string()))).await {
        Ok(report) => {
            let name = format!("attachment; filename=\"kaleem-dr-{run}.html\"");
            ([(CONTENT_DISPOSITION, name)], Html(report.to_html(ask.language))).into_response()
        }
        Err(error) => answer(&state, &ask, &headers, Err(error.into())),
    }
}
