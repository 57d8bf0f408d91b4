//! File trees as one `configs-<DATE>.tar.gz`, like `tar -czf`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use jiff::Timestamp;
use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::{Consistency, ConsistencyGrade, Incomplete, Manifest},
    ground::{SourceError, host},
    recovery::{
        point::{FilePoint, Origin, PointReader},
        staged::{Sink, StagedForm, StagedName, StagedWork},
        tarball::write_tar,
        untar::{Survey, UntarError, survey},
    },
};
use serde_json::json;

use super::FilesSource;

/// The key in the manifest's details with the topmost paths of a tar.
const ROOTS: &str = "roots";

#[async_trait]
impl StagedForm for FilesSource {
    fn name(&self) -> StagedName {
        StagedName::new("configs", "tar.gz")
    }

    async fn write(&self, point: &PointReader, out: &mut Sink) -> Result<(), SourceError> {
        match point.origin() {
            Origin::Snapshot(snapshot) => {
                write_tar(snapshot, Path::new("/"), out, &**point.progress(), &point.cancellation())
                    .await
                    .map(|_| ())
            }
            Origin::File(file) => Err(SourceError::Unsupported(format!(
                "{} is already a tar, so there is nothing to convert: copy it",
                file.path.display()
            ))),
        }
    }

    async fn open(&self, file: &Path, work: &StagedWork) -> Result<PointReader, SourceError> {
        let started = Timestamp::now();
        let found = look(file, &[], &work.cancel).await?;
        let at = found
            .newest_seconds
            .and_then(|second| Timestamp::from_second(second).ok())
            .unwrap_or(started);
        let note = "read from a tar, which does not record its creation time: this is the newest modification time in it";
        let report = &found.report;
        let mut manifest = Manifest::of_file(self.name.as_str(), "files", at);
        manifest.host = host::name();
        manifest.tool = "tar".into();
        (manifest.started, manifest.finished) = (started, Timestamp::now());
        manifest.consistency = Consistency::new(ConsistencyGrade::PerFile, at).because(note);
        manifest.tree = report.totals();
        manifest.incomplete = report
            .problems
            .iter()
            .map(|problem| Incomplete::new(problem.path.clone(), problem.why.clone()))
            .collect();
        let roots: Vec<_> = found.roots.iter().map(|root| root.to_string_lossy()).collect();
        manifest.details = BTreeMap::from([(ROOTS.into(), json!(roots))]);
        let point = FilePoint::new(file.to_path_buf(), BTreeMap::new(), None);
        Ok(PointReader::of_file(manifest, point, work.progress.clone(), work.cancel.clone()))
    }
}

/// The topmost paths of a point that was opened from a tar.
pub(super) fn roots(manifest: &Manifest) -> Vec<PathBuf> {
    let listed = manifest.details.get(ROOTS).and_then(|roots| roots.as_array());
    listed.into_iter().flatten().filter_map(|root| root.as_str()).map(PathBuf::from).collect()
}

/// Reads a tar completely and checks it.
pub(super) async fn look(
    file: &Path,
    only: &[String],
    cancel: &CancellationToken,
) -> Result<Survey, SourceError> {
    let (path, only, cancel) = (file.to_path_buf(), only.to_vec(), cancel.clone());
    let surveyed = tokio::task::spawn_blocking(move || survey(&path, &only, &cancel)).await;
    surveyed.map_err(|panic| broke_off(file, &panic))?.map_err(|error| untar_error(file, error))
}

pub(super) fn broke_off(file: &Path, panic: &tokio::task::JoinError) -> SourceError {
    SourceError::Point(format!("reading {} aborted: {panic}", file.display()).into())
}

pub(super) fn untar_error(file: &Path, error: UntarError) -> SourceError {
    match error {
        UntarError::Damaged(why) => SourceError::Damaged { path: file.to_path_buf(), why },
        UntarError::Refused(why) => SourceError::Refused(why),
        UntarError::Path { path, action, cause } => {
            SourceError::Path { path, action: action.into(), cause }
        }
        UntarError::Cancelled => SourceError::Cancelled,
        other => SourceError::Point(other.into()),
    }
}
