//! Planning a restore: what the source would do, whose point it takes, and what the operator should know first.

use crate::{
    ground::{SourceError, host::Identity},
    recovery::{
        point::{Origin, PointReader},
        source::{PlanOrigin, Restorable, RestorePlan, RestoreRequest, RestoreTarget},
        verify::left_out,
    },
};

/// A restore of a point that was chosen.
pub struct Restoring<'a> {
    /// The source.
    pub source: &'a dyn Restorable,
    /// The point.
    pub point: &'a PointReader,
    /// What the operator should know of the choice.
    pub notes: Vec<String>,
    /// Who restores, and whose snapshots were meant.
    pub identity: &'a Identity,
}

/// Makes the plan. Nothing is written.
///
/// # Errors
/// [`SourceError::Refused`] for a restore in place from another host's snapshot, unless that host was named; whatever the source says.
pub async fn plan_restore(
    restoring: Restoring<'_>,
    request: RestoreRequest,
) -> Result<RestorePlan, SourceError> {
    let Restoring { source, point, notes, identity } = restoring;
    let origin = match point.origin() {
        Origin::Snapshot(reader) => {
            let snapshot = reader.snapshot();
            Some(PlanOrigin {
                snapshot: snapshot.id(),
                host: snapshot.host().to_owned(),
                taken: snapshot.time().timestamp(),
            })
        }
        Origin::File(_) => None,
    };
    if let Some(origin) = &origin
        && request.to == RestoreTarget::InPlace
    {
        identity
            .refuse_replacing_from(&origin.snapshot.short(), &origin.host)
            .map_err(SourceError::Refused)?;
    }
    let mut plan = source.plan_restore(point, request).await?;
    plan.origin = origin;
    let incomplete = &point.manifest().incomplete;
    let left_out = (!incomplete.is_empty()).then(|| left_out(incomplete));
    plan.warnings.splice(0..0, notes.into_iter().chain(left_out));
    Ok(plan)
}
