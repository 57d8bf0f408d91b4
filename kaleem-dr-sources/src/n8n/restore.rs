//! n8n back on disk, and what is checked of it before and after.
//!
//! Everything is first put into a directory beside the target, on the same file system, and compared there; then it is renamed into
//! place. In place the database comes last, after the log files of the old one are gone: SQLite would replay them into the new one.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use jiff::Timestamp;
use kaleem_dr_core::{
    engine::manifest::Manifest,
    ground::{SourceError, finding::Finding},
    recovery::{
        extract_root::HeldDirectory,
        point::{Origin, PointReader},
        restore::{RestoreOptions, ensure_room, restore_files, turn_a_byte},
        source::{
            Change, Control, Difference, Inspection, PlannedAction, RestorePlan, RestoreReport,
            RestoreRequest, RestoreTarget, ScratchTarget,
        },
        tarball::read_through,
    },
};

use super::{
    DATABASE, KEY_FILE, KEY_FILE_LIMIT_BYTES, N8nSource, ROOT, TABLES, TREES, blocking,
    capture::EXPECTED,
    database, in_root, key_in, path_error, running,
    staged::{digest, trees, unpack},
};

impl N8nSource {
    pub(super) fn plan(
        &self,
        point: &PointReader,
        request: &RestoreRequest,
    ) -> Result<RestorePlan, SourceError> {
        request.refuse_choices("n8n")?;
        let manifest = point.manifest();
        let in_place = request.to == RestoreTarget::InPlace;
        let target = self.target(&request.to);
        let mut warnings: Vec<String> = manifest
            .incomplete
            .iter()
            .map(|missing| format!("{}: {}", missing.what, missing.why))
            .collect();
        if in_place {
            self.refuse_in_use()?;
        } else if !target.is_absolute() {
            return Err(SourceError::Unsupported(format!(
                "{} must be an absolute path",
                target.display()
            )));
        } else if is_occupied(&target)? {
            return Err(SourceError::Refused(format!(
                "{} is not empty; name a new directory",
                target.display()
            )));
        }
        let mut actions: Vec<PlannedAction> = manifest
            .artifacts
            .iter()
            .map(|artifact| {
                let path =
                    target.join(artifact.path.trim_start_matches(ROOT).trim_start_matches('/'));
                let change = if path.exists() { Change::Overwrite } else { Change::Create };
                PlannedAction {
                    size_bytes: Some(artifact.size_bytes),
                    ..PlannedAction::new(change, path.display().to_string())
                }
            })
            .collect();
        let tree = &manifest.tree;
        if tree.files > 0 {
            let change = if in_place { Change::Overwrite } else { Change::Create };
            let what = format!("files of {}", TREES.join(", "));
            actions.push(PlannedAction {
                items: Some(tree.files),
                size_bytes: Some(tree.size_bytes),
                ..PlannedAction::new(change, what)
            });
        }
        if in_place {
            actions.push(PlannedAction::new(
                Change::Leave,
                "files that are there but not in the recovery point",
            ));
        }
        warnings.push(
            "start n8n with the environment it had: another N8N_ENCRYPTION_KEY than the one in `config` keeps it from starting"
                .into(),
        );
        let to = if in_place {
            RestoreTarget::InPlace
        } else {
            RestoreTarget::Beside(Some(target.display().to_string()))
        };
        Ok(RestorePlan::new(
            RestoreRequest::whole(to),
            format!("directory {}", target.display()),
            actions,
            warnings,
        ))
    }

