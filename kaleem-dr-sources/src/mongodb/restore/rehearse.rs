//! A rehearsal: restores a point into scratch databases, compares, and drops the databases whatever
//! the outcome.
//!
//! The negative control deletes one document from the smallest scratch collection and reads that
//! collection back again.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use bson::doc;
use jiff::Timestamp;
use kaleem_dr_core::{
    ground::SourceError,
    recovery::{
        point::PointReader,
        source::{Control, RestoreReport, RestoreRequest, RestoreTarget, ScratchTarget},
    },
};

use super::{
    compare,
    live::Live,
    placement::Placement,
    plan::{self, label},
    rights, run,
    writes::Writes,
};
use crate::mongodb::{
    dump::{DataPlace, catalogue},
    names::SCRATCH,
    server::{
        Connection,
        listing::{self, CollectionKind, Scope, Shown},
    },
    users,
};

/// Restores a point into databases with the scratch name, compares, and drops them.
pub(crate) async fn rehearse(
    connection: &Arc<Connection>,
    scope: &Scope,
    writes: &Writes,
    point: &PointReader,
    scratch: &ScratchTarget,
) -> Result<RestoreReport, SourceError> {
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some(scratch.name.clone())));
    let (placement, _) = Placement::settle(
        catalogue::read(point.manifest())?,
        request.clone(),
        (users::are_of_server(point.manifest()), Timestamp::now()),
    )?;
    for database in placement.databases.values() {
        refuse_foreign(database)?;
    }
    rights::require(connection, placement.databases.values(), &rights::DRILL).await?;
    // Refuses databases that contain anything, so everything dropped below belongs to this
    // rehearsal.
    let plan = plan::plan(connection, scope, writes, point, request).await?;
    let mut rehearsed = Box::pin(run::restore(connection, scope, writes, point, plan)).await;
    scratch.filled();
    if let Ok((report, live)) = &mut rehearsed
        && scratch.control
        && report.is_equal()
    {
        match control(connection, writes, live).await {
            Ok(control) => report.control = control,
            Err(error) => rehearsed = Err(error),
        }
    }
    let mut removed = Ok(());
    let mut databases: BTreeSet<String> = placement.databases.into_values().collect();
    // A replay may have created more.
    if point.log().is_some() {
        let prefix = format!("{}_", scratch.name);
        match scratch_databases(connection).await {
            Ok(found) => {
                databases.extend(found.into_iter().filter(|name| name.starts_with(&prefix)));
            }
            Err(error) => removed = Err(error),
        }
    }
    for database in &databases {
        if let Err(error) = drop_database(connection, writes, database).await {
            tracing::warn!(database, %error, "a scratch database was not removed");
            removed = Err(error);
        }
    }
    // Why the rehearsal failed matters more than that its database could not be dropped either.
    let (report, _) = rehearsed?;
    removed.map(|()| report)
}

/// Deletes one document of the smallest scratch collection, and compares that collection again.
/// `None` if the point contains no document that can be deleted.
async fn control(
    connection: &Arc<Connection>,
    writes: &Writes,
    live: &[Live],
) -> Result<Option<Control>, SourceError> {
    // From capped collections and time series not every server deletes single documents.
    let plain = |live: &&Live| {
        live.spec.kind == CollectionKind::Collection
            && live.is_comparable()
            && !live.is_gone
            && !live.spec.name.starts_with("system.")
            && live.content.items() > 0
    };
    let smallest = live.iter().filter(plain).min_by_key(|live| live.content.items());
    let Some(live) = smallest else { return Ok(None) };
    let (began, spec) = (Instant::now(), &live.spec);
    refuse_foreign(&spec.database)?;
    let delete = doc! {
        "delete": &spec.name,
        "deletes": [ { "q": {}, "limit": 1 } ],
        "writeConcern": &writes.concern,
    };
    connection
        .write(&spec.database, delete, &format!("delete one document of {}", spec.namespace()))
        .await?;
    let viewless = connection.facts().await?.has_viewless_time_series();
    let Some(place) = DataPlace::of(spec, viewless) else { return Ok(None) };
    let content = compare::read_back(connection, spec, &place, |_| ()).await?;
    let found = compare::changed(&label(spec), &live.content, &content);
    let damage = format!("deleted one of {} documents of {}", live.content.items(), label(spec));
    Ok(Some(Control::new(damage, found, began.elapsed().as_secs_f64())))
}

/// Drops what a killed rehearsal with this name left behind.
pub(crate) async fn clear(
    connection: &Connection,
    writes: &Writes,
    name: &str,
) -> Result<Vec<String>, SourceError> {
    let mut cleared = Vec::new();
    for database in scratch_databases(connection).await? {
        if database == name || database.starts_with(&format!("{name}_")) {
            drop_database(connection, writes, &database).await?;
            cleared.push(format!("database {database}"));
        }
    }
    Ok(cleared)
}

/// The existing scratch databases: a running rehearsal created them, or a killed one left them
/// behind.
pub(crate) async fn scratch_databases(connection: &Connection) -> Result<Vec<String>, SourceError> {
    let names = listing::list_databases(connection, Shown::Own).await?;
    Ok(names.into_iter().filter(|name| name.starts_with(SCRATCH)).collect())
}

pub(crate) async fn drop_database(
    connection: &Connection,
    writes: &Writes,
    database: &str,
) -> Result<(), SourceError> {
    refuse_foreign(database)?;
    let command = doc! { "dropDatabase": 1, "writeConcern": &writes.concern };
    connection.write(database, command, &format!("drop the scratch database {database}")).await
}

fn refuse_foreign(database: &str) -> Result<(), SourceError> {
    if database.starts_with(SCRATCH) {
        return Ok(());
    }
    Err(SourceError::Refused(format!(
        "the database {database} is not a scratch database: their names begin with {SCRATCH}"
    )))
}
