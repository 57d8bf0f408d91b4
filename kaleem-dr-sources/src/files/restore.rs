//! Restores file trees from a snapshot or a tar, and compares them afterwards.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use kaleem_dr_core::{
    engine::{
        manifest::{TreeTotals, is_own_path},
        repository::SnapshotReader,
    },
    ground::{SourceError, finding::Finding, size::size},
    operate::hook::{not_run, run_hooks},
    recovery::{
        point::{Origin, PointReader},
        restore::{
            FileProblem, FilesReport, RestoreOptions, compare_files, default_target, ensure_room,
            restore_files, turn_a_byte,
        },
        source::{
            Change, Control, Difference, Inspection, PlannedAction, RestorePlan, RestoreReport,
            RestoreRequest, RestoreTarget, ScratchTarget,
        },
        untar::{UntarOptions, extract},
    },
};

use super::{FilesConfig, staged};

pub(super) async fn plan(
    config: &FilesConfig,
    point: &PointReader,
    request: RestoreRequest,
) -> Result<RestorePlan, SourceError> {
    let plain = RestoreRequest::whole(request.to.clone()).with_only(request.only.clone());
    if request != plain {
        return Err(SourceError::Unsupported(
            "a source of type files supports --only, but not --rename, --existing or --extras"
                .into(),
        ));
    }
    let target = directory(&request.to);
    let in_place = request.to == RestoreTarget::InPlace;
    let totals = counts(point, &request.only).await?;
    if totals.files + totals.directories + totals.others == 0 {
        return Err(SourceError::Unsupported(format!(
            "nothing in the recovery point matches {}",
            request.only.join(", ")
        )));
    }
    let mut actions = Vec::new();
    for path in named(point, &request.only) {
        let path = below(&target, &path);
        let there = tokio::fs::symlink_metadata(&path).await.is_ok();
        actions.push(PlannedAction::new(
            if there { Change::Overwrite } else { Change::Create },
            path.display().to_string(),
        ));
    }
    for pattern in request.only.iter().filter(|pattern| is_glob(pattern)) {
        let change = if in_place { Change::Overwrite } else { Change::Create };
        actions.push(PlannedAction::new(change, format!("what matches {pattern}")));
    }
    let mut warnings = vec![format!("{} files with {}", totals.files, size(totals.size_bytes))];
    if in_place {
        actions.push(PlannedAction::new(
            Change::Leave,
            "existing files that are not in the recovery point",
        ));
        warnings.extend(
            config.after_restore.iter().map(|hook| format!("afterwards runs: {}", hook.join(" "))),
        );
    }
    if matches!(point.origin(), Origin::File(_)) {
        warnings.extend(
            point
                .manifest()
                .incomplete
                .iter()
                .map(|missing| format!("{}: {}", missing.what, missing.why)),
        );
    }
    // Resolved once, here: a default name contains the time.
    let to = if in_place {
        RestoreTarget::InPlace
    } else {
        RestoreTarget::Beside(Some(target.display().to_string()))
    };
    let mut request = request;
    request.to = to;
    Ok(RestorePlan::new(request, format!("directory {}", target.display()), actions, warnings))
}

/// Counts the files that `only` selects.
async fn counts(point: &PointReader, only: &[String]) -> Result<TreeTotals, SourceError> {
    if only.is_empty() {
        return Ok(point.manifest().tree.clone());
    }
    let found = match point.origin() {
        Origin::Snapshot(snapshot) => {
            let mut options = options(PathBuf::from("/"), only, true);
            options.dry_run = true;
            restore_files(snapshot, &options, point.progress(), &point.cancellation())
                .await
                .map_err(|error| SourceError::Point(error.into()))?
        }
        Origin::File(file) => staged::look(&file.path, only, &point.cancellation()).await?.report,
    };
    Ok(found.totals())
}

/// The selected paths, as far as they can be listed one by one.
fn named(point: &PointReader, only: &[String]) -> Vec<PathBuf> {
    if !only.is_empty() {
        return only.iter().filter(|pattern| !is_glob(pattern)).map(PathBuf::from).collect();
    }
    match point.origin() {
        Origin::Snapshot(snapshot) => snapshot.snapshot().paths(),
        Origin::File(_) => staged::roots(point.manifest()),
    }
}

fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

fn options(target: PathBuf, only: &[String], overwrite: bool) -> RestoreOptions {
    let mut options = RestoreOptions::new(target);
    options.include = only.to_vec();
    options.without_own_files = true;
    options.overwrite = overwrite;
    options
}

