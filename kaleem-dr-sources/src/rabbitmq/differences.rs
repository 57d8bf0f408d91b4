//! The differences between the definitions of two points, by kind and name.

use std::collections::{BTreeMap, BTreeSet};

use kaleem_dr_core::recovery::{
    look::ChangeKind,
    source::{EachItem, ItemChange, ItemCounts, PartDiff},
};

use super::definitions::{Definitions, Identity, Kind};

/// Compares two sets of definitions; each kind that differs is a part. No value of a definition is shown: it may be a secret.
pub(crate) fn differences(
    old: &Definitions,
    new: &Definitions,
    each: &mut EachItem<'_>,
) -> Vec<PartDiff> {
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (old.iter().collect(), new.iter().collect());
    let both: BTreeSet<&Identity> = before.keys().chain(after.keys()).copied().collect();
    let mut counts: BTreeMap<Kind, ItemCounts> = BTreeMap::new();
    for identity in both {
        let kind = match (before.get(identity), after.get(identity)) {
            (Some(old), Some(new)) if old == new => continue,
            (old, new) => ChangeKind::between(old, new),
        };
        counts.entry(identity.kind()).or_default().add(kind);
        let (part, item) = (identity.kind().noun(true), identity.to_string());
        each(ItemChange::new(kind, part, &item));
    }
    let total = |definitions: &Definitions, kind: Kind| definitions.of_kind(kind).count() as u64;
    counts
        .into_iter()
        .map(|(kind, items)| {
            PartDiff::new(kind.noun(true), ChangeKind::Content)
                .with_totals(total(old, kind), total(new, kind))
                .with_items(items)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn definitions_are_compared_by_kind_and_name() {
        let parsed =
            |document: &Value| Definitions::parse(document.to_string().as_bytes()).unwrap();
        let mut document = json!({
            "vhosts": [{"name": "/"}],
            "users": [{"name": "u", "password_hash": "s3cret"}],
            "queues": [
                {"name": "stays", "vhost": "/", "durable": true},
                {"name": "goes", "vhost": "/", "durable": true},
            ],
        });
        let old = parsed(&document);
        document["queues"][1]["name"] = "comes".into();
        document["queues"][0]["durable"] = false.into();
        document["users"][0]["password_hash"] = "0ther".into();
        let mut found = Vec::new();
        let parts = differences(&old, &parsed(&document), &mut |change| {
            found.push(format!("{} {}: {}", change.kind.letter(), change.part, change.item));
        });
        assert_eq!(
            found,
            [
                "M users: user u",
                "+ queues: queue comes in /",
                "- queues: queue goes in /",
                "M queues: queue stays in /",
            ]
        );
        let queues = parts.iter().find(|part| part.what == "queues").unwrap();
        assert_eq!((queues.old_items, queues.new_items), (Some(2), Some(2)));
        let counts = queues.items.unwrap();
        assert_eq!((counts.added, counts.removed, counts.changed), (1, 1, 1));
        let mut none = |_: ItemChange<'_>| panic!("nothing changed");
        assert!(differences(&old, &old, &mut none).is_empty());
    }
}
