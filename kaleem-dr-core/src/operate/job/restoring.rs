//! Planning of a restore: the source's plan, the host of the point, and notes for the operator.

use crate::{
    ground::{SourceError, host::Identity},
    recovery::{
        point::{Origin, PointReader},
        source::{PlanOrigin, Restorable, RestorePlan, RestoreRequest, RestoreTarget},
        verify::left_out,
    },
};

/// A restore of a chosen point.
#[non_exhaustive]
pub struct Restoring<'a> {
    /// Source that restores the point.
    pub source: &'a dyn Restorable,
    /// Point to restore, opened from a snapshot or a file.
    pub point: &'a PointReader,
    /// Notes for the operator about the choice of the point.
    pub notes: Vec<String>,
    /// The host that restores, and the host whose snapshots were selected.
    pub identity: &'a Identity,
}

impl<'a> Restoring<'a> {
    /// A restore without notes.
    #[must_use]
    pub fn new(source: &'a dyn Restorable, point: &'a PointReader, identity: &'a Identity) -> Self {
        Self { source, point, notes: Vec::new(), identity }
    }
}

/// Makes the plan. Writes nothing.
///
/// # Errors
/// [`SourceError::Refused`] for a restore in place from another host's snapshot, unless that host
/// was named; errors of the source.
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
