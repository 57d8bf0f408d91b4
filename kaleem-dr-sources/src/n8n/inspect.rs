//! Checks of a recovery point that need no restore.

use std::path::Path;

use kaleem_dr_core::{
    engine::manifest::Manifest,
    ground::{SourceError, finding::Finding},
    recovery::{
        point::{Origin, PointReader},
        source::Inspection,
    },
};

use super::{
    DATABASE, KEY_FILE, KEY_FILE_LIMIT_BYTES, N8nSource, blocking, capture::EXPECTED,
    compare::row_differences, database, in_root, key_in, path_error,
};

impl N8nSource {
    pub(super) async fn look_into(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        let manifest = point.manifest();
        let mut inspection = Inspection::default();
        let error = |inspection: &mut Inspection, message: String| {
            inspection.findings.push(Finding::error(message));
        };
        for missing in &manifest.incomplete {
            error(&mut inspection, format!("{}: {}", missing.what, missing.why));
        }
        if manifest.artifact(&in_root(KEY_FILE)).is_some() {
            let file =
                point.artifact(&in_root(KEY_FILE)).await?.read_all(KEY_FILE_LIMIT_BYTES).await?;
            match key_in(&file) {
                Some(_) => {
                    inspection.checked.push(
                        "the encryption key exists; whether it decrypts the credentials is not tested"
                            .into(),
                    );
                }
                None => error(
                    &mut inspection,
                    "`config` contains no `encryptionKey`, so no credential can be read".into(),
                ),
            }
        }
        let scratch = tempfile::Builder::new()
            .prefix("kaleem-dr-n8n-")
            .tempdir_in(&self.config.scratch_directory);
        let scratch = scratch.map_err(path_error(
            &self.config.scratch_directory,
            "create a temporary directory in",
        ))?;
        let copy = scratch.path().join(DATABASE);
        spill(point, &copy).await?;
        match blocking(move || database::check(&copy)).await {
            Ok(health) => judge(&health, manifest, &mut inspection),
            Err(why) => {
                error(
                    &mut inspection,
                    format!(
                        "{DATABASE} cannot be read: {}",
                        kaleem_dr_core::ground::error_chain(&why)
                    ),
                );
            }
        }
        if let Origin::Snapshot(_) = point.origin() {
            let found = point.read_files().await?;
            inspection.checked.push(format!(
                "{} files with {} bytes read, each blob matches its hash",
                found.verified, found.size_bytes
            ));
            for problem in found.problems {
                error(&mut inspection, format!("{}: {}", problem.path, problem.why));
            }
            let meant = manifest.tree.files + manifest.artifacts.len() as u64;
            if found.files != meant {
                error(
                    &mut inspection,
                    format!("it has {} files, but the manifest records {meant}", found.files),
                );
            }
        }
        Ok(inspection)
    }
}

fn judge(health: &database::Health, manifest: &Manifest, inspection: &mut Inspection) {
    if !health.broken.is_empty() {
        let message = format!("{DATABASE} is damaged: {}", health.broken.join("; "));
        inspection.findings.push(Finding::error(message));
        return;
    }
    inspection.checked.push(format!("{DATABASE} passes SQLite's integrity check"));
    for expected in EXPECTED {
        match health.rows(expected) {
            Some(rows) => inspection.checked.push(format!("{expected}: {rows} rows")),
            None => inspection
                .findings
                .push(Finding::error(format!("{DATABASE} has no table {expected}; is it n8n's?"))),
        }
    }
    for (table, expected, found) in row_differences(&health.tables, manifest) {
        inspection.findings.push(Finding::error(format!(
            "table {table}: {found} rows, but the manifest records {expected}"
        )));
    }
    if health.dangling > 0 {
        let message =
            format!("{} rows refer to missing ones; n8n itself leaves some", health.dangling);
        inspection.findings.push(Finding::warning(message));
    }
    if health.unsealed > 0 {
        let message = format!("{} credentials do not look encrypted by n8n", health.unsealed);
        inspection.findings.push(Finding::warning(message));
    }
}

/// Writes the database of a point to a file.
pub(super) async fn spill(point: &PointReader, to: &Path) -> Result<(), SourceError> {
    use tokio::io::AsyncWriteExt as _;

    let mut reader = point.artifact(&in_root(DATABASE)).await?;
    let mut file = tokio::fs::File::create(to).await.map_err(path_error(to, "create"))?;
    while let Some(bytes) = reader.next().await? {
        file.write_all(&bytes).await.map_err(path_error(to, "write"))?;
    }
    file.flush().await.map_err(path_error(to, "write"))
}
