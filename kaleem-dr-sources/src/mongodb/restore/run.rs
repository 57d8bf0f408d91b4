//! Restoring: collection by collection, then the views, then a comparison by content.
//!
//! A collection is created with its options, filled, read back and compared, and only then indexed:
//! building an index over existing documents is faster, and a TTL index would start to delete
//! expired documents before they were counted. A collection that is merged into keeps its indexes
//! throughout.

use std::sync::Arc;

use bson::doc;
use jiff::Timestamp;
use kaleem_dr_core::{
    ground::{SourceError, progress::Unit},
    recovery::{
        point::PointReader,
        source::{
            Change, Difference, Existing, Extras, PlannedAction, RestorePlan, RestoreReport,
            RestoreTarget,
        },
    },
};

use super::{
    compare,
    placement::Placement,
    plan::{self, label},
    rebuilder::Rebuilder,
    replay,
    stream::pieces,
    writes::Writes,
};
use crate::mongodb::{
    dump::catalogue::{self, StoredCollection},
    server::{
        Connection, codes,
        listing::{self, CollectionKind, CollectionSpec, Scope},
    },
    users,
};

/// Limit for a metadata file, in bytes: a larger file is not metadata.
const LARGEST_METADATA: u64 = 64 << 20;

/// Executes a plan and compares the result.
pub(crate) async fn restore(
    connection: &Arc<Connection>,
    scope: &Scope,
    writes: &Writes,
    point: &PointReader,
    plan: RestorePlan,
) -> Result<RestoreReport, SourceError> {
    let cancel = point.cancellation();
    let request = plan.request.clone();
    let result = cancel.run_until_cancelled(run(connection, scope, writes, point, plan)).await;
    let (placement, mut report) = result.unwrap_or(Err(SourceError::Cancelled))?;
    if users::are_restored(&request) {
        // This is short and never interrupted: for a moment the users are in collections that must
        // not stay.
        for database in placement.databases.keys() {
            if users::Part::Users.of(point.manifest(), database).is_some() {
                users::restore(connection, writes, point, database, request.extras, &mut report)
                    .await?;
            }
        }
    }
    if let Some(oplog) =
        replay::artifact(point).filter(|_| writes.replays && replay::is_possible(&request))
    {
        if report.is_equal() {
            let replayed = replay::replay(connection, writes, point, &oplog, &mut report);
            cancel.run_until_cancelled(replayed).await.unwrap_or(Err(SourceError::Cancelled))?;
        } else {
            report.warnings.push(
                "the oplog was not replayed, because not everything was found equal to the point"
                    .to_owned(),
            );
        }
    }
    Ok(report)
}

async fn run(
    connection: &Arc<Connection>,
    scope: &Scope,
    writes: &Writes,
    point: &PointReader,
    plan: RestorePlan,
) -> Result<(Placement, RestoreReport), SourceError> {
    let (placement, request) =
        Placement::settle(catalogue::read(point.manifest())?, plan.request, Timestamp::now())?;
    let facts = connection.facts().await?;
    plan::refuse_sharded_config(connection, &facts, &placement, &request.to)?;
    let in_place = request.to == RestoreTarget::InPlace;
    let mut there = Vec::new();
    for target in placement.databases.values() {
        let existing = listing::list_database(connection, target).await?;
        if !in_place {
            // The target may have been filled since the plan.
            plan::refuse_if_filled(connection, target, &existing)?;
        }
        there.extend(existing);
    }
    check_metadata(point, placement.parts.iter().map(|placed| &placed.stored)).await?;

    let total = placement
        .parts
        .iter()
        .filter_map(|placed| placed.stored.data.as_ref())
        .map(|data| data.size_bytes)
        .sum::<u64>();
    // Each byte is written once and read back once.
    let progress = point.progress().begin("restore MongoDB", Unit::Bytes, Some(2 * total));
    let mut report = RestoreReport { target: plan.target, ..RestoreReport::default() };
    let rebuilder = Rebuilder {
        connection,
        facts: &facts,
        writes,
        progress: progress.as_ref(),
        replaces: in_place && request.existing == Existing::Replace,
    };
    let mut merged = Vec::new();
    // Views come last, since they depend on collections; their order among themselves does not
    // matter to the server.
    let (views, collections): (Vec<_>, Vec<_>) =
        placement.parts.iter().partition(|placed| placed.stored.spec.kind == CollectionKind::View);
    for placed in collections.into_iter().chain(views) {
        let target = &placed.target;
        let found = there.iter().find(|spec| spec.namespace() == target.namespace());
        if let (Some(found), Existing::Merge) = (found, request.existing) {
            merged.push(target.namespace());
            if found.kind != target.kind {
                // The comparison reports it.
                continue;
            }
            if let Some(data) = placed.stored.data.as_ref() {
                rebuilder
                    .merge(target, found, data, pieces(point, &data.path).await?, &mut report)
                    .await?;
            }
            continue;
        }
        let content = match &placed.stored.data {
            Some(data) => Some((data, pieces(point, &data.path).await?)),
            None => None,
        };
        rebuilder.collection(target, content, &mut report).await?;
    }
    compare_specifications(connection, &placement, &merged, &mut report).await?;
    if request.extras == Extras::Remove && in_place {
        remove_extras(
            connection,
            writes,
            &Extra { placement: &placement, scope, planned: &plan.actions },
            &mut report,
        )
        .await?;
    }
    report.warnings.extend(plan::expiry_warning(&placement));
    progress.finish();
    Ok((placement, report))
}

