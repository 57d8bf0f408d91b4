//! Plans a restore, collection by collection, before anything is written.

use jiff::Timestamp;
use kaleem_dr_core::{
    ground::SourceError,
    recovery::{
        point::PointReader,
        source::{
            Change, Existing, Extras, PlannedAction, RestorePlan, RestoreRequest, RestoreTarget,
        },
    },
};

use super::{
    mark::{self, Mark},
    placement::{self, Placed, Placement},
    rebuild,
    replay::{self, Log},
    rights,
    writes::Writes,
};
use crate::mongodb::{
    dump::catalogue,
    server::{
        Connection, ServerFacts, Topology,
        listing::{self, CollectionKind, CollectionSpec, Scope},
    },
    users,
};

/// Plans a restore. `scope` is what captures include: what they leave out is never an extra to
/// remove.
pub(crate) async fn plan(
    connection: &Connection,
    scope: &Scope,
    writes: &Writes,
    point: &PointReader,
    request: RestoreRequest,
) -> Result<RestorePlan, SourceError> {
    let (placement, request) = Placement::settle(
        catalogue::read(point.manifest())?,
        request,
        (users::are_of_server(point.manifest()), Timestamp::now()),
    )?;
    rights::require(connection, placement.databases.values(), &rights::RESTORE).await?;
    let facts = connection.facts().await?;
    refuse_sharded_config(connection, &facts, &placement, &request.to)?;
    let (mark, mut actions) = (Mark::of(point), Vec::new());
    for (database, target) in &placement.databases {
        let existing = listing::list_database(connection, target).await?;
        if request.to != RestoreTarget::InPlace {
            mark.admit(connection, target, &existing, &request).await?;
        }
        for placed in
            placement.parts.iter().filter(|placed| placed.stored.spec.database == *database)
        {
            let there = existing.iter().find(|spec| spec.name == placed.target.name);
            actions.push(action(placed, there, &request)?);
        }
        actions.extend(
            existing
                .iter()
                .filter(|spec| !listing::is_the_servers_own(target, &spec.name))
                .filter(|spec| !mark::is_mark(&spec.name))
                .filter(|spec| {
                    !placement
                        .parts
                        .iter()
                        .any(|placed| placed.target.namespace() == spec.namespace())
                })
                .map(|spec| left_over(spec, &placement, scope, request.extras)),
        );
    }
    actions.extend(
        users::owners(point.manifest(), placement.databases.keys())
            .iter()
            .filter_map(|database| users::planned(point.manifest(), database, &request)),
    );
    let mut warnings = warnings(&placement, &request, &actions);
    if let Some(log) = Log::of(point, &request, writes)? {
        let survey = replay::survey(point, &log).await?;
        warnings.push(format!(
            "{} entries of the oplog are replayed{} after the collections are in, and compared with them",
            survey.entries, log.end
        ));
        if request.only.is_empty() {
            actions.extend(survey.made.into_iter().map(|made| made_meanwhile(&made, &placement)));
        }
    } else if replay::oplog(point).is_some() {
        warnings.push(
            "the point has an oplog, which is not replayed: all collections are restored as they were when they were read; \
             with replay_oplog = true they are restored as of the end of the capture"
                .to_owned(),
        );
    }
    Ok(RestorePlan::new(request, describe(connection, &placement), actions, warnings))
}

/// The planned creation of a collection that the oplog creates, unless the capture listed it too.
fn made_meanwhile((database, name): &(String, String), placement: &Placement) -> PlannedAction {
    let target = placement.databases.get(database).unwrap_or(database);
    PlannedAction::new(Change::Overwrite, format!("collection {target}.{name}"))
        .because("the oplog creates it: an existing one with this name is dropped")
}

