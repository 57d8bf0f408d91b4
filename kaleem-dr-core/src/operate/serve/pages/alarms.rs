//! Active alarms of this host, and those that other hosts recorded in the repository.

use jiff::Timestamp;
use maud::{Markup, html};

use super::view;
use crate::operate::{
    serve::{
        ask::Ask,
        layout::{Content, Fault, View, code_in},
        show,
        state::Shared,
        words::Words,
    },
    site::Overview,
    tripwire::{Alarm, RecordedAlarm},
};

pub(super) async fn content(state: &Shared, ask: &Ask) -> Result<Content, Fault> {
    let words = Words::of(ask.language);
    let (overview, seen) = view(state, words).await?;
    let (own, others) = (&overview.status.alarms, of_others(&overview));
    let body = html! {
        @if own.is_empty() && others.is_empty() {
            p.verdict.good { strong { (words.no_alarm) } span { (words.no_alarm_detail) } }
        } @else {
            p.note { (words.alarm_detail) }
            @for alarm in own { (article(alarm, words)) }
            @if !others.is_empty() {
                h2 { (words.of_others) }
                @for recorded in others {
                    @match &recorded.alarm {
                        Some(alarm) => (article(alarm, words)),
                        None => div.alarm { h3 { (show::name(&recorded.host)) } p { (words.unreadable_alarm) } }
                    }
                }
            }
        }
    };
    Ok(Content { view: View::Alarms, title: words.alarms.to_owned(), body, seen: Some(seen) })
}

/// The recorded alarms that are not among this host's own.
pub(in crate::operate::serve) fn of_others(overview: &Overview) -> Vec<&RecordedAlarm> {
    let is_own = |recorded: &&RecordedAlarm| {
        recorded.alarm.as_ref().is_some_and(|alarm| {
            let same = |own: &Alarm| own.run == alarm.run && own.source == alarm.source;
            overview.status.alarms.iter().any(same)
        })
    };
    overview.status.recorded.iter().filter(|recorded| !is_own(recorded)).collect()
}

fn article(alarm: &Alarm, words: &Words) -> Markup {
    let command = format!("`kaleem-dr alarm acknowledge {}`", alarm.source);
    html! {
        article.alarm {
            h3 { (show::name(alarm.source.as_str())) " · " (show::name(&alarm.host)) }
            p.note {
                (show::time_and_age(alarm.time, Timestamp::now(), words)) " · "
                (words.run) " " a href={ "/history/" (alarm.run) } { code dir="ltr" { (alarm.run) } }
            }
            ul lang="en" { @for suspicion in &alarm.suspicions { li { bdi { (show::name(&suspicion.what)) " (" (show::name(&suspicion.why)) ")" } } } }
            p { (words.acknowledge) ": " (code_in(&command)) }
        }
    }
}