pub(super) async fn restore(
    config: &FilesConfig,
    point: &PointReader,
    plan: RestorePlan,
) -> Result<RestoreReport, SourceError> {
    let in_place = plan.request.to == RestoreTarget::InPlace;
    let mut report =
        put_back(config, point, directory(&plan.request.to), &plan.request.only, in_place).await?;
    report.target = plan.target;
    if in_place {
        report.hooks = if report.is_equal() {
            run_hooks(&config.after_restore, config.hook_patience(), &point.cancellation()).await
        } else {
            let why = "not run, because not everything was restored";
            config.after_restore.iter().map(|hook| not_run(hook, why)).collect()
        };
    }
    Ok(report)
}

async fn put_back(
    config: &FilesConfig,
    point: &PointReader,
    target: PathBuf,
    only: &[String],
    in_place: bool,
) -> Result<RestoreReport, SourceError> {
    let files = match point.origin() {
        Origin::Snapshot(snapshot) => {
            let options = options(target, only, in_place);
            restore_files(snapshot, &options, point.progress(), &point.cancellation())
                .await
                .map_err(|error| SourceError::Point(error.into()))?
        }
        Origin::File(file) => {
            if !in_place && ensure_room(&target, point.manifest().tree.size_bytes).is_err() {
                // Holes of sparse files need no space: the requirement is the stored size.
                let stored =
                    staged::look(&file.path, only, &point.cancellation()).await?.stored_bytes;
                let path = target.clone();
                ensure_room(&target, stored).map_err(|cause| SourceError::Path {
                    path,
                    action: "restore into".into(),
                    cause,
                })?;
            }
            let mut options = UntarOptions::to(target);
            options.include = only.to_vec();
            options.in_place = in_place;
            options.special_files = config.special_files_of_tars;
            let (path, progress, cancel) =
                (file.path.clone(), point.progress().clone(), point.cancellation());
            let extracted =
                tokio::task::spawn_blocking(move || extract(&path, &options, &*progress, &cancel))
                    .await;
            let extracted = extracted.map_err(|panic| staged::broke_off(&file.path, &panic))?;
            extracted.map_err(|error| staged::untar_error(&file.path, error))?
        }
    };
    Ok(report(&files, &counts(point, only).await?))
}

/// Builds the report, with differences between what was restored and what the point contains.
fn report(files: &FilesReport, meant: &TreeTotals) -> RestoreReport {
    let read_back =
        format!("{} files read back and compared with the recovery point", files.verified);
    let mut report = RestoreReport::default();
    report.items = files.files + files.links;
    report.size_bytes = files.size_bytes;
    (report.compared, report.differences) = compare(vec![read_back], files, meant);
    report.warnings = notes(files);
    report
}

fn compare(
    mut compared: Vec<String>,
    files: &FilesReport,
    meant: &TreeTotals,
) -> (Vec<String>, Vec<Difference>) {
    let mut differences = Vec::new();
    for (what, expected, found) in [
        ("files", meant.files, files.files + files.links),
        ("directories", meant.directories, files.directories),
        ("links, pipes, sockets and devices", meant.others, files.others),
    ] {
        if expected == found {
            compared.push(format!("{what}: {found}"));
        } else {
            differences.push(Difference::new(what, expected.to_string(), found.to_string()));
        }
    }
    differences.extend(
        files
            .problems
            .iter()
            .map(|problem| Difference::new(problem.path.clone(), "restored", problem.why.clone())),
    );
    differences.extend(unlisted(files));
    (compared, differences)
}

pub(super) async fn inspect(point: &PointReader) -> Result<Inspection, SourceError> {
    let manifest = point.manifest();
    let mut inspection = Inspection::default();
    match point.origin() {
        Origin::Snapshot(_) => {
            let found = point.read_files().await?;
            let read = vec![format!(
                "{} files with {} read, each blob matches its hash",
                found.verified,
                size(found.size_bytes)
            )];
            let (checked, differences) = compare(read, &found, &manifest.tree);
            inspection.checked = checked;
            inspection.findings.extend(differences.into_iter().map(|difference| {
                let Difference { what, expected, found, .. } = difference;
                Finding::error(format!("{what}: expected {expected}, found {found}"))
            }));
            inspection.findings.extend(
                manifest
                    .incomplete
                    .iter()
                    .map(|missing| Finding::warning(format!("{}: {}", missing.what, missing.why))),
            );
        }
        Origin::File(file) => {
            let tree = &manifest.tree;
            inspection.checked.push(format!(
                "{} is a whole tar: {} files with {}, {} directories, {} others",
                file.path.display(),
                tree.files,
                size(tree.size_bytes),
                tree.directories,
                tree.others
            ));
            inspection.findings.extend(
                manifest
                    .incomplete
                    .iter()
                    .map(|missing| Finding::error(format!("{}: {}", missing.what, missing.why))),
            );
        }
    }
    Ok(inspection)
}