/// Reads every collection's options and indexes from the target and compares them with the point.
/// For a merged collection, only missing parts are differences; changed ones are reported as
/// warnings.
async fn compare_specifications(
    connection: &Connection,
    placement: &Placement,
    merged: &[String],
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    for (database, target) in &placement.databases {
        let found = listing::list_database(connection, target).await?;
        for placed in
            placement.parts.iter().filter(|placed| placed.stored.spec.database == *database)
        {
            let (spec, label) = (&placed.stored.spec, label(&placed.target));
            let Some(made) = found.iter().find(|made| made.name == placed.target.name) else {
                report.differences.push(Difference {
                    what: label,
                    expected: "it exists".to_owned(),
                    found: "it does not".to_owned(),
                });
                continue;
            };
            let indexes = listing::list_indexes(connection, made).await?;
            let mut differences = compare::options(&label, spec, made);
            differences.extend(compare::indexes(&label, &spec.indexes, &indexes));
            if differences.is_empty() {
                report.compared.push(match spec.kind {
                    CollectionKind::View => format!("{label}: definition"),
                    _ => format!("{label}: options and {} indexes", spec.indexes.len()),
                });
            }
            if merged.contains(&placed.target.namespace()) {
                let (lacks, kept): (Vec<_>, Vec<_>) =
                    differences.into_iter().partition(compare::is_lack);
                report.differences.extend(lacks);
                let kept = kept.iter().map(|kept| {
                    format!(
                        "{} existed with other settings and stays unchanged: {}",
                        kept.what, kept.found
                    )
                });
                report.warnings.extend(kept);
            } else {
                report.differences.extend(differences);
            }
        }
    }
    Ok(())
}

/// The inputs that decide which collections are removed.
struct Extra<'a> {
    placement: &'a Placement,
    scope: &'a Scope,
    /// The plan shown to the operator: nothing else is removed.
    planned: &'a [PlannedAction],
}

/// Removes extras, if everything else is equal, and checks that they are gone.
async fn remove_extras(
    connection: &Connection,
    writes: &Writes,
    extra: &Extra<'_>,
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    let shown = |spec: &CollectionSpec| {
        let label = label(spec);
        extra.planned.iter().any(|action| action.change == Change::Remove && action.what == label)
    };
    if !report.is_equal() {
        report.warnings.push(
            "extra collections were not removed, because not everything was found equal to the point"
                .to_owned(),
        );
        return Ok(());
    }
    for target in extra.placement.databases.values() {
        let found = listing::list_database(connection, target).await?;
        let extras =
            found.iter().filter(|spec| plan::is_removed(spec, extra.placement, extra.scope));
        for spec in extras {
            if shown(spec) {
                let command = doc! { "drop": &spec.name, "writeConcern": &writes.concern };
                let action = format!("drop {}", spec.namespace());
                connection
                    .write_tolerating(
                        &spec.database,
                        command,
                        &action,
                        Some(codes::NAMESPACE_NOT_FOUND),
                    )
                    .await?;
            } else {
                report.warnings.push(format!(
                    "{} was created after the plan was made, and stays",
                    label(spec)
                ));
            }
        }
        let left = listing::list_database(connection, target).await?;
        for spec in left
            .iter()
            .filter(|spec| plan::is_removed(spec, extra.placement, extra.scope) && shown(spec))
        {
            report.differences.push(Difference {
                what: label(spec),
                expected: "it is removed".to_owned(),
                found: "it exists".to_owned(),
            });
        }
    }
    Ok(())
}

/// Checks, before anything is written, that every description is readable and equal to the
/// manifest's.
async fn check_metadata(
    point: &PointReader,
    stored: impl Iterator<Item = &StoredCollection>,
) -> Result<(), SourceError> {
    for stored in stored {
        let json = point.artifact(&stored.entry.metadata).await?.read_all(LARGEST_METADATA).await?;
        if json != stored.entry.specification.as_bytes() {
            return Err(SourceError::Point(
                format!("{} differs from the manifest", stored.entry.metadata).into(),
            ));
        }
    }
    Ok(())
}
