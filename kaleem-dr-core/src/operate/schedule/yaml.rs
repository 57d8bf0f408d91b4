//! Writes JSON values as YAML 1.2 in block style. Strings are plain only if no reader of YAML 1.1 or
//! 1.2 takes them for another type.

use std::fmt::Write as _;

use serde_json::Value;

/// Words that YAML 1.1 takes for a boolean or null.
const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];

/// Documents, each after a `---`.
pub(super) fn documents<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let mut text = String::new();
    for value in values {
        text.push_str("---\n");
        block(value, 0, &mut text);
    }
    text
}

/// Writes a value at the beginning of a line.
fn block(value: &Value, indent: usize, out: &mut String) {
    let blanks = " ".repeat(indent);
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                out.push_str(&blanks);
                out.push_str(&plain_or_quoted(key));
                out.push(':');
                after_key(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let at = out.len();
                block(item, indent + 2, out);
                out.replace_range(at..at + indent + 2, &format!("{blanks}- "));
            }
        }
        scalar => {
            out.push_str(&blanks);
            out.push_str(&inline(scalar, indent));
            out.push('\n');
        }
    }
}

fn after_key(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        scalar => {
            out.push(' ');
            out.push_str(&inline(scalar, indent + 2));
            out.push('\n');
        }
    }
}

/// A value on its line; a text of several lines follows in lines that are indented by `indent`.
fn inline(value: &Value, indent: usize) -> String {
    match value {
        Value::String(text) if is_block(text) => {
            let blanks = " ".repeat(indent);
            let lines: Vec<String> = text
                .trim_end_matches('\n')
                .split('\n')
                .map(|line| if line.is_empty() { String::new() } else { format!("{blanks}{line}") })
                .collect();
            format!("|\n{}", lines.join("\n"))
        }
        Value::String(text) => plain_or_quoted(text),
        // An empty list or mapping, a number, a boolean, null: as in JSON.
        other => other.to_string(),
    }
}

/// Reports whether a text can be a literal block: several lines, one line break at the end, nothing
/// that would have to be escaped.
fn is_block(text: &str) -> bool {
    let is_printable = |c: char| c == '\n' || (!c.is_control() && c != '\u{feff}');
    text.ends_with('\n')
        && !text.ends_with("\n\n")
        && text.trim_end().contains('\n')
        && !text.starts_with([' ', '\n'])
        && text.chars().all(is_printable)
}

fn plain_or_quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// A double-quoted scalar.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_in_blocks_and_ambiguous_strings_are_quoted() {
        let value = json!({
            "a": { "list": ["x", { "k": 1, "l": [2] }], "none": {} },
            "b": "yes",
            "c": "0 3 * * *",
            "d": "line\n  two\n\nfour\n",
            "e": "a\u{1}b\n",
            "f": "1e3",
            "g": true,
            "app.kubernetes.io/name": "kaleem-dr",
        });
        assert_eq!(
            documents([&value]),
            "---\na:\n  list:\n  - x\n  - k: 1\n    l:\n    - 2\n  none: {}\n\
             app.kubernetes.io/name: kaleem-dr\nb: \"yes\"\nc: \"0 3 * * *\"\n\
             d: |\n  line\n    two\n\n  four\ne: \"a\\u0001b\\n\"\nf: \"1e3\"\ng: true\n"
        );
    }
}
