//! n8n as one `n8n-sqlite-<DATE>.tar.gz`: `database.sqlite`, `config` and the other files.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use jiff::Timestamp;
use kaleem_dr_core::{
    CancellationToken,
    engine::manifest::{
        ArtifactRecord, Consistency, ConsistencyGrade, Incomplete, Manifest, TreeTotals,
    },
    ground::{SourceError, digest::ByteDigest, host, progress::ProgressSink},
    recovery::{
        point::{FilePart, FilePoint, Origin, PointReader},
        staged::{Sink, StagedForm, StagedName, StagedWork},
        tarball::write_tar,
        untar::{UntarError, UntarOptions, extract},
    },
};
use serde_json::json;

use super::{
    DATABASE, KEY_FILE, N8nSource, ROOT, TABLES, TREES, blocking, database, in_root, path_error,
};

/// Limit for the depth of n8n's directory in a tar: `home/node/.n8n`, or a volume's path on the
/// host.
const DEPTH_LIMIT: usize = 10;

#[async_trait]
impl StagedForm for N8nSource {
    fn name(&self) -> StagedName {
        StagedName::new("n8n-sqlite", "tar.gz")
    }

    async fn write(&self, point: &PointReader, out: &mut Sink) -> Result<(), SourceError> {
        match point.origin() {
            Origin::Snapshot(snapshot) => write_tar(
                snapshot,
                Path::new(ROOT),
                out,
                &**point.progress(),
                &point.cancellation(),
            )
            .await
            .map(|_| ()),
            Origin::File(file) => Err(SourceError::Unsupported(format!(
                "{} is already a tar, so there is nothing to convert: copy it",
                file.path.display()
            ))),
        }
    }

    async fn open(&self, file: &Path, work: &StagedWork) -> Result<PointReader, SourceError> {
        let scratch = work.directory()?;
        let (path, into, own_work) =
            (file.to_path_buf(), scratch.path().to_path_buf(), work.clone());
        let name = self.name.as_str().to_owned();
        let (manifest, parts) = blocking(move || {
            let base = unpack(&path, &into, &*own_work.progress, &own_work.cancel)?;
            describe(&base, name)
        })
        .await?;
        let point = FilePoint::new(file.to_path_buf(), parts, Some(scratch));
        Ok(PointReader::of_file(manifest, point, work.progress.clone(), work.cancel.clone()))
    }
}

/// Extracts a tar and finds n8n's directory in it. Checkpoints the log of a database that was
/// copied file by file. Blocking.
pub(super) fn unpack(
    file: &Path,
    into: &Path,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<PathBuf, SourceError> {
    let damaged = |why: String| SourceError::Damaged { path: file.to_path_buf(), why };
    let options = UntarOptions::to(into.to_path_buf());
    let report = extract(file, &options, progress, cancel).map_err(|error| match error {
        UntarError::Damaged(why) => damaged(why),
        UntarError::Cancelled => SourceError::Cancelled,
        UntarError::Path { path, action, cause } => {
            SourceError::Path { path, action: action.into(), cause }
        }
        other => SourceError::Refused(other.to_string()),
    })?;
    if let Some(problem) = report.problems.first() {
        let more = report.problems.len() - 1;
        return Err(damaged(format!("{}: {} ({more} more like it)", problem.path, problem.why)));
    }
    let base =
        find(into, DEPTH_LIMIT).ok_or_else(|| damaged(format!("it contains no {DATABASE}")))?;
    let copy = base.join(DATABASE);
    if base.join(format!("{DATABASE}-wal")).exists() {
        tracing::warn!(file = %file.display(), "its database was copied file by file, and may be inconsistent; its log was checkpointed");
        database::fold(&copy)?;
        for suffix in ["-wal", "-shm"] {
            let beside = base.join(format!("{DATABASE}{suffix}"));
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(path_error(&beside, "remove")(error));
                }
                _ => {}
            }
        }
    }
    Ok(base)
}

/// Finds the directory that contains the database. Links are not followed.
fn find(directory: &Path, depth: usize) -> Option<PathBuf> {
    if fs::symlink_metadata(directory.join(DATABASE)).is_ok_and(|meta| meta.is_file()) {
        return Some(directory.to_path_buf());
    }
    let below = fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if depth == 0 {
        None
    } else {
        below.into_iter().find_map(|entry| find(&entry.path(), depth - 1))
    }
}

fn describe(
    base: &Path,
    name: String,
) -> Result<(Manifest, BTreeMap<String, FilePart>), SourceError> {
    let now = Timestamp::now();
    let mut artifacts = Vec::new();
    let mut parts = BTreeMap::new();
    let mut incomplete = Vec::new();
    for file in [KEY_FILE, DATABASE] {
        let path = base.join(file);
        if !path.is_file() {
            incomplete.push(Incomplete::new(file, "the file with the key is not in the tar"));
            continue;
        }
        let (size_bytes, sha256) = digest(&path)?;
        artifacts.push(ArtifactRecord::new(in_root(file), size_bytes, sha256));
        parts.insert(in_root(file), FilePart::new(path, size_bytes));
    }
    let modified = fs::metadata(base.join(DATABASE)).and_then(|meta| meta.modified()).ok();
    let at = modified.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(now);
    // Reporting an invalid database is the task of an inspection; the point opens all the same.
    let details = match database::count(&base.join(DATABASE)) {
        Ok(tables) => BTreeMap::from([(TABLES.to_owned(), json!(tables))]),
        Err(_) => BTreeMap::new(),
    };
    let mut manifest = Manifest::of_file(name, "n8n", at);
    manifest.host = host::name();
    manifest.tool = "tar".into();
    manifest.started = now;
    manifest.finished = Timestamp::now();
    manifest.consistency = Consistency::new(ConsistencyGrade::PerFile, at)
        .because("read from a tar, which does not record how it was made");
    manifest.artifacts = artifacts;
    manifest.tree = trees(base)?;
    manifest.incomplete = incomplete;
    manifest.details = details;
    Ok((manifest, parts))
}

/// Counts the files other than database and key. Blocking.
pub(super) fn trees(base: &Path) -> Result<TreeTotals, SourceError> {
    let mut totals = TreeTotals::default();
    let mut pending: Vec<PathBuf> = TREES.iter().map(|name| base.join(name)).collect();
    while let Some(path) = pending.pop() {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(path_error(&path, "inspect")(error)),
        };
        if meta.is_dir() {
            totals.directories += 1;
            for entry in fs::read_dir(&path).map_err(path_error(&path, "read"))? {
                pending.push(entry.map_err(path_error(&path, "read"))?.path());
            }
        } else if meta.is_file() {
            totals.files += 1;
            totals.size_bytes += meta.len();
        } else {
            totals.others += 1;
        }
    }
    Ok(totals)
}

/// Length in bytes and SHA-256 of a file. Blocking.
pub(super) fn digest(path: &Path) -> Result<(u64, String), SourceError> {
    let mut file = File::open(path).map_err(path_error(path, "open"))?;
    let (mut digest, mut length) = (ByteDigest::default(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(path_error(path, "read"))?;
        if read == 0 {
            return Ok((length, digest.finish()));
        }
        digest.update(&buffer[..read]);
        length += read as u64;
    }
}
