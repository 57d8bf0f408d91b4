//! Restoring: collection by collection, then the views, then a comparison by content.
//!
//! A collection is made with its options, filled, read back and compared, and only then indexed: an index is built quicker over
//! documents that are there, and a TTL index would begin to delete expired documents before they were counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
};

use bson::doc;
use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use kaleem_dr_core::{
    point::PointReader,
    progress::{StageProgress, Unit},
    source::{Change, Difference, PlannedAction, RestorePlan, RestoreReport, RestoreRequest, RestoreTarget, SourceError},
};

use super::{
    catalogue::{self, StoredCollection},
    compare,
    connection::{Connection, ServerFacts, codes},
    documents::DataPlace,
    listing::{self, CollectionKind, CollectionSpec},
    load::{self, Destination},
    names, rebuild,
};

/// A metadata file larger than this is not one.
const LARGEST_METADATA: u64 = 64 << 20;

/// Says what a restore would do.
pub(crate) async fn plan(connection: &Connection, point: &PointReader, to: RestoreTarget) -> Result<RestorePlan, SourceError> {
    let stored = catalogue::read(point.manifest())?;
    let databases: BTreeSet<&str> = stored.iter().map(|stored| stored.spec.database.as_str()).collect();
    let to = resolve(to, &databases, Timestamp::now());
    let targets = target_databases(&to, &databases)?;
    let mut actions = Vec::new();
    let mut warnings = Vec::new();
    for (database, target) in &targets {
        let existing = listing::list_database(connection, target).await?;
        if to != RestoreTarget::InPlace {
            refuse_if_filled(connection, target, &existing)?;
        }
        let of_database = stored.iter().filter(|stored| stored.spec.database == *database);
        actions.extend(of_database.clone().map(|stored| PlannedAction {
            change: if existing.iter().any(|spec| spec.name == stored.spec.name) { Change::Overwrite } else { Change::Create },
            what: label(&stored.spec, target),
            items: stored.data.as_ref().and_then(|data| data.items),
            size_bytes: stored.data.as_ref().map(|data| data.size_bytes),
            why: None,
        }));
        let left = existing.iter().filter(|spec| {
            !listing::is_the_servers_own(target, &spec.name) && !of_database.clone().any(|stored| stored.spec.name == spec.name)
        });
        actions.extend(left.map(|spec| PlannedAction::new(Change::Leave, label(spec, target))));
    }
    if to == RestoreTarget::InPlace && actions.iter().any(|action| action.change == Change::Overwrite) {
        warnings.push(
            "each collection that exists is dropped just before it is rebuilt: if the restore is interrupted, those not reached yet \
             are as they were and the one at work is incomplete"
                .to_owned(),
        );
    }
    warnings.extend(expiry_warning(&stored));
    Ok(RestorePlan { target: describe(connection, &targets), request: RestoreRequest::whole(to), actions, warnings })
}

/// Carries a plan out and compares.
pub(crate) async fn restore(
    connection: &Arc<Connection>,
    workers: NonZeroUsize,
    point: &PointReader,
    plan: RestorePlan,
) -> Result<RestoreReport, SourceError> {
    let cancel = point.cancellation();
    match cancel.run_until_cancelled(run(connection, workers, point, plan)).await {
        Some(result) => result,
        None => Err(SourceError::Cancelled),
    }
}

async fn run(
    connection: &Arc<Connection>,
    workers: NonZeroUsize,
    point: &PointReader,
    plan: RestorePlan,
) -> Result<RestoreReport, SourceError> {
    let stored = catalogue::read(point.manifest())?;
    let databases: BTreeSet<&str> = stored.iter().map(|stored| stored.spec.database.as_str()).collect();
    let targets = target_databases(&plan.request.to, &databases)?;
    let facts = connection.facts().await?;
    if plan.request.to != RestoreTarget::InPlace {
        // Between the plan and now someone may have filled it.
        for target in targets.values() {
            refuse_if_filled(connection, target, &listing::list_database(connection, target).await?)?;
        }
    }
    check_metadata(point, &stored).await?;

    let total = stored.iter().filter_map(|stored| stored.data.as_ref()).map(|data| data.size_bytes).sum::<u64>();
    // Each byte is written once and read back once.
    let progress = point.progress().begin("restore MongoDB", Unit::Bytes, Some(2 * total));
    let mut report = RestoreReport { target: plan.target, ..RestoreReport::default() };
    let (views, collections): (Vec<_>, Vec<_>) = stored.iter().partition(|stored| stored.spec.kind == CollectionKind::View);
    let rebuilder = Rebuilder {
        connection,
        facts: &facts,
        workers,
        progress: progress.as_ref(),
        in_place: plan.request.to == RestoreTarget::InPlace,
    };
    for stored in collections {
        let target = CollectionSpec { database: targets[stored.spec.database.as_str()].clone(), ..stored.spec.clone() };
        let content = match &stored.data {
            Some(data) => Some((data, pieces(point, &data.path).await?)),
            None => None,
        };
        rebuilder.collection(&target, content, &mut report).await?;
    }
    // Last, since a view stands on collections; among themselves their order does not matter to the server.
    for stored in views {
        let target = CollectionSpec { database: targets[stored.spec.database.as_str()].clone(), ..stored.spec.clone() };
        rebuilder.make(&target).await?;
    }
    compare_specifications(connection, &stored, &targets, &mut report).await?;
    report.warnings.extend(expiry_warning(&stored));
    progress.finish();
    Ok(report)
}

