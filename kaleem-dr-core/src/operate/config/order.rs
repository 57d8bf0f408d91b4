//! The order in which sources are recovered: `after` of each source, or a default by its kind.

use std::{collections::BTreeMap, ops::Range};

use serde_json::json;
use toml::de::{DeTable, DeValue};

use crate::ground::SourceName;

/// The key of a source's table that names the sources to recover before it.
const AFTER: &str = "after";

/// When the sources of a kind are recovered by default: after all sources of the earlier stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecoveryStage {
    /// First: file trees, which may contain the configs and secrets of everything else.
    Files,
    /// Then servers.
    Servers,
    /// Last: applications, which use the servers.
    Applications,
}

/// The request of a source's table. The second part of each name is its place in the config.
pub(super) struct Wish {
    pub(super) source: SourceName,
    pub(super) stage: RecoveryStage,
    /// The value of `after`; `None` if the table has none.
    pub(super) after: Option<After>,
}

/// The names in `after`, each with its place in the config.
type After = Vec<(String, Range<usize>)>;

/// A fault, with its place in the config.
type Fault = (String, Range<usize>);

/// The sources that must be recovered before each source. It has no circle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryOrder(BTreeMap<SourceName, Vec<SourceName>>);

impl RecoveryOrder {
    /// The sources that are recovered before this one, as far as they are recovered at all.
    #[must_use]
    pub fn before(&self, source: &SourceName) -> &[SourceName] {
        self.0.get(source).map_or(&[], Vec::as_slice)
    }

    /// These sources in groups: each group may be recovered side by side after all groups before it.
    #[must_use]
    pub fn groups(&self, sources: &[SourceName]) -> Vec<Vec<SourceName>> {
        let mut left: Vec<SourceName> = sources.to_vec();
        left.sort();
        left.dedup();
        let mut groups = Vec::new();
        while !left.is_empty() {
            let waits =
                |source: &SourceName| self.before(source).iter().any(|other| left.contains(other));
            let (later, now): (Vec<_>, Vec<_>) = left.iter().cloned().partition(waits);
            // There is no circle, so the group is never empty; if it were, everything left would be in it.
            let (now, later) = if now.is_empty() { (later, Vec::new()) } else { (now, later) };
            groups.push(now);
            left = later;
        }
        groups
    }

    /// Checks the names and combines them with the defaults.
    pub(super) fn of(wishes: &[Wish]) -> Result<Self, Fault> {
        let mut order = Self::default();
        for wish in wishes {
            for (name, place) in wish.after.iter().flatten() {
                let other = wishes.iter().find(|other| other.source.as_str() == name);
                let other = other.ok_or_else(|| {
                    let why = format!(
                        "source {}: `after` names {name}, but there is no [source.{name}]",
                        wish.source
                    );
                    (why, place.clone())
                })?;
                if !order.add(&wish.source, &other.source) {
                    let why = format!(
                        "source {}: `after` names {name}, which has to be recovered after {} itself",
                        wish.source, wish.source
                    );
                    return Err((why, place.clone()));
                }
            }
        }
        // A default gives way to what the config requests.
        for wish in wishes.iter().filter(|wish| wish.after.is_none()) {
            for other in wishes.iter().filter(|other| other.stage < wish.stage) {
                order.add(&wish.source, &other.source);
            }
        }
        Ok(order)
    }

    /// Puts a source after another, unless that makes a circle; returns whether it did.
    fn add(&mut self, source: &SourceName, other: &SourceName) -> bool {
        if source == other || self.depends(other, source) {
            return false;
        }
        let before = self.0.entry(source.clone()).or_default();
        if !before.contains(other) {
            before.push(other.clone());
        }
        true
    }

    fn depends(&self, source: &SourceName, on: &SourceName) -> bool {
        self.before(source).iter().any(|other| other == on || self.depends(other, on))
    }
}

/// Removes `after` from a source's table, before its kind reads the table.
pub(super) fn take_after(
    source: &SourceName,
    table: &mut DeTable<'_>,
) -> Result<Option<After>, Fault> {
    let Some(value) = table.remove(AFTER) else { return Ok(None) };
    let wrong = |place| (format!("source {source}: `after` must be a list of sources"), place);
    let place = value.span();
    let DeValue::Array(names) = value.into_inner() else { return Err(wrong(place)) };
    let name = |value: &toml::Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(name) => Ok((name.to_string(), value.span())),
        _ => Err(wrong(value.span())),
    };
    names.iter().map(name).collect::<Result<_, _>>().map(Some)
}

/// The schema of `after`.
pub(super) fn schema() -> serde_json::Value {
    json!({
        "description": "Sources that `recover` recovers before this one [default: file trees first, then servers, then applications].",
        "type": "array",
        "items": { "type": "string" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(source: &str, stage: RecoveryStage, after: Option<&[&str]>) -> Wish {
        let after =
            after.map(|names| names.iter().map(|name| ((*name).to_owned(), 3..4)).collect());
        Wish { source: source.parse().unwrap(), stage, after }
    }

    fn groups(wishes: &[Wish]) -> Vec<String> {
        let names: Vec<SourceName> = wishes.iter().map(|wish| wish.source.clone()).collect();
        let groups = RecoveryOrder::of(wishes).unwrap().groups(&names);
        let joined = |group: Vec<SourceName>| {
            group.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
        };
        groups.into_iter().map(joined).collect()
    }

    use RecoveryStage::{Applications, Files, Servers};

    #[test]
    fn files_come_first_then_servers_then_applications() {
        let all = [
            wish("app", Applications, None),
            wish("broker", Servers, None),
            wish("etc", Files, None),
            wish("mongo", Servers, None),
        ];
        assert_eq!(groups(&all), ["etc", "broker+mongo", "app"]);
    }

    #[test]
    fn a_request_goes_before_a_default() {
        let all = [
            wish("etc", Files, Some(&["mongo"])),
            wish("mongo", Servers, None),
            wish("broker", Servers, Some(&[])),
            wish("app", Applications, None),
        ];
        assert_eq!(groups(&all), ["broker+mongo", "etc", "app"]);
        // Two requests that would make a circle through two defaults.
        let crossed = [
            wish("f1", Files, Some(&["s1"])),
            wish("f2", Files, Some(&["s2"])),
            wish("s1", Servers, None),
            wish("s2", Servers, None),
        ];
        assert_eq!(groups(&crossed).concat().matches(|c: char| c.is_ascii_digit()).count(), 4);
    }

    #[test]
    fn an_unknown_name_and_a_circle_are_faults_with_their_place() {
        let unknown = [wish("mongo", Servers, Some(&["etc"]))];
        let (why, place) = RecoveryOrder::of(&unknown).unwrap_err();
        assert!(why.contains("no [source.etc]"), "{why}");
        assert_eq!(place, 3..4);
        let circle = [
            wish("a", Servers, Some(&["b"])),
            wish("b", Servers, Some(&["c"])),
            wish("c", Servers, Some(&["a"])),
        ];
        assert!(RecoveryOrder::of(&circle).unwrap_err().0.contains("after c itself"));
        assert!(RecoveryOrder::of(&[wish("a", Servers, Some(&["a"]))]).is_err());
    }
}
