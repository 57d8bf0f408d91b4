//! A rehearsal: a point restored into scratch databases, compared there, and the databases dropped whatever came of it.

use std::sync::Arc;

use bson::doc;
use jiff::Timestamp;
use kaleem_dr_core::{
    point::PointReader,
    source::{RestoreReport, RestoreRequest, RestoreTarget, ScratchTarget, SourceError},
};

use super::{
    catalogue,
    connection::Connection,
    listing::{self, Scope, Shown},
    placement::Placement,
    plan, restore,
    writes::Writes,
};

/// Every scratch database begins like this; nothing that does not is ever dropped here.
pub(crate) const PREFIX: &str = "kdr_drill_";

/// Restores a point beside, into databases of the scratch name, compares, and drops them.
pub(crate) async fn rehearse(
    connection: &Arc<Connection>,
    scope: &Scope,
    writes: &Writes,
    point: &PointReader,
    scratch: &ScratchTarget,
) -> Result<RestoreReport, SourceError> {
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some(scratch.name.clone())));
    let (placement, _) = Placement::settle(catalogue::read(point.manifest())?, request.clone(), Timestamp::now())?;
    for database in placement.databases.values() {
        refuse_foreign(database)?;
    }
    // Refuses databases that hold anything, so that what is dropped below is of this rehearsal.
    let plan = plan::plan(connection, scope, writes, point, request).await?;
    let rehearsed = restore::restore(connection, scope, writes, point, plan).await;
    let mut removed = Ok(());
    for database in placement.databases.values() {
        if let Err(error) = drop_database(connection, writes, database).await {
            tracing::warn!(database, %error, "a scratch database is left over");
            removed = Err(error);
        }
    }
    // Why the rehearsal failed matters more than that its database could not be dropped either.
    let report = rehearsed?;
    removed.map(|()| report)
}

/// Scratch databases that are there: a rehearsal at work made them, or one that was killed left them.
pub(crate) async fn scratch_databases(connection: &Connection) -> Result<Vec<String>, SourceError> {
    let names = listing::list_databases(connection, Shown::Own).await?;
    Ok(names.into_iter().filter(|name| name.starts_with(PREFIX)).collect())
}

/// Drops one scratch database.
pub(crate) async fn drop_database(connection: &Connection, writes: &Writes, database: &str) -> Result<(), SourceError> {
    refuse_foreign(database)?;
    let command = doc! { "dropDatabase": 1, "writeConcern": &writes.concern };
    connection.write(database, command, &format!("drop the scratch database {database}")).await
}

fn refuse_foreign(database: &str) -> Result<(), SourceError> {
    if database.starts_with(PREFIX) {
        return Ok(());
    }
    Err(SourceError::Refused(format!("the database {database} is no scratch database: those begin with {PREFIX}")))
}