/// The planned change of one collection of the point.
fn action(
    placed: &Placed,
    there: Option<&CollectionSpec>,
    request: &RestoreRequest,
) -> Result<PlannedAction, SourceError> {
    let spec = &placed.stored.spec;
    let renamed =
        (spec.name != placed.target.name).then(|| format!("it is {} in the point", spec.name));
    let (change, why) = match (there, request.existing) {
        (None, _) => (Change::Create, renamed),
        (Some(_), Existing::Continue) if request.to == RestoreTarget::InPlace => (
            Change::Overwrite,
            Some("it is kept if it equals the point's, and else dropped and rebuilt".to_owned()),
        ),
        (Some(_), Existing::Continue) => (
            Change::Merge,
            Some("an interrupted restore created it: what it lacks is inserted".to_owned()),
        ),
        (Some(_), Existing::Replace) => {
            let why = "it is dropped just before it is rebuilt".to_owned();
            (
                Change::Overwrite,
                Some(renamed.map_or(why.clone(), |renamed| format!("{renamed}; {why}"))),
            )
        }
        (Some(there), Existing::Merge) if there.kind != spec.kind => (
            Change::Conflict,
            Some(format!(
                "a {} with this name exists and is kept: nothing is merged into it",
                there.kind.word()
            )),
        ),
        (Some(_), Existing::Merge) if spec.kind == CollectionKind::View => {
            (Change::Leave, Some("a view with this name exists and is kept".to_owned()))
        }
        (Some(there), Existing::Merge) => {
            placement::refuse_unmergeable(&placed.target)?;
            placement::refuse_unmergeable(there)?;
            let why = "documents with a new _id are inserted and missing indexes are built; everything else stays";
            (
                Change::Merge,
                Some(renamed.map_or(why.to_owned(), |renamed| format!("{renamed}; {why}"))),
            )
        }
    };
    let data = placed.stored.data.as_ref();
    let mut action = PlannedAction::new(change, label(&placed.target))
        .with_items(data.and_then(|data| data.items))
        .with_size(data.map(|data| data.size_bytes));
    action.why = why;
    Ok(action)
}

/// The planned change of a collection of the target to which nothing is restored.
fn left_over(
    spec: &CollectionSpec,
    placement: &Placement,
    scope: &Scope,
    extras: Extras,
) -> PlannedAction {
    let (change, why) = match extras {
        _ if !placement.is_extra(spec) => {
            (Change::Leave, "it is in the point, but not selected for this restore")
        }
        Extras::Remove if is_removed(spec, placement, scope) => {
            (Change::Remove, "it is not in the point")
        }
        Extras::Remove => {
            (Change::Leave, "captures leave it out, so its absence from the point proves nothing")
        }
        Extras::Keep => (Change::Leave, "it is not in the point"),
    };
    PlannedAction::new(change, label(spec)).because(why.to_owned())
}

/// Reports whether an extra is removed when extras are: only if a capture would have included it.
pub(crate) fn is_removed(spec: &CollectionSpec, placement: &Placement, scope: &Scope) -> bool {
    !listing::is_the_servers_own(&spec.database, &spec.name)
        && placement.is_extra(spec)
        && scope.takes(spec)
}

fn warnings(
    placement: &Placement,
    request: &RestoreRequest,
    actions: &[PlannedAction],
) -> Vec<String> {
    let mut warnings = Vec::new();
    if actions.iter().any(|action| action.change == Change::Overwrite) {
        warnings.push(
            "each existing collection is dropped just before it is rebuilt: if the restore is interrupted, those not reached yet \
             are unchanged and the one in progress is incomplete"
                .to_owned(),
        );
    }
    if request.extras == Extras::Remove {
        warnings.push(
            "extra collections are removed last, and only if everything else was found equal"
                .to_owned(),
        );
    }
    let stranded = placement.stranded_views();
    if !stranded.is_empty() {
        warnings.push(format!(
            "these views keep their definition, which refers to a collection that is renamed: {}",
            stranded.join(", ")
        ));
    }
    warnings.extend(expiry_warning(placement));
    warnings
}

/// Warns that documents may expire after the restore.
pub(crate) fn expiry_warning(placement: &Placement) -> Option<String> {
    let targets = placement.parts.iter().map(|placed| &placed.target);
    let expiring: Vec<String> =
        targets.filter(|spec| rebuild::expires(spec)).map(CollectionSpec::namespace).collect();
    (!expiring.is_empty()).then(|| {
        format!(
            "the server deletes expired documents soon after the restore, in: {}",
            expiring.join(", ")
        )
    })
}

/// A cluster keeps the state of its shards in `config`: overwriting it would destroy the cluster,
/// not just a collection.
pub(crate) fn refuse_sharded_config(
    connection: &Connection,
    facts: &ServerFacts,
    placement: &Placement,
    to: &RestoreTarget,
) -> Result<(), SourceError> {
    if facts.topology == Topology::Sharded
        && *to == RestoreTarget::InPlace
        && placement.databases.contains_key("config")
    {
        return Err(SourceError::Refused(format!(
            "{} is a sharded cluster, which keeps its own state in the database config: select what to restore with `only`, without it",
            connection.server()
        )));
    }
    Ok(())
}

fn describe(connection: &Connection, placement: &Placement) -> String {
    let names: Vec<&str> = placement.databases.values().map(String::as_str).collect();
    let word = if names.len() == 1 { "database" } else { "databases" };
    format!("{word} {} on {}", names.join(", "), connection.server())
}

/// The name of a collection in plans and reports: `collection kaleem.users`.
pub(crate) fn label(spec: &CollectionSpec) -> String {
    format!("{} {}", spec.kind.word(), spec.namespace())
}
