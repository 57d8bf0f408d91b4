//! The overview: the verdict, the figures that matter, and the state of sources, repositories and
//! hosts.

use jiff::Timestamp;
use maud::{Markup, html};

use super::view;
use crate::{
    engine::ledger::PastEvent,
    ground::Exit,
    operate::{
        job::{Freshness, HostStatus, SourceStatus},
        serve::{
            ask::Ask,
            cache::Seen,
            layout::{Content, Fault, View},
            show::{self, maybe, pill},
            state::Shared,
            words::Words,
        },
        site::{Overview, Site},
    },
    recovery::drill::DrillReport,
};

pub(super) async fn content(state: &Shared, ask: &Ask) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let (overview, seen) = view(state, words).await?;
    let (last, drill) = state
        .past(|site| Ok((site.last_successes()?, site.past_drills(0, 1)?.0.into_iter().next())))
        .await?;
    let now = Timestamp::now();
    let body = html! {
        (verdict(&state.site, &overview, &seen, words))
        (cards(&state.site, &overview, drill.as_ref(), now, words))
        (sources(&overview.status.sources, now, words))
        (repositories(&state.site, &last, now, words))
        (hosts(&overview.hosts.hosts, now, words))
    };
    Ok(Content { view: View::Overview, title: words.overview.to_owned(), body, seen: Some(seen) })
}

/// The verdict: everything is within its limits, or the reasons why not.
fn verdict(site: &Site, overview: &Overview, seen: &Seen, words: &Words) -> Markup {
    let status = &overview.status;
    let mut reasons: Vec<Markup> = Vec::new();
    if status.sources.is_empty() {
        reasons.push(html! { (words.reason_no_source) });
    }
    for source in status.sources.iter().filter(|source| source.is_broken()) {
        let (freshness, standing) = (&source.freshness, &source.standing);
        let what = [
            (freshness.stale, words.reason_stale),
            (freshness.future.is_some(), words.reason_future),
            (standing.rpo_broken, words.reason_rpo),
        ];
        let what: Vec<&str> =
            what.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text).collect();
        reasons.push(html! {
            (show::name(standing.source.as_str())) " (" (show::name(&source.repository)) "): " (what.join(", "))
        });
    }
    if status.rto_broken == Some(true) {
        reasons.push(html! { (words.reason_rto) });
    }
    let own = site.identity().host.as_str();
    for host in overview.hosts.hosts.iter().filter(|host| host.is_broken && host.host != own) {
        reasons.push(html! {
            (show::name(&host.host)) @if let Some(source) = &host.source { ", " (show::name(source.as_str())) } ": " (words.reason_host)
        });
    }
    for alarm in &status.alarms {
        reasons.push(html! { a href="/alarms" { (words.reason_alarm) } ": " (show::name(alarm.source.as_str())) });
    }
    if seen.problem.is_some() {
        return html! {
            p.verdict.bad { strong { (words.unknown) } }
            @if !reasons.is_empty() { ul { @for reason in &reasons { li { (reason) } } } }
        };
    }
    html! {
        @if reasons.is_empty() {
            p.verdict.good { strong { (words.all_good) } span { (words.all_good_detail) } }
        } @else {
            div.verdict.bad {
                strong { (words.needs_attention) }
                ul { @for reason in &reasons { li { (reason) } } }
            }
        }
    }
}

fn cards(
    site: &Site,
    overview: &Overview,
    drill: Option<&DrillReport>,
    now: Timestamp,
    words: &Words,
) -> Markup {
    let (status, objectives) = (&overview.status, &site.config().settings.objectives);
    let primary = status.sources.first().map(|source| source.repository.as_str());
    let own: Vec<&SourceStatus> = status
        .sources
        .iter()
        .filter(|source| Some(source.repository.as_str()) == primary)
        .collect();
    let fresh = own.iter().filter(|source| !source.freshness.stale).count();
    let never_proven = own.iter().any(|source| source.standing.rpo_seconds.is_none());
    let rpo = own.iter().filter_map(|source| source.standing.rpo_seconds).max();
    let rto: Option<f64> = own.iter().map(|source| source.standing.rto_forecast_seconds).sum();
    let rto = rto.filter(|_| !own.is_empty());
    let point = overview.points.iter().find(|point| point.is_complete() && !point.is_of_the_future);
    let limit = |hours: Option<u32>| match hours {
        Some(hours) => format!("{}: {hours} {}", words.objective, words.units[2]),
        None => words.no_objective.to_owned(),
    };
    html! {
        dl.cards {
            div { dt { (words.fresh_sources) } dd.bad[fresh < own.len()] { bdi dir="ltr" { (fresh) " / " (own.len()) } } }
            div {
                dt { (words.worst_rpo) }
                dd.bad[own.iter().any(|source| source.standing.rpo_broken)] {
                    @match rpo { Some(seconds) if !never_proven => (show::age(seconds, words)), _ => (words.never_proven) }
                    span.note { (limit(objectives.rpo_hours)) }
                }
            }
            div {
                dt { (words.full_restore) }
                dd.bad[status.rto_broken == Some(true)] {
                    @match rto { Some(seconds) => (show::duration(seconds)), None => (words.not_measured) }
                    span.note { (limit(objectives.rto_hours)) }
                }
            }
            div {
                dt { (words.newest_point) }
                dd {
                    @match point {
                        Some(point) => { (show::ago(now.duration_since(point.time).as_secs(), words)) span.note { (show::time(point.time)) } }
                        None => (words.never)
                    }
                }
            }
            div { dt { (words.active_alarms) } dd.bad[!status.alarms.is_empty()] { (status.alarms.len()) } }
            div {
                dt { (words.last_drill) }
                dd.bad[drill.is_some_and(|drill| drill.exit != Exit::Done)] {
                    @match drill {
                        Some(drill) => {
                            a href={ "/drills/" (drill.run) } { @if drill.exit == Exit::Done { (words.succeeded) } @else { (words.not_succeeded) } }
                            span.note { (show::ago(now.duration_since(drill.finished).as_secs(), words)) }
                        }
                        None => (words.never)
                    }
                }
            }
        }
    }
}

