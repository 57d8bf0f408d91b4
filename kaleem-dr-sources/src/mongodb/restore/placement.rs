//! Selects the collections of a recovery point to restore, and their names in the target.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kaleem_dr_core::{
    ground::SourceError,
    recovery::source::{Extras, Rename, RestoreRequest, RestoreTarget},
};

use crate::mongodb::{
    dump::catalogue::StoredCollection,
    names,
    server::listing::{CollectionKind, CollectionSpec, Patterns},
};

/// The collections to restore, with their targets.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) parts: Vec<Placed>,
    /// The target of each database from which something is restored.
    pub(crate) databases: BTreeMap<String, String>,
    /// Target namespaces of the whole point: none of these is an extra.
    known: BTreeSet<String>,
}

/// A collection of the point, and its counterpart in the target.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) stored: StoredCollection,
    pub(crate) target: CollectionSpec,
}

impl Placement {
    /// Resolves the default names of a request, so that the plan and its execution agree, and
    /// places every collection.
    ///
    /// # Errors
    /// [`SourceError::Refused`] if the options are inconsistent or do not match the point.
    pub(crate) fn settle(
        stored: Vec<StoredCollection>,
        mut request: RestoreRequest,
        (of_server, now): (bool, Timestamp),
    ) -> Result<(Self, RestoreRequest), SourceError> {
        if request.extras == Extras::Remove && !request.only.is_empty() {
            return Err(refused(
                "extra collections can be removed only if all of the point is restored: leave out `only`",
            ));
        }
        let names: BTreeSet<(String, String)> = stored
            .iter()
            .map(|stored| (stored.spec.database.clone(), stored.spec.name.clone()))
            .collect();
        let selected = select(stored, &request.only)?;
        let databases: BTreeSet<&str> =
            selected.iter().map(|stored| stored.spec.database.as_str()).collect();
        request.to = resolve(request.to, &databases, of_server, now);
        let databases = target_databases(&request.to, &databases, of_server)?;
        let known = names
            .iter()
            .filter_map(|(database, name)| {
                databases.get(database).map(|target| format!("{target}.{name}"))
            })
            .collect();
        let renamed = renames(&selected, &request.rename)?;
        let parts: Vec<Placed> = selected
            .into_iter()
            .map(|stored| {
                let name =
                    renamed.get(&stored.spec.namespace()).unwrap_or(&stored.spec.name).clone();
                let target = CollectionSpec {
                    database: databases[&stored.spec.database].clone(),
                    name,
                    ..stored.spec.clone()
                };
                Placed { stored, target }
            })
            .collect();
        refuse_doubles(&parts)?;
        Ok((Self { parts, databases, known }, request))
    }

    /// Reports whether a collection of the target is neither restored nor in the point.
    pub(crate) fn is_extra(&self, found: &CollectionSpec) -> bool {
        let namespace = found.namespace();
        !self.known.contains(&namespace)
            && !self.parts.iter().any(|placed| placed.target.namespace() == namespace)
    }

    /// Views whose collection is renamed: their definition still refers to the old name.
    pub(crate) fn stranded_views(&self) -> Vec<String> {
        let moved = |database: &str, name: &str| {
            self.parts.iter().any(|placed| {
                placed.stored.spec.database == database
                    && placed.stored.spec.name == name
                    && placed.target.name != name
            })
        };
        self.parts
            .iter()
            .map(|placed| &placed.stored.spec)
            .filter(|spec| spec.kind == CollectionKind::View)
            .filter(|spec| spec.options.get_str("viewOn").is_ok_and(|on| moved(&spec.database, on)))
            .map(CollectionSpec::namespace)
            .collect()
    }
}

fn refused(why: impl Into<String>) -> SourceError {
    SourceError::Refused(why.into())
}

/// The collections selected by `only`. A pattern without a match is refused, because what it should
/// select would be missing.
fn select(
    stored: Vec<StoredCollection>,
    only: &[String],
) -> Result<Vec<StoredCollection>, SourceError> {
    let Some(patterns) = Patterns::new(only).map_err(|error| refused(error.to_string()))? else {
        return Ok(stored);
    };
    if let Some(unmatched) = patterns.unmatched(stored.iter().map(|stored| &stored.spec)).first() {
        return Err(refused(format!(
            "no collection of the recovery point matches `{unmatched}`; use names or globs of `collection` or `database.collection`"
        )));
    }
    Ok(stored.into_iter().filter(|stored| patterns.matches(&stored.spec)).collect())
}

