//! Decides the target of each collection of a point, and which aliases follow it.
//!
//! Uploading to an existing collection can destroy it, and uploading to an alias overwrites the
//! collection behind it. So everything is restored to a name that is neither, and collections in
//! use change only afterwards.

use std::collections::{BTreeMap, BTreeSet};

use kaleem_dr_core::{
    ground::SourceError,
    recovery::source::{Rename, RestoreTarget},
};

use super::{
    api::Alias,
    contents::{Contents, Stored},
    names,
    switch::AliasChange,
};

/// The current collections and aliases on the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    pub(super) collections: BTreeSet<String>,
    pub(super) aliases: BTreeMap<String, String>,
}

/// The placement of one collection.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub(super) stored: Stored,
    /// The new name to which it is restored.
    pub(super) target: String,
    pub(super) then: Then,
}

/// The action once everything has been restored and is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It keeps its new name.
    Stays,
    /// Aliases are switched to it, and their previous collection stays unchanged.
    IsReached,
    /// It replaces the collection with its original name, which no alias refers to.
    Replaces,
}

/// Decides names and aliases.
///
/// # Errors
/// [`SourceError::Refused`] if a name is taken, [`SourceError::Unsupported`] if one is invalid.
pub(super) fn place(
    contents: Contents,
    live: &Live,
    to: &RestoreTarget,
    rename: &[Rename],
    stamp: &str,
) -> Result<(Vec<Placement>, Vec<AliasChange>), SourceError> {
    if let Some(unknown) = rename
        .iter()
        .find(|rename| !contents.collections.iter().any(|stored| stored.name() == rename.from))
    {
        return Err(SourceError::Unsupported(format!(
            "{} is to be renamed, but no collection with this name is restored",
            unknown.from
        )));
    }
    let Contents { collections, aliases } = contents;
    let mut placements = Vec::new();
    for stored in collections {
        let name = stored.name().to_owned();
        let then = match to {
            RestoreTarget::Beside(_) => Then::Stays,
            RestoreTarget::InPlace if live.aliases.contains_key(&name) => {
                return Err(SourceError::Refused(format!(
                    "{name} is now an alias of {} on the server, and a restore to that name would overwrite that collection; restore \
                     to another name, or delete the alias first",
                    live.aliases[&name]
                )));
            }
            RestoreTarget::InPlace if !live.collections.contains(&name) => Then::Stays,
            RestoreTarget::InPlace if is_reached(&name, live) => Then::IsReached,
            RestoreTarget::InPlace => Then::Replaces,
        };
        let chosen =
            rename.iter().find(|rename| rename.from == name).map(|rename| rename.to.clone());
        let target = chosen.unwrap_or_else(|| match to {
            RestoreTarget::Beside(Some(prefix)) => names::prefixed(prefix, &name),
            RestoreTarget::InPlace if then == Then::Stays => name.clone(),
            RestoreTarget::Beside(None) | RestoreTarget::InPlace => names::restored(&name, stamp),
        });
        check_free(&target, live, &placements)?;
        placements.push(Placement { stored, target, then });
    }
    let changes = match to {
        RestoreTarget::Beside(_) => Vec::new(),
        RestoreTarget::InPlace => changes(&placements, &aliases, live)?,
    };
    Ok((placements, changes))
}

/// Reports whether an alias on the server leads to a collection. An alias that only the point has does not count: an
/// interrupted restore leaves such a collection, and it must not keep the name.
fn is_reached(name: &str, live: &Live) -> bool {
    live.aliases.values().any(|collection| collection == name)
}

fn check_free(target: &str, live: &Live, placements: &[Placement]) -> Result<(), SourceError> {
    if let Some(why) = names::invalid(target) {
        return Err(SourceError::Unsupported(format!(
            "`{target}` is not a valid collection name: {why}"
        )));
    }
    let taken = if live.collections.contains(target) {
        "already exists as a collection on the server"
    } else if live.aliases.contains_key(target) {
        "is an alias on the server, and a restore to it would overwrite the collection behind it"
    } else if placements.iter().any(|placement| placement.target == target) {
        "would be the name of two collections"
    } else {
        return Ok(());
    };
    Err(SourceError::Refused(format!("{target} {taken}; choose another name")))
}

