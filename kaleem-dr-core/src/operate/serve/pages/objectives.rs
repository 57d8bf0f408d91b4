//! RPO and RTO over time, from the proofs in the history.

use jiff::Timestamp;
use maud::{PreEscaped, html};

use crate::operate::{
    report,
    serve::{
        ask::Ask,
        layout::{Content, Fault, View},
        show::{self, maybe},
        state::Shared,
        words::Words,
    },
};

/// Proofs that are plotted.
const PLOTTED: usize = 2000;
/// Proofs in the table.
const LISTED: usize = 25;

pub(super) async fn content(state: &Shared, ask: &Ask) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let site = &state.site;
    let mut proofs = state.past(|site| site.past_proofs(PLOTTED)).await?;
    let settings = &site.config().settings;
    let place = |name: &str| {
        site.location(name).map_or_else(|_| name.to_owned(), |location| location.in_words())
    };
    let names: Vec<&String> = settings.repository.keys().collect();
    let chosen = ask
        .query
        .text("repository")
        .filter(|name| settings.repository.contains_key(*name))
        .or_else(|| site.chosen_repository().ok().map(|(name, _)| name));
    if let Some(chosen) = chosen.map(place) {
        proofs.retain(|proof| proof.repository == chosen);
    }
    let newest: Vec<_> = proofs.iter().take(LISTED).cloned().collect();
    proofs.reverse();
    let now = Timestamp::now();
    let head =
        [words.time, words.source, words.snapshot, words.level, words.restored_in, words.size];
    let body = html! {
        @if names.len() > 1 {
            nav aria-label=(words.repositories) {
                ul.tabs {
                    @for name in names {
                        li { a href=(ask.query.with("repository", name.as_bytes())) aria-current=[(Some(name.as_str()) == chosen).then_some("page")] { (show::name(name)) } }
                    }
                }
            }
        }
        // The report escapes what it draws.
        (PreEscaped(report::over_time(&proofs, &settings.objectives, ask.language)))
        h2 #proofs { (words.measured_proofs) }
        @if newest.is_empty() { p.empty { (words.none_found) } } @else {
            div.wide tabindex="0" role="region" aria-labelledby="proofs" {
                table {
                    thead { tr { @for title in head { th scope="col" { (title) } } } }
                    tbody {
                        @for proof in &newest {
                            tr {
                                td { (show::time_and_age(proof.at, now, words)) }
                                th scope="row" { (show::name(proof.source.as_str())) }
                                td { (show::snapshot(proof.snapshot)) }
                                td { (show::pill(if proof.is_good() { "good" } else { "bad" }, proof.proven.map_or(words.nothing, |level| words.level(level)))) }
                                td { (maybe(proof.restore_seconds, show::duration)) }
                                td { (show::size(proof.size_bytes)) }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(Content { view: View::Objectives, title: words.objectives.to_owned(), body, seen: None })
}
