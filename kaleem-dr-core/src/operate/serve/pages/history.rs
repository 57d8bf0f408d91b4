//! The jobs of this host, filtered and page by page; and one run with its report.

use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

use super::pager;
use crate::{
    engine::ledger::{EventKind, ListedEvent, Selection},
    ground::RunId,
    operate::serve::{
        ask::Ask,
        layout::{Content, Fault, View},
        show::{self, pill},
        state::Shared,
        words::Words,
    },
};

/// Jobs on a page.
const PAGE: u64 = 50;

/// The selection that a query asks for.
pub(in crate::operate::serve) fn selection(ask: &Ask) -> Selection {
    let text = |key: &str| ask.query.text(key).map(str::to_owned);
    let good = match ask.query.text("outcome") {
        Some("good") => Some(true),
        Some("bad") => Some(false),
        _ => None,
    };
    Selection { kind: text("kind"), source: text("source"), good, ..Selection::default() }
}

pub(super) async fn list(state: &Shared, ask: &Ask) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let mut wanted = selection(ask);
    (wanted.offset, wanted.limit) = (ask.page() * PAGE, PAGE);
    let (jobs, total) = state.past(move |site| site.past_jobs(&wanted)).await?;
    let now = Timestamp::now();
    let kinds = EventKind::ALL.map(|kind| kind.word().to_owned());
    let sources = state.site.config().sources.keys().map(ToString::to_string);
    let outcomes = [("good", words.succeeded), ("bad", words.not_succeeded)];
    let outcomes = outcomes.map(|(value, text)| (value.to_owned(), text.to_owned()));
    let body = html! {
        form.filter method="get" role="search" aria-label=(words.filter) {
            (pager::choice(ask, "kind", words.job, &pager::plain(kinds), words))
            (pager::choice(ask, "source", words.source, &pager::plain(sources), words))
            (pager::choice(ask, "outcome", words.outcome, &outcomes, words))
            button type="submit" { (words.apply) }
        }
        @if total == 0 { p.empty { (words.none_found) } } @else {
            div.wide tabindex="0" role="region" aria-label=(words.history) {
                table {
                    thead { tr { @for title in [words.ended, words.job, words.outcome, words.sources, words.repository, words.took, words.run] { th scope="col" { (title) } } } }
                    tbody { @for job in &jobs { (row(job, now, words)) } }
                }
            }
            (pager::pager(ask, total, PAGE, words))
        }
    };
    Ok(Content { view: View::History, title: words.history.to_owned(), body, seen: None })
}

fn outcome(exit: u8, words: &Words) -> Markup {
    pill(if exit == 0 { "good" } else { "bad" }, (words.exits)(exit))
}

fn row(job: &ListedEvent, now: Timestamp, words: &Words) -> Markup {
    html! {
        tr {
            th scope="row" { (show::time_and_age(job.finished, now, words)) }
            td { code dir="ltr" { (job.kind) } }
            td { (outcome(job.exit, words)) }
            td { (show::name(&job.sources.join(", "))) }
            td { bdi dir="ltr" { (show::name(&job.repository)) } }
            td { (show::duration(job.finished.duration_since(job.started).as_secs_f64())) }
            td { a href={ "/history/" (job.run) } { code dir="ltr" { (job.run) } } }
        }
    }
}

pub(super) async fn one(state: &Shared, ask: &Ask, run: &str) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let run: RunId = run.parse().map_err(|_| Fault::missing())?;
    let events = state.past(move |site| site.past_run(run)).await?;
    if events.is_empty() {
        return Err(Fault::missing());
    }
    let now = Timestamp::now();
    let body = html! {
        @for event in &events {
            section {
                h2 { code dir="ltr" { (event.kind) } " " (outcome(event.exit, words)) }
                dl.facts {
                    div { dt { (words.repository) } dd { bdi dir="ltr" { (show::name(&event.repository)) } } }
                    div { dt { (words.ended) } dd { (show::time_and_age(event.finished, now, words)) } }
                    div { dt { (words.took) } dd { (show::duration(event.finished.duration_since(event.started).as_secs_f64())) } }
                    div { dt { (words.exit) } dd { (event.exit) } }
                }
                @if matches!(event.kind.as_str(), "drill" | "recover") { p { a href={ "/drills/" (run) } { (words.report) } } }
                @for error in errors(&event.report) { p.verdict.bad lang="en" { bdi { (show::name(error)) } } }
                @if !event.report.is_null() {
                    details { summary { (words.details) } pre dir="ltr" tabindex="0" { (serde_json::to_string_pretty(&event.report).unwrap_or_default()) } }
                }
            }
        }
    };
    let title = format!("{} {run}", words.run);
    Ok(Content { view: View::History, title, body, seen: None })
}

/// The errors in a report, wherever they are.
fn errors(report: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = vec![report];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(text) if name == "error" || name.ends_with("_error") => {
                            found.push(text.as_str());
                        }
                        other => rest.push(other),
                    }
                }
            }
            Value::Array(values) => rest.extend(values),
            _ => {}
        }
    }
    found
}