/// Afterwards aliases are as in the point; an alias that exists only on the server follows its
/// collection to the restored one.
fn changes(
    placements: &[Placement],
    of_point: &[Alias],
    live: &Live,
) -> Result<Vec<AliasChange>, SourceError> {
    let mut wanted = BTreeMap::new();
    for placement in placements {
        let name = placement.stored.name();
        let end = if placement.then == Then::Replaces { name } else { placement.target.as_str() };
        let own = of_point
            .iter()
            .filter(|alias| alias.collection_name == name)
            .map(|alias| alias.alias_name.as_str());
        let followers = live.aliases.iter().filter(|(alias, collection)| {
            *collection == name && !of_point.iter().any(|known| known.alias_name == **alias)
        });
        for alias in own.chain(followers.map(|(alias, _)| alias.as_str())) {
            if live.collections.contains(alias)
                || placements.iter().any(|placement| placement.target == alias)
            {
                return Err(SourceError::Refused(format!(
                    "alias {alias} of the point is the name of a collection on the server; restore to new names instead"
                )));
            }
            wanted.insert(alias, end);
        }
    }
    let change = |(alias, to): (&str, &str)| {
        let from = live.aliases.get(alias).cloned();
        (from.as_deref() != Some(to)).then(|| AliasChange {
            alias: alias.to_owned(),
            from,
            to: to.to_owned(),
        })
    };
    Ok(wanted.into_iter().filter_map(change).collect())
}

#[cfg(test)]
mod tests {
    use kaleem_dr_core::engine::manifest::ArtifactRecord;

    use super::{
        super::{
            contents::Files,
            description::{Description, Points},
        },
        *,
    };

    fn contents(names: &[&str], aliases: &[(&str, &str)]) -> Contents {
        let stored = |name: &&str| Stored {
            description: Description {
                name: (*name).into(),
                server_version: None,
                config: serde_json::Value::Null,
                payload_schema: serde_json::Map::new(),
                shards: Vec::new(),
                points: Points::Count { count: 1 },
            },
            files: Files::Whole(ArtifactRecord::new("", 0, "")),
        };
        let alias = |(alias, collection): &(&str, &str)| Alias {
            alias_name: (*alias).into(),
            collection_name: (*collection).into(),
        };
        Contents {
            collections: names.iter().map(stored).collect(),
            aliases: aliases.iter().map(alias).collect(),
        }
    }

    fn live(collections: &[&str], aliases: &[(&str, &str)]) -> Live {
        Live {
            collections: collections.iter().map(|&name| name.into()).collect(),
            aliases: aliases
                .iter()
                .map(|&(alias, collection)| (alias.into(), collection.into()))
                .collect(),
        }
    }

    type Placed = (Vec<(String, Then)>, Vec<(String, Option<String>, String)>);

    fn placed(
        contents: Contents,
        live: &Live,
        to: &RestoreTarget,
        rename: &[Rename],
    ) -> Result<Placed, SourceError> {
        let (placements, changes) = place(contents, live, to, rename, "T")?;
        Ok((
            placements.into_iter().map(|placement| (placement.target, placement.then)).collect(),
            changes.into_iter().map(|change| (change.alias, change.from, change.to)).collect(),
        ))
    }

    fn beside(prefix: &str) -> RestoreTarget {
        RestoreTarget::Beside(Some(prefix.into()))
    }

