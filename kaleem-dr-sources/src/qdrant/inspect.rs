//! A deep check without a server: every snapshot file, walked down to its segments.

use std::collections::BTreeSet;

use kaleem_dr_core::{
    finding::Finding,
    point::PointReader,
    source::{Inspection, SourceError},
};

use super::{
    archive::CollectionFile,
    contents::{Contents, Stored},
    pipe,
};

/// Checks everything of a point.
pub(super) async fn inspect(point: &PointReader) -> Result<Inspection, SourceError> {
    let contents = Contents::read(point).await?;
    let mut inspection = Inspection::default();
    for stored in &contents.collections {
        let artifact = point.artifact(&stored.snapshot.path).await?;
        let found = pipe::through(artifact, &point.cancellation(), CollectionFile::walk).await?;
        look_at(stored, &found, &mut inspection);
    }
    let names: BTreeSet<_> = contents.collections.iter().map(Stored::name).collect();
    let strays: Vec<_> = contents.aliases.iter().filter(|alias| !names.contains(alias.collection_name.as_str())).collect();
    for alias in &strays {
        let what =
            format!("alias {} is for collection {}, which the point does not hold", alias.alias_name, alias.collection_name);
        inspection.findings.push(Finding::error(what));
    }
    if strays.is_empty() {
        inspection.checked.push(format!("{} aliases", contents.aliases.len()));
    }
    if !contents.collections.is_empty() {
        inspection.findings.push(Finding::warning(
            "Qdrant's files hold no checksums of their content, so an altered vector cannot be found in them; only a restore compares every \
             point with the digest of the capture",
        ));
    }
    Ok(inspection)
}

fn look_at(stored: &Stored, found: &CollectionFile, inspection: &mut Inspection) {
    let name = stored.name();
    let mut faults = found.faults.clone();
    if !stored.description.is_of(&found.config) {
        faults.push("its settings are not those of its description".into());
    }
    if found.shards() != stored.description.shards {
        faults.push("its shards are not those of its description".into());
    }
    if faults.is_empty() {
        inspection.checked.push(format!(
            "collection {name}: {} shards with {} segments, whole down to the list of their files",
            found.shards().len(),
            found.segments()
        ));
    }
    inspection.findings.extend(faults.into_iter().map(|fault| Finding::error(format!("snapshot of collection {name}: {fault}"))));
}
