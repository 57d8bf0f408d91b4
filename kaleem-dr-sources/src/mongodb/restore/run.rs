//! Restores collection by collection, then the views, then compares content.
//!
//! Every collection is created with its options, filled, read back and compared. Then the oplog is replayed, if the point has one
//! that counts, and the result compared. Indexes are built last: this is faster over existing documents; a TTL index would delete
//! expired documents before they were counted; and an index that cannot be built does not keep data from being restored. A
//! collection that is merged into keeps its indexes throughout.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use bson::doc;
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture};
use jiff::Timestamp;
use kaleem_dr_core::{
    ground::{SourceError, digest::MultisetDigest, progress::Unit},
    recovery::{
        point::PointReader,
        source::{
            Change, Difference, Existing, Extras, PlannedAction, RestorePlan, RestoreReport,
            RestoreRequest, RestoreTarget, Uncompared,
        },
    },
};

use super::{
    compare,
    live::Live,
    mark::Mark,
    placement::Placement,
    plan::{self, label},
    rebuilder::Rebuilder,
    replay::{self, Log, Replay},
    rights,
    stream::pieces,
    writes::Writes,
};
use crate::mongodb::{
    dump::{
        DataPlace,
        catalogue::{self, StoredCollection},
    },
    server::{
        Connection, codes,
        listing::{self, CollectionKind, CollectionSpec, Scope},
    },
    users,
};

/// Collections whose indexes are built at once.
const INDEXED_AT_ONCE: usize = 4;
/// Limit for a metadata file, in bytes: a larger file is not metadata.
const LARGEST_METADATA: u64 = 64 << 20;

/// Executes a plan and compares the result. Also returns the collections in the target.
pub(crate) async fn restore(
    connection: &Arc<Connection>,
    scope: &Scope,
    writes: &Writes,
    point: &PointReader,
    plan: RestorePlan,
) -> Result<(RestoreReport, Vec<Live>), SourceError> {
    let cancel = point.cancellation();
    let request = plan.request.clone();
    let running = Box::pin(run(connection, scope, writes, point, plan));
    let result = cancel.run_until_cancelled(running).await;
    let (placement, mut report, live) = result.unwrap_or(Err(SourceError::Cancelled))?;
    if users::are_restored(&request) {
        // Users are restored quickly and without interruption: for a moment they are in temporary collections that must not
        // remain.
        for database in &users::owners(point.manifest(), placement.databases.keys()) {
            if users::Part::Users.of(point.manifest(), database).is_some() {
                users::restore(connection, writes, point, database, request.extras, &mut report)
                    .await?;
            }
        }
    }
    if request.to != RestoreTarget::InPlace {
        for target in placement.databases.values() {
            Mark::remove(connection, writes, target).await?;
        }
    }
    Ok((report, live))
}

async fn run(
    connection: &Arc<Connection>,
    scope: &Scope,
    writes: &Writes,
    point: &PointReader,
    plan: RestorePlan,
) -> Result<(Placement, RestoreReport, Vec<Live>), SourceError> {
    let (placement, request) = Placement::settle(
        catalogue::read(point.manifest())?,
        plan.request,
        (users::are_of_server(point.manifest()), Timestamp::now()),
    )?;
    let facts = connection.facts().await?;
    plan::refuse_sharded_config(connection, &facts, &placement, &request.to)?;
    let in_place = request.to == RestoreTarget::InPlace;
    let (mark, mut unmarked, mut there) = (Mark::of(point), Vec::new(), Vec::new());
    for target in placement.databases.values() {
        let existing = listing::list_database(connection, target).await?;
        // The target may have received collections since the plan was made.
        if !in_place && !mark.admit(connection, target, &existing, &request).await? {
            unmarked.push(target);
        }
        there.extend(existing);
    }
    let log = Log::of(point, &request, writes)?;
    let actions =
        [&rights::RESTORE[..], if log.is_some() { &rights::REPLAY } else { &[] }].concat();
    rights::require(connection, placement.databases.values(), &actions).await?;
    if let Some(log) = &log {
        // Checks every entry first, so that one that cannot be replayed refuses the restore before anything is written.
        replay::survey(point, log).await?;
    }
    check_metadata(point, placement.parts.iter().map(|placed| &placed.stored)).await?;

    for target in unmarked {
        mark.place(connection, writes, target).await?;
    }
    let total = placement
        .parts
        .iter()
        .filter_map(|placed| placed.stored.data.as_ref())
        .map(|data| data.size_bytes)
        .sum::<u64>();
    // Each byte is written once and read back once.
    let progress = point.progress().begin("restore MongoDB", Unit::Bytes, Some(2 * total));
    let mut report = RestoreReport::to(plan.target);
    let rebuilder = Rebuilder {
        connection,
        facts: &facts,
        writes,
        progress: progress.as_ref(),
        replaces: in_place && request.existing == Existing::Replace,
    };
    let mut live =
        rebuild_all(&rebuilder, point, &placement, (&there, &request), &mut report).await?;
    if let Some(log) = log {
        let replay = Replay {
            connection,
            facts: &facts,
            writes,
            databases: &placement.databases,
            takes_new: request.only.is_empty(),
        };
        replay_and_compare(&replay, point, &log, &mut live, &mut report).await?;
    }
    build_indexes(&rebuilder, &live, &mut report).await?;
    compare_specifications(connection, &live, &mut report).await?;
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
    Ok((placement, report, live))
}