/// Rebuilds collections on one server.
struct Rebuilder<'a> {
    connection: &'a Arc<Connection>,
    facts: &'a ServerFacts,
    workers: NonZeroUsize,
    progress: &'a dyn StageProgress,
    in_place: bool,
}

impl Rebuilder<'_> {
    /// Makes one collection, fills it, compares its documents and builds its indexes.
    async fn collection<S>(
        &self,
        spec: &CollectionSpec,
        content: Option<(&kaleem_dr_core::manifest::ArtifactRecord, S)>,
        report: &mut RestoreReport,
    ) -> Result<(), SourceError>
    where
        S: Stream<Item = Result<Bytes, SourceError>> + Unpin,
    {
        self.make(spec).await?;
        if let (Some((record, pieces)), Some(place)) = (content, DataPlace::of(spec, self.facts.has_viewless_time_series())) {
            let destination = Destination::new(spec, &place, self.facts, self.workers);
            let advance = |bytes| self.progress.advance(bytes);
            let loaded = load::load(self.connection, &destination, pieces, advance).await?;
            report.items += loaded.items;
            report.size_bytes += loaded.size_bytes;
            let found = compare::read_back(self.connection, spec, &place, advance).await?;
            let label = label(spec, &spec.database);
            let differences = compare::documents(&label, record, &found);
            if differences.is_empty() {
                report.compared.push(format!("{label}: {} documents", found.items));
            }
            report.differences.extend(differences);
        }
        if let Some(command) = rebuild::indexes_command(spec) {
            self.connection.run_long(&spec.database, command, &format!("build the indexes of {}", spec.namespace())).await?;
        }
        Ok(())
    }

    /// Makes a collection or a view, empty, in the place of the one that is there.
    async fn make(&self, spec: &CollectionSpec) -> Result<(), SourceError> {
        let system = spec.name.starts_with("system.");
        if self.in_place {
            // Servers do not let go of a system collection, but of what is in it.
            let (command, action) = if system {
                (doc! { "delete": &spec.name, "deletes": [ { "q": {}, "limit": 0 } ] }, format!("empty {}", spec.namespace()))
            } else {
                (doc! { "drop": &spec.name, "writeConcern": { "w": "majority" } }, format!("drop {}", spec.namespace()))
            };
            self.tolerant(&spec.database, command, &action, codes::NAMESPACE_NOT_FOUND).await?;
        }
        let action = format!("create {}", spec.namespace());
        let command = rebuild::create_command(spec);
        if system {
            return self.tolerant(&spec.database, command, &action, codes::NAMESPACE_EXISTS).await;
        }
        self.connection.run_long(&spec.database, command, &action).await.map(drop)
    }

    /// Runs a command of which one error means that there is nothing to do.
    async fn tolerant(&self, database: &str, command: bson::Document, action: &str, fine: i32) -> Result<(), SourceError> {
        let database = self.connection.client().await?.database(database);
        match database.run_command(command).await {
            Ok(_) => Ok(()),
            Err(error) if super::connection::code(&error) == Some(fine) => Ok(()),
            Err(error) => Err(self.connection.error(action, &error)),
        }
    }
}

/// Reads every collection's options and indexes from the target and compares them with the point.
async fn compare_specifications(
    connection: &Connection,
    stored: &[StoredCollection],
    targets: &BTreeMap<String, String>,
    report: &mut RestoreReport,
) -> Result<(), SourceError> {
    for (database, target) in targets {
        let found = listing::list_database(connection, target).await?;
        for stored in stored.iter().filter(|stored| stored.spec.database == *database) {
            let label = label(&stored.spec, target);
            let Some(made) = found.iter().find(|made| made.name == stored.spec.name) else {
                report.differences.push(Difference {
                    what: label,
                    expected: "it exists".to_owned(),
                    found: "it does not".to_owned(),
                });
                continue;
            };
            let indexes = listing::list_indexes(connection, made).await?;
            let mut differences = compare::options(&label, &stored.spec, made);
            differences.extend(compare::indexes(&label, &stored.spec.indexes, &indexes));
            if differences.is_empty() {
                report.compared.push(match stored.spec.kind {
                    CollectionKind::View => format!("{label}: definition"),
                    _ => format!("{label}: options and {} indexes", stored.spec.indexes.len()),
                });
            }
            report.differences.extend(differences);
        }
    }
    Ok(())
}

