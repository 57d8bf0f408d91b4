//! A rehearsal: restores a point into scratch databases, compares, and drops the databases whatever
//! the outcome.
//!
//! The negative control deletes one document from the smallest scratch collection and reads that
//! collection back again.

use std::{sync::Arc, time::Instant};

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
    placement::{Placed, Placement},
    plan::{self, label},
    run,
    writes::Writes,
};
use crate::mongodb::{
    dump::{DataPlace, catalogue},
    names::SCRATCH,
    server::{
        Connection,
        listing::{self, CollectionKind, Scope, Shown},
    },
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
    let (placement, _) =
        Placement::settle(catalogue::read(point.manifest())?, request.clone(), Timestamp::now())?;
    for database in placement.databases.values() {
        refuse_foreign(database)?;
    }
    // Refuses databases that contain anything, so everything dropped below belongs to this
    // rehearsal.
    let plan = plan::plan(connection, scope, writes, point, request).await?;
    let mut rehearsed = run::restore(connection, scope, writes, point, plan).await;
    scratch.filled();
    if let Ok(report) = &mut rehearsed
        && scratch.control
        && report.is_equal()
    {
        match control(connection, writes, &placement).await {
            Ok(control) => report.control = control,
            Err(error) => rehearsed = Err(error),
        }
    }
    let mut removed = Ok(());
    for database in placement.databases.values() {
        if let Err(error) = drop_database(connection, writes, database).await {
            tracing::warn!(database, %error, "a scratch database was not removed");
            removed = Err(error);
        }
    }
    // The rehearsal's error matters more than that of dropping its database.
    let report = rehearsed?;
    removed.map(|()| report)
}

/// Deletes one document of the smallest scratch collection, and compares that collection again.
/// `None` if the point contains no document that can be deleted.
async fn control(
    connection: &Arc<Connection>,
    writes: &Writes,
    placement: &Placement,
) -> Result<Option<Control>, SourceError> {
    let items = |placed: &Placed| {
        placed.stored.data.as_ref().and_then(|data| data.items).unwrap_or_default()
    };
    // Not every server can delete single documents from capped collections and time series.
    let plain = |placed: &&Placed| {
        placed.target.kind == CollectionKind::Collection
            && !placed.target.is_capped()
            && !placed.target.name.starts_with("system.")
    };
    let smallest = placement
        .parts
        .iter()
        .filter(plain)
        .filter(|placed| items(placed) > 0)
        .min_by_key(|placed| items(placed));
    let Some((placed, record)) =
        smallest.and_then(|placed| Some((placed, placed.stored.data.as_ref()?)))
    else {
        return Ok(None);
    };
    let (began, spec) = (Instant::now(), &placed.target);
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
    let found = compare::documents(&label(spec), record, &content);
    let damage = format!("deleted one of {} documents of {}", items(placed), label(spec));
    Ok(Some(Control { damage, found, seconds: began.elapsed().as_secs_f64() }))
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

/// Drops one scratch database.
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
