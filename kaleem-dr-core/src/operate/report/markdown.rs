//! The report as Markdown.

use std::fmt::Write as _;

use super::{ProofReport, duration, moment, size, words::Words};
use crate::{
    ground::language::Language,
    recovery::drill::{ReportKind, SourceDrill},
};

pub(super) fn document(report: &ProofReport, language: Language) -> String {
    let (words, drill) = (Words::of(language), &report.drill);
    let (verdict, detail) = if report.is_proven() {
        (words.proven, words.proven_detail)
    } else {
        (words.not_proven, words.not_proven_detail)
    };
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "# {}: {verdict}\n\n{detail}\n", words.title(drill.kind));
    let mut facts = vec![
        (words.began, moment(drill.started)),
        (words.took, duration(drill.finished.duration_since(drill.started).as_secs_f64())),
        (words.host, plain(&drill.host)),
        (words.repository, plain(&drill.repository)),
        (words.run, drill.run.to_string()),
    ];
    if let Some(seconds) = drill.rto_seconds() {
        facts.insert(2, (words.whole_restore, duration(seconds)));
    }
    if let Some(seconds) = drill.setup_seconds {
        facts.insert(2, (words.setup, duration(seconds)));
    }
    for (name, value) in facts {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let _ = writeln!(
        text,
        "\n## {}\n\n| {} | {} | {} | {} | {} | {} | {} | {} |\n|---|---|---|---|---|---|---|---|",
        words.sources,
        words.source,
        words.level,
        words.control,
        words.restore_time,
        words.forecast,
        words.size,
        words.data_of,
        words.snapshot
    );
    for source in &drill.sources {
        row(&mut text, source, words);
    }
    if drill.kind != ReportKind::Recovery {
        let _ = writeln!(text, "\n{}", words.control_meaning);
    }
    text.push('\n');
    for note in &drill.notes {
        let _ = writeln!(text, "- {}", plain(note));
    }
    for source in &drill.sources {
        details(&mut text, source, words);
    }
    let previous = drill.previous.as_deref().unwrap_or(words.first_of_chain);
    let _ = writeln!(
        text,
        "## {}\n\n{}\n\n- {}: `{}`\n- {}: {previous}",
        words.chain, words.chain_meaning, words.this_hash, report.hash, words.previous_hash
    );
    if report.broken.is_empty() {
        let _ = writeln!(text, "- {} {}.", words.chain_whole, report.length);
    } else {
        let _ = writeln!(text, "- **{}** {}", words.chain_broken, plain(&report.broken.join("; ")));
    }
    text
}

fn row(text: &mut String, drill: &SourceDrill, words: &Words) {
    let Some(found) = &drill.verification else {
        let why = plain(drill.error.as_deref().unwrap_or_default());
        let _ = writeln!(text, "| {} | **{}**: {why} | | | | | | |", drill.source, words.not_tried);
        return;
    };
    let level = found.proven.map_or(words.nothing, |level| words.level(level));
    let level = if found.is_proven() { level.to_owned() } else { format!("**{level}**") };
    let control = match &found.control {
        Some(control) if control.is_caught() => words.control_red,
        Some(_) => words.control_blind,
        None => words.control_none,
    };
    let _ = writeln!(
        text,
        "| {} | {level} | {control} | {} | {} | {} | {} | `{}` |",
        drill.source,
        found.restore_seconds.map_or_else(|| "–".to_owned(), duration),
        drill.rto_forecast_seconds.map_or_else(|| "–".to_owned(), duration),
        size(found.size_bytes),
        found.consistent_at.map_or_else(|| "–".to_owned(), moment),
        found.snapshot.map_or_else(|| "–".to_owned(), |id| id.short())
    );
}

fn details(text: &mut String, drill: &SourceDrill, words: &Words) {
    let Some(found) = &drill.verification else { return };
    let _ = writeln!(text, "### {} ({})\n", drill.source, plain(&found.point));
    for finding in &found.findings {
        let _ = writeln!(text, "- {}", plain(&finding.to_string()));
    }
    if let Some(control) = &found.control {
        let seen = control
            .found
            .first()
            .map_or(words.control_blind.to_owned(), |difference| plain(&difference.what));
        let _ = writeln!(text, "- {}: {} → {seen}", words.control, plain(&control.damage));
    }
    for what in &found.checked {
        let _ = writeln!(text, "- {}", plain(what));
    }
    text.push('\n');
}

/// Escapes text so that it cannot become markup, inside and outside of tables.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '|' | '*' | '_' | '`' | '<' | '[' | ']' | '#' | '\\') {
            plain.push('\\');
        }
        plain.push(if character.is_control() { ' ' } else { character });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_become_markup() {
        assert_eq!(plain("a|b *c* <d>\n# e"), r"a\|b \*c\* \<d> \# e");
    }
}