    #[test]
    fn a_restore_to_new_names_touches_no_alias_and_no_name_that_is_taken() {
        let there = live(&["docs"], &[("copy_docs", "docs")]);
        let point = || contents(&["docs"], &[("search", "docs")]);
        let (targets, changes) = placed(point(), &there, &beside("new"), &[]).unwrap();
        assert_eq!((targets, changes.len()), (vec![("new_docs".into(), Then::Stays)], 0));
        assert_eq!(
            placed(point(), &there, &RestoreTarget::Beside(None), &[]).unwrap().0[0].0,
            "docs_restored_T"
        );
        let rename = |to: &str| [Rename::new("docs", to)];
        assert_eq!(
            placed(point(), &there, &beside("new"), &rename("mine")).unwrap().0[0].0,
            "mine"
        );
        for (to, names) in [(beside("copy"), &[][..]), (beside("new"), &rename("docs")[..])] {
            assert!(
                matches!(placed(point(), &there, &to, names), Err(SourceError::Refused(_))),
                "{to:?}"
            );
        }
        let unknown = [Rename::new("dosc", "x")];
        assert!(matches!(
            placed(point(), &there, &beside("new"), &unknown),
            Err(SourceError::Unsupported(_))
        ));
        assert!(matches!(
            placed(point(), &there, &beside("a/b"), &[]),
            Err(SourceError::Unsupported(_))
        ));
    }

    #[test]
    fn in_place_a_lost_collection_comes_back_under_its_name_with_its_aliases() {
        let point = contents(&["docs"], &[("search", "docs")]);
        let (targets, changes) =
            placed(point, &live(&[], &[]), &RestoreTarget::InPlace, &[]).unwrap();
        assert_eq!(targets, [("docs".into(), Then::Stays)]);
        assert_eq!(changes, [("search".into(), None, "docs".into())]);
    }

    #[test]
    fn in_place_a_collection_behind_aliases_stays_and_all_its_aliases_move() {
        let point = contents(&["docs", "other"], &[("search", "docs"), ("find", "other")]);
        let there = live(
            &["docs", "elsewhere"],
            &[("search", "elsewhere"), ("live-only", "docs"), ("apart", "elsewhere")],
        );
        let (targets, changes) = placed(point, &there, &RestoreTarget::InPlace, &[]).unwrap();
        assert_eq!(
            targets,
            [("docs_restored_T".into(), Then::IsReached), ("other".into(), Then::Stays)]
        );
        let expected = [
            ("find".into(), None, "other".into()),
            ("live-only".into(), Some("docs".into()), "docs_restored_T".into()),
            ("search".into(), Some("elsewhere".into()), "docs_restored_T".into()),
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn in_place_a_plain_collection_is_replaced_only_through_a_verified_copy() {
        let point = contents(&["docs"], &[]);
        let (targets, changes) =
            placed(point, &live(&["docs"], &[]), &RestoreTarget::InPlace, &[]).unwrap();
        assert_eq!((targets, changes.len()), (vec![("docs_restored_T".into(), Then::Replaces)], 0));
    }

    #[test]
    fn in_place_what_an_interrupted_restore_left_is_replaced_and_gets_its_aliases() {
        let point = contents(&["docs"], &[("search", "docs")]);
        let (targets, changes) =
            placed(point, &live(&["docs"], &[]), &RestoreTarget::InPlace, &[]).unwrap();
        assert_eq!(targets, [("docs_restored_T".into(), Then::Replaces)]);
        assert_eq!(changes, [("search".into(), None, "docs".into())]);
    }

    #[test]
    fn in_place_nothing_goes_through_an_alias() {
        let there = live(&["other"], &[("docs", "other")]);
        let error =
            placed(contents(&["docs"], &[]), &there, &RestoreTarget::InPlace, &[]).unwrap_err();
        assert!(error.to_string().contains("docs is now an alias of other"), "{error}");
        let there = live(&["docs", "search"], &[]);
        let error = placed(
            contents(&["docs"], &[("search", "docs")]),
            &there,
            &RestoreTarget::InPlace,
            &[],
        )
        .unwrap_err();
        assert!(error.to_string().contains("alias search"), "{error}");
    }
}