    pub(super) async fn put_back(
        &self,
        point: &PointReader,
        plan: RestorePlan,
    ) -> Result<RestoreReport, SourceError> {
        let in_place = plan.request.to == RestoreTarget::InPlace;
        let target = self.target(&plan.request.to);
        let parent = target.parent().unwrap_or(Path::new("/")).to_path_buf();
        if in_place {
            self.refuse_in_use()?;
        } else if is_occupied(&target)? {
            return Err(SourceError::Refused(format!(
                "{} is not empty; name a new directory",
                target.display()
            )));
        }
        fs::create_dir_all(&parent).map_err(path_error(&parent, "create the directory"))?;
        let scratch = tempfile::Builder::new().prefix(".kaleem-dr-restore-").tempdir_in(&parent);
        let scratch = scratch.map_err(path_error(&parent, "make a temporary directory in"))?;
        let held =
            HeldDirectory::open(scratch.path()).map_err(path_error(scratch.path(), "open"))?;
        if !held.is_ours().map_err(path_error(scratch.path(), "look at"))? {
            return Err(SourceError::Refused(format!(
                "someone exchanged {} meanwhile",
                scratch.path().display()
            )));
        }
        if let Origin::File(_) = point.origin() {
            ensure_room(&parent, point.manifest().size_bytes() + point.manifest().tree.size_bytes)
                .map_err(path_error(&parent, "restore below"))?;
        }
        let base = stage(point, scratch.path()).await?;
        let mut report = compare(base.clone(), point.manifest().clone()).await?;
        report.target = plan.target;
        if !report.is_equal() {
            report.warnings.push(format!(
                "{} was left as it is, because of the differences",
                target.display()
            ));
            return Ok(report);
        }
        let owner = fs::metadata(&self.config.directory).ok().map(|meta| (meta.uid(), meta.gid()));
        let (there, manifest) = (target.clone(), point.manifest().clone());
        let places: Vec<(&str, PathBuf)> =
            TREES.iter().map(|&name| (name, self.tree(name))).collect();
        let below = base.strip_prefix(scratch.path()).unwrap_or(&base).to_path_buf();
        let restored = Restored { scratch: held, below };
        blocking(move || {
            if in_place {
                restored.move_over(&there, &places, owner)
            } else {
                restored.move_beside(&there, owner)
            }
        })
        .await?;
        drop(scratch);
        let moved = blocking(move || artifact_differences(&target, &manifest)).await?;
        report.differences.extend(moved);
        Ok(report)
    }

    pub(super) async fn try_out(
        &self,
        point: &PointReader,
        scratch: &ScratchTarget,
    ) -> Result<RestoreReport, SourceError> {
        let directory = scratch.directory.join(&scratch.name);
        let tried = async {
            fs::create_dir_all(&directory)
                .map_err(path_error(&directory, "create the directory"))?;
            let base = stage(point, &directory).await?;
            scratch.filled();
            let mut report = compare(base.clone(), point.manifest().clone()).await?;
            if scratch.control && report.is_equal() {
                report.control = Some(control(base, point.manifest().clone()).await?);
            }
            Ok(report)
        }
        .await;
        let removed = fs::remove_dir_all(&directory);
        let mut report = tried?;
        removed.map_err(path_error(&directory, "remove after the rehearsal"))?;
        report.target = format!("directory {}", directory.display());
        Ok(report)
    }

    pub(super) async fn look_into(&self, point: &PointReader) -> Result<Inspection, SourceError> {
        let manifest = point.manifest();
        let mut inspection = Inspection::default();
        let error = |inspection: &mut Inspection, message: String| {
            inspection.findings.push(Finding::error(message))
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
                        "the key of the credentials is there; whether it opens them is not tried"
                            .into(),
                    );
                }
                None => error(
                    &mut inspection,
                    "`config` holds no `encryptionKey`, so no credential can be read".into(),
                ),
            }
        }
        let scratch = tempfile::Builder::new()
            .prefix("kaleem-dr-n8n-")
            .tempdir_in(&self.config.scratch_directory);
        let scratch = scratch
            .map_err(path_error(&self.config.scratch_directory, "make a temporary directory in"))?;
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
        if let Origin::Snapshot(snapshot) = point.origin() {
            let found = read_through(snapshot, &**point.progress(), &point.cancellation()).await?;
            inspection.checked.push(format!(
                "{} files with {} bytes read, each piece hashes to its id",
                found.verified, found.size_bytes
            ));
            for problem in found.problems {
                error(&mut inspection, format!("{}: {}", problem.path, problem.why));
            }
            let meant = manifest.tree.files + manifest.artifacts.len() as u64;
            if found.files != meant {
                error(
                    &mut inspection,
                    format!("it holds {} files, but the manifest says {meant}", found.files),
                );
            }
        }
        Ok(inspection)
    }

    fn target(&self, to: &RestoreTarget) -> PathBuf {
        match to {
            RestoreTarget::InPlace => self.config.directory.clone(),
            RestoreTarget::Beside(Some(path)) => PathBuf::from(path),
            RestoreTarget::Beside(None) => {
                let mut name = self.config.directory.clone().into_os_string();
                name.push(Timestamp::now().strftime("_restored_%Y%m%d_%H%M%S").to_string());
                name.into()
            }
        }
    }

    fn refuse_in_use(&self) -> Result<(), SourceError> {
        match running::holder(&self.database()) {
            None => Ok(()),
            Some(holder) => Err(SourceError::Refused(format!(
                "{} is in use by {holder}: stop n8n before restoring in place, or restore beside with --to DIRECTORY",
                self.database().display()
            ))),
        }
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
            "table {table}: {found} rows, but the manifest says {expected}"
        )));
    }
    if health.dangling > 0 {
        let message = format!(
            "{} rows refer to others that are not there; n8n itself leaves some",
            health.dangling
        );
        inspection.findings.push(Finding::warning(message));
    }
    if health.unsealed > 0 {
        let message =
            format!("{} credentials do not look sealed as n8n seals them", health.unsealed);
        inspection.findings.push(Finding::warning(message));
    }
}