/// Restores a point into the scratch directory, compares it, and removes it, whatever the outcome.
pub(super) async fn rehearse(
    config: &FilesConfig,
    point: &PointReader,
    scratch: &ScratchTarget,
) -> Result<RestoreReport, SourceError> {
    let directory = scratch.directory.join(&scratch.name);
    let tried = async {
        let mut report = put_back(config, point, directory.clone(), &[], false).await?;
        scratch.filled();
        if let Origin::Snapshot(snapshot) = point.origin() {
            // Reads the target again, independently of the restore: also owners, modes, times and
            // links.
            let everything = options(directory.clone(), &[], true);
            let found =
                compare_files(snapshot, &everything, point.progress(), &point.cancellation())
                    .await
                    .map_err(|error| SourceError::Point(error.into()))?;
            report
                .compared
                .push(format!("owners, modes, times and links of {} paths", found.verified));
            report.differences.extend(differences(&found));
            if scratch.control && report.is_equal() {
                report.control = control(snapshot, point, &directory).await?;
            }
        }
        Ok(report)
    }
    .await;
    let removed = match tokio::fs::remove_dir_all(&directory).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let mut report: RestoreReport = tried?;
    removed.map_err(|cause| SourceError::Path {
        path: directory.clone(),
        action: "remove after the rehearsal".into(),
        cause,
    })?;
    report.target = format!("directory {}", directory.display());
    Ok(report)
}

/// The negative control: flips one byte of a restored file without changing its times, and compares
/// again. `None` if all files are empty.
async fn control(
    snapshot: &SnapshotReader,
    point: &PointReader,
    directory: &Path,
) -> Result<Option<Control>, SourceError> {
    let began = Instant::now();
    let mut walk = snapshot.files();
    let file = loop {
        match walk.next().await {
            Some(Ok(file)) if file.size_bytes > 0 && !is_own_path(&file.path) => break file,
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(SourceError::Point(error.into())),
            None => return Ok(None),
        }
    };
    let path = below(directory, &file.path);
    let at = turn_a_byte(&path).map_err(|cause| SourceError::Path {
        path: path.clone(),
        action: "damage".into(),
        cause,
    })?;
    let only = vec![file.path.display().to_string()];
    let options = options(directory.to_path_buf(), &only, true);
    let compared = compare_files(snapshot, &options, point.progress(), &point.cancellation()).await;
    let found = differences(&compared.map_err(|error| SourceError::Point(error.into()))?);
    let damage = format!("changed byte {at} of {}", file.path.display());
    Ok(Some(Control::new(damage, found, began.elapsed().as_secs_f64())))
}

fn differences(files: &FilesReport) -> Vec<Difference> {
    let difference = |problem: &FileProblem| {
        Difference::new(problem.path.clone(), "as it was captured", problem.why.clone())
    };
    files.problems.iter().map(difference).chain(unlisted(files)).collect()
}

/// Problems that the report counts without listing them.
fn unlisted(files: &FilesReport) -> Option<Difference> {
    (files.more_problems > 0).then(|| {
        Difference::new(
            format!("{} more paths", files.more_problems),
            "as they were captured",
            "problems like these",
        )
    })
}

/// Notes for the operator, one sentence each.
fn notes(files: &FilesReport) -> Vec<String> {
    let listed = files.notes.iter().map(|note| format!("{}: {}", note.path, note.why));
    listed
        .chain(files.left_to_root())
        .chain(
            (files.more_notes > 0).then(|| format!("{} more notes like these", files.more_notes)),
        )
        .collect()
}

/// The directory that a restore writes to.
fn directory(to: &RestoreTarget) -> PathBuf {
    match to {
        RestoreTarget::InPlace => PathBuf::from("/"),
        RestoreTarget::Beside(Some(path)) => PathBuf::from(path),
        RestoreTarget::Beside(None) => default_target(),
    }
}

fn below(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap_or(path))
}
