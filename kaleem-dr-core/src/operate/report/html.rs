//! The HTML page.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    ProofReport, duration,
    escape::escape,
    moment,
    plot::{Plot, Series},
    size,
    words::Words,
};
use crate::{
    engine::ledger::Proof,
    ground::{language::Language, stopwatch::Stage},
    recovery::{
        drill::{ReportKind, SourceDrill},
        objectives::Objectives,
        source::Control,
        verify::VerifyReport,
    },
};

const STYLE: &str = include_str!("style.css");

pub(super) fn page(report: &ProofReport, language: Language) -> String {
    let words = Words::of(language);
    let mut html = String::with_capacity(32 << 10);
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"{}\" dir=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} · {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        language.code(),
        language.direction(),
        words.title(report.drill.kind),
        report.drill.started.strftime("%Y-%m-%d"),
    );
    html.push_str(&content(report, language));
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// The report without the page around it.
pub(super) fn content(report: &ProofReport, language: Language) -> String {
    let words = Words::of(language);
    let mut html = String::with_capacity(32 << 10);
    head(&mut html, report, words);
    table(&mut html, report, words);
    let _ = writeln!(html, "<h2>{}</h2>", words.over_time);
    html.push_str(&over_time(&report.proofs, &report.objectives, language));
    let _ = writeln!(html, "<h2>{}</h2>", words.details);
    for source in &report.drill.sources {
        details(&mut html, source, words);
    }
    cleared(&mut html, report, words);
    chain(&mut html, report, words);
    html
}

/// The style of a report, which its content needs.
pub(super) const fn style() -> &'static str {
    STYLE
}

fn head(html: &mut String, report: &ProofReport, words: &Words) {
    let drill = &report.drill;
    let (class, verdict, detail) = if report.is_proven() {
        ("good", words.proven, words.proven_detail)
    } else {
        ("bad", words.not_proven, words.not_proven_detail)
    };
    let _ = write!(
        html,
        "<header>\n<h1>{}</h1>\n<p class=\"verdict {class}\"><strong>{verdict}</strong> <span>{detail}</span></p>\n<dl class=\"facts\">\n",
        words.title(report.drill.kind)
    );
    let took = drill.finished.duration_since(drill.started).as_secs_f64();
    let mut facts = vec![
        (words.began, moment(drill.started)),
        (words.took, duration(took)),
        (words.host, drill.host.clone()),
        (words.repository, drill.repository.clone()),
        (words.run, drill.run.to_string()),
    ];
    if let Some(seconds) = drill.rto_seconds() {
        facts.insert(2, (words.whole_restore, duration(seconds)));
    }
    if let Some(seconds) = drill.setup_seconds {
        facts.insert(2, (words.setup, duration(seconds)));
    }
    for (name, value) in facts {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd><bdi>{}</bdi></dd></div>", escape(&value));
    }
    html.push_str("</dl>\n");
    for note in &drill.notes {
        let _ = writeln!(html, "<p class=\"note\"><bdi>{}</bdi></p>", escape(note));
    }
    html.push_str("</header>\n");
}

fn table(html: &mut String, report: &ProofReport, words: &Words) {
    let _ = write!(html, "<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead><tr>", words.sources);
    for head in [
        words.source,
        words.level,
        words.control,
        words.restore_time,
        words.forecast,
        words.size,
        words.data_of,
        words.snapshot,
    ] {
        let _ = write!(html, "<th scope=\"col\">{head}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for source in &report.drill.sources {
        row(html, source, words);
    }
    html.push_str("</tbody>\n</table></div>\n");
    if report.drill.kind != ReportKind::Recovery {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", words.control_meaning);
    }
}

fn row(html: &mut String, drill: &SourceDrill, words: &Words) {
    let name = escape(drill.source.as_str());
    let Some(found) = &drill.verification else {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><bdi>{name}</bdi></th><td colspan=\"7\" class=\"bad\">{}: <bdi>{}</bdi></td></tr>",
            words.not_tried,
            escape(drill.error.as_deref().unwrap_or_default())
        );
        return;
    };
    let (class, level) = (
        if found.is_proven() { "good" } else { "bad" },
        found.proven.map_or(words.nothing, |level| words.level(level)),
    );
    let (control_class, control) = control_cell(found.control.as_ref(), words);
    let _ = write!(
        html,
        "<tr><th scope=\"row\"><bdi>{name}</bdi></th><td class=\"{class}\">{level}</td><td class=\"{control_class}\">{control}</td>"
    );
    let cells = [
        found.restore_seconds.map_or_else(|| "–".to_owned(), duration),
        drill.rto_forecast_seconds.map_or_else(|| "–".to_owned(), duration),
        size(found.size_bytes),
        found.consistent_at.map_or_else(|| "–".to_owned(), moment),
    ];
    for cell in cells {
        let _ = write!(html, "<td class=\"number\"><bdi dir=\"ltr\">{}</bdi></td>", escape(&cell));
    }
    let snapshot = found.snapshot.map_or_else(|| "–".to_owned(), |id| id.short());
    let _ = writeln!(html, "<td><code dir=\"ltr\">{snapshot}</code></td></tr>");
}

