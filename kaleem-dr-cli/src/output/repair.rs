//! What repairs of the index and of snapshots print.

use kaleem_dr_core::engine::repository::{IndexRepair, RepairedSnapshot, SnapshotRepair};
use serde_json::json;

use super::{Printed, document, line};

/// Objects that are told by name; the rest is counted.
const NAMED: usize = 20;

pub fn index(plan: &IndexRepair, done: bool, json: bool) -> Printed {
    if json {
        let mut value = serde_json::to_value(plan)?;
        value["message_type"] = "repair-index".into();
        value["done"] = done.into();
        return document(&value);
    }
    let did = |done_word: &str, plan_word: &str| if done { done_word.to_owned() } else { format!("to {plan_word}") };
    named(&did("added to the index", "add to the index"), plan.added.iter().cloned())?;
    named(&did("dropped from the index", "drop from the index"), plan.dropped.iter().map(|(key, why)| format!("{key}: {why}")))?;
    named(&did("removed, damaged", "remove, damaged"), plan.damaged.iter().cloned())?;
    named("unreadable, left where it is", plan.unreadable.iter().map(|(key, why)| format!("{key}: {why}")))?;
    if plan.is_needed() { line(&format!("{} blobs are known again", plan.blobs_added)) } else { line("the index fits the packs") }
}

pub fn snapshots(plan: &SnapshotRepair, done: Option<&[RepairedSnapshot]>, forget: bool, json: bool) -> Printed {
    if json {
        return document(&json!({
            "message_type": "repair-snapshots",
            "whole": plan.whole,
            "lost": plan.lost,
            "unreadable": plan.unreadable,
            "forget": forget,
            "repaired": done,
        }));
    }
    for lost in &plan.lost {
        let of = lost.source.as_ref().map_or_else(String::new, |source| format!(" of source {source}"));
        line(&format!("snapshot {}{of}: {}", lost.snapshot.short(), lost.what))?;
        let repaired = done.and_then(|done| done.iter().find(|repaired| repaired.from == lost.snapshot));
        match (repaired, lost.is_gone) {
            (_, true) => line("  nothing is left of it")?,
            (None, false) => line("  to be rewritten without that")?,
            (Some(repaired), false) => {
                let id = repaired.snapshot.map(|id| id.short()).unwrap_or_default();
                line(&format!("  rewritten without that as {id}"))?;
            }
        }
        if forget {
            line(if repaired.is_some() { "  forgotten" } else { "  to be forgotten" })?;
        }
    }
    for unreadable in &plan.unreadable {
        let then = match (forget, done) {
            (true, Some(_)) => "forgotten",
            (true, None) => "to be forgotten",
            (false, _) => "stays; --forget removes it",
        };
        line(&format!("{}: {}; nothing can be rewritten of it: {then}", unreadable.object, unreadable.why))?;
    }
    line(&format!("{} snapshots are whole", plan.whole))
}

fn named(what: &str, objects: impl ExactSizeIterator<Item = String>) -> Printed {
    let more = objects.len().saturating_sub(NAMED);
    objects.take(NAMED).try_for_each(|object| line(&format!("{what}: {object}")))?;
    if more > 0 { line(&format!("{what}: {more} more")) } else { Ok(()) }
}