fn row_differences(
    tables: &BTreeMap<String, u64>,
    manifest: &Manifest,
) -> Vec<(String, String, String)> {
    let meant: BTreeMap<String, u64> = manifest
        .details
        .get(TABLES)
        .and_then(|tables| serde_json::from_value(tables.clone()).ok())
        .unwrap_or_default();
    let shown =
        |rows: Option<&u64>| rows.map_or_else(|| "no such table".to_owned(), ToString::to_string);
    let mut names: Vec<&String> =
        meant.keys().chain(tables.keys().filter(|name| !meant.contains_key(*name))).collect();
    names.retain(|name| meant.get(*name) != tables.get(*name));
    names
        .into_iter()
        .map(|name| (name.clone(), shown(meant.get(name)), shown(tables.get(name))))
        .collect()
}

/// Puts everything of a point into a directory of ours; where n8n's own lies in it.
async fn stage(point: &PointReader, into: &Path) -> Result<PathBuf, SourceError> {
    match point.origin() {
        Origin::Snapshot(snapshot) => {
            let target = into.join("snapshot");
            let options = RestoreOptions {
                target: target.clone(),
                include: vec![ROOT.into()],
                exclude: Vec::new(),
                without_own_files: true,
                overwrite: false,
                verify: true,
                dry_run: false,
            };
            let files = restore_files(snapshot, &options, point.progress(), &point.cancellation())
                .await
                .map_err(|error| SourceError::Point(error.into()))?;
            match files.problems.first() {
                Some(problem) => {
                    Err(SourceError::Point(format!("{}: {}", problem.path, problem.why).into()))
                }
                None => Ok(target.join(ROOT.trim_start_matches('/'))),
            }
        }
        Origin::File(file) => {
            let (path, into) = (file.path.clone(), into.join("tar"));
            let (progress, cancel) = (point.progress().clone(), point.cancellation());
            blocking(move || unpack(&path, &into, &*progress, &cancel)).await
        }
    }
}

/// Writes the database of a point to a file.
async fn spill(point: &PointReader, to: &Path) -> Result<(), SourceError> {
    use tokio::io::AsyncWriteExt as _;

    let mut reader = point.artifact(&in_root(DATABASE)).await?;
    let mut file = tokio::fs::File::create(to).await.map_err(path_error(to, "create"))?;
    while let Some(bytes) = reader.next().await? {
        file.write_all(&bytes).await.map_err(path_error(to, "write"))?;
    }
    file.flush().await.map_err(path_error(to, "write"))
}

