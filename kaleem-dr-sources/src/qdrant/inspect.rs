//! Checks every snapshot file without a server: down to its segments, and with Qdrant's engine if
//! it is configured.

use std::{collections::BTreeSet, path::Path};

use kaleem_dr_core::{
    ground::{SourceError, error_chain, finding::Finding},
    recovery::{point::PointReader, source::Inspection},
};

use super::{
    archive::CollectionFile,
    contents::{Contents, Stored},
    engine, pipe,
    points::Content,
};

/// Checks all artifacts of a point.
pub(super) async fn inspect(
    point: &PointReader,
    engine: Option<&Path>,
) -> Result<Inspection, SourceError> {
    let contents = Contents::read(point).await?;
    let mut inspection = Inspection::default();
    for stored in &contents.collections {
        let artifact = point.artifact(&stored.snapshot.path).await?;
        let found = pipe::through(artifact, &point.cancellation(), CollectionFile::walk).await?;
        look_at(stored, &found, &mut inspection);
        if let Some(program) = engine {
            let artifact = point.artifact(&stored.snapshot.path).await?;
            let program = program.to_path_buf();
            let read = pipe::through(artifact, &point.cancellation(), move |file| {
                engine::content(&program, file)
            })
            .await?;
            match read? {
                Ok(content) => compare(stored, &content, &mut inspection),
                Err(why) => inspection.findings.push(Finding::error(format!(
                    "snapshot of collection {}: Qdrant's engine cannot read it: {}",
                    stored.name(),
                    error_chain(&*why)
                ))),
            }
        }
    }
    let names: BTreeSet<_> = contents.collections.iter().map(Stored::name).collect();
    let strays: Vec<_> = contents
        .aliases
        .iter()
        .filter(|alias| !names.contains(alias.collection_name.as_str()))
        .collect();
    for alias in &strays {
        let what = format!(
            "alias {} refers to collection {}, which the point does not contain",
            alias.alias_name, alias.collection_name
        );
        inspection.findings.push(Finding::error(what));
    }
    if strays.is_empty() {
        inspection.checked.push(format!("{} aliases", contents.aliases.len()));
    }
    if !contents.collections.is_empty() && engine.is_none() {
        inspection.findings.push(Finding::warning(
            "Qdrant's files have no checksums of their content, so an altered vector in them cannot be detected; only a restore compares every \
             point with the digest of the capture, or Qdrant's engine if `engine` is set",
        ));
    }
    Ok(inspection)
}

fn look_at(stored: &Stored, found: &CollectionFile, inspection: &mut Inspection) {
    let name = stored.name();
    let mut faults = found.faults.clone();
    if !stored.description.is_of(&found.config) {
        faults.push("its settings differ from its description".into());
    }
    if found.shards() != stored.description.shards {
        faults.push("its shards differ from its description".into());
    }
    if faults.is_empty() {
        inspection.checked.push(format!(
            "collection {name}: {} shards with {} segments, complete down to the list of their files",
            found.shards().len(),
            found.segments()
        ));
    }
    inspection.findings.extend(
        faults
            .into_iter()
            .map(|fault| Finding::error(format!("snapshot of collection {name}: {fault}"))),
    );
}

/// Compares what the engine read with what was captured.
fn compare(stored: &Stored, read: &Content, inspection: &mut Inspection) {
    let (name, points) = (stored.name(), &stored.description.points);
    let Content { points: found, digest } = read;
    match (points.count(), points.content_digest()) {
        (Some(count), _) if count != *found => inspection.findings.push(Finding::error(format!(
            "snapshot of collection {name}: Qdrant's engine reads {found} points in it, but {count} were captured"
        ))),
        (_, Some(captured)) if captured != digest => inspection.findings.push(Finding::error(format!(
            "snapshot of collection {name}: Qdrant's engine reads {found} points in it, and not all of them equal what was captured"
        ))),
        (_, Some(_)) => inspection
            .checked
            .push(format!("collection {name}: {found} points read by Qdrant's engine, each equal to what was captured")),
        (Some(_), None) => {
            inspection
                .checked
                .push(format!("collection {name}: {found} points read by Qdrant's engine, as many as were captured"));
        }
        (None, None) => {
            inspection
                .checked
                .push(format!("collection {name}: {found} points read by Qdrant's engine; it is not known what was captured"));
        }
    }
}
