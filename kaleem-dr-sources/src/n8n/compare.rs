//! Compares restored data with the manifest: files by their hashes, tables by their row counts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use kaleem_dr_core::{
    engine::manifest::Manifest,
    ground::SourceError,
    recovery::source::{Difference, RestoreReport},
};

use super::{
    DATABASE, TABLES, blocking, database,
    staged::{digest, trees},
};

/// Compares the restored files with the manifest.
pub(super) async fn compare(
    base: PathBuf,
    manifest: Manifest,
) -> Result<RestoreReport, SourceError> {
    blocking(move || {
        let mut report = RestoreReport::default();
        let tree = trees(&base)?;
        report.items = tree.files + manifest.artifacts.len() as u64;
        report.size_bytes = manifest.size_bytes();
        report.differences = artifact_differences(&base, &manifest)?;
        if report.differences.is_empty() {
            report.compared.push(format!("{} by SHA-256", names(&manifest)));
        }
        if tree.files == manifest.tree.files {
            report.compared.push(format!("{} other files", tree.files));
        } else {
            report.differences.push(difference(
                "other files",
                &manifest.tree.files.to_string(),
                &tree.files.to_string(),
            ));
        }
        let health = database::check(&base.join(DATABASE))?;
        if !health.broken.is_empty() {
            report.differences.push(difference(
                "SQLite's integrity check",
                "ok",
                &health.broken.join("; "),
            ));
            return Ok(report);
        }
        report.compared.push("SQLite's integrity check".into());
        let rows = row_differences(&health.tables, &manifest);
        if rows.is_empty() {
            report.compared.push(format!("rows of {} tables", health.tables.len()));
        }
        report.differences.extend(rows.iter().map(|(table, meant, found)| {
            difference(&format!("rows of table {table}"), meant, found)
        }));
        Ok(report)
    })
    .await
}

pub(super) fn row_differences(
    tables: &BTreeMap<String, u64>,
    manifest: &Manifest,
) -> Vec<(String, String, String)> {
    let meant: BTreeMap<String, u64> = manifest
        .details
        .get(TABLES)
        .and_then(|tables| serde_json::from_value(tables.clone()).ok())
        .unwrap_or_default();
    let shown = |rows: Option<&u64>| rows.map_or_else(|| "missing".to_owned(), ToString::to_string);
    let mut names: Vec<&String> =
        meant.keys().chain(tables.keys().filter(|name| !meant.contains_key(*name))).collect();
    names.retain(|name| meant.get(*name) != tables.get(*name));
    names
        .into_iter()
        .map(|name| (name.clone(), shown(meant.get(name)), shown(tables.get(name))))
        .collect()
}

fn names(manifest: &Manifest) -> String {
    let names: Vec<_> = manifest
        .artifacts
        .iter()
        .map(|artifact| artifact.path.rsplit('/').next().unwrap_or_default())
        .collect();
    names.join(" and ")
}

pub(super) fn artifact_differences(
    base: &Path,
    manifest: &Manifest,
) -> Result<Vec<Difference>, SourceError> {
    let mut differences = Vec::new();
    for artifact in &manifest.artifacts {
        let name = artifact.path.rsplit('/').next().unwrap_or_default();
        let (size_bytes, sha256) = digest(&base.join(name))?;
        if (size_bytes, &sha256) != (artifact.size_bytes, &artifact.sha256) {
            let shown = |size: u64, sha256: &str| format!("{size} bytes with SHA-256 {sha256}");
            differences.push(difference(
                name,
                &shown(artifact.size_bytes, &artifact.sha256),
                &shown(size_bytes, &sha256),
            ));
        }
    }
    Ok(differences)
}

fn difference(what: &str, expected: &str, found: &str) -> Difference {
    Difference::new(what, expected, found)
}