/// The new names, by namespace in the point.
fn renames(
    selected: &[StoredCollection],
    asked: &[Rename],
) -> Result<BTreeMap<String, String>, SourceError> {
    let mut renamed = BTreeMap::new();
    for Rename { from, to, .. } in asked {
        let full: Vec<_> =
            selected.iter().filter(|stored| stored.spec.namespace() == *from).collect();
        let (found, name) = if full.is_empty() {
            (selected.iter().filter(|stored| stored.spec.name == *from).collect(), to.as_str())
        } else {
            let database = &full[0].spec.database;
            let name = to.strip_prefix(&format!("{database}.")).ok_or_else(|| {
                refused(format!(
                    "`{from}` cannot be renamed to `{to}`: a collection stays in its database, so write {from}={database}.<name>; \
                     the target of the restore determines the database"
                ))
            })?;
            (full, name)
        };
        if found.is_empty() {
            return Err(refused(format!(
                "no collection to be restored is called `{from}`, so it cannot be renamed to `{to}`"
            )));
        }
        if let Some(why) = names::invalid_collection(name) {
            return Err(refused(format!("`{name}` is not a valid collection name: {why}")));
        }
        for stored in found {
            if renamed.insert(stored.spec.namespace(), name.to_owned()).is_some() {
                return Err(refused(format!("{} is renamed twice", stored.spec.namespace())));
            }
        }
    }
    Ok(renamed)
}

fn refuse_doubles(parts: &[Placed]) -> Result<(), SourceError> {
    let mut taken = BTreeMap::new();
    for placed in parts {
        if let Some(other) = taken.insert(placed.target.namespace(), placed.stored.spec.namespace())
        {
            return Err(refused(format!(
                "{other} and {} would both become {}: choose another name for one of them",
                placed.stored.spec.namespace(),
                placed.target.namespace()
            )));
        }
    }
    Ok(())
}

/// Resolves the default target: `<db>_restored_<time>` for one database, the prefix
/// `restored_<time>` for several.
fn resolve(
    to: RestoreTarget,
    databases: &BTreeSet<&str>,
    of_server: bool,
    now: Timestamp,
) -> RestoreTarget {
    if to != RestoreTarget::Beside(None) {
        return to;
    }
    let stamp = now.strftime("%Y%m%d_%H%M%S").to_string();
    let name = match databases.iter().next() {
        Some(database) if databases.len() == 1 && !of_server => {
            names::restored_database(database, &stamp)
        }
        _ => format!("restored_{stamp}"),
    };
    RestoreTarget::Beside(Some(name))
}

/// The target of each database of the point.
fn target_databases(
    to: &RestoreTarget,
    databases: &BTreeSet<&str>,
    of_server: bool,
) -> Result<BTreeMap<String, String>, SourceError> {
    let target = |database: &str| match to {
        RestoreTarget::Beside(Some(name)) if databases.len() == 1 && !of_server => name.clone(),
        RestoreTarget::Beside(Some(prefix)) => names::prefixed_database(prefix, database),
        RestoreTarget::Beside(None) | RestoreTarget::InPlace => database.to_owned(),
    };
    databases
        .iter()
        .map(|database| {
            let target = target(database);
            match names::invalid_database(&target) {
                None => Ok(((*database).to_owned(), target)),
                Some(why) => Err(refused(format!(
                    "`{target}` is not a valid database name: {why}; choose another name"
                ))),
            }
        })
        .collect()
}