fn control_cell(control: Option<&Control>, words: &Words) -> (&'static str, &'static str) {
    match control {
        Some(control) if control.is_caught() => ("good", words.control_red),
        Some(_) => ("bad", words.control_blind),
        None => ("", words.control_none),
    }
}

/// RPO and RTO over time as two figures, from proofs of one repository, oldest first.
pub(super) fn over_time(proofs: &[Proof], objectives: &Objectives, language: Language) -> String {
    let (words, mut html) = (Words::of(language), String::new());
    let limit = objectives.rpo_hours.map(|hours| f64::from(hours) * 3600.0);
    let (series, limit, unit) = in_one_unit(rpo_series(proofs, objectives), limit, words);
    let rpo = Plot {
        label: words.rpo_title,
        unit,
        series,
        limit: limit.map(|limit| (limit, words.limit)),
        joined: true,
    };
    figure(&mut html, words.rpo_title, words.rpo_meaning, &rpo, words);
    // The limit applies to all sources together: next to single sources it would mislead.
    let (series, _, unit) = in_one_unit(rto_series(proofs), None, words);
    let rto = Plot { label: words.rto_title, unit, series, limit: None, joined: false };
    figure(&mut html, words.rto_title, words.rto_meaning, &rto, words);
    html
}

/// Turns seconds into the unit that fits the largest of them.
fn in_one_unit(
    mut series: Vec<Series>,
    limit: Option<f64>,
    words: &Words,
) -> (Vec<Series>, Option<f64>, &'static str) {
    let values = series.iter().flat_map(|series| &series.points).map(|(_, seconds)| *seconds);
    let highest = values.chain(limit).fold(0.0, f64::max);
    let (unit, word) = match highest {
        ..120.0 => (1.0, words.seconds),
        ..7200.0 => (60.0, words.minutes),
        _ => (3600.0, words.hours),
    };
    for (_, value) in series.iter_mut().flat_map(|series| &mut series.points) {
        *value /= unit;
    }
    (series, limit.map(|limit| limit / unit), word)
}

fn figure(html: &mut String, title: &str, meaning: &str, plot: &Plot<'_>, words: &Words) {
    let drawn = plot.svg().unwrap_or_else(|| format!("<p class=\"note\">{}</p>", words.no_history));
    let _ = writeln!(
        html,
        "<figure><figcaption><strong>{title}</strong><br>{meaning}</figcaption>{drawn}</figure>"
    );
}

fn by_source(proofs: &[Proof]) -> BTreeMap<&str, Vec<&Proof>> {
    let mut sources = BTreeMap::<_, Vec<_>>::new();
    for proof in proofs {
        sources.entry(proof.source.as_str()).or_default().push(proof);
    }
    sources
}

/// The age of the newest proven data: just before and after each proof, and at the end of the
/// drill.
/// In seconds.
fn rpo_series(proofs: &[Proof], objectives: &Objectives) -> Vec<Series> {
    let seconds = |later: jiff::Timestamp, earlier: jiff::Timestamp| {
        later.duration_since(earlier).as_secs_f64()
    };
    let of = |(source, proofs): (&str, Vec<&Proof>)| {
        let mut points = Vec::new();
        let mut newest: Option<jiff::Timestamp> = None;
        for proof in proofs
            .iter()
            .filter(|proof| proof.proven.is_some_and(|level| level >= objectives.proof))
        {
            if let Some(newest) = newest {
                points.push((proof.at, seconds(proof.at, newest)));
            }
            newest = newest.max(Some(proof.consistent_at));
            points.extend(newest.map(|newest| (proof.at, seconds(proof.at, newest))));
        }
        Series { name: source.to_owned(), points }
    };
    by_source(proofs).into_iter().map(of).filter(|series| !series.points.is_empty()).collect()
}

fn rto_series(proofs: &[Proof]) -> Vec<Series> {
    let of = |(source, proofs): (&str, Vec<&Proof>)| {
        let timed = proofs.iter().filter(|proof| proof.is_good());
        Series {
            name: source.to_owned(),
            points: timed.filter_map(|proof| Some((proof.at, proof.restore_seconds?))).collect(),
        }
    };
    by_source(proofs).into_iter().map(of).filter(|series| !series.points.is_empty()).collect()
}