/// Creates and fills every collection of a placement, or merges it into the one that is `there`. Returns what exists now.
async fn rebuild_all(
    rebuilder: &Rebuilder<'_>,
    point: &PointReader,
    placement: &Placement,
    (there, request): (&[CollectionSpec], &RestoreRequest),
    report: &mut RestoreReport,
) -> Result<Vec<Live>, SourceError> {
    let mut live = Vec::new();
    // Views last, because they depend on collections; the server accepts them in any order.
    let (views, collections): (Vec<_>, Vec<_>) =
        placement.parts.iter().partition(|placed| placed.stored.spec.kind == CollectionKind::View);
    for placed in collections.into_iter().chain(views) {
        let target = &placed.target;
        let found = there.iter().find(|spec| spec.namespace() == target.namespace());
        if let (Some(found), Existing::Continue) = (found, request.existing) {
            let is_ours = request.to != RestoreTarget::InPlace;
            let data = placed.stored.data.as_ref();
            let content = rebuilder.resume((target, found, is_ours), data, point, report).await?;
            live.push(Live::of(placed, content, false));
            continue;
        }
        if let (Some(found), Existing::Merge) = (found, request.existing) {
            live.push(Live::of(placed, MultisetDigest::default(), true));
            if found.kind != target.kind {
                // The comparison reports it.
                continue;
            }
            if let Some(data) = placed.stored.data.as_ref() {
                rebuilder
                    .merge(target, found, data, pieces(point, &data.path).await?, report)
                    .await?;
            }
            continue;
        }
        let content = match &placed.stored.data {
            Some(data) => Some((data, pieces(point, &data.path).await?)),
            None => None,
        };
        let content = rebuilder.collection(target, content, report).await?;
        live.push(Live::of(placed, content, false));
    }
    Ok(live)
}

/// Replays an oplog, and compares every collection that it changed with its expected content.
async fn replay_and_compare(
    replay: &Replay<'_>,
    point: &PointReader,
    log: &Log,
    live: &mut Vec<Live>,
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    if !report.is_equal() && !report.differences.is_empty() {
        report.warnings.push(
            "the oplog was not replayed, since not all of the point was found equal".to_owned(),
        );
        if log.is_needed {
            report.differences.push(Difference::new("the oplog", "it is replayed", "it is not"));
        }
        return Ok(());
    }
    let replayed = replay.run(point, log, live).await?;
    for live in live.iter().filter(|live| live.is_touched && !live.is_gone) {
        let label = label(&live.spec);
        let viewless = replay.facts.has_viewless_time_series();
        let Some(place) = DataPlace::of(&live.spec, viewless) else { continue };
        if !live.is_comparable() {
            report.uncompared.push(Uncompared::new(label, "a capped collection drops its oldest documents by itself, so what the oplog adds cannot be compared"));
            continue;
        }
        let found = compare::read_back(replay.connection, &live.spec, &place, |_| ()).await?;
        let differences =
            compare::changed(&format!("{label} after the replay"), &live.content, &found);
        if differences.is_empty() {
            report
                .compared
                .push(format!("{label}: {} documents after the replay of the oplog", found.items));
        }
        report.differences.extend(differences);
    }
    report.warnings.push(format!(
        "{} entries of the oplog were replayed{}, which wrote {} documents",
        replayed.entries, log.end, replayed.documents
    ));
    Ok(())
}

/// Builds the indexes of everything that was created, several collections at once.
async fn build_indexes(
    rebuilder: &Rebuilder<'_>,
    live: &[Live],
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    let mut builds: Vec<BoxFuture<'_, Result<Vec<String>, SourceError>>> = Vec::new();
    for live in live {
        if !live.is_merged && !live.is_gone {
            builds.push(Box::pin(rebuilder.indexes(&live.spec)));
        }
    }
    let mut built = futures::stream::iter(builds).buffered(INDEXED_AT_ONCE);
    while let Some(refused) = built.try_next().await? {
        report.warnings.extend(refused);
    }
    Ok(())
}

/// Reads the options and indexes of every collection from the target and compares them with the expected ones. In a collection
/// that was merged into, other settings are only reported, and only missing ones are differences.
async fn compare_specifications(
    connection: &Connection,
    live: &[Live],
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    let mut listed: BTreeMap<&str, Vec<CollectionSpec>> = BTreeMap::new();
    for live in live.iter().filter(|live| !live.is_gone) {
        let (spec, label) = (&live.spec, label(&live.spec));
        let found = match listed.entry(&spec.database) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(vacant) => {
                vacant.insert(listing::list_database(connection, &spec.database).await?)
            }
        };
        let Some(made) = found.iter().find(|made| made.name == spec.name) else {
            report.differences.push(Difference::new(label, "it exists", "it does not"));
            continue;
        };
        let indexes = listing::list_indexes(connection, made).await?.unwrap_or_default();
        let mut differences = compare::options(&label, spec, made);
        differences.extend(compare::indexes(&label, &spec.indexes, &indexes));
        if differences.is_empty() {
            report.compared.push(match spec.kind {
                CollectionKind::View => format!("{label}: definition"),
                _ => format!("{label}: options and {} indexes", spec.indexes.len()),
            });
        }
        if live.is_merged {
            let (lacks, kept): (Vec<_>, Vec<_>) =
                differences.into_iter().partition(compare::is_lack);
            report.differences.extend(lacks);
            let kept = kept.iter().map(|kept| {
                format!(
                    "{} existed with other settings and is kept as it is: {}",
                    kept.what, kept.found
                )
            });
            report.warnings.extend(kept);
        } else {
            report.differences.extend(differences);
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
                    "{} was created after the plan was made, and is kept",
                    label(spec)
                ));
            }
        }
        let left = listing::list_database(connection, target).await?;
        for spec in left
            .iter()
            .filter(|spec| plan::is_removed(spec, extra.placement, extra.scope) && shown(spec))
        {
            report.differences.push(Difference::new(label(spec), "it is removed", "it exists"));
        }
    }
    Ok(())
}

/// Checks, before anything is written, that the metadata of every collection is readable and matches the manifest.
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