/// What was put back, beside the manifest.
async fn compare(base: PathBuf, manifest: Manifest) -> Result<RestoreReport, SourceError> {
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

/// Turns one byte of the restored database over, and compares once more.
async fn control(base: PathBuf, manifest: Manifest) -> Result<Control, SourceError> {
    let (began, database) = (Instant::now(), base.join(DATABASE));
    let at = turn_a_byte(&database).map_err(path_error(&database, "damage"))?;
    let found = compare(base, manifest).await?.differences;
    Ok(Control {
        damage: format!("turned byte {at} of {DATABASE} over"),
        found,
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn names(manifest: &Manifest) -> String {
    let names: Vec<_> = manifest
        .artifacts
        .iter()
        .map(|artifact| artifact.path.rsplit('/').next().unwrap_or_default())
        .collect();
    names.join(" and ")
}

fn artifact_differences(base: &Path, manifest: &Manifest) -> Result<Vec<Difference>, SourceError> {
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
    Difference { what: what.into(), expected: expected.into(), found: found.into() }
}

fn is_occupied(target: &Path) -> Result<bool, SourceError> {
    match fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(path_error(target, "look into")(error)),
    }
}

/// Modes, and the owner that n8n's own directory has: a capture is made by root, but n8n does not run as root.
fn give(base: &HeldDirectory, owner: Option<(u32, u32)>) -> io::Result<()> {
    for name in [DATABASE, KEY_FILE] {
        if base.is_directory(OsStr::new(name))?.is_some() {
            base.give_file(OsStr::new(name), 0o600, owner)?;
        }
    }
    base.give(0o700, owner)
}

/// What is restored, held by descriptor: n8n's user may write beside n8n's directory, where it was put first.
struct Restored {
    /// The directory of ours that it was put into.
    scratch: HeldDirectory,
    /// Where in it n8n's own lies.
    below: PathBuf,
}

impl Restored {
    fn base(&self) -> io::Result<HeldDirectory> {
        self.scratch.directory(OsStr::new("."))?.below(&self.below)
    }

    fn move_beside(&self, target: &Path, owner: Option<(u32, u32)>) -> Result<(), SourceError> {
        let moved = || {
            give(&self.base()?, owner)?;
            let (above, name) = split(&self.below)?;
            let (parent, target_name) = split(target)?;
            // An empty directory gives way; one that was filled meanwhile does not.
            let from = self.scratch.directory(OsStr::new("."))?.below(above)?;
            HeldDirectory::open(parent)?.take(&from, name, target_name)
        };
        moved().map_err(path_error(target, "put the restored directory at"))
    }

    fn move_over(
        &self,
        target: &Path,
        places: &[(&str, PathBuf)],
        owner: Option<(u32, u32)>,
    ) -> Result<(), SourceError> {
        // Before anything is changed: a refusal leaves all as it was.
        let database = target.join(DATABASE);
        if database.exists() {
            database::take_over(&database)?;
        }
        let is_new = !target.exists();
        let into =
            HeldDirectory::open(target).map_err(path_error(target, "create the directory"))?;
        let base = self.base().map_err(path_error(target, "find what was restored for"))?;
        give(&base, owner)
            .map_err(path_error(target, "set modes and owners in what was restored for"))?;
        if is_new {
            into.give(0o700, owner).map_err(path_error(target, "set the mode and owner of"))?;
        }
        for (name, to) in places {
            let failed = path_error(to, "put the restored files at");
            if base
                .is_directory(OsStr::new(name))
                .map_err(path_error(to, "look at what was restored for"))?
                .is_none()
            {
                continue;
            }
            let place =
                split(to).and_then(|(parent, to_name)| Ok((HeldDirectory::open(parent)?, to_name)));
            let (parent, to_name) = place.map_err(failed)?;
            merge(&base, OsStr::new(name), &parent, to_name)
                .map_err(|error| put_error(to, error))?;
        }
        let rename = |name: &str| {
            let name = OsStr::new(name);
            into.take(&base, name, name)
                .map_err(path_error(&target.join(name), "put the restored file at"))
        };
        if base
            .is_directory(OsStr::new(KEY_FILE))
            .map_err(path_error(target, "look at what was restored for"))?
            .is_some()
        {
            rename(KEY_FILE)?;
        }
        for suffix in ["-wal", "-shm", "-journal"] {
            let log = format!("{DATABASE}{suffix}");
            into.remove(OsStr::new(&log)).map_err(path_error(&target.join(&log), "remove"))?;
        }
        rename(DATABASE)
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
    Ok((path.parent().unwrap_or(Path::new("")), name))
}

fn put_error(to: &Path, error: io::Error) -> SourceError {
    if error.kind() == io::ErrorKind::CrossesDevices {
        return SourceError::Unsupported(format!(
            "{} lies on another file system than n8n's directory: restore beside with --to DIRECTORY, and copy it there",
            to.display()
        ));
    }
    path_error(to, "put the restored file at")(error)
}

/// Moves what is in a directory over what is in another; what is only there stays. A link in the place of a directory is not followed.
fn merge(
    from: &HeldDirectory,
    name: &OsStr,
    into: &HeldDirectory,
    into_name: &OsStr,
) -> io::Result<()> {
    if from.is_directory(name)? != Some(true) || into.is_directory(into_name)?.is_none() {
        return into.take(from, name, into_name);
    }
    let (from, into) = (from.directory(name)?, into.directory(into_name)?);
    from.names()?.iter().try_for_each(|name| merge(&from, name, &into, name))
}