/// The state of a source's newest snapshot.
pub(super) fn freshness(freshness: &Freshness, words: &Words) -> Markup {
    let (class, text) = match (freshness.stale, freshness.whole) {
        (true, _) if freshness.time.is_none() => ("bad", words.never_backed_up),
        (true, false) => ("bad", words.stale_incomplete),
        (true, true) => ("bad", words.stale),
        (false, false) => ("", words.incomplete),
        (false, true) => ("good", words.fresh),
    };
    html! {
        (pill(class, text))
        @if freshness.future.is_some() { " " (pill("bad", words.future)) }
    }
}

fn sources(sources: &[SourceStatus], now: Timestamp, words: &Words) -> Markup {
    let head = [
        words.source,
        words.repository,
        words.state,
        words.newest,
        words.proven,
        words.rpo,
        words.rto,
        words.rto_forecast,
    ];
    html! {
        h2 #sources { (words.sources) }
        div.wide tabindex="0" role="region" aria-labelledby="sources" {
            table {
                thead { tr { @for title in head { th scope="col" { (title) } } } }
                tbody {
                    @for source in sources {
                        @let standing = &source.standing;
                        tr {
                            th scope="row" { (show::name(standing.source.as_str())) }
                            td { (show::name(&source.repository)) }
                            td { (freshness(&source.freshness, words)) }
                            td { (maybe(source.freshness.time, |time| show::time_and_age(time, now, words))) }
                            td { (maybe(standing.proven_level, |level| html! { (words.level(level)) })) }
                            td {
                                @match standing.rpo_seconds {
                                    Some(seconds) => (show::age(seconds, words)),
                                    None => span.note { (words.never_proven) }
                                }
                                @if standing.rpo_broken { " " (pill("bad", words.too_old)) }
                            }
                            td { (maybe(standing.rto_seconds, show::duration)) }
                            td { (maybe(standing.rto_forecast_seconds, show::duration)) }
                        }
                    }
                }
            }
        }
    }
}

fn repositories(site: &Site, last: &[PastEvent], now: Timestamp, words: &Words) -> Markup {
    let settings = &site.config().settings;
    let primary = site.chosen_repository().ok().map(|(name, _)| name);
    let newest = |place: &str, kinds: &[&str]| {
        let of = last
            .iter()
            .filter(|event| event.repository == place && kinds.contains(&event.kind.as_str()));
        of.map(|event| event.finished).max()
    };
    html! {
        @if !settings.repository.is_empty() {
            h2 #repositories { (words.repositories) }
            div.wide tabindex="0" role="region" aria-labelledby="repositories" {
                table {
                    thead { tr { @for title in [words.repository, words.role, words.location, words.last_write, words.last_check] { th scope="col" { (title) } } } }
                    tbody {
                        @for (name, repository) in &settings.repository {
                            @let place = site.location(name).map_or_else(|_| name.clone(), |location| location.in_words());
                            tr {
                                th scope="row" { (show::name(name)) }
                                td {
                                    @if let Some(origin) = &repository.mirror_of { (words.mirror_of) " " (show::name(origin)) }
                                    @else if Some(name.as_str()) == primary { (words.primary) }
                                    @else if settings.backup.also.contains(name) { (words.copy) }
                                    @else { (words.other) }
                                }
                                td { bdi dir="ltr" { (show::name(&place)) } }
                                td { (maybe(newest(&place, &["backup", "replicate", "copy"]), |time| show::time_and_age(time, now, words))) }
                                td { (maybe(newest(&place, &["check"]), |time| show::time_and_age(time, now, words))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn hosts(hosts: &[HostStatus], now: Timestamp, words: &Words) -> Markup {
    html! {
        h2 #hosts { (words.hosts) }
        div.wide tabindex="0" role="region" aria-labelledby="hosts" {
            table {
                thead { tr { @for title in [words.host, words.source, words.state, words.newest] { th scope="col" { (title) } } } }
                tbody {
                    @for host in hosts {
                        tr {
                            th scope="row" { (show::name(&host.host)) }
                            td { (maybe(host.source.as_ref(), |source| show::name(source.as_str()))) }
                            td {
                                @match &host.freshness { Some(of) => (freshness(of, words)), None => (pill("bad", words.missing)) }
                                @if !host.is_expected { " " (pill("", words.not_expected)) }
                            }
                            td { (maybe(host.freshness.as_ref().and_then(|of| of.time), |time| show::time_and_age(time, now, words))) }
                        }
                    }
                }
            }
        }
    }
}
