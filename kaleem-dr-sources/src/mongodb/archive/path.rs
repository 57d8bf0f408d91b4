//! The artifact paths of an archive's content.

use kaleem_dr_core::ground::ArtifactPath;

use crate::mongodb::names::ROOT;

/// The artifact path of a namespace's data.
pub(super) fn artifact_path(database: &str, file: &str) -> Result<ArtifactPath, String> {
    let components = [ROOT, database, file];
    ArtifactPath::join(components.into_iter().filter(|component| !component.is_empty()))
        .map_err(|_| format!("the database name `{database}` cannot be used in a path"))
}