/// Before anything is written: every description can be read and is the one the manifest has.
async fn check_metadata(point: &PointReader, stored: &[StoredCollection]) -> Result<(), SourceError> {
    for stored in stored {
        let json = point.artifact(&stored.entry.metadata).await?.read_all(LARGEST_METADATA).await?;
        if json != stored.entry.specification.as_bytes() {
            return Err(SourceError::Point(format!("{} is not what the manifest says of it", stored.entry.metadata).into()));
        }
    }
    Ok(())
}

/// An artifact as a stream.
async fn pieces(
    point: &PointReader,
    path: &str,
) -> Result<impl Stream<Item = Result<Bytes, SourceError>> + Unpin + use<>, SourceError> {
    let reader = point.artifact(path).await?;
    Ok(Box::pin(futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|piece| (piece, reader)))
    })))
}

/// Gives a target without a name one, so that the plan and its execution mean the same: `<db>_restored_<time>` for one
/// database, the prefix `restored_<time>` for several.
fn resolve(to: RestoreTarget, databases: &BTreeSet<&str>, now: Timestamp) -> RestoreTarget {
    if to != RestoreTarget::Beside(None) {
        return to;
    }
    let stamp = now.strftime("%Y%m%d_%H%M%S").to_string();
    let name = match databases.iter().next() {
        Some(database) if databases.len() == 1 => names::restored_database(database, &stamp),
        _ => format!("restored_{stamp}"),
    };
    RestoreTarget::Beside(Some(name))
}

/// The database each database of the point goes to.
fn target_databases(to: &RestoreTarget, databases: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, SourceError> {
    let target = |database: &str| match to {
        RestoreTarget::Beside(Some(name)) if databases.len() == 1 => name.clone(),
        RestoreTarget::Beside(Some(prefix)) => format!("{prefix}_{database}"),
        RestoreTarget::Beside(None) | RestoreTarget::InPlace => database.to_owned(),
    };
    databases
        .iter()
        .map(|database| {
            let target = target(database);
            match names::invalid_database(&target) {
                None => Ok(((*database).to_owned(), target)),
                Some(why) => {
                    Err(SourceError::Refused(format!("`{target}` cannot be the name of a database: {why}; choose another name")))
                }
            }
        })
        .collect()
}

fn refuse_if_filled(connection: &Connection, target: &str, existing: &[CollectionSpec]) -> Result<(), SourceError> {
    let taken: Vec<&str> = existing.iter().map(|spec| spec.name.as_str()).filter(|name| !name.starts_with("system.")).collect();
    match taken.first() {
        None => Ok(()),
        Some(first) => Err(SourceError::Refused(format!(
            "the database {target} on {} already has {} collections ({first}, for one): choose a name that is not taken, drop it \
             first, or restore in place",
            connection.server(),
            taken.len()
        ))),
    }
}

fn describe(connection: &Connection, targets: &BTreeMap<String, String>) -> String {
    let names: Vec<&str> = targets.values().map(String::as_str).collect();
    let word = if names.len() == 1 { "database" } else { "databases" };
    format!("{word} {} on {}", names.join(", "), connection.server())
}

fn label(spec: &CollectionSpec, database: &str) -> String {
    let kind = match spec.kind {
        CollectionKind::Collection => "collection",
        CollectionKind::View => "view",
        CollectionKind::TimeSeries => "time series",
    };
    format!("{kind} {database}.{}", spec.name)
}

fn expiry_warning(stored: &[StoredCollection]) -> Option<String> {
    let expiring: Vec<String> =
        stored.iter().filter(|stored| rebuild::expires(&stored.spec)).map(|stored| stored.spec.namespace()).collect();
    (!expiring.is_empty()).then(|| {
        format!(
            "documents past their time are deleted by the server soon after the restore, since they expire in: {}",
            expiring.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_lands_beside_unless_told_otherwise() {
        let now: Timestamp = "2026-01-31T12:00:05Z".parse().unwrap();
        let one = BTreeSet::from(["kaleem"]);
        let two = BTreeSet::from(["kaleem", "other"]);
        let go = |to: RestoreTarget, databases: &BTreeSet<&str>| {
            let to = resolve(to, databases, now);
            target_databases(&to, databases).map(|targets| targets.into_values().collect::<Vec<_>>())
        };
        assert_eq!(go(RestoreTarget::Beside(None), &one).unwrap(), ["kaleem_restored_20260131_120005"]);
        assert_eq!(
            go(RestoreTarget::Beside(None), &two).unwrap(),
            ["restored_20260131_120005_kaleem", "restored_20260131_120005_other"]
        );
        assert_eq!(go(RestoreTarget::Beside(Some("x".into())), &one).unwrap(), ["x"]);
        assert_eq!(go(RestoreTarget::Beside(Some("x".into())), &two).unwrap(), ["x_kaleem", "x_other"]);
        assert_eq!(go(RestoreTarget::InPlace, &two).unwrap(), ["kaleem", "other"]);
        assert!(matches!(go(RestoreTarget::Beside(Some("a.b".into())), &one), Err(SourceError::Refused(_))));
    }
}