fn details(html: &mut String, drill: &SourceDrill, words: &Words) {
    let Some(found) = &drill.verification else { return };
    let open = if found.is_proven() { "" } else { " open" };
    let _ = writeln!(
        html,
        "<details{open}><summary><bdi>{}</bdi> <span class=\"note\"><bdi dir=\"ltr\">{}, {}</bdi></span></summary>",
        escape(drill.source.as_str()),
        escape(&drill.kind),
        escape(&found.point)
    );
    findings(html, found, words);
    if let Some(control) = &found.control {
        let found = control.found.iter().map(|difference| {
            format!(
                "{}: expected {}, found {}",
                difference.what, difference.expected, difference.found
            )
        });
        let _ = write!(
            html,
            "<h3>{}</h3>\n<ul lang=\"en\" dir=\"ltr\"><li>we {}</li>",
            words.control,
            escape(&control.damage)
        );
        for difference in found.take(5) {
            let _ = write!(html, "<li>{}</li>", escape(&difference));
        }
        html.push_str("</ul>\n");
    }
    list(html, words.checked, found.checked.iter().map(String::as_str));
    stages(html, &found.stages, words);
    html.push_str("</details>\n");
}

fn findings(html: &mut String, found: &VerifyReport, words: &Words) {
    if found.findings.is_empty() {
        return;
    }
    let _ = write!(html, "<h3>{}</h3>\n<ul lang=\"en\" dir=\"ltr\">", words.findings);
    for finding in &found.findings {
        let class = if finding.is_error() { "bad" } else { "" };
        let _ = write!(html, "<li class=\"{class}\">{}</li>", escape(&finding.to_string()));
    }
    html.push_str("</ul>\n");
}

fn list<'a>(html: &mut String, title: &str, lines: impl Iterator<Item = &'a str>) {
    let _ = write!(html, "<h3>{title}</h3>\n<ul lang=\"en\" dir=\"ltr\">");
    for line in lines {
        let _ = write!(html, "<li>{}</li>", escape(line));
    }
    html.push_str("</ul>\n");
}

fn stages(html: &mut String, stages: &[Stage], words: &Words) {
    let longest = stages.iter().map(|stage| stage.seconds).fold(0.0, f64::max);
    if longest <= 0.0 {
        return;
    }
    let _ = write!(
        html,
        "<h3>{}</h3>\n<table class=\"stages\" dir=\"ltr\"><thead><tr><th scope=\"col\">{}</th><th scope=\"col\">{}</th><th></th></tr></thead><tbody>",
        words.stages, words.stage, words.took
    );
    for stage in stages {
        let _ = write!(
            html,
            "<tr><td lang=\"en\">{}</td><td class=\"number\">{}</td><td><svg class=\"bar\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"{:.1}\" height=\"1\"/></svg></td></tr>",
            escape(&stage.name),
            duration(stage.seconds),
            (stage.seconds / longest * 100.0).max(0.5)
        );
    }
    html.push_str("</tbody></table>\n");
}

fn cleared(html: &mut String, report: &ProofReport, words: &Words) {
    if report.drill.cleared.is_empty() {
        return;
    }
    let lines: Vec<String> = report
        .drill
        .cleared
        .iter()
        .map(|cleared| match &cleared.error {
            None => format!("{}: {}", cleared.name, cleared.removed.join(", ")),
            Some(why) => format!("{}: not removed: {why}", cleared.name),
        })
        .collect();
    list(html, words.cleared, lines.iter().map(String::as_str));
}

fn chain(html: &mut String, report: &ProofReport, words: &Words) {
    let previous = report.drill.previous.as_deref().unwrap_or(words.first_of_chain);
    let _ = write!(
        html,
        "<h2>{}</h2>\n<p>{}</p>\n<dl class=\"chain\"><div><dt>{}</dt><dd><code dir=\"ltr\">{}</code></dd></div><div><dt>{}</dt><dd><code>{}</code></dd></div></dl>\n",
        words.chain,
        words.chain_meaning,
        words.this_hash,
        escape(&report.hash),
        words.previous_hash,
        escape(previous)
    );
    if report.broken.is_empty() {
        let _ = writeln!(html, "<p class=\"good\">{} {}.</p>", words.chain_whole, report.length);
        return;
    }
    let _ = write!(html, "<p class=\"bad\">{}</p><ul lang=\"en\" dir=\"ltr\">", words.chain_broken);
    for link in &report.broken {
        let _ = write!(html, "<li class=\"bad\">{}</li>", escape(link));
    }
    html.push_str("</ul>\n");
}
