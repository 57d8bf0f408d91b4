//! Checks every snapshot file without a server: down to its segments, and with Qdrant's engine if
//! it is configured.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use kaleem_dr_core::{
    engine::manifest::ArtifactRecord,
    ground::{SourceError, error_chain, finding::Finding},
    recovery::{point::PointReader, source::Inspection},
};

use super::{
    archive::CollectionFile,
    contents::{Contents, Files, Stored},
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
        match &stored.files {
            Files::Whole(record) => {
                let artifact = point.artifact(&record.path).await?;
                let found =
                    pipe::through(artifact, &point.cancellation(), CollectionFile::walk).await?;
                look_at(stored, &found, &mut inspection);
            }
            Files::Shards(records) => {
                look_at_shards(point, stored, records, &mut inspection).await?;
            }
        }
        if let Some(program) = engine {
            match engine::read_stored(point, stored, program).await? {
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
    let mut faults = found.faults.clone();
    if !stored.description.is_of(&found.config) {
        faults.push("its settings differ from its description".into());
    }
    if found.shards() != stored.description.shards {
        faults.push("its shards differ from its description".into());
    }
    report(stored, found.shards().len(), found.segments(), faults, inspection);
}

async fn look_at_shards(
    point: &PointReader,
    stored: &Stored,
    records: &BTreeMap<u32, ArtifactRecord>,
    inspection: &mut Inspection,
) -> Result<(), SourceError> {
    let (mut faults, mut segments) = (Vec::new(), 0);
    for (&id, record) in records {
        let artifact = point.artifact(&record.path).await?;
        let walk = move |file: &mut dyn std::io::Read| CollectionFile::walk_shard(id, file);
        let found = pipe::through(artifact, &point.cancellation(), walk).await?;
        segments += found.segments();
        faults.extend(found.faults);
    }
    report(stored, records.len(), segments, faults, inspection);
    Ok(())
}

fn report(
    stored: &Stored,
    shards: usize,
    segments: u64,
    faults: Vec<String>,
    inspection: &mut Inspection,
) {
    let name = stored.name();
    if faults.is_empty() {
        inspection.checked.push(format!(
            "collection {name}: {shards} shards with {segments} segments, complete down to the list of their files",
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
