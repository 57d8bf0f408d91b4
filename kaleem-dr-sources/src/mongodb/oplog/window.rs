//! The time window of a captured oplog.

use bson::Timestamp;
use serde_json::{Value, json};

/// A part of an oplog: the entries after one time, up to and including another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) after: Timestamp,
    pub(crate) to: Timestamp,
}

impl Window {
    /// Reports whether it covers no entry.
    pub(crate) fn is_empty(self) -> bool {
        self.to <= self.after
    }

    /// Encodes the window for the manifest: `{"after": {"t": seconds, "i": increment}, "to": …}`.
    pub(crate) fn to_value(self) -> Value {
        let moment = |at: Timestamp| json!({ "t": at.time, "i": at.increment });
        json!({ "after": moment(self.after), "to": moment(self.to) })
    }

    /// Decodes a window; `None` if it is malformed.
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        let moment = |key: &str| {
            let part = |name: &str| value.get(key)?.get(name)?.as_u64()?.try_into().ok();
            Some(Timestamp { time: part("t")?, increment: part("i")? })
        };
        Some(Self { after: moment("after")?, to: moment("to")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_comes_back_from_a_manifest() {
        let after = Timestamp { time: 7, increment: 3 };
        let window = Window { after, to: Timestamp { time: u32::MAX, increment: 0 } };
        assert_eq!(Window::from_value(&window.to_value()), Some(window));
        assert_eq!(Window::from_value(&json!({ "after": { "t": 1 } })), None);
    }
}
