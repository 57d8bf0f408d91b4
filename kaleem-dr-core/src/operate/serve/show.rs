//! Values as HTML: times, ages, sizes, names.

use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};

use super::words::Words;
use crate::{ground::SnapshotId, operate::report};

/// A time in the zone of this machine, with the zone's name.
pub(super) fn time(time: Timestamp) -> Markup {
    let local = time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string();
    html! { time datetime=(time) { bdi dir="ltr" { (local) } } }
}

/// A time with its age.
pub(super) fn time_and_age(at: Timestamp, now: Timestamp, words: &Words) -> Markup {
    html! { (time(at)) " " span.note { (ago(now.duration_since(at).as_secs(), words)) } }
}

/// `3 h ago`.
pub(super) fn ago(seconds: i64, words: &Words) -> String {
    (words.ago)(&age(seconds, words))
}

/// An approximate age, as `status` prints it.
pub(super) fn age(seconds: i64, words: &Words) -> String {
    let [second, minute, hour, day] = words.units;
    match seconds.max(0) {
        s if s < 120 => format!("{s} {second}"),
        s if s < 7200 => format!("{} {minute}", s / 60),
        s if s < 172_800 => format!("{} {hour}", s / 3600),
        s => format!("{} {day}", s / 86_400),
    }
}

pub(super) fn size(bytes: u64) -> Markup {
    html! { bdi dir="ltr" { (report::size(bytes)) } }
}

pub(super) fn duration(seconds: f64) -> Markup {
    html! { bdi dir="ltr" { (report::duration(seconds)) } }
}

/// A value that may be missing.
pub(super) fn maybe<T>(value: Option<T>, show: impl FnOnce(T) -> Markup) -> Markup {
    value.map_or_else(|| html! { span.note { "–" } }, show)
}

/// A name of anything, which may contain anything.
pub(super) fn name(text: &str) -> Markup {
    html! { bdi { (visible(text)) } }
}

/// The last component of a path, or a path, with the bytes that are not text escaped.
pub(super) fn path(path: &Path) -> Markup {
    use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _};
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    name(&text)
}

pub(super) fn snapshot(id: SnapshotId) -> Markup {
    html! { code dir="ltr" { (id.short()) } }
}

/// A short mark with a meaning of its own: `good`, `bad` or neither.
pub(super) fn pill(class: &str, text: &str) -> Markup {
    html! { span.pill.(class) { (text) } }
}

/// Text without control characters and without those that change the direction of writing.
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        let is_direction = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || is_direction {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(
            name("</bdi><script>\u{202e}gpj.exe\n").into_string(),
            "<bdi>&lt;/bdi&gt;&lt;script&gt;\\u{202e}gpj.exe\\n</bdi>"
        );
        let hostile = Path::new(OsStr::from_bytes(b"caf\xe9 \"&"));
        assert_eq!(path(hostile).into_string(), "<bdi>caf\\xe9 &quot;&amp;</bdi>");
    }
}
