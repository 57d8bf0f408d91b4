//! A rehearsal: restores each collection under a scratch name, compares it, and deletes it whatever
//! the outcome.
//!
//! The negative control deletes one point of the first collection that has any, and compares the
//! collection again.

use std::{path::Path, time::Instant};

use kaleem_dr_core::{
    ground::SourceError,
    recovery::{
        point::PointReader,
        source::{Control, RestoreReport, RestoreRequest, RestoreTarget, ScratchTarget},
    },
};
use serde_json::Value;

use super::{
    client::QdrantClient,
    load::Loader,
    nodes::Nodes,
    placement::Placement,
    restore::{Restoration, add},
};

/// The prefix of every scratch collection; [`clear`] never deletes a collection without it.
const PREFIX: &str = "kdr_drill_";

/// Restores, compares and removes one collection after another.
///
/// # Errors
/// Those of a restore, and if a collection could not be removed.
pub(super) async fn rehearse(
    nodes: &Nodes<'_>,
    point: &PointReader,
    scratch: &ScratchTarget,
    engine: Option<&Path>,
) -> Result<RestoreReport, SourceError> {
    let request = RestoreRequest::whole(RestoreTarget::Beside(Some(scratch.name.clone())));
    let restoration = Restoration::prepare(nodes, point, request, engine).await?;
    let mut loader = Loader::new(nodes, point, restoration.by_points);
    let mut report = RestoreReport::to(restoration.target());
    report.warnings.clone_from(&restoration.warnings);
    for placement in &restoration.placements {
        let tried = async {
            let found = restoration.restore_one(placement, &placement.target, &mut loader).await?;
            scratch.filled();
            let wanted =
                scratch.control && report.control.is_none() && found.differences.is_empty();
            let control =
                if wanted { control(&restoration, placement, found.points).await? } else { None };
            Ok((found, control))
        }
        .await;
        match tried {
            Ok((found, control)) => {
                add(&mut report, placement, found);
                report.control = report.control.or(control);
            }
            Err(error) => return Err(loader.remove_all(error).await),
        }
        loader.remove(&placement.target).await?;
    }
    Ok(report)
}

/// Deletes one point of a restored collection, and compares it again. `None` if it has no points.
async fn control(
    restoration: &Restoration<'_>,
    placement: &Placement,
    points: u64,
) -> Result<Option<Control>, SourceError> {
    let (client, target, began) = (restoration.client, &placement.target, Instant::now());
    let page: Value = serde_json::from_slice(&client.scroll(target, None, 1).await?)
        .map_err(|error| client.failed(&format!("read a point of {target}"), error))?;
    let Some(id) = page.pointer("/result/points/0/id") else { return Ok(None) };
    client.delete_point(target, id).await?;
    let found = restoration.compare(placement, target).await?.differences;
    let damage =
        format!("deleted one of {points} points of collection {}", placement.stored.name());
    Ok(Some(Control::new(damage, found, began.elapsed().as_secs_f64())))
}

/// Deletes the collections that a killed rehearsal with this name left behind.
pub(super) async fn clear(client: &QdrantClient, name: &str) -> Result<Vec<String>, SourceError> {
    let mut cleared = Vec::new();
    for collection in client.collections().await? {
        if name.starts_with(PREFIX) && collection.starts_with(&format!("{name}_")) {
            client.delete_collection(&collection).await?;
            cleared.push(format!("collection {collection}"));
        }
    }
    Ok(cleared)
}
