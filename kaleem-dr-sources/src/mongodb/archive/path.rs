//! Where what an archive holds lies among the artifacts of a point.

use kaleem_dr_core::ground::ArtifactPath;

use crate::mongodb::names::ROOT;

/// Where a name space's data lies among the artifacts.
pub(super) fn artifact_path(database: &str, file: &str) -> Result<ArtifactPath, String> {
    let components = [ROOT, database, file];
    ArtifactPath::join(components.into_iter().filter(|component| !component.is_empty()))
        .map_err(|_| format!("the database name `{database}` cannot stand in a path"))
}