/// Refuses to merge into collections that merging would damage.
pub(crate) fn refuse_unmergeable(target: &CollectionSpec) -> Result<(), SourceError> {
    let why = if target.kind == CollectionKind::TimeSeries {
        "the measurements of a time series have no identity, so existing ones cannot be recognised"
    } else if target.is_capped() {
        "inserts into a capped collection remove existing documents"
    } else {
        return Ok(());
    };
    Err(refused(format!(
        "{} exists and cannot be merged: {why}; let it be replaced, restore it under another name, or select the others with `only`",
        target.namespace()
    )))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;
    use crate::mongodb::dump::catalogue::Catalogued;

    fn stored(namespace: &str) -> StoredCollection {
        let (database, name) = namespace.split_once('.').unwrap();
        StoredCollection {
            spec: CollectionSpec {
                database: database.into(),
                name: name.into(),
                kind: CollectionKind::Collection,
                options: doc! {},
                indexes: vec![],
                uuid: None,
            },
            entry: Catalogued {
                database: database.into(),
                metadata: String::new(),
                data: None,
                specification: String::new(),
            },
            data: None,
        }
    }

    fn place(names: &[&str], request: RestoreRequest) -> Result<Vec<String>, SourceError> {
        let now: Timestamp = "2026-01-31T12:00:05Z".parse().unwrap();
        let stored = names.iter().map(|name| stored(name)).collect();
        let (placement, _) = Placement::settle(stored, request, (false, now))?;
        Ok(placement.parts.iter().map(|placed| placed.target.namespace()).collect())
    }

    fn rename(from: &str, to: &str) -> Rename {
        Rename::new(from, to)
    }

    #[track_caller]
    fn refused(result: Result<Vec<String>, SourceError>, what: &str) {
        let error = result.unwrap_err();
        assert!(matches!(&error, SourceError::Refused(why) if why.contains(what)), "{error:?}");
    }

    #[test]
    fn a_restore_uses_a_new_name_by_default() {
        let whole = |to| RestoreRequest::whole(to);
        let beside = |name: &str| RestoreRequest::whole(RestoreTarget::Beside(Some(name.into())));
        let one = ["kaleem.a"];
        let two = ["kaleem.a", "other.b"];
        assert_eq!(
            place(&one, whole(RestoreTarget::Beside(None))).unwrap(),
            ["kaleem_restored_20260131_120005.a"]
        );
        assert_eq!(
            place(&two, whole(RestoreTarget::Beside(None))).unwrap(),
            ["restored_20260131_120005_kaleem.a", "restored_20260131_120005_other.b"]
        );
        assert_eq!(place(&one, beside("x")).unwrap(), ["x.a"]);
        assert_eq!(place(&two, beside("x")).unwrap(), ["x_kaleem.a", "x_other.b"]);
        assert_eq!(place(&two, whole(RestoreTarget::InPlace)).unwrap(), two);
        refused(place(&one, beside("a.b")), "is not a valid database name");
    }

    #[test]
    fn only_takes_bare_and_full_names_and_a_pattern_without_a_match_is_refused() {
        let only = |patterns: &[&str]| {
            RestoreRequest::whole(RestoreTarget::Beside(Some("x".into())))
                .with_only(patterns.iter().map(ToString::to_string).collect())
        };
        let point = ["d.users", "d.users_old", "e.users"];
        assert_eq!(
            place(&point, only(&["d.users"])).unwrap(),
            ["x.users"],
            "one database is left, so its target is the name"
        );
        assert_eq!(place(&point, only(&["users"])).unwrap(), ["x_d.users", "x_e.users"]);
        refused(place(&point, only(&["users", "ghost*"])), "`ghost*`");
        refused(place(&point, only(&["[a"])), "malformed");
        refused(place(&point, only(&["users"]).with_extras(Extras::Remove)), "leave out `only`");
    }

    #[test]
    fn renames_stay_in_their_database_and_never_meet() {
        let with = |renames: Vec<Rename>| {
            RestoreRequest::whole(RestoreTarget::InPlace).with_rename(renames)
        };
        let point = ["d.a", "d.b", "e.a"];
        assert_eq!(place(&point, with(vec![rename("a", "z")])).unwrap(), ["d.z", "d.b", "e.z"]);
        assert_eq!(place(&point, with(vec![rename("d.a", "d.z")])).unwrap(), ["d.z", "d.b", "e.a"]);
        assert_eq!(
            place(&point, with(vec![rename("d.a", "d.b"), rename("d.b", "d.a")])).unwrap(),
            ["d.b", "d.a", "e.a"]
        );
        refused(place(&point, with(vec![rename("d.a", "e.z")])), "stays in its database");
        refused(
            place(&point, with(vec![rename("ghost", "z")])),
            "no collection to be restored is called `ghost`",
        );
        refused(place(&point, with(vec![rename("d.a", "d.b")])), "would both become d.b");
        refused(place(&point, with(vec![rename("a", "z"), rename("d.a", "d.y")])), "renamed twice");
        refused(
            place(&point, with(vec![rename("b", "system.users")])),
            "is not a valid collection name",
        );
    }

    #[test]
    fn a_collection_of_the_point_is_not_an_extra_even_when_it_is_not_restored() {
        let request =
            RestoreRequest::whole(RestoreTarget::InPlace).with_rename(vec![rename("a", "z")]);
        let (placement, _) = Placement::settle(
            vec![stored("d.a"), stored("d.b")],
            request,
            (false, Timestamp::UNIX_EPOCH),
        )
        .unwrap();
        let is_extra = |name: &str| placement.is_extra(&stored(name).spec);
        assert_eq!(["d.a", "d.z", "d.b", "d.c"].map(is_extra), [false, false, false, true]);
    }
}
