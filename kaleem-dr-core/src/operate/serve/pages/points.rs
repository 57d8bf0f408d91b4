//! Recovery points, page by page, with links to what is in them.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{pager, view};
use crate::{
    operate::{
        serve::{
            ask::Ask,
            layout::{Content, Fault, View},
            show::{self, pill},
            state::Shared,
            words::Words,
        },
        site::Overview,
    },
    recovery::{change_log::RestorableSpan, points::RecoveryPoint},
};

/// Points on a page.
const PAGE: u64 = 50;

pub(super) async fn content(state: &Shared, ask: &Ask) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let (overview, seen) = view(state, words).await?;
    let (source, host) = (ask.query.text("source"), ask.query.text("host"));
    let found: Vec<&RecoveryPoint> = selected(&overview, source, host).collect();
    let now = Timestamp::now();
    let from = usize::try_from(ask.page() * PAGE).unwrap_or(usize::MAX);
    let page = found.iter().skip(from).take(usize::try_from(PAGE).unwrap_or(usize::MAX));
    let total = found.len() as u64;
    let sources =
        overview.points.iter().flat_map(|point| point.snapshots.keys().map(ToString::to_string));
    let body = html! {
        form.filter method="get" role="search" aria-label=(words.filter) {
            (pager::choice(ask, "source", words.source, &pager::plain(sources), words))
            (pager::choice(ask, "host", words.host, &pager::plain(overview.points.iter().map(|point| point.host.clone())), words))
            button type="submit" { (words.apply) }
        }
        @if found.is_empty() { p.empty { (words.none_found) } } @else {
            div.wide tabindex="0" role="region" aria-label=(words.points) {
                table {
                    thead { tr { @for title in [words.time, words.state, words.sources, words.host, words.run] { th scope="col" { (title) } } } }
                    tbody { @for point in page { (row(point, now, words)) } }
                }
            }
            (pager::pager(ask, total, PAGE, words))
        }
        (spans(&overview.spans, words))
    };
    Ok(Content { view: View::Points, title: words.points.to_owned(), body, seen: Some(seen) })
}

/// The points with a source and of a host.
pub(in crate::operate::serve) fn selected<'a>(
    overview: &'a Overview,
    source: Option<&'a str>,
    host: Option<&'a str>,
) -> impl Iterator<Item = &'a RecoveryPoint> {
    overview.points.iter().filter(move |point| {
        source.is_none_or(|wanted| point.snapshots.keys().any(|name| name.as_str() == wanted))
            && host.is_none_or(|wanted| point.host == wanted)
    })
}

fn row(point: &RecoveryPoint, now: Timestamp, words: &Words) -> Markup {
    let missing: Vec<&str> = point.missing.iter().map(crate::ground::SourceName::as_str).collect();
    html! {
        tr {
            th scope="row" { (show::time_and_age(point.time, now, words)) }
            td {
                @if point.is_of_the_future { (pill("bad", words.future)) }
                @else if point.is_complete() { (pill("good", words.complete)) }
                @else { (pill("bad", words.lacks)) " " (show::name(&missing.join(" "))) }
            }
            td {
                ul.chips {
                    @for (source, snapshot) in &point.snapshots {
                        li { a href={ "/snapshots/" (snapshot) } { (show::name(source.as_str())) } }
                    }
                }
            }
            td { (show::name(&point.host)) }
            td { a href={ "/history/" (point.run) } { code dir="ltr" { (point.run) } } }
        }
    }
}

fn spans(spans: &[RestorableSpan], words: &Words) -> Markup {
    html! {
        @if !spans.is_empty() {
            h2 #moments { (words.any_moment) }
            p.note { (words.any_moment_detail) }
            div.wide tabindex="0" role="region" aria-labelledby="moments" {
                table {
                    thead { tr { @for title in [words.source, words.host, words.from, words.to] { th scope="col" { (title) } } } }
                    tbody {
                        @for span in spans {
                            tr {
                                th scope="row" { (show::name(span.source.as_str())) }
                                td { (show::name(&span.host)) }
                                td { (show::time(span.from_time)) }
                                td { (show::time(span.to_time)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
