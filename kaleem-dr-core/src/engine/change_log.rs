//! Change logs: the continuous record of writes that some servers keep (MongoDB's oplog), saved in slices.
//!
//! A *slice* is a snapshot of its own with the entries of one span of the log. It is not a recovery point: it extends one, the
//! *base*, to any position that a gapless chain of slices reaches. Bases and slices carry their span as a tag, so listing the
//! snapshots is enough to know which moments can be restored.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A position in a change log. Positions are totally ordered, and grow with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Seconds since 1970, by the server's clock.
    pub seconds: u32,
    /// Number of the entry within that second, from 1 on.
    pub increment: u32,
}

impl LogPosition {
    /// The position before the first entry of a second.
    #[must_use]
    pub fn start_of(seconds: u32) -> Self {
        Self { seconds, increment: 0 }
    }

    /// The time of the position, to the second.
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp::from_second(i64::from(self.seconds)).unwrap_or_default()
    }

    /// The next possible position.
    #[must_use]
    pub fn next(self) -> Self {
        match self.increment.checked_add(1) {
            Some(increment) => Self { increment, ..self },
            None => Self::start_of(self.seconds.saturating_add(1)),
        }
    }
}

/// `SECONDS.INCREMENT`.
impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seconds, self.increment)
    }
}

/// A text that is not a position in a change log.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a moment: write a time with its zone (2026-11-28T14:03:00Z), or a position in the log as SECONDS.INCREMENT"
)]
pub struct InvalidLogPosition(String);

/// Parses a time with its zone, which must be a whole second, or `SECONDS.INCREMENT` (also with a colon, as mongorestore's
/// `--oplogLimit` has it).
impl FromStr for LogPosition {
    type Err = InvalidLogPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidLogPosition(text.to_owned());
        if let Ok(time) = text.parse::<Timestamp>() {
            let seconds = u32::try_from(time.as_second()).map_err(|_| invalid())?;
            return if time.subsec_nanosecond() == 0 {
                Ok(Self::start_of(seconds))
            } else {
                Err(invalid())
            };
        }
        let (seconds, increment) = text.split_once(['.', ':']).ok_or_else(invalid)?;
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| invalid());
        Ok(Self { seconds: number(seconds)?, increment: number(increment)? })
    }
}

impl JsonSchema for LogPosition {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "LogPosition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9]+\.[0-9]+$" })
    }
}

impl Serialize for LogPosition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogPosition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An entry that no replay can follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBreak {
    /// Position of the entry.
    pub at: LogPosition,
    /// The reason, as one sentence.
    pub why: String,
}

/// The span of a change log that a snapshot covers.
///
/// In a base, the data represent `to`, and a replay needs the entries after `after`: it applies those after `to`, and from
/// earlier ones only the operations of transactions that were not committed yet. A slice contains the entries from `after` on,
/// including the one at `after` itself, which is the last one of the slice before it, up to and including `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpan {
    /// Identifies what the source captures. A slice extends only bases and slices with the same one.
    pub scope: String,
    /// Start of the span.
    pub after: LogPosition,
    /// End of the span.
    pub to: LogPosition,
    /// SHA-256 of the first entry at `to` as the server returned it, 64 hex digits; empty in a base.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub anchor: String,
    /// The reason why the slice does not continue the one before it; `None` if it does, or is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Entries of the span that no replay can follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<LogBreak>,
}

/// The tags of a span: `log:AFTER-TO`, `log-scope:SCOPE`, `log-gap`, and `log-break:AT` for each break.
const SPAN_PREFIX: &str = "log:";
const SCOPE_PREFIX: &str = "log-scope:";
const GAP_TAG: &str = "log-gap";
const BREAK_PREFIX: &str = "log-break:";

impl LogSpan {
    /// The span of a base whose data represent `to`.
    #[must_use]
    pub fn of_base(scope: String, after: LogPosition, to: LogPosition) -> Self {
        Self { scope, after, to, anchor: String::new(), gap: None, breaks: Vec::new() }
    }

    /// The tags that a snapshot with this span carries.
    pub(crate) fn tags(&self) -> Vec<String> {
        let mut tags = vec![
            format!("{SPAN_PREFIX}{}-{}", self.after, self.to),
            format!("{SCOPE_PREFIX}{}", self.scope),
        ];
        tags.extend(self.gap.is_some().then(|| GAP_TAG.to_owned()));
        tags.extend(self.breaks.iter().map(|cut| format!("{BREAK_PREFIX}{}", cut.at)));
        tags
    }

    /// The span in the tags of a snapshot; `None` without one. Reasons and anchor are only in the manifest.
    pub(crate) fn of_tags(tags: &[&str]) -> Option<Self> {
        let tagged = |prefix| tags.iter().filter_map(move |tag| tag.strip_prefix(prefix));
        let (after, to) = tagged(SPAN_PREFIX).next()?.split_once('-')?;
        let scope = tagged(SCOPE_PREFIX).next()?.to_owned();
        let breaks = tagged(BREAK_PREFIX).filter_map(|at| at.parse().ok());
        Some(Self {
            gap: tags.contains(&GAP_TAG).then(String::new),
            breaks: breaks.map(|at| LogBreak { at, why: String::new() }).collect(),
            ..Self::of_base(scope, after.parse().ok()?, to.parse().ok()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_position() {
        let at = |text: &str| text.parse::<LogPosition>().map(|at| (at.seconds, at.increment)).ok();
        assert_eq!(at("1970-01-01T00:01:05Z"), Some((65, 0)));
        assert_eq!(at("1970-01-01T02:01:05+02:00"), Some((65, 0)));
        assert_eq!(at("65.7"), Some((65, 7)));
        assert_eq!(at("65:7"), Some((65, 7)));
        for wrong in [
            "",
            "65",
            "1970-01-01T00:01:05",
            "1970-01-01T00:01:05.5Z",
            "1969-01-01T00:00:00Z",
            "a.1",
            "1.-1",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
        assert!(LogPosition::start_of(9) < LogPosition { seconds: 9, increment: 1 });
        assert_eq!(
            LogPosition { seconds: 9, increment: u32::MAX }.next(),
            LogPosition::start_of(10)
        );
    }

    #[test]
    fn a_span_comes_back_from_its_tags() {
        let at = |seconds, increment| LogPosition { seconds, increment };
        let mut span = LogSpan::of_base("ab12".into(), at(5, 1), at(9, 3));
        let read = |span: &LogSpan| {
            let tags = span.tags();
            LogSpan::of_tags(&tags.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(read(&span).as_ref(), Some(&span));
        span.gap = Some(String::new());
        span.breaks = vec![LogBreak { at: at(7, 2), why: String::new() }];
        assert_eq!(read(&span).as_ref(), Some(&span));
        assert_eq!(LogSpan::of_tags(&["kaleem-dr", "log:x"]), None);
    }
}
